//! Real swarms over TCP loopback.
#![allow(missing_docs, clippy::unwrap_used)]

mod harness;
mod transfer;
