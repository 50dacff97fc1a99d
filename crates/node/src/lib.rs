//! The swarm behind a handle: [`Node`] is the program's [`Network`](cidery_core::Network).
//!
//! ```text
//!   Node, NodeSession ──commands──► Worker ──► drivers   answer · dial · inquire · listen · observed · peers · provide · search · uplink
//!      │      │                       │           │
//!      │      └──► Bitswap            └──► Swarm ◄┘       limits · keep · bitswap · identify · ping ·
//!      └──► Naming (DNS)                                  Kademlia (LAN, WAN) · sender · digest · mDNS
//! ```
//!
//! The worker is a task that owns the swarm and only routes: every event and command goes to the driver
//! whose job it is, and each driver owns what it waits for. Handles send bounded commands and wait for a
//! reply; the blocks of a session never pass through the worker. What is announced goes through a task of
//! its own (`announce`), which tells the worker the differences. Naming resolves on the caller's task.
//!
//! What holds throughout:
//! - No libp2p type is in the public API.
//! - Whatever strangers name (hints, providers, peers of peers) is dialled only where
//!   `address::Surroundings` allows it, and is bounded in number and time.
//! - Kademlia sees the addresses of its own network only: private ones never go to the world.
//! - Only what the owner provides, and roots that came from peers, are announced.

mod address;
mod announce;
mod config;
mod dht;
mod digest;
mod drivers;
mod error;
mod hosts;
mod identity;
mod inquiry;
mod naming;
mod node;
mod questions;
mod session;
mod swarm;
mod worker;

pub use config::{Bootstrap, Config, Limits};
pub use error::StartError;
pub use hosts::Hosts;
pub use identity::Identity;
pub use node::{Node, Tables, Traffic};
pub use questions::Questions;
