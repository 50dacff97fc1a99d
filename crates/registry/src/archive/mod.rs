//! Images in and out as files: OCI layouts, docker-archives, CARs, and plain registry storage trees.
//!
//! ```text
//!   export   Snapshot ──► walk ──► oci | docker            ──► tar ──► Write
//!            Snapshot ──► walk ──► one_image (a tree of it) ──► tar | CAR ──► Write
//!            any CID  ────────────────────────────────────► tar | CAR ──► Write
//!   import   Read ──► tar_in | CAR ──► content (chunk, hash) ──► Blockstore
//!                     when all is read ──► oci | docker | registry ──► walk ──► Tree::adopt
//! ```
//!
//! Everything runs on a blocking thread, reads from [`std::io::Read`] or writes to
//! [`std::io::Write`], and names no file of this machine. Sources may be cold: then their blocks
//! arrive while they are written.
//!
//! - Every blob of an image is checked against its digest on its way out (in a CAR, every block
//!   against its CID); an export that fails is incomplete, and must be thrown away.
//! - Nothing is adopted unless everything the image needs is in the store and has the digest it is
//!   named by. What an import that failed has stored is nobody's, and goes with the next collection.
//! - Memory does not grow with the archive: only JSON documents (bounded) and the list of entries
//!   (bounded) are held.

mod compress;
mod content;
mod docker_in;
mod docker_out;
mod error;
mod export;
mod import;
mod names;
mod oci_in;
mod oci_out;
mod one_image;
mod registry_in;
mod scan;
mod tar_in;
mod tar_out;
mod tree_out;
mod walk;

#[cfg(test)]
mod tests;

pub use error::ArchiveError;
pub use export::{Exported, Source, export_cid, export_image};
pub use import::{Imported, import};

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tar of a registry's storage directory: for an image, one that holds just it; for a CID, its tree as it is.
    Registry,
    /// A tar of an OCI image layout (image-spec:image-layout.md), with every platform.
    Oci,
    /// A tar that `docker load` takes: one platform.
    Docker,
    /// A CARv1: for an image, of a tree that holds just it; for a CID, of its DAG.
    Car,
}

/// How far an export or import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The blob, file or entry that is being worked on.
    pub item: &'a str,
    /// Bytes of content so far.
    pub bytes: u64,
    /// Bytes of content in all, where that is known.
    pub total: Option<u64>,
}

/// Hears of [`Progress`].
pub type Report<'a> = dyn FnMut(Progress<'_>) + Send + 'a;

/// Counts bytes for [`Progress`].
struct Meter<'a> {
    report: &'a mut Report<'a>,
    bytes: u64,
    total: Option<u64>,
}

impl<'a> Meter<'a> {
    fn new(report: &'a mut Report<'a>, total: Option<u64>) -> Self {
        Self { report, bytes: 0, total }
    }

    fn add(&mut self, item: &str, bytes: u64) {
        self.bytes += bytes;
        self.tell(item);
    }

    /// Links and directories are not counted beforehand, so the total also is a limit.
    fn tell(&mut self, item: &str) {
        let bytes = self.total.map_or(self.bytes, |total| self.bytes.min(total));
        (self.report)(Progress { item, bytes, total: self.total });
    }
}
