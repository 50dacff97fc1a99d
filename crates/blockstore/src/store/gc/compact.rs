//! Packs that hold much that is dead: what lives in them is copied to others, and they are removed.

use super::{Census, Collected, Inner, PackUse, Tell, Telling, Usage};
use crate::{
    journal::Event,
    options::Stage,
    pack::{Class, FILE_HEADER, Found, Header, NewRecord, Pack, Scan},
};
use cidery_core::{Block, Cid, StoreError};
use std::sync::Arc;

/// A pack of small blocks is copied when at least one part in so many is dead.
const PARTS: u64 = 5;

impl Inner {
    /// Removes packs with nothing alive, and those of small blocks with much that is dead.
    pub(super) fn compact(
        &self,
        census: &Census,
        usage: &Usage,
        done: &mut Collected,
        tell: Tell<'_>,
    ) -> Result<(), StoreError> {
        let due: Vec<Arc<Pack>> = usage
            .iter()
            .filter_map(|(id, pack_use)| self.packs.get(*id).filter(|pack| is_due(pack, pack_use)))
            .collect();
        // All at once: what is moved must not go where it is moved from next.
        due.iter().for_each(|pack| self.packs.retire(pack));
        let total = due.iter().map(|pack| pack.len()).sum();
        let (mut telling, mut before) = (Telling::new(tell, Stage::Compact, total), 0);
        for pack in due {
            self.check_collecting()?;
            if self.empty_and_remove(&pack, census, &mut |at| telling.at(before + at))? {
                done.packs_removed += 1;
            }
            before += pack.len();
        }
        Ok(())
    }

    /// Copies what lives in a pack and removes it; `false` if something in it could not be read.
    fn empty_and_remove(
        &self,
        pack: &Arc<Pack>,
        census: &Census,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, StoreError> {
        let id = pack.id();
        // Whatever is in it is in the index afterwards, and on the disk.
        self.checkpoint()?;
        {
            let mut progressed = self.progressed.lock();
            self.with_index_as_it_is(|index| progressed.begin_emptying(index, id))?;
        }
        let removed = self.empty(pack, census, progress);
        if !matches!(removed, Ok(true)) {
            self.progressed.lock().end_emptying(id);
        }
        removed
    }

    fn empty(&self, pack: &Arc<Pack>, census: &Census, progress: &mut dyn FnMut(u64)) -> Result<bool, StoreError> {
        let id = pack.id();
        let file = self.packs.file(pack)?;
        let failed = |e| StoreError::io(format!("reading pack {id:016x}"), e);
        let (mut sound, mut gap) = (true, false);
        let mut scan = Scan::new(&*file, pack.header.salt, id, FILE_HEADER, pack.len(), pack.len());
        while let Some(found) = scan.next() {
            self.check_collecting()?;
            match found.map_err(failed)? {
                Found::Record(header) => {
                    if let Some(cid) = header.cid {
                        sound &= self.move_block(pack, census, &header, &cid)?;
                    }
                }
                Found::Gap { .. } => gap = true,
            }
            // The thread that does this otherwise may be slower than the copying, and what waits takes memory.
            if self.is_behind() {
                self.checkpoint()?;
            }
            progress(scan.position());
        }
        self.checkpoint()?;
        {
            let mut progressed = self.progressed.lock();
            let dead = self.state.read().dead.get(&id).map_or(0, |dead| dead.len() as u64);
            let left = progressed.placed(id) > dead;
            if !sound || (left && gap) {
                self.note(format!("pack {id:016x} was not compacted: a block in it is damaged"));
            }
            // What an index that was made anew meanwhile has found here again is moved the next time.
            if !sound || left {
                return Ok(false);
            }
            self.note_down(vec![Event::PacksRemoved(vec![id])])?;
            self.unmarked.lock().remove(&id);
            progressed.forget(id);
            // At once, whatever the index says: with its tombstones void, one that is made anew must not read it again.
            let gone = self.packs.remove(pack);
            self.with_index_as_it_is(|index| index.remove_checkpoint(id))?;
            gone?;
        }
        Ok(true)
    }

    /// Writes a block to another pack, if this record is the one that counts; `false` if it is damaged.
    fn move_block(&self, pack: &Arc<Pack>, census: &Census, header: &Header, cid: &Cid) -> Result<bool, StoreError> {
        let place = header.location;
        let claim = self.recent.claim(cid.hash());
        let indexed = || self.with_index_as_it_is(|index| Ok(index.get(cid.hash())? == Some(place)));
        if self.state.read().is_dead(pack.id(), place.offset) {
            return Ok(true);
        }
        // For every record to look into the index, at another place each time, would take far longer than all else.
        // What was buried since the census is dead by the journal. What was replaced is mostly damaged; where it can
        // be read after all it counts again.
        let counts = match claim.place {
            Some(now) => now == place,
            None => census.placed(cid.hash(), &place) || indexed()?,
        };
        if !counts {
            return Ok(true);
        }
        let block = self.read_record(&place, cid).map(|read| read.ok().and_then(|bytes| Block::new(*cid, bytes).ok()));
        let block = match block {
            Ok(Some(block)) => block,
            _ if !indexed()? => return Ok(true),
            Ok(None) => return Ok(false),
            Err(error) => return Err(error),
        };
        let record = NewRecord { kind: header.kind, origin: place.origin, block: &block };
        self.packs.append_shared(pack.header.class, &record, |place| claim.publish(place))?;
        Ok(true)
    }
}

fn is_due(pack: &Pack, pack_use: &PackUse) -> bool {
    let (len, newer) = (pack.len(), pack.len().saturating_sub(pack_use.watermark));
    let live = pack_use.live + newer;
    if len <= FILE_HEADER || (live > 0 && pack.header.class == Class::Leaves) {
        return false;
    }
    let dead = (len - FILE_HEADER).saturating_sub(live);
    dead > 0 && dead >= len / PARTS
}
