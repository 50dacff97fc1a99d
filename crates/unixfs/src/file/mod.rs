//! Files: a tree of nodes whose leaves are the bytes.

mod builder;
mod node;
mod reader;

pub use builder::FileBuilder;
pub(crate) use node::decode as decode_file;
pub use reader::{FileReader, FileStream};

use cidery_core::Cid;

/// Bytes in each leaf but the last (profile `unixfs-v1-2025`).
pub const CHUNK: usize = 1 << 20;

/// Most children of one node (profile `unixfs-v1-2025`).
pub const WIDTH: usize = 1024;

/// A finished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its root.
    pub cid: Cid,
    /// Its bytes.
    pub size: u64,
    /// Bytes of all its blocks, nodes included: what a directory entry says.
    pub tsize: u64,
}
