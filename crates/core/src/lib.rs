//! What every other crate of cidery speaks: blocks, names, and the ports between the crates.
//!
//! ```text
//!   registry ──► Blockstore, RootStore, Network, Session; implements Digests   (never a peer, never a disk)
//!   node     ──► Blockstore, PublicBlocks, Digests; implements Network         (never a registry, never a tree)
//!   bitswap  ──► Blockstore, PublicBlocks; implements Session
//!   unixfs   ──► Fetcher
//!   blockstore   implements Blockstore, RootStore, PublicBlocks
//! ```
//!
//! The ports stand in [`ports`], on one screen. Each has a complete in-memory implementation in
//! [`memory`], and a behaviour suite in `suite` (feature `testing`) that every implementation passes.

mod block;
pub mod dag;
mod error;
pub mod memory;
mod name;
pub mod ports;
mod state;
#[cfg(feature = "testing")]
pub mod suite;

pub use block::{
    Block, BlockError, Cid, MAX_BLOCK, Multihash, SHA2_256, SHA2_512, codec, hash_allowed, identity_bytes,
};
pub use bytes::Bytes;
pub use error::{CommitError, FetchError, NetworkError, PinError, ResolveError, StoreError};
pub use name::{Digest, ForeignName, NameError, Namespace, Reference, RepositoryName, Tag};
pub use ports::{
    BlockWriter, Blockstore, Digests, Fetcher, Hold, Inquiry, MAX_FILES, Network, PublicBlocks, RootStore, Session,
};
pub use state::{
    BlobFile, Claim, Link, NamespaceState, Origin, Pin, Pinned, Publication, PublishMode, Resolved, RootEntry, Scope,
    SessionSpec, Stats, TagTime, UploadRecord,
};
