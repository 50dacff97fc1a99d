//! Collection: what nothing reaches any more leaves the disk, beside pushes, pulls and publications.
//!
//! ```text
//!   census    goes through the index: where every block is                           census.rs
//!   mark      what current roots, kept history, links, uploads, pins, holds reach    mark.rs, marked.rs
//!   sweep     goes through the index; what was not reached is buried:                sweep.rs
//!             hidden from lookups, its tombstone journalled, its index entry removed, large payloads
//!             punched out
//!   evict     the cache's least recently used blocks, where it is over its limit     evict.rs
//!   compact   packs of small blocks with much dead are copied and removed            compact.rs
//! ```
//!
//! Nobody waits for it. A block that is put while the collection runs is safe because its writer keeps
//! it in a hold before it looks whether the block is here, and burying looks at the holds under the same
//! claim that a put needs. A block that was appended after the marking began is not looked at. Roots and
//! links that come meanwhile are walked before the next blocks are buried.

mod auto;
mod census;
mod compact;
mod evict;
mod mark;
mod marked;
mod rotten;
mod sweep;

pub(super) use auto::Collector;
pub(super) use census::Census;
pub(super) use mark::Marking;
pub(super) use rotten::Rotten;
pub(super) use sweep::{Lot, PUNCHED};

use super::{
    DiskStore, Inner, politely,
    round::Op,
    telling::{Tell, Telling},
};
use crate::{options::Progress, small::SmallCid};
use cidery_core::{Cid, Multihash, StoreError};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a collection did, and what it left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blocks that roots, links, uploads, pins or holds reach.
    pub live_blocks: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Blocks from peers and other registries that nothing of this node's own reaches.
    pub cached_blocks: u64,
    /// Their bytes.
    pub cached_bytes: u64,
    /// Blocks that were removed, cached ones included.
    pub freed_blocks: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Packs that were removed, after what lived in them had been copied.
    pub packs_removed: u64,
    /// How long it took.
    pub took: Duration,
}

/// What the sweep learns of a pack.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PackUse {
    /// Only records before this offset are looked at.
    watermark: u64,
    /// Bytes of the records, below it, that stay.
    live: u64,
}

/// By pack.
pub(super) type Usage = BTreeMap<u64, PackUse>;

/// Files that were forgotten, and those of their blocks that somebody is still at or has pinned: they stay hidden.
struct InUse {
    files: Vec<Cid>,
    blocks: Vec<Multihash>,
}

impl DiskStore {
    /// Collects now. `progress` hears how far it is, from another thread.
    ///
    /// # Errors
    /// When a block that is reached cannot be read, nothing that it may reach is known: then nothing is
    /// removed, and `scrub` says what is damaged.
    pub fn collect(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<Collected, StoreError> {
        self.0.inner.check_open()?;
        politely("store-collect", || self.0.inner.collect(progress))
    }

    /// What the last collection did, if there was one since the start.
    pub fn last_collection(&self) -> Option<Collected> {
        self.0.inner.collector.last().map(|(_, last)| last)
    }
}

impl Inner {
    /// Collects. One at a time: who comes second waits.
    fn collect(&self, tell: Tell<'_>) -> Result<Collected, StoreError> {
        let _one = self.collector.one_at_a_time();
        let was_due = self.collector.take_due();
        self.collect_all(tell).inspect_err(|_| {
            if was_due {
                self.collector.retry();
            }
        })
    }

    fn collect_all(&self, tell: Tell<'_>) -> Result<Collected, StoreError> {
        let started = Instant::now();
        let mut done = Collected::default();
        let _keeping = self.holds.keep_released();
        let round = self.withdrawn.begin_round();
        let sequence = self.state.read().sequence;
        let mut usage = self.watermarks()?;
        let generation = self.index.read().generation;
        let census = Arc::new(Census::take(self)?);
        let mut marking = Marking::new(self, Some(census.clone()));
        marking.walk_all(tell)?;
        // Before what was forgotten is shown again where it is still reached: not in an earlier root's name.
        self.published_namespaces().iter().for_each(|namespace| self.renew_marks(namespace));
        self.sweep(&mut marking, &mut usage, &mut done, tell)?;
        self.evict(&mut marking, &mut usage, &mut done, tell)?;
        let in_use = self.withdrawn_in_use(&marking);
        drop(marking);
        if self.index.read().generation != generation {
            // What another index has found was not gone through, and what was forgotten may not be gone: it stays hidden.
            self.collect_later();
            return Err(StoreError::Index("it was made anew during the collection: collect again".into()));
        }
        self.compact(&census, &usage, &mut done, tell)?;
        drop(census);
        self.end_collection(round, sequence, in_use)?;
        self.collector.cache_is(done.cached_bytes);
        done.took = started.elapsed();
        tracing::info!(
            freed_blocks = done.freed_blocks,
            freed_bytes = done.freed_bytes,
            live_bytes = done.live_bytes,
            cached_bytes = done.cached_bytes,
            packs_removed = done.packs_removed,
            took = ?done.took,
            "collected"
        );
        self.uses.save(&*self.disk);
        self.collector.finished(self.now(), done.clone());
        Ok(done)
    }

    /// Brings the index up to date: what is in it now is what the collection looks at.
    pub(super) fn watermarks(&self) -> Result<Usage, StoreError> {
        // Taken before the checkpoint, so that every record below is in the index after it.
        let before: Usage = {
            let packs = self.packs.all();
            packs.iter().map(|pack| (pack.id(), PackUse { watermark: pack.len(), live: 0 })).collect()
        };
        self.checkpoint()?;
        Ok(before)
    }

    /// What was forgotten and stays for those alone who are at it or have pinned it.
    fn withdrawn_in_use(&self, marking: &Marking<'_>) -> InUse {
        let keeps = |file: &SmallCid| Some(file.cid()).filter(|file| marking.only_keeps(file.hash()));
        let files: Vec<Cid> = self.state.read().forgotten.keys().filter_map(keeps).collect();
        let mut blocks = self.blocks_below(&files);
        blocks.retain(|hash| marking.only_keeps(hash));
        InUse { files, blocks }
    }

    /// Writes down what this collection settled of what was forgotten.
    fn end_collection(&self, round: u64, sequence: u64, in_use: InUse) -> Result<(), StoreError> {
        let (forgotten, past) = {
            let state = self.state.read();
            // What was forgotten before the earliest root that is kept came: no root that is kept has it.
            let earliest = state.spaces.values().filter_map(|space| {
                let kept = space.kept_roots(self.now(), self.options.predecessors, self.options.history);
                kept.iter().map(|entry| entry.sequence).min()
            });
            (state.forgotten.len(), earliest.min().unwrap_or(state.sequence).min(sequence))
        };
        if !in_use.files.is_empty() && !self.holds.roots().is_empty() {
            self.collect_later();
        }
        if forgotten > 0 {
            self.write(Op::Collected { upto: sequence, past, still: in_use.files })?;
        }
        self.withdrawn.end_round(round, &in_use.blocks, &self.state.read().forgotten);
        Ok(())
    }

    fn check_collecting(&self) -> Result<(), StoreError> {
        self.check_open()
    }
}
