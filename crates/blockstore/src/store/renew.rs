//! The index of an open store: opening it again, or making it anew, when it fails or says what is not true.

use super::{
    Inner,
    checkpoint::{Progressed, RETRY},
};
use crate::index::{self, Index, IndexError, PackView, Survey};
use cidery_core::StoreError;
use std::{collections::BTreeMap, time::Instant};

impl Inner {
    /// Makes a new index at once, because the present one says things that are not true.
    pub(super) fn renew_index(&self, why: &str) -> Result<(), StoreError> {
        let generation = self.index.read().generation;
        self.renew(generation, why, true)
    }

    /// Replaces the index of a generation: by opening it again, or else, and with `wipe`, from the packs.
    pub(super) fn renew(&self, generation: u64, why: &str, wipe: bool) -> Result<(), StoreError> {
        let mut progressed = self.progressed.lock();
        let mut slot = self.index.write();
        if slot.generation != generation && slot.index.is_ok() {
            return Ok(());
        }
        if slot.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return Err(StoreError::Index(why.to_owned()));
        }
        let packs = self.pack_views()?;
        // Closed before it is opened again.
        slot.index = Err(IndexError(why.to_owned()));
        slot.generation += 1;
        let again = if wipe || slot.unfilled { None } else { self.reopen(&packs, &progressed).ok() };
        let renewed = match again {
            Some(opened) => Ok(opened),
            None => {
                slot.unfilled = true;
                self.rebuild(why, &packs)
            }
        };
        match renewed.and_then(|(index, survey)| self.go_on(index, survey, &packs, (&progressed, slot.unfilled))) {
            Ok((index, now)) => {
                slot.index = Ok(index);
                (slot.failed, slot.unfilled) = (None, false);
                *progressed = now;
                Ok(())
            }
            Err(error) => {
                slot.failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Brings an index to where the one `before` was.
    ///
    /// The checkpoints of one that was made anew pass what is recent, and it may have found each of these blocks at an
    /// older place: when that one dies, nothing else would say where they are after a stop.
    fn go_on(
        &self,
        index: Box<dyn Index>,
        survey: Survey,
        packs: &BTreeMap<u64, PackView>,
        (before, anew): (&Progressed, bool),
    ) -> Result<(Box<dyn Index>, Progressed), StoreError> {
        let failed = |error: IndexError| StoreError::Index(error.0);
        let mut now = Progressed::from(survey);
        for pack in &before.emptied {
            now.begin_emptying(&*index, *pack).map_err(failed)?;
        }
        if anew {
            let durable = packs.iter().map(|(id, pack)| (*id, (pack.salt, pack.durable))).collect();
            let moved = self.settled(&durable);
            now.advance(&*index, &moved, &durable).map_err(failed)?;
            self.recent.forget(&moved);
        }
        Ok((index, now))
    }

    fn reopen(
        &self,
        packs: &BTreeMap<u64, PackView>,
        before: &Progressed,
    ) -> Result<(Box<dyn Index>, Survey), IndexError> {
        let index = self.home.open()?;
        let survey = index::survey(&*index, self.id, packs, &|pack| self.state.read().removed.contains(&pack))?;
        match before.checkpoints.keys().find(|pack| !survey.checkpoints.contains_key(pack)) {
            Some(pack) => Err(IndexError(format!("it has no checkpoint of pack {pack:016x} any more"))),
            None => Ok((index, survey)),
        }
    }

    fn rebuild(&self, why: &str, packs: &BTreeMap<u64, PackView>) -> Result<(Box<dyn Index>, Survey), StoreError> {
        self.note(format!("the index was made anew from the packs: {why}"));
        let fresh = || {
            self.home.wipe()?;
            self.home.open()
        };
        let index = fresh().map_err(|error| StoreError::Index(error.0))?;
        let survey = index::fill(&*index, self.id, packs, &mut |_| {}, &mut |pack, from, to| {
            self.note(format!("pack {pack:016x} is damaged from byte {from} to {to}"));
        })?;
        Ok((index, survey))
    }

    fn pack_views(&self) -> Result<BTreeMap<u64, PackView>, StoreError> {
        let view = |pack: &std::sync::Arc<crate::pack::Pack>| {
            let file = self.packs.file(pack)?;
            let dead = self.state.read().dead.get(&pack.id()).cloned().unwrap_or_default();
            Ok((pack.id(), PackView { id: pack.id(), salt: pack.header.salt, file, durable: pack.durable(), dead }))
        };
        self.packs.all().iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::rig::Rig;
    use cidery_core::{Block, Blockstore, Origin};
    use std::{thread, time::Duration};

    #[test]
    fn an_index_that_could_not_be_made_anew_is_not_taken_for_one() {
        let rig = Rig::with_kept_index();
        let store = rig.open().unwrap();
        let inner = &store.0.inner;
        let block = Block::raw(&b"still here"[..]);
        store.put(&block, Origin::Pushed).unwrap();
        inner.checkpoint().unwrap();
        rig.disk.fail_reads(true);
        inner.renew_index("a test").unwrap_err();
        rig.disk.fail_reads(false);
        let found = std::iter::repeat_with(|| {
            thread::sleep(Duration::from_millis(10));
            store.get(block.cid()).ok()
        });
        let found = found.take(1000).flatten().next().expect("the index is made in the end");
        assert_eq!(found.as_ref(), Some(block.data()));
    }
}
