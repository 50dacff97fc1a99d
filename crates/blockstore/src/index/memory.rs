//! An index that is gone after every stop: what a crash test wants, since the store then has to make a
//! new one from packs and journal.

use super::{Checkpoint, Index, IndexError, IndexHome};
use crate::pack::Location;
use cidery_core::Multihash;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

#[derive(Default)]
struct Inner {
    blocks: Mutex<BTreeMap<Multihash, Location>>,
    checkpoints: Mutex<BTreeMap<u64, Checkpoint>>,
    /// What a power cut leaves of them, if that is less.
    kept_checkpoints: Mutex<Option<BTreeMap<u64, Checkpoint>>>,
    store: Mutex<Option<u64>>,
    broken: Mutex<Option<String>>,
}

/// Gives a new index at every opening, or with `keep` the same one.
#[derive(Default, Clone)]
pub(crate) struct MemoryHome {
    pub(crate) keep: bool,
    inner: Arc<Mutex<Arc<Inner>>>,
}

impl MemoryHome {
    pub(crate) fn kept() -> Self {
        Self { keep: true, ..Self::default() }
    }

    /// The index as it is now, apart from the one that a store may still be writing to.
    pub(crate) fn after_power_cut(&self) -> Self {
        let inner = self.inner.lock();
        let copy = Inner {
            blocks: Mutex::new(inner.blocks.lock().clone()),
            checkpoints: Mutex::new(
                inner.kept_checkpoints.lock().clone().unwrap_or_else(|| inner.checkpoints.lock().clone()),
            ),
            kept_checkpoints: Mutex::default(),
            store: Mutex::new(*inner.store.lock()),
            broken: Mutex::default(),
        };
        Self { keep: self.keep, inner: Arc::new(Mutex::new(Arc::new(copy))) }
    }

    /// From now on new checkpoints are lost at a power cut.
    pub(crate) fn lose_checkpoints(&self) {
        let inner = self.inner.lock();
        *inner.kept_checkpoints.lock() = Some(inner.checkpoints.lock().clone());
    }

    /// Makes every call fail until the index is opened again.
    pub(crate) fn fail(&self, why: &str) {
        *self.inner.lock().broken.lock() = Some(why.into());
    }

    /// Gives a block another's place.
    pub(crate) fn confuse(&self, hash: &Multihash, other: &Multihash) {
        let inner = self.inner.lock().clone();
        let mut blocks = inner.blocks.lock();
        let place = blocks[other];
        blocks.insert(*hash, place);
    }

    pub(crate) fn remove(&self, hash: &Multihash) {
        self.inner.lock().blocks.lock().remove(hash).expect("it was there");
    }
}

struct MemoryIndex(Arc<Inner>);

impl MemoryIndex {
    fn check(&self) -> Result<(), IndexError> {
        self.0.broken.lock().clone().map_or(Ok(()), |why| Err(IndexError(why)))
    }
}

impl IndexHome for MemoryHome {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        let mut inner = self.inner.lock();
        if !self.keep {
            *inner = Arc::default();
        }
        *inner.broken.lock() = None;
        Ok(Box::new(MemoryIndex(inner.clone())))
    }

    fn wipe(&self) -> Result<(), IndexError> {
        *self.inner.lock() = Arc::default();
        Ok(())
    }
}

impl Index for MemoryIndex {
    fn get(&self, hash: &Multihash) -> Result<Option<Location>, IndexError> {
        self.check()?;
        Ok(self.0.blocks.lock().get(hash).copied())
    }

    fn set(
        &self,
        places: &[(Multihash, Location)],
        replaced: &mut dyn FnMut(&Multihash, Location),
    ) -> Result<(), IndexError> {
        self.check()?;
        let mut blocks = self.0.blocks.lock();
        for (hash, place) in places {
            if let Some(former) = blocks.insert(*hash, *place) {
                replaced(hash, former);
            }
        }
        Ok(())
    }

    fn each(&self, each: &mut dyn FnMut(Location)) -> Result<(), IndexError> {
        self.check()?;
        self.0.blocks.lock().values().for_each(|place| each(*place));
        Ok(())
    }

    fn remove(&self, places: &[(Multihash, Location)]) -> Result<(), IndexError> {
        self.check()?;
        let mut blocks = self.0.blocks.lock();
        for (hash, place) in places {
            if blocks.get(hash) == Some(place) {
                blocks.remove(hash);
            }
        }
        Ok(())
    }

    fn page(&self, after: Option<&Multihash>, limit: usize) -> Result<Vec<(Multihash, Location)>, IndexError> {
        self.check()?;
        let blocks = self.0.blocks.lock();
        let rest = blocks.range((after.map_or(Unbounded, Excluded), Unbounded));
        Ok(rest.take(limit).map(|(hash, place)| (*hash, *place)).collect())
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.check()
    }

    fn checkpoints(&self) -> Result<Vec<(u64, Checkpoint)>, IndexError> {
        self.check()?;
        Ok(self.0.checkpoints.lock().iter().map(|(pack, checkpoint)| (*pack, *checkpoint)).collect())
    }

    fn set_checkpoints(&self, checkpoints: &[(u64, Checkpoint)]) -> Result<(), IndexError> {
        self.check()?;
        self.0.checkpoints.lock().extend(checkpoints.iter().copied());
        Ok(())
    }

    fn remove_checkpoint(&self, pack: u64) -> Result<(), IndexError> {
        self.check()?;
        self.0.checkpoints.lock().remove(&pack);
        if let Some(kept) = &mut *self.0.kept_checkpoints.lock() {
            kept.remove(&pack);
        }
        Ok(())
    }

    fn store(&self) -> Result<Option<u64>, IndexError> {
        self.check()?;
        Ok(*self.0.store.lock())
    }

    fn set_store(&self, id: u64) -> Result<(), IndexError> {
        self.check()?;
        *self.0.store.lock() = Some(id);
        Ok(())
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile()
    }
}
