//! The index of an open store: looking blocks up, and bringing it up to date.

use super::{Inner, blocks::only_store, round::Op};
use crate::{
    index::{Checkpoint, Index, IndexError, Survey},
    pack::Location,
};
use cidery_core::{Multihash, StoreError};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// A checkpoint is due after this many bytes …
pub(super) const BYTES: u64 = 256 << 20;
/// … or when this many blocks are not in the index, …
const BLOCKS: usize = 16 << 10;
/// … of a large store more, since each of them is written with all that shares its page, up to so many …
const BLOCKS_OF_LARGE: usize = 64 << 10;
/// … and one for so many that there are.
const PART: u64 = 64;
/// With so many no more are taken: the index must be failing.
const MOST_BLOCKS: usize = 256 << 10;
/// How long to wait before a failed index is tried again.
pub(super) const RETRY: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };
/// Reopening an index needs room; with less than this a failed one is left alone, since it may still be read.
pub(super) const ROOM: u64 = 16 << 20;

/// The salt of each pack, and up to where it is durable.
pub(super) type Durable = BTreeMap<u64, (u64, u64)>;

/// The index in use.
pub(super) struct IndexSlot {
    pub(super) index: Result<Box<dyn Index>, IndexError>,
    /// Grows with every new one.
    pub(super) generation: u64,
    pub(super) failed: Option<Instant>,
    /// It was begun anew and is not complete: what is there now must not be taken for the index.
    pub(super) unfilled: bool,
}

impl IndexSlot {
    pub(super) fn new(index: Box<dyn Index>) -> Self {
        Self { index: Ok(index), generation: 0, failed: None, unfilled: false }
    }

    fn index(&self) -> Result<&dyn Index, IndexError> {
        self.index.as_deref().map_err(IndexError::clone)
    }
}

/// What the last checkpoint said.
#[derive(Default)]
pub(super) struct Progressed {
    counts: BTreeMap<u64, u64>,
    pub(super) checkpoints: BTreeMap<u64, Checkpoint>,
    /// Packs that are being emptied, which have no checkpoint.
    pub(super) emptied: BTreeSet<u64>,
}

impl From<Survey> for Progressed {
    fn from(survey: Survey) -> Self {
        Self { counts: survey.counts, checkpoints: survey.checkpoints, emptied: BTreeSet::new() }
    }
}

/// Wakes the thread that writes checkpoints.
#[derive(Default)]
pub(super) struct Alarm {
    bytes: AtomicU64,
    state: Mutex<AlarmState>,
    changed: Condvar,
}

#[derive(Default)]
struct AlarmState {
    due: bool,
    closing: bool,
}

impl Alarm {
    /// Counts a block that was written; `many` if too many are not in the index.
    fn wrote(&self, len: u64, many: bool) {
        if self.bytes.fetch_add(len, Relaxed) + len >= BYTES || many {
            let mut state = self.state.lock();
            if !state.due {
                state.due = true;
                self.changed.notify_all();
            }
        }
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// Waits until a checkpoint is due; `false` when the store is closing.
    fn wait(&self, retry: bool) -> bool {
        let mut state = self.state.lock();
        while !state.closing {
            if retry {
                if self.changed.wait_for(&mut state, RETRY).timed_out() {
                    break;
                }
            } else if state.due {
                break;
            } else {
                self.changed.wait(&mut state);
            }
        }
        state.due = false;
        self.bytes.store(0, Relaxed);
        !state.closing
    }
}

impl Inner {
    /// The worker that writes checkpoints.
    pub(super) fn keep_checkpoints(&self) {
        let mut retry = false;
        while self.alarm.wait(retry) {
            let result = self.checkpoint();
            retry = result.is_err();
            if let Err(error) = result {
                tracing::warn!(%error, "the index could not be brought up to date; trying again");
            }
        }
    }

    /// Counts a block that was written.
    pub(super) fn count_written(&self, len: u64) {
        self.alarm.wrote(len, self.is_behind());
    }

    /// Whether so many blocks are not in the index that a checkpoint is due.
    pub(super) fn is_behind(&self) -> bool {
        let part = usize::try_from(self.blocks.load(Relaxed) / PART).unwrap_or(usize::MAX);
        self.recent.len() >= part.clamp(BLOCKS, BLOCKS_OF_LARGE)
    }

    /// Refuses new blocks while far too many wait for an index that fails.
    pub(super) fn check_backlog(&self) -> Result<(), StoreError> {
        if self.recent.len() < MOST_BLOCKS {
            return Ok(());
        }
        Err(StoreError::Index(format!("it does not take blocks, and {MOST_BLOCKS} are waiting for it")))
    }

