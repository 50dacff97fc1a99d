//! The store on a real disk, through its public interface.
#![allow(missing_docs, clippy::unwrap_used)]

mod suite;
