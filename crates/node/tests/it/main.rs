//! Real nodes on loopback, or in a network namespace of their own; nothing leaves the machine.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
mod digests;
mod domains;
mod fetching;
mod hints;
mod kubo;
mod limits;
mod namespace;
mod privacy;
mod records;
mod starting;
mod sweep;
