//! What goes over the control socket, and out of `--json`: field names are stable.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `cidery status --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub peer_id: String,
    /// Multiaddrs ending in `/p2p/<id>`.
    pub addresses: Vec<String>,
    /// Connected peers.
    pub peers: usize,
    pub namespaces: Vec<NamespaceStatus>,
    pub blocks: u64,
    pub bytes: u64,
}

/// One namespace in [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct NamespaceStatus {
    pub name: String,
    pub root: Option<String>,
    /// The root that is public now.
    pub published: Option<String>,
}

/// Asks for a publication.
#[derive(Debug, Serialize, Deserialize)]
pub struct PublishRequest {
    pub namespace: String,
    pub once: bool,
}

/// `cidery publish --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Published {
    pub namespace: String,
    pub root: String,
    /// The signed name, once namespaces have one.
    pub ipns: Option<String>,
    /// What to type after `docker pull` where a node runs on the default port.
    pub pull: Vec<String>,
    /// TXT records in zone file form, owner name included.
    pub txt: Vec<String>,
}

/// Asks for the end of a publication.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnpublishRequest {
    pub namespace: String,
}

/// One row of `cidery images --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Image {
    /// `repository:tag`.
    pub name: String,
    /// `null` if what says so is damaged.
    pub digest: Option<String>,
    /// Bytes of all blobs and manifests it needs.
    pub bytes: u64,
    /// RFC 3339, UTC.
    pub pushed: String,
    pub namespace: String,
    /// Digests that its manifests refer to and its repository does not hold: it can't be pulled whole.
    pub missing: Vec<String>,
    /// Why it can't be read; `null` if it can.
    pub damaged: Option<String>,
}

/// Asks for an image to be fetched.
#[derive(Debug, Serialize, Deserialize)]
pub struct PullRequest {
    pub name: String,
}

/// What a pull brought.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pulled {
    pub digest: String,
    pub bytes: u64,
    pub blobs: u64,
}

/// Asks for a pin, or for its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct PinRequest {
    pub name: String,
}

/// One pin: `cidery pin add --json`, and one row of `cidery pin ls --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pinned {
    /// In full: with the tag.
    pub name: String,
    /// RFC 3339, UTC.
    pub pinned: String,
    /// What the name stood for then: an image can be pulled by it, `<root>/<repository>:<tag>`.
    pub root: String,
    /// Bytes of what is kept.
    pub bytes: u64,
    /// CIDs of which all is kept that they reach.
    pub kept: Vec<String>,
    /// CIDs of blocks that are kept by themselves: the way from the root to those.
    pub blocks: Vec<String>,
    /// CIDs of files that were purged since.
    pub purged: Vec<String>,
}

/// `cidery pin rm --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unpinned {
    /// In full.
    pub name: String,
}

/// Asks for an export; the answer's data frames are the file (a tar, or a CAR).
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportRequest {
    pub source: String,
    /// `registry`, `oci`, `docker`, `car`; `None` for the default of the source's kind.
    pub format: Option<String>,
}

/// What an export sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exported {
    pub bytes: u64,
    /// The one platform that was chosen, where the format holds only one.
    pub platform: Option<String>,
}

/// One image that an import brought in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Imported {
    pub name: String,
    pub digest: String,
    pub bytes: u64,
    /// The one platform that came, where the archive names more.
    pub platform: Option<String>,
}

/// Asks for a collection.
#[derive(Debug, Serialize, Deserialize)]
pub struct CollectRequest {
    /// Blobs that no manifest names go too, however new they are.
    pub all: bool,
}

/// Asks for a backup.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupRequest {
    /// An absolute path on the node's machine.
    pub directory: PathBuf,
}

/// `cidery backup --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackedUp {
    /// Pack files of the copy.
    pub packs: u64,
    /// How long they are together, holes included, and how much of the disk they take.
    pub bytes: u64,
    pub disk_bytes: u64,
    /// What was written of that this time.
    pub copied_bytes: u64,
    /// What the node's disk could not read.
    pub unreadable_bytes: u64,
    pub seconds: f64,
}

/// Asks for a digest to be deleted everywhere.
#[derive(Debug, Serialize, Deserialize)]
pub struct PurgeRequest {
    pub digest: String,
}

/// `cidery purge --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Purged {
    /// Where it was.
    pub places: Vec<PurgedPlace>,
    /// The pins that had kept it: they keep the rest.
    pub pins: Vec<String>,
    /// Whether anything of it was here, be it in the cache.
    pub found: bool,
    /// What was removed from the disk with it.
    pub freed_blocks: u64,
    pub freed_bytes: u64,
}

