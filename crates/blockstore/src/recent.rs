//! The blocks that the index does not hold yet, and those being written right now.
//!
//! It stands before the index in every lookup. A block is claimed before it is written, so that two
//! callers who bring the same block write it once; whoever comes second waits for the first.

use crate::pack::Location;
use cidery_core::Multihash;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, hash_map::Entry};

#[derive(Clone, Copy)]
struct Slot {
    /// Where it can be read.
    place: Option<Location>,
    /// Somebody is writing it.
    claimed: bool,
}

#[derive(Default)]
pub(crate) struct Recent {
    table: Mutex<HashMap<Multihash, Slot>>,
    released: Condvar,
}

/// The right to write one block. Dropping it lets the next one try.
pub(crate) struct Claim<'a> {
    recent: &'a Recent,
    hash: Multihash,
    /// Where it is now, if this table knows.
    pub(crate) place: Option<Location>,
}

impl Recent {
    /// Where a block is, as far as this table knows.
    pub(crate) fn get(&self, hash: &Multihash) -> Option<Location> {
        self.table.lock().get(hash).and_then(|slot| slot.place)
    }

    /// Waits until nobody else is writing the block, and claims it.
    pub(crate) fn claim(&self, hash: &Multihash) -> Claim<'_> {
        let mut table = self.table.lock();
        loop {
            match table.entry(*hash) {
                Entry::Vacant(entry) => {
                    entry.insert(Slot { place: None, claimed: true });
                    return Claim { recent: self, hash: *hash, place: None };
                }
                Entry::Occupied(mut entry) if !entry.get().claimed => {
                    entry.get_mut().claimed = true;
                    return Claim { recent: self, hash: *hash, place: entry.get().place };
                }
                Entry::Occupied(_) => self.released.wait(&mut table),
            }
        }
    }

    /// Adds a block that was found in a pack.
    pub(crate) fn insert(&self, hash: Multihash, place: Location) {
        self.table.lock().insert(hash, Slot { place: Some(place), claimed: false });
    }

    /// How many blocks it holds.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// The blocks whose place satisfies `wanted`.
    pub(crate) fn select(&self, wanted: impl Fn(&Location) -> bool) -> Vec<(Multihash, Location)> {
        let table = self.table.lock();
        table.iter().filter_map(|(hash, slot)| Some((*hash, slot.place.filter(&wanted)?))).collect()
    }

    /// Forgets blocks that the index holds now, unless they moved meanwhile.
    pub(crate) fn forget(&self, blocks: &[(Multihash, Location)]) {
        let mut table = self.table.lock();
        for (hash, place) in blocks {
            if let Entry::Occupied(mut entry) = table.entry(*hash)
                && entry.get().place == Some(*place)
            {
                if entry.get().claimed {
                    entry.get_mut().place = None;
                } else {
                    entry.remove();
                }
            }
        }
        // One burst must not keep its memory for ever.
        if table.capacity() > 4 * table.len() + 1024 {
            table.shrink_to_fit();
        }
    }
}

impl Claim<'_> {
    /// Makes the block readable at its place.
    pub(crate) fn publish(&self, place: Location) {
        self.recent.table.lock().insert(self.hash, Slot { place: Some(place), claimed: true });
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut table = self.recent.table.lock();
        if let Entry::Occupied(mut entry) = table.entry(self.hash) {
            if entry.get().place.is_none() {
                entry.remove();
            } else {
                entry.get_mut().claimed = false;
            }
        }
        drop(table);
        self.recent.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::{Block, Origin};
    use std::sync::mpsc;

    const PLACE: Location = Location { pack: 1, offset: 32, head: 56, len: 1, origin: Origin::Pushed };

    #[test]
    fn a_second_writer_waits_and_finds_the_block() {
        let recent = Recent::default();
        let hash = *Block::raw(&b"a"[..]).cid().hash();
        let first = recent.claim(&hash);
        assert_eq!((first.place, recent.get(&hash)), (None, None));
        std::thread::scope(|scope| {
            let (started, wait) = mpsc::channel();
            let second = scope.spawn({
                let recent = &recent;
                move || {
                    started.send(()).unwrap();
                    recent.claim(&hash).place
                }
            });
            wait.recv().unwrap();
            first.publish(PLACE);
            assert_eq!(recent.get(&hash), Some(PLACE));
            drop(first);
            assert_eq!(second.join().unwrap(), Some(PLACE));
        });
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let recent = Recent::default();
        let hash = *Block::raw(&b"a"[..]).cid().hash();
        drop(recent.claim(&hash));
        assert_eq!((recent.len(), recent.get(&hash)), (0, None));
    }

    #[test]
    fn a_block_that_moved_is_not_forgotten() {
        let recent = Recent::default();
        let hash = *Block::raw(&b"a"[..]).cid().hash();
        recent.insert(hash, PLACE);
        let moved = Location { offset: 500, ..PLACE };
        recent.insert(hash, moved);
        recent.forget(&[(hash, PLACE)]);
        assert_eq!(recent.get(&hash), Some(moved));
        recent.forget(&[(hash, moved)]);
        assert_eq!(recent.len(), 0);
    }
}
