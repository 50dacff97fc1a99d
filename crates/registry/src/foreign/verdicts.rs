//! Whether a file holds the digest that a tree links it by: computed once, then remembered.
//!
//! A blob that turns out wrong is refused from then on, for as long as the process lives, and
//! whatever streams it stops. Its blocks came in one by one, when nobody could know yet what the whole
//! would be, and each is what its CID says; but they are of no use, and go at the next collection.

use cidery_core::{Blockstore, Cid, Digest};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
};
use thiserror::Error;

/// Good pairs that are remembered; about 5 MiB. One that is forgotten is computed again.
const GOOD: usize = 16_384;

/// Bad pairs that are remembered; about 20 MiB. A liar makes the oldest be forgotten only by sending
/// as many blobs, each larger than a leaf, to clients of this node that ask for them.
const BAD: usize = 1 << 18;

/// A blob whose bytes are not the ones it is named by.
#[derive(Debug, Clone, Error)]
#[error("the registry behind this name links {digest} to {cid}, whose content is something else")]
pub struct BadBlob {
    /// The name.
    pub digest: Digest,
    /// What it is linked to.
    pub cid: Cid,
}

/// What was computed of (digest, CID) pairs.
pub struct Verdicts {
    known: Mutex<Inner>,
    /// Where the blocks of wrong ones are.
    blocks: Arc<dyn Blockstore>,
}

#[derive(Default)]
struct Inner {
    good: Recent<(Digest, Cid)>,
    /// The files of the good ones.
    holders: HashMap<Digest, Vec<Cid>>,
    /// By the sha256 of the pair. Apart from the good ones, so that no number of those displaces one.
    bad: Recent<[u8; 32]>,
}

impl Verdicts {
    /// None yet.
    pub fn new(blocks: Arc<dyn Blockstore>) -> Self {
        Self { known: Mutex::default(), blocks }
    }

    /// The files that were found to hold a digest.
    pub fn holders(&self, digest: &Digest) -> Vec<Cid> {
        self.known.lock().holders.get(digest).cloned().unwrap_or_default()
    }

    /// `Some(true)`: the file holds it; `Some(false)`: it does not; `None`: nobody looked.
    pub fn of(&self, digest: &Digest, cid: &Cid) -> Option<bool> {
        let (key, short) = ((digest.clone(), *cid), short(digest, cid));
        let inner = self.known.lock();
        if inner.bad.all.contains(&short) {
            return Some(false);
        }
        inner.good.all.contains(&key).then_some(true)
    }

    /// Remembers that a file is not what somebody said, without giving it up: it may be anything that is of use.
    pub fn refuse(&self, digest: &Digest, cid: &Cid) {
        self.known.lock().bad.insert(short(digest, cid), BAD);
    }

    /// Remembers, and gives up what is cached of a wrong one.
    pub fn settle(&self, digest: &Digest, cid: &Cid, good: bool) {
        if !good {
            let (blocks, cid) = (self.blocks.clone(), *cid);
            tokio::task::spawn_blocking(move || blocks.discard(&cid));
        }
        let mut inner = self.known.lock();
        if good {
            // Whatever was wrong before: a broken disk, or a manifest's word.
            inner.bad.remove(&short(digest, cid));
            inner.insert_good(digest, cid);
        } else {
            inner.remove_good(digest, cid);
            inner.bad.insert(short(digest, cid), BAD);
        }
    }
}

impl Inner {
    fn insert_good(&mut self, digest: &Digest, cid: &Cid) {
        let holders = self.holders.entry(digest.clone()).or_default();
        if !holders.contains(cid) {
            holders.push(*cid);
        }
        if let Some((digest, cid)) = self.good.insert((digest.clone(), *cid), GOOD) {
            self.remove_holder(&digest, &cid);
        }
    }

    fn remove_good(&mut self, digest: &Digest, cid: &Cid) {
        self.good.remove(&(digest.clone(), *cid));
        self.remove_holder(digest, cid);
    }

    fn remove_holder(&mut self, digest: &Digest, cid: &Cid) {
        if let Some(holders) = self.holders.get_mut(digest) {
            holders.retain(|holder| holder != cid);
            if holders.is_empty() {
                self.holders.remove(digest);
            }
        }
    }
}

fn short(digest: &Digest, cid: &Cid) -> [u8; 32] {
    // No digest holds a NUL, so no two pairs look the same.
    Sha256::new().chain_update(digest.as_str()).chain_update([0]).chain_update(cid.to_bytes()).finalize().into()
}

/// A set that forgets what came first.
struct Recent<K> {
    all: HashSet<K>,
    order: VecDeque<K>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self { all: HashSet::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash> Recent<K> {
    fn remove(&mut self, key: &K) {
        if self.all.remove(key) {
            self.order.retain(|other| other != key);
        }
    }

    /// What had to go for it.
    fn insert(&mut self, key: K, limit: usize) -> Option<K> {
        if !self.all.insert(key.clone()) {
            return None;
        }
        self.order.push_back(key);
        let oldest = if self.order.len() > limit { self.order.pop_front()? } else { return None };
        self.all.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[tokio::test]
    async fn good_ones_are_forgotten_and_displace_no_bad_one() {
        let verdicts = Verdicts::new(Arc::new(cidery_core::memory::MemoryStore::new()));
        let cid = *Block::raw(&b"x"[..]).cid();
        let digest = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            Digest::sha256(&hash)
        };
        let bad = digest(usize::MAX);
        verdicts.refuse(&bad, &cid);
        for n in 0..=GOOD {
            verdicts.settle(&digest(n), &cid, true);
            verdicts.settle(&digest(n), &cid, true);
        }
        assert_eq!(verdicts.of(&digest(0), &cid), None);
        assert_eq!(verdicts.of(&digest(1), &cid), Some(true));
        assert_eq!(verdicts.of(&digest(GOOD), &cid), Some(true));
        assert_eq!((verdicts.holders(&digest(0)), verdicts.holders(&digest(1))), (vec![], vec![cid]));
        assert_eq!(verdicts.holders(&bad), []);
        assert_eq!(verdicts.of(&bad, &cid), Some(false));
        assert_eq!(verdicts.of(&bad, Block::raw(&b"y"[..]).cid()), None);
    }

    #[tokio::test]
    async fn the_last_verdict_counts() {
        let verdicts = Verdicts::new(Arc::new(cidery_core::memory::MemoryStore::new()));
        let (cid, digest) = (*Block::raw(&b"x"[..]).cid(), Digest::sha256(&[1; 32]));
        verdicts.refuse(&digest, &cid);
        verdicts.settle(&digest, &cid, true);
        assert_eq!((verdicts.of(&digest, &cid), verdicts.holders(&digest)), (Some(true), vec![cid]));
        verdicts.settle(&digest, &cid, false);
        assert_eq!((verdicts.of(&digest, &cid), verdicts.holders(&digest)), (Some(false), vec![]));
        verdicts.settle(&digest, &cid, true);
        assert_eq!((verdicts.of(&digest, &cid), verdicts.holders(&digest)), (Some(true), vec![cid]));
    }

    #[test]
    fn a_set_is_bounded() {
        let mut recent = Recent::default();
        let gone: Vec<i32> = (0..10).filter_map(|n| recent.insert(n, 3)).collect();
        assert_eq!(gone, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((recent.all, recent.order), ([7, 8, 9].into(), [7, 8, 9].into()));
    }
}
