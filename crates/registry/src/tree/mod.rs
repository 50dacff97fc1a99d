//! A namespace's state as one immutable UnixFS tree, in the layout of the distribution registry's
//! own storage.
//!
//! ```text
//!   Tree (handle) ──► writer task ──► edit ──► RootStore::commit      one writer per namespace
//!     │ link_blob ──► RootStore::link, and the overlay                no root is made
//!     └ snapshot ──► Snapshot { root, overlay }                       immutable reads, owned or foreign
//! ```
//!
//! - [`layout`] says where things lie, [`manifest`] what a manifest refers to.
//! - [`Tree`] is the only way to write: a blob is a journalled link, read as an overlay; a manifest
//!   commit folds the links that it names into the tree, a blob that comes after its manifest is folded in at once
//!   ([`Tree::link_blob`]), and commits that wait are made together.
//! - [`Snapshot`] reads any root. Everything it caches is named by a CID, so it is never stale.
//!
//! A tree's root is a pure function of what it holds: the same repositories have the same root on
//! every machine. Foreign trees were written by strangers: what does not parse is
//! [`TreeError::Malformed`], and nothing is read that was not bounded first.

mod again;
mod allowed;
mod backlinks;
mod cache;
mod commit;
mod delete;
mod error;
mod fetch;
mod handle;
mod late;
pub mod layout;
pub mod manifest;
mod named;
mod needs;
mod overlay;
mod pending;
mod reader;
mod referrers;
mod repositories;
mod retire;
mod snapshot;
mod tagged;
mod tidy;
mod times;
mod view;
mod writer;

pub use cache::NodeCache;
pub use error::TreeError;
pub(crate) use error::list;
pub use handle::{Image, ImageManifest, May, Missing, Push, Put, Tree};
pub use manifest::{Descriptor, MAX_MANIFEST, Platform};
pub(crate) use needs::Unit;
pub(crate) use retire::Retired;
pub use snapshot::Snapshot;

use cidery_core::{Bytes, Cid, Digest};

/// A blob as a tree holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Root of its UnixFS file.
    pub cid: Cid,
    /// Its size in bytes.
    pub size: u64,
}

/// A manifest, byte for byte as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`, in the algorithm it is linked by.
    pub digest: Digest,
    /// The media type to answer with.
    pub media_type: String,
    /// Exactly what was pushed.
    pub bytes: Bytes,
}

#[cfg(test)]
mod tests;