/// One repository in [`Purged`].
#[derive(Debug, Serialize, Deserialize)]
pub struct PurgedPlace {
    pub namespace: String,
    pub repository: String,
    /// It was a manifest there, and not only a blob.
    pub manifest: bool,
}

/// `cidery gc --json`. Bytes are those of blocks; what they take on the disk is a little more.
#[derive(Debug, Serialize, Deserialize)]
pub struct Collected {
    /// What was removed, from the cache too.
    pub freed_blocks: u64,
    pub freed_bytes: u64,
    /// Pack files that were removed.
    pub packs_removed: u64,
    /// What this node's own images, past and present, open uploads and pins need.
    pub live_blocks: u64,
    pub live_bytes: u64,
    /// What came from peers and nothing of this node's own needs.
    pub cached_blocks: u64,
    pub cached_bytes: u64,
    /// What no manifest names, not yet or not any more, and is kept until it expires.
    pub unnamed_blobs: u64,
    pub unnamed_bytes: u64,
    pub seconds: f64,
}

/// Asks for a run of retention.
#[derive(Debug, Serialize, Deserialize)]
pub struct RetentionRequest {
    /// Only say what would go.
    pub dry_run: bool,
}

/// `cidery retention --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Retained {
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    /// Whether there are rules at all.
    pub rules: bool,
    /// Tags that some rule covers, those that went included.
    pub covered: usize,
    /// Tags that went.
    pub tags: Vec<RetainedTag>,
    /// Manifests that went with them.
    pub manifests: Vec<RetainedManifest>,
    /// Repositories that could not be looked through or changed.
    pub failed: Vec<RetentionFailure>,
}

/// One tag in [`Retained`].
#[derive(Debug, Serialize, Deserialize)]
pub struct RetainedTag {
    /// `repository:tag`.
    pub name: String,
    /// What it stood for.
    pub digest: Option<String>,
    /// RFC 3339, UTC.
    pub pushed: Option<String>,
}

/// One manifest in [`Retained`].
#[derive(Debug, Serialize, Deserialize)]
pub struct RetainedManifest {
    pub repository: String,
    pub digest: String,
}

/// One repository in [`Retained`] that failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct RetentionFailure {
    pub repository: String,
    pub error: String,
}

/// `cidery du --json`. Bytes are those of blocks, but for packs, journal and index: those are what
/// they take on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Usage {
    /// What a collection keeps: what this node's own images, past and present, and open uploads need.
    pub live_blocks: u64,
    pub live_bytes: u64,
    /// Each namespace's images now. What several need counts for each.
    pub namespaces: Vec<NamespaceUsage>,
    /// Earlier states that are kept, and what nothing but they need.
    pub history_roots: u64,
    pub history_blocks: u64,
    pub history_bytes: u64,
    /// Open uploads, and what they have so far.
    pub uploads: u64,
    pub uploads_blocks: u64,
    pub uploads_bytes: u64,
    /// What came for them besides, and a restart now would lose.
    pub uploads_unsaved_bytes: u64,
    /// Pins, and what they keep. What an image of this node's needs too counts for both.
    pub pins: u64,
    pub pinned_blocks: u64,
    pub pinned_bytes: u64,
    /// What came from peers and nothing of this node's own needs.
    pub cached_blocks: u64,
    pub cached_bytes: u64,
    /// What the next collection gives back, if it has not to shrink the cache or to tidy up first: then more.
    pub dead_blocks: u64,
    pub dead_bytes: u64,
    /// Pack files: where blocks are.
    pub packs: u64,
    pub packs_bytes: u64,
    pub journal_bytes: u64,
    pub index_bytes: u64,
}

/// One namespace in [`Usage`].
#[derive(Debug, Serialize, Deserialize)]
pub struct NamespaceUsage {
    pub name: String,
    pub root: String,
    pub blocks: u64,
    pub bytes: u64,
}

/// Asks for a scrub.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScrubRequest {
    /// Bytes per second at most; 0 for no limit.
    pub rate: u64,
}

/// `cidery scrub --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scrubbed {
    /// What was read.
    pub blocks: u64,
    pub bytes: u64,
    /// CIDs of blocks that were damaged and are good again.
    pub repaired: Vec<String>,
    /// How many damaged blocks of the cache were removed: the next pull fetches them again.
    pub removed: u64,
    /// CIDs of blocks that are damaged still.
    pub damaged: Vec<String>,
    /// The names of images that need one of those.
    pub images: Vec<String>,
    /// Namespaces in which one of those is in something else than an image with a tag.
    pub namespaces: Vec<String>,
    pub seconds: f64,
}

/// How far long work is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    /// Grows while more becomes known; 0 while nothing is.
    pub total: u64,
    /// What work of several stages is busy with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
}

/// A stage of long work, and whether it counts blocks or bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub blocks: bool,
}
