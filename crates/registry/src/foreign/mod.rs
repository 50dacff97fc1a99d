//! Other people's registries, read through the network port.
//!
//! - [`Roots`] keeps one session per root and scope for a while.
//! - [`ForeignRoot`] is one of them: a session, and the snapshot that is read with it.
//! - [`ahead`] fetches the other blobs of an image that is being pulled.
//! - [`Verdicts`] remembers which file held the digest it is linked by, and which did not.

pub mod ahead;
mod root;
mod roots;
mod verdicts;

pub use root::ForeignRoot;
pub use roots::Roots;
pub use verdicts::{BadBlob, Verdicts};
