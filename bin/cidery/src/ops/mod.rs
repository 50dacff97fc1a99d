//! What whoever runs a node sees of it, as far as the registry does not know it itself.
//!
//! - [`around`]: readiness, and the numbers of store, swarm and process.

pub mod around;
mod process;
