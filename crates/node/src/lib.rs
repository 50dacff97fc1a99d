//! The swarm behind a handle.

mod address;
mod config;
mod dht;
mod drivers;
mod error;
mod identity;
mod naming;
mod node;
mod session;
mod swarm;
mod worker;

pub use config::{Bootstrap, Config, Limits};
pub use error::StartError;
pub use identity::Identity;
pub use node::Node;
