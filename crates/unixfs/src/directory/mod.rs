//! Directories: names to CIDs, in one node or, above [`THRESHOLD`] bytes, in a hash trie of nodes.
//!
//! [`node`] reads one node of either form, [`basic`] and [`shard`] are the two in memory, [`form`] a directory
//! that is edited and takes the form its entries demand, which [`sizes`] helps to know; [`read`] looks up and
//! lists, [`compare`] says what differs between two states.

mod basic;
mod compare;
mod form;
mod murmur;
mod node;
mod read;
mod shard;
mod sizes;

pub use compare::{Difference, compare};
pub(crate) use form::Directory;
pub(crate) use form::Target;
pub(crate) use node::DirectoryNode;
pub(crate) use read::total_size;
pub use read::{MAX_ENTRIES, list, list_at_most, lookup};
pub use sizes::Sizes;

use crate::UnixfsError;
use cidery_core::{BlockWriter, Cid};

/// A directory whose one node would be larger than this many bytes is sharded
/// (profile `unixfs-v1-2025`: 256 KiB of block bytes).
pub const THRESHOLD: usize = 256 << 10;

/// Longest name that is written, in bytes: what file systems take.
pub const MAX_NAME: usize = 255;

/// A named node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; empty for a root.
    pub name: String,
    /// Its root.
    pub cid: Cid,
    /// Bytes of all its blocks, as its parent says: a hint.
    pub tsize: u64,
}

/// Writes a directory of these entries. Its CID depends on nothing but their names, CIDs and sizes.
/// Of two entries with one name the later counts.
pub fn write_directory(
    entries: impl IntoIterator<Item = Entry>,
    out: &mut dyn BlockWriter,
) -> Result<Entry, UnixfsError> {
    let mut directory = Directory::empty();
    for Entry { name, cid, tsize } in entries {
        check_name(&name)?;
        directory.set(&name, Some((cid, tsize)))?;
    }
    directory.write(out)
}

/// Refuses what cannot stand in a directory that is written here, nor on a disk.
pub(crate) fn check_name(name: &str) -> Result<(), UnixfsError> {
    let why = match name {
        "" => "it is empty",
        "." | ".." => "it means another place",
        _ if name.len() > MAX_NAME => "it is too long",
        _ if name.contains('/') => "it contains a slash",
        _ if name.contains('\0') => "it contains a NUL",
        _ => return Ok(()),
    };
    Err(UnixfsError::name(name, why))
}
