//! What was forgotten, and not yet collected: files that no earlier root shows any more, and their blocks,
//! which are hidden at once from everybody but those who read below current roots.
//!
//! Hiding errs on the safe side: a block that a file which stays shares with one that was forgotten is
//! hidden from peers too, until a collection has seen what really reaches it.

use super::Inner;
use crate::{
    reach::{Fingerprints, Identity, Keys},
    small::SmallCid,
};
use cidery_core::{Cid, Multihash, Origin, codec, dag};
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::BuildHasherDefault,
    sync::atomic::{AtomicBool, Ordering},
};

/// Files that are hidden together at a start.
const AT_ONCE: usize = 1 << 12;

#[derive(Default)]
pub(crate) struct Withdrawn {
    keys: Keys,
    /// Whether there is anything at all, so that others do not have to look.
    any: AtomicBool,
    inner: RwLock<Lists>,
}

#[derive(Default)]
struct Lists {
    /// Hidden blocks, and in which round they were hidden.
    hidden: HashMap<u64, u64>,
    /// Cached blocks that are of no use.
    discarded: Fingerprints,
    files: HashMap<u64, Form, BuildHasherDefault<Identity>>,
    /// Files that not even those keep who read them, and in which round they were purged.
    purged: HashMap<u64, u64>,
    /// Files that were put again since, for the journal.
    readmitted: Vec<Cid>,
    round: u64,
}

/// What of a file's CID is not in its multihash: of very many files there is no room for more.
#[derive(Clone, Copy)]
struct Form(u64);

impl Form {
    /// Stands for version 0, whose codec is always the same.
    const FIRST: u64 = u64::MAX;

    fn of(cid: &Cid) -> Self {
        Self(if u64::from(cid.version()) == 0 { Self::FIRST } else { cid.codec() })
    }

    fn cid(self, hash: &Multihash) -> Cid {
        let first = || Cid::new_v0(*hash).unwrap_or_else(|_| Cid::new_v1(codec::DAG_PB, *hash));
        if self.0 == Self::FIRST { first() } else { Cid::new_v1(self.0, *hash) }
    }
}

impl Lists {
    fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.discarded.is_empty() && self.files.is_empty() && self.purged.is_empty()
    }
}

impl Withdrawn {
    fn none(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Whether a block is hidden.
    pub(crate) fn hides(&self, hash: &Multihash) -> bool {
        !self.none() && self.inner.read().hidden.contains_key(&self.keys.block(hash))
    }

    /// Whether a cached block is of no use.
    pub(super) fn discards(&self, hash: &Multihash) -> bool {
        !self.none() && self.inner.read().discarded.contains(&self.keys.block(hash))
    }

    /// Whether a file was forgotten.
    pub(crate) fn is_forgotten(&self, file: &Cid) -> bool {
        !self.none() && self.inner.read().files.contains_key(&self.keys.block(file.hash()))
    }

    /// Whether a file was purged, and no collection has been through it since.
    pub(super) fn is_purged(&self, file: &Cid) -> bool {
        !self.none() && self.inner.read().purged.contains_key(&self.keys.block(file.hash()))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Lists) -> T) -> T {
        let mut lists = self.inner.write();
        let result = change(&mut lists);
        self.any.store(!lists.is_empty(), Ordering::Release);
        result
    }

    /// A block is put (again).
    pub(super) fn put(&self, hash: &Multihash, origin: Origin) {
        if self.none() {
            return;
        }
        let block = self.keys.block(hash);
        self.change(|lists| {
            lists.hidden.remove(&block);
            lists.discarded.remove(&block);
            lists.purged.remove(&block);
            if matches!(origin, Origin::Pushed | Origin::Imported)
                && let Some(form) = lists.files.remove(&block)
            {
                lists.readmitted.push(form.cid(hash));
            }
        });
    }

    /// A file is linked again.
    pub(super) fn linked(&self, file: &Cid) {
        if !self.none() {
            self.change(|lists| {
                let block = self.keys.block(file.hash());
                lists.purged.remove(&block);
                lists.files.remove(&block);
            });
        }
    }

    /// The files that were put again and that the journal does not know to be so.
    pub(super) fn take_readmitted(&self) -> Vec<Cid> {
        if self.inner.read().readmitted.is_empty() {
            Vec::new()
        } else {
            self.change(|l| std::mem::take(&mut l.readmitted))
        }
    }

    /// Takes them back when they could not be journalled.
    pub(super) fn give_back_readmitted(&self, files: Vec<Cid>) {
        self.change(|lists| lists.readmitted.extend(files));
    }

