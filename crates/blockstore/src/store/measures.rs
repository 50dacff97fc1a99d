//! What can be said of a store at any time without going through it: for monitoring.

use super::{Collected, DiskStore, Inner};
use crate::pack::DIRECTORY;
use cidery_core::StoreError;
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime},
};

/// Numbers of a store, as of now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measures {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of blocks in the cache, about: as the last collection counted them, and what came since.
    pub cached_bytes: u64,
    /// Pack files.
    pub packs: u64,
    /// What they take on the disk, in bytes.
    pub packs_bytes: u64,
    /// What the journal takes on the disk, in bytes.
    pub journal_bytes: u64,
    /// Bytes that the file system has free for this node; `None` where it does not say.
    pub free_bytes: Option<u64>,
    /// Bytes of it that stay free ([`crate::Options::reserve`]).
    pub reserve_bytes: u64,
    /// The most bytes of blocks that are taken ([`crate::Options::store_limit`]).
    pub limit_bytes: Option<u64>,
    /// Times a durable flush was waited for since the start.
    pub syncs: u64,
    /// Collections since the start.
    pub collections: Collections,
    /// When the last of them ended, and what it did.
    pub last_collection: Option<(SystemTime, Collected)>,
}

/// Collections since the start, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collections {
    /// How many.
    pub count: u64,
    /// Blocks that they removed.
    pub freed_blocks: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// How long they took.
    pub took: Duration,
}

/// Why a store takes no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It is closed, or what it writes can't be trusted to last: the text says which.
    Unsound(String),
    /// It is at its limit, or the disk at its reserve: so many bytes are missing.
    NoRoom(u64),
}

impl DiskStore {
    /// What monitoring asks for. Costs one look at each pack file: call it from a blocking thread.
    ///
    /// # Errors
    /// When the data directory cannot be read.
    pub fn measures(&self) -> Result<Measures, StoreError> {
        self.0.inner.measures()
    }

    /// What keeps the store from taking more; empty while all is well. Asks the file system: call it from a
    /// blocking thread.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let inner = &self.0.inner;
        let unsound = inner.check_open().err().map(|error| Obstacle::Unsound(error.to_string()));
        let missing = inner.room_missing();
        unsound.into_iter().chain((missing > 0).then_some(Obstacle::NoRoom(missing))).collect()
    }
}

impl Inner {
    fn measures(&self) -> Result<Measures, StoreError> {
        let (packs, packs_bytes) = self.files(&self.names(DIRECTORY)?)?;
        Ok(Measures {
            blocks: self.blocks.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            cached_bytes: self.collector.cached(),
            packs,
            packs_bytes,
            journal_bytes: self.files(&["journal".into()])?.1,
            free_bytes: Some(self.free()).filter(|free| *free != u64::MAX),
            reserve_bytes: self.options.reserve,
            limit_bytes: self.options.store_limit,
            syncs: self.syncs.load(Relaxed),
            collections: self.collector.all(),
            last_collection: self.collector.last(),
        })
    }
}
