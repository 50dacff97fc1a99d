//! Real swarms over TCP loopback.
#![allow(missing_docs, clippy::unwrap_used)]

mod harness;
mod hostile;
mod kubo;
mod old;
mod privacy;
mod raw;
mod sessions;
mod silent;
mod transfer;