    fn hide(&self, files: &[Cid], blocks: &[Multihash]) {
        self.change(|lists| {
            let round = lists.round;
            lists.hidden.extend(blocks.iter().map(|hash| (self.keys.block(hash), round)));
            lists.files.extend(files.iter().map(|file| (self.keys.block(file.hash()), Form::of(file))));
        });
    }

    /// No hold keeps these files any more.
    pub(super) fn purge(&self, files: &[Cid]) {
        self.change(|lists| {
            let round = lists.round;
            lists.purged.extend(files.iter().map(|file| (self.keys.block(file.hash()), round)));
        });
    }

    fn show(&self, files: &[Cid], blocks: &[Multihash]) {
        self.change(|lists| {
            for hash in blocks {
                lists.hidden.remove(&self.keys.block(hash));
            }
            for file in files {
                lists.files.remove(&self.keys.block(file.hash()));
            }
        });
    }

    fn discard(&self, blocks: &[Multihash]) {
        self.change(|lists| lists.discarded.extend(blocks.iter().map(|hash| self.keys.block(hash))));
    }

    /// Begins a collection: what is hidden from now on is not of this round.
    pub(super) fn begin_round(&self) -> u64 {
        let mut lists = self.inner.write();
        lists.round += 1;
        lists.round
    }

    /// Ends it: what was hidden before it began is either gone, or reached by something that stays, or one of
    /// the `kept` blocks, which stay hidden. `files` are those that stay forgotten.
    pub(super) fn end_round(&self, round: u64, kept: &[Multihash], files: &BTreeMap<SmallCid, u64>) {
        let kept: Fingerprints = kept.iter().map(|hash| self.keys.block(hash)).collect();
        let files: Fingerprints = files.keys().map(|file| self.keys.block(file.cid().hash())).collect();
        self.change(|lists| {
            lists.hidden.retain(|block, hidden| *hidden >= round || kept.contains(block));
            lists.purged.retain(|_, purged| *purged >= round);
            lists.discarded = Fingerprints::default();
            lists.files.retain(|file, _| files.contains(file));
        });
    }
}

impl Inner {
    /// The blocks of files, as far as they are here.
    pub(super) fn blocks_below(&self, files: &[Cid]) -> Vec<Multihash> {
        let (mut open, mut blocks) = (files.to_vec(), Vec::new());
        let mut seen = HashSet::new();
        while let Some(cid) = open.pop() {
            blocks.push(*cid.hash());
            if cid.codec() == codec::RAW || !seen.insert(cid) {
                continue;
            }
            match self.get(&cid) {
                Ok(bytes) => open.extend(bytes.and_then(|bytes| dag::links(&cid, &bytes).ok()).unwrap_or_default()),
                // Nobody can read what is below it by way of it.
                Err(error) => tracing::warn!(%cid, %error, "a node of what is withdrawn can't be read"),
            }
        }
        blocks
    }

    /// Hides files and their blocks from now on.
    pub(super) fn hide(&self, files: &[Cid]) {
        self.withdrawn.hide(files, &self.blocks_below(files));
    }

    /// Hides files no more.
    pub(super) fn show_again(&self, files: &[Cid]) {
        if !files.is_empty() {
            let blocks = self.blocks_below(files);
            self.withdrawn.show(files, &blocks);
        }
    }

    /// As [`cidery_core::Blockstore::discard`].
    pub(super) fn discard(&self, root: &Cid) {
        self.withdrawn.discard(&self.blocks_below(&[*root]));
        self.collect_soon();
    }

    /// Takes up what the journal says was forgotten. Blocks are hidden where no collection has been
    /// through them.
    pub(super) fn recall_forgotten(&self) {
        let (all, open) = {
            let state = self.state.read();
            let open = state.forgotten.iter().filter(|(_, sequence)| **sequence > state.collected);
            (cids(state.forgotten.keys()), cids(open.map(|(file, _)| file)))
        };
        self.withdrawn.hide(&all, &[]);
        drop(all);
        open.chunks(AT_ONCE).for_each(|files| self.hide(files));
        if !open.is_empty() {
            self.collect_soon();
        }
    }
}

fn cids<'a>(files: impl Iterator<Item = &'a SmallCid>) -> Vec<Cid> {
    files.map(SmallCid::cid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn a_cid_comes_back_from_its_form_and_its_hash() {
        let hash = *Block::raw(&b"x"[..]).cid().hash();
        let first = Cid::new_v0(hash).unwrap();
        for cid in [first, Cid::new_v1(codec::RAW, hash), Cid::new_v1(codec::DAG_PB, hash), Cid::new_v1(1 << 40, hash)]
        {
            assert_eq!(Form::of(&cid).cid(&hash), cid);
        }
    }
}