    /// Where the index says a block is. An index that fails is made anew.
    pub(super) fn look_up(&self, hash: &Multihash) -> Result<Option<Location>, StoreError> {
        self.with_index(|index| index.get(hash))
    }

    /// Asks the index. One that fails is made anew.
    pub(super) fn with_index<T>(&self, ask: impl Fn(&dyn Index) -> Result<T, IndexError>) -> Result<T, StoreError> {
        let (error, generation) = {
            let slot = self.index.read();
            match slot.index().and_then(&ask) {
                Ok(found) => return Ok(found),
                Err(error) => (error, slot.generation),
            }
        };
        self.renew(generation, &error.0, false)?;
        self.with_index_as_it_is(ask)
    }

    /// Asks the index, for those who must not make a new one: they hold what that takes.
    pub(super) fn with_index_as_it_is<T>(
        &self,
        ask: impl FnOnce(&dyn Index) -> Result<T, IndexError>,
    ) -> Result<T, StoreError> {
        let slot = self.index.read();
        slot.index().and_then(ask).map_err(|error| StoreError::Index(error.0))
    }

    /// Moves blocks that are durable from the recent ones to the index.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        let mut progressed = self.progressed.lock();
        self.submit(Op::Sync).map_err(only_store)?;
        let durable: Durable =
            self.packs.all().iter().map(|pack| (pack.id(), (pack.header.salt, pack.durable()))).collect();
        let moved = self.settled(&durable);
        let (result, generation) = {
            let slot = self.index.read();
            (slot.index().and_then(|index| progressed.advance(index, &moved, &durable)), slot.generation)
        };
        drop(progressed);
        match result {
            Ok(()) => {
                self.recent.forget(&moved);
                Ok(())
            }
            Err(error) => {
                if self.disk.free().is_ok_and(|free| free >= ROOM) {
                    self.renew(generation, &error.0, false)?;
                }
                Err(StoreError::Index(error.0))
            }
        }
    }

    /// The recent blocks that are durable where they are.
    pub(super) fn settled(&self, durable: &Durable) -> Vec<(Multihash, Location)> {
        let is_settled = |place: &Location| durable.get(&place.pack).is_some_and(|(_, upto)| place.end() <= *upto);
        let mut settled = self.recent.select(is_settled);
        // In the order of the index's pages.
        settled.sort_unstable_by(|(one, _), (other, _)| one.digest().cmp(other.digest()));
        settled
    }
}

impl Progressed {
    /// How many blocks are counted to a pack, dead ones included.
    pub(super) fn placed(&self, pack: u64) -> u64 {
        self.counts.get(&pack).copied().unwrap_or_default()
    }

    /// Forgets a pack that is no more.
    pub(super) fn forget(&mut self, pack: u64) {
        self.counts.remove(&pack);
        self.checkpoints.remove(&pack);
        self.emptied.remove(&pack);
    }

    /// A pack is going to be emptied. Its blocks leave it one by one in the index, and a stop must not find a
    /// checkpoint that still counts them: without one, it is read again.
    pub(super) fn begin_emptying(&mut self, index: &dyn Index, pack: u64) -> Result<(), IndexError> {
        self.checkpoints.remove(&pack);
        index.remove_checkpoint(pack)?;
        index.flush()?;
        self.emptied.insert(pack);
        Ok(())
    }

    /// It stays after all.
    pub(super) fn end_emptying(&mut self, pack: u64) {
        self.emptied.remove(&pack);
    }

    pub(super) fn advance(
        &mut self,
        index: &dyn Index,
        moved: &[(Multihash, Location)],
        durable: &Durable,
    ) -> Result<(), IndexError> {
        let counts = &mut self.counts;
        index.set(moved, &mut |_, former| {
            if let Some(count) = counts.get_mut(&former.pack) {
                *count = count.saturating_sub(1);
            }
        })?;
        for (_, place) in moved {
            *counts.entry(place.pack).or_default() += 1;
        }
        let changed: Vec<(u64, Checkpoint)> = durable
            .iter()
            .filter(|(id, _)| !self.emptied.contains(id))
            .map(|(id, (salt, upto))| {
                (*id, Checkpoint { salt: *salt, upto: *upto, blocks: counts.get(id).copied().unwrap_or_default() })
            })
            .filter(|(id, checkpoint)| checkpoint.upto > 0 && self.checkpoints.get(id) != Some(checkpoint))
            .collect();
        if changed.is_empty() && moved.is_empty() {
            return Ok(());
        }
        // Blocks first: a checkpoint that lasts promises that they do.
        index.flush()?;
        index.set_checkpoints(&changed)?;
        // An index that is opened again must have those that are known here.
        index.flush()?;
        self.checkpoints.extend(changed);
        Ok(())
    }
}
