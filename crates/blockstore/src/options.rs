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
    /// The journal is written anew when it is longer than this, in bytes, and a quarter of it would do.
    pub journal_size: u64,
    /// How long the predecessors of a continuously published root stay public, for pulls in flight. They
    /// are withdrawn together, at most once an hour for a namespace, so up to an hour later.
    pub predecessors: Duration,
    /// How many of a namespace's roots are kept, the current one included. Public predecessors are kept too.
    pub history: usize,
    /// Bytes of blocks from peers and other registries that are kept at most. What this node's own roots reach
    /// does not count.
    pub cache_limit: Option<u64>,
    /// Bytes of blocks beyond which no more are taken.
    pub store_limit: Option<u64>,
    /// Bytes that stay free on the disk: with less, no more blocks are taken.
    pub reserve: u64,
    /// How long after something can be collected that is done; never by itself if `None`.
    pub collect_after: Option<Duration>,
    /// Names of files of the program's own, which may lie in the directory of a backup too.
    pub beside: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            progress: None,
            index_cache: 4 << 20,
            pack_size: 1 << 30,
            journal_size: 4 << 20,
            predecessors: Duration::from_secs(48 * 3600),
            history: 32,
            cache_limit: None,
            store_limit: None,
            reserve: 0,
            collect_after: Some(Duration::from_secs(30)),
            beside: Vec::new(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("progress", &self.progress.is_some())
            .field("index_cache", &self.index_cache)
            .field("pack_size", &self.pack_size)
            .field("journal_size", &self.journal_size)
            .field("predecessors", &self.predecessors)
            .field("history", &self.history)
            .field("cache_limit", &self.cache_limit)
            .field("store_limit", &self.store_limit)
            .field("reserve", &self.reserve)
            .field("collect_after", &self.collect_after)
            .field("beside", &self.beside)
            .finish()
    }
}

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading the headers of all packs to make a new index.
    RebuildIndex,
    /// A collection finds out what is reached; counted in blocks.
    Mark,
    /// It goes through the index; counted in blocks.
    Sweep,
    /// It shrinks the cache; counted in bytes.
    Evict,
    /// It copies what lives in packs with much that is dead; counted in bytes.
    Compact,
    /// A scrub reads the packs; counted in bytes.
    Scrub,
    /// A backup goes through the packs; counted in bytes.
    Backup,
}

/// How far a stage got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// What was gone through, in the stage's unit: bytes of packs for a new index.
    pub done: u64,
    /// How much there is altogether, or about.
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
