//! What the end-to-end tests stand on: the real programs, each started on loopback with a
//! directory of its own, and ended with the test by its own process id.
#![allow(clippy::unwrap_used)]

pub mod certificates;
pub mod client;
pub mod containerd;
pub mod content;
pub mod disk;
pub mod docker;
pub mod http;
pub mod image;
pub mod kubo;
pub mod ledger;
pub mod nginx;
pub mod node;
pub mod page;
pub mod process;
pub mod proxy;
pub mod random;
pub mod stock;
pub mod wire;

pub use client::Client;
pub use containerd::Containerd;
pub use docker::Engine;
pub use kubo::Kubo;
pub use nginx::Nginx;
pub use node::Node;
pub use process::{component, run, run_err};
