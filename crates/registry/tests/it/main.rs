//! The registry from outside: its router without a socket, and its listener where sockets matter.
#![allow(missing_docs, clippy::unwrap_used)]

mod accounts;
mod ahead;
mod cold;
mod durable;
mod faults;
mod landscape;
mod library;
mod lists;
mod manifests;
mod names;
mod network;
mod pins;
mod pull;
mod push;
mod resume;
mod safety;
mod socket;
mod store;
mod support;
mod touched;
