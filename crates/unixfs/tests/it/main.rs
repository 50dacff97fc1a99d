//! The crate from outside: published vectors, oracles, what others write, and what is hostile.
#![allow(missing_docs, clippy::unwrap_used)]

mod car;
mod compare;
mod directories;
mod edits;
mod hostile;
mod oracle;
mod others;
mod profile;
mod reading;
mod support;
mod trees;
