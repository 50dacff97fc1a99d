//! Going through the index, and burying what is dead.

use super::{Collected, Inner, Marking, Tell, Telling, Usage};
use crate::{journal::Event, options::Stage, pack::Location};
use cidery_core::{Multihash, Origin, StoreError};
use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

/// Index entries that are looked at together.
const PAGE: usize = 16 << 10;
/// Payloads of at least this many bytes are punched out of their pack; smaller ones wait for its compaction.
pub(in crate::store) const PUNCHED: u32 = 64 << 10;

/// What becomes of a block.
pub(in crate::store) enum Lot {
    Live,
    Cached,
    Dead,
}

impl Inner {
    /// Goes through the index once.
    pub(super) fn sweep(
        &self,
        marking: &mut Marking<'_>,
        usage: &mut Usage,
        done: &mut Collected,
        tell: Tell<'_>,
    ) -> Result<(), StoreError> {
        let mut telling = Telling::new(tell, Stage::Sweep, self.blocks.load(Relaxed));
        let mut seen = 0;
        self.each_page(|page| {
            marking.walk_new()?;
            seen += page.len() as u64;
            telling.at(seen);
            let mut dead = Vec::new();
            for (hash, place) in page {
                let lot = self.lot(marking, usage, &hash, &place);
                match lot {
                    Lot::Dead => {
                        dead.push((hash, place));
                        continue;
                    }
                    Lot::Live => {
                        done.live_blocks += 1;
                        done.live_bytes += u64::from(place.len);
                    }
                    Lot::Cached => {
                        done.cached_blocks += 1;
                        done.cached_bytes += u64::from(place.len);
                    }
                }
                if let Some(pack) = usage.get_mut(&place.pack) {
                    pack.live += place.total() as u64;
                }
            }
            self.bury(dead, done)
        })
    }

    pub(in crate::store) fn lot(
        &self,
        marking: &Marking<'_>,
        usage: &Usage,
        hash: &Multihash,
        place: &Location,
    ) -> Lot {
        // Written since the marking began.
        if usage.get(&place.pack).is_none_or(|pack| place.offset >= pack.watermark) || marking.reaches(hash) {
            return Lot::Live;
        }
        let is_cache = matches!(place.origin, Origin::Peer | Origin::Upstream);
        if is_cache && !self.withdrawn.hides(hash) && !self.withdrawn.discards(hash) {
            return Lot::Cached;
        }
        Lot::Dead
    }

    /// Calls `each` with all of the index, page by page.
    pub(in crate::store) fn each_page(
        &self,
        mut each: impl FnMut(Vec<(Multihash, Location)>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            self.check_collecting()?;
            let page = self.with_index(|index| index.page(last.as_ref(), PAGE))?;
            let Some((hash, _)) = page.last() else { return Ok(()) };
            last = Some(*hash);
            each(page)?;
        }
    }

    /// Removes blocks, unless somebody keeps them or has put them elsewhere meanwhile.
    ///
    /// First nobody finds them any more, then the journal says that their records are dead, then their
    /// entries leave the index, and then their bytes the disk: after a stop in between they are either
    /// here, or dead.
    pub(super) fn bury(&self, blocks: Vec<(Multihash, Location)>, done: &mut Collected) -> Result<(), StoreError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let mut dying: Vec<(Multihash, Location)> = Vec::with_capacity(blocks.len());
        let generation = self.index.read().generation;
        for (hash, place) in blocks {
            let claim = self.recent.claim(&hash);
            if claim.place.is_none() && !self.holds.keeps(&hash) {
                self.dying.write().insert(hash, place);
                dying.push((hash, place));
            }
        }
        let mut journalled = false;
        let buried = self.bury_dying(dying, generation, &mut journalled, done);
        // After a failure of the index entries of dead records may still be there: then they stay out of sight.
        if !(journalled && matches!(buried, Err(StoreError::Index(_)))) {
            self.dying.write().clear();
        }
        buried
    }

    fn bury_dying(
        &self,
        mut dying: Vec<(Multihash, Location)>,
        generation: u64,
        journalled: &mut bool,
        done: &mut Collected,
    ) -> Result<(), StoreError> {
        // No checkpoint may come between: it counts what it replaces.
        let progressed = self.progressed.lock();
        if self.index.read().generation != generation {
            // Of a block that was put again meanwhile a new index may have found the old record.
            return Ok(());
        }
        let mut still = Vec::with_capacity(dying.len());
        for (hash, place) in dying.drain(..) {
            if self.with_index_as_it_is(|index| index.get(&hash))? == Some(place) {
                still.push((hash, place));
            }
        }
        let mut offsets: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (_, place) in &still {
            offsets.entry(place.pack).or_default().push(place.offset);
        }
        let events = offsets.into_iter().map(|(pack, mut offsets)| {
            offsets.sort_unstable();
            Event::Dead { pack, offsets }
        });
        self.note_down(events.collect())?;
        *journalled = true;
        self.with_index_as_it_is(|index| index.remove(&still))?;
        drop(progressed);
        let mut damaged = self.damaged.lock();
        for (hash, place) in &still {
            damaged.remove(hash);
            self.uses.forget(hash);
            self.blocks.fetch_sub(1, Relaxed);
            self.bytes.fetch_sub(place.len.into(), Relaxed);
            done.freed_blocks += 1;
            done.freed_bytes += u64::from(place.len);
        }
        drop(damaged);
        still.iter().filter(|(_, place)| place.len >= PUNCHED).try_for_each(|(_, place)| self.punch(place))
    }

    fn punch(&self, place: &Location) -> Result<(), StoreError> {
        let Some(pack) = self.packs.get(place.pack) else { return Ok(()) };
        let punched = self.packs.file(&pack)?.punch(place.offset + u64::from(place.head), place.len.into());
        punched.map_err(|e| StoreError::io(format!("punching a block out of pack {:016x}", place.pack), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::faulty::Fate, tests::rig::Rig};
    use cidery_core::{Block, Blockstore};

    #[test]
    fn a_block_put_again_while_it_is_buried_survives_an_index_made_anew_and_a_stop() {
        // Whether the index knows the new record by then, and whether the one who buries knows that it is another index.
        for (known, told) in [(false, false), (false, true), (true, true)] {
            let rig = Rig::with_kept_index();
            let store = rig.open().unwrap();
            let inner = &store.0.inner;
            let block = Block::raw(&b"it comes back"[..]);
            let hash = *block.cid().hash();
            store.put(&block, Origin::Pushed).unwrap();
            inner.checkpoint().unwrap();
            let old = inner.look_up(&hash).unwrap().unwrap();
            // As burying does first.
            let before = inner.index.read().generation;
            inner.dying.write().insert(hash, old);
            store.put(&block, Origin::Pushed).unwrap();
            store.sync().unwrap();
            if known {
                inner.checkpoint().unwrap();
            }
            inner.renew_index("a test").unwrap();
            let generation = if told { before } else { inner.index.read().generation };
            inner.bury_dying(vec![(hash, old)], generation, &mut false, &mut Collected::default()).unwrap();
            let after = rig.after_power_cut(Fate::Drop).open().unwrap();
            assert_eq!(after.get(block.cid()).unwrap().as_ref(), Some(block.data()), "{known} {told}");
        }
    }
}
