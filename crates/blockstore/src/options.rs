//! How a store is opened, and why it may not open.

use cidery_core::StoreError;
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use thiserror::Error;

/// How to open a store. The defaults suit a node that serves a registry.
#[derive(Clone)]
pub struct Options {
    /// Called now and then while a start takes long (a rebuild of the index).
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    /// What the index may cache, in bytes as they are on disk. In memory sled takes three times of that,
    /// beside about 25 MiB for pages that it has not counted yet, at most 16,384.
    pub index_cache: u64,
    /// A pack that has grown to this many bytes takes no more blocks.
    pub pack_size: u64,
    /// How long the predecessors of a continuously published root stay public, for pulls in flight. They
    /// are withdrawn together, at most once an hour for a namespace, so up to an hour later.
    pub predecessors: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { progress: None, index_cache: 2 << 20, pack_size: 1 << 30, predecessors: Duration::from_secs(48 * 3600) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("progress", &self.progress.is_some())
            .field("index_cache", &self.index_cache)
            .field("pack_size", &self.pack_size)
            .field("predecessors", &self.predecessors)
            .finish()
    }
}

/// What a long start is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading the headers of all packs to make a new index.
    RebuildIndex,
}

/// How far a stage got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// Bytes of packs that were gone through.
    pub done: u64,
    /// Bytes of packs altogether.
    pub total: u64,
}

/// Why a store does not open. The texts say what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{} is in use by {}; stop it first, or choose another data directory",
        path.display(),
        pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, if it said so.
        pid: Option<u32>,
    },
    /// It was written by a newer version.
    #[error(
        "{what} has format {found}, and this version knows formats up to {supported}: use a newer version of cidery"
    )]
    Newer {
        /// Which file.
        what: String,
        /// Its format.
        found: u64,
        /// The newest format that is known here.
        supported: u64,
    },
    /// A file that holds acknowledged state is damaged or missing, and going on would lose that state silently.
    #[error("{what} is damaged: {detail}. Nothing was changed; restore it from a backup")]
    Damaged {
        /// Which file.
        what: String,
        /// What was found, and where.
        detail: String,
    },
    /// The disk failed.
    #[error("the store could not be opened: {0}")]
    Store(#[from] StoreError),
}
