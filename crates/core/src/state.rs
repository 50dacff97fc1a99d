//! The values that travel through the ports.

use crate::{Cid, Digest, Namespace, RepositoryName, Tag};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a block came from. Fixed when its record is written, and never changed:
/// it decides what peers may see (only [`Origin::Peer`], or what a published root reaches)
/// and what is a cache (only [`Origin::Peer`] and [`Origin::Upstream`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// Pushed by a client of this node's registry, or made by a commit to its tree.
    Pushed = 1,
    /// Imported from a file by the owner.
    Imported = 2,
    /// Fetched from a peer: public already.
    Peer = 3,
    /// Fetched from another registry on a client's behalf.
    Upstream = 4,
}

/// A blob that was pushed to a repository and is not yet part of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The namespace.
    pub namespace: Namespace,
    /// The repository within it.
    pub repository: RepositoryName,
    /// The blob's digest.
    pub digest: Digest,
    /// Root of the blob's file.
    pub cid: Cid,
    /// The blob's size in bytes.
    pub size: u64,
}

/// One root in a namespace's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootEntry {
    /// The root.
    pub cid: Cid,
    /// Its place in the journal: later is larger, across all namespaces.
    pub sequence: u64,
    /// When it was committed.
    pub at: SystemTime,
}

/// When a tag was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTime {
    /// The repository.
    pub repository: RepositoryName,
    /// Its tag.
    pub tag: Tag,
    /// In whole milliseconds: finer is not kept.
    pub at: SystemTime,
}

impl TagTime {
    /// With the time cut to what is kept of it.
    pub fn new(repository: RepositoryName, tag: Tag, at: SystemTime) -> Self {
        let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self { repository, tag, at: UNIX_EPOCH + Duration::from_millis(millis) }
    }
}

/// How a namespace is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// Every later root is public at once.
    Continuous,
    /// Only this root is public, until told otherwise.
    Once(Cid),
}

/// A namespace that is public, and by which root now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// Continuous or once.
    pub mode: PublishMode,
    /// The root that is public now.
    pub root: Cid,
}

/// What the journal says of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceState {
    /// The current root; `None` before the first commit.
    pub root: Option<RootEntry>,
    /// `None` while private.
    pub published: Option<Publication>,
}

/// An upload that survives a restart. `state` is the registry's own; `pins` are blocks it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    /// The upload's id.
    pub id: String,
    /// Blocks that belong to it and must not be collected.
    pub pins: Vec<Cid>,
    /// What the registry needs to go on.
    pub state: Vec<u8>,
}

/// A file that holds a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobFile {
    /// Its root.
    pub cid: Cid,
    /// The blob's size in bytes.
    pub size: u64,
}

/// What a peer says of a digest. It counts once the file's bytes were hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The file that is said to hold it.
    pub file: BlobFile,
    /// Who says so.
    pub peer: Box<str>,
}

/// What somebody wants kept, by whatever name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The name it was made by. A store has one pin of a name.
    pub name: String,
    /// What the name stood for then.
    pub root: Cid,
    /// All that these reach is kept.
    pub roots: Vec<Cid>,
    /// These are kept by themselves: the way from `root` to `roots`.
    pub blocks: Vec<Cid>,
    /// Bytes of what is kept, as far as whoever made it counted them.
    pub bytes: u64,
}

/// A pin that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// What was asked for.
    pub pin: Pin,
    /// When.
    pub at: SystemTime,
    /// Files that were purged since, and are not kept any more.
    pub purged: Vec<Cid>,
}

/// What a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Times a durable flush was waited for since the start: what group commit saves.
    pub syncs: u64,
}

/// Whose eyes a session reads the local store with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A caller who may pull all of this node's namespaces: any local block counts.
    Owner,
    /// Anybody else: only what peers may see. Otherwise whoever knows a digest could link it
    /// from a tree of his own and read it here.
    Public,
}

/// What a session is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    /// The root whose blocks are wanted: providers of it are asked first.
    pub root: Cid,
    /// Multiaddrs that may have them; hostile until proven otherwise.
    pub hints: Vec<String>,
    /// What of the local store may be used.
    pub scope: Scope,
}

/// What a foreign name stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The CID at the end of the name.
    pub root: Cid,
    /// A path below it that the name carries (`dnslink=/ipfs/<cid>/a/b`).
    pub path: Vec<String>,
    /// Multiaddrs the name's owner recommends.
    pub hints: Vec<String>,
}
