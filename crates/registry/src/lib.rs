//! The OCI/Docker v2 API over a tree.

pub mod tree;
