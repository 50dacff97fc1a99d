//! What collection must leave alone although no root reaches it: blocks that are being put before their
//! commit, and what readers are at.

use super::DiskStore;
use cidery_core::{Cid, Hold, Multihash};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// All holds of a store. Blocks are known by a 64-bit fingerprint of their multihash: two that share one
/// are both kept.
#[derive(Default)]
pub(super) struct Holds {
    key: RandomState,
    next: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// How many holds keep a block.
    blocks: HashMap<u64, u32>,
    /// By hold.
    below: HashMap<u64, Vec<Cid>>,
    /// A collection is under way. What is released meanwhile may be in a root that it has not seen yet.
    collecting: bool,
    released: HashSet<u64>,
}

/// While it lives, what is released is kept nevertheless.
pub(super) struct Keeping<'a>(&'a Holds);

impl Holds {
    fn fingerprint(&self, hash: &Multihash) -> u64 {
        self.key.hash_one(hash)
    }

    /// Whether somebody keeps this block, or did since the collection began.
    pub(super) fn keeps(&self, hash: &Multihash) -> bool {
        let fingerprint = self.fingerprint(hash);
        let held = self.held.lock();
        held.blocks.contains_key(&fingerprint) || held.released.contains(&fingerprint)
    }

    /// The blocks of which somebody keeps all that is below.
    pub(super) fn roots(&self) -> Vec<Cid> {
        self.held.lock().below.values().flatten().copied().collect()
    }

    /// Begins a collection.
    pub(super) fn keep_released(&self) -> Keeping<'_> {
        self.held.lock().collecting = true;
        Keeping(self)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        let mut held = self.0.held.lock();
        held.collecting = false;
        held.released = HashSet::new();
    }
}

/// One hold.
pub(super) struct StoreHold {
    // Not the store itself: a hold that is forgotten somewhere must not keep it open.
    holds: Arc<Holds>,
    id: u64,
    mine: Mutex<HashSet<u64>>,
}

impl StoreHold {
    pub(super) fn new(holds: Arc<Holds>) -> Self {
        let id = holds.next.fetch_add(1, Relaxed);
        Self { holds, id, mine: Mutex::default() }
    }
}

impl Hold for StoreHold {
    fn keep(&self, cid: &Cid) {
        let fingerprint = self.holds.fingerprint(cid.hash());
        if self.mine.lock().insert(fingerprint) {
            *self.holds.held.lock().blocks.entry(fingerprint).or_default() += 1;
        }
    }

    fn keep_all(&self, root: &Cid) {
        self.holds.held.lock().below.entry(self.id).or_default().push(*root);
    }
}

impl Drop for StoreHold {
    fn drop(&mut self) {
        let mine = std::mem::take(self.mine.get_mut());
        let mut held = self.holds.held.lock();
        held.below.remove(&self.id);
        for fingerprint in mine {
            if held.collecting {
                held.released.insert(fingerprint);
            }
            if let Some(count) = held.blocks.get_mut(&fingerprint) {
                *count -= 1;
                if *count == 0 {
                    held.blocks.remove(&fingerprint);
                }
            }
        }
        // One burst must not keep its memory for ever.
        if held.blocks.capacity() > 4 * held.blocks.len() + 1024 {
            held.blocks.shrink_to_fit();
        }
    }
}

impl DiskStore {
    /// As [`cidery_core::Blockstore::hold`].
    pub(super) fn new_hold(&self) -> Arc<dyn Hold> {
        Arc::new(StoreHold::new(self.0.inner.holds.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn what_is_released_during_a_collection_is_kept_until_it_ends() {
        let holds = Arc::new(Holds::default());
        let (one, two) = (Block::raw(&b"one"[..]), Block::raw(&b"two"[..]));
        let (first, second) = (StoreHold::new(holds.clone()), StoreHold::new(holds.clone()));
        first.keep(one.cid());
        first.keep(one.cid());
        second.keep(one.cid());
        drop(first);
        assert!(holds.keeps(one.cid().hash()) && !holds.keeps(two.cid().hash()));
        let keeping = holds.keep_released();
        second.keep_all(two.cid());
        assert_eq!(holds.roots(), [*two.cid()]);
        drop(second);
        assert!(holds.keeps(one.cid().hash()) && holds.roots().is_empty());
        drop(keeping);
        assert!(!holds.keeps(one.cid().hash()));
    }
}
