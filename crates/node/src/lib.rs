//! The swarm behind a handle.

mod config;
mod error;
mod identity;
mod naming;
mod node;

pub use config::{Bootstrap, Config, Limits};
pub use error::StartError;
pub use identity::Identity;
pub use node::Node;
