//! What whoever runs a node sees of it, as far as the registry does not know it itself.
//!
//! - [`around`]: readiness, and the numbers of store, swarm and process.
//! - [`records`]: who is told what happens: [`access`] log, [`audit`] log, both files of [`lines`], and [`webhook`]s.
//! - [`log`]: the node's own log.

pub mod access;
pub mod around;
mod audit;
pub mod lines;
pub mod log;
pub mod process;
pub mod records;
pub mod webhook;
