//! Whether a file holds the digest that a tree links it by: computed once, then remembered.

use cidery_core::{Cid, Digest};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use thiserror::Error;

/// Pairs that are remembered; about 3 MiB.
const LIMIT: usize = 16_384;

/// A blob whose bytes are not the ones it is named by.
#[derive(Debug, Clone, Error)]
#[error("the registry behind this name links {digest} to {cid}, whose content is something else")]
pub struct BadBlob {
    /// The name.
    pub digest: Digest,
    /// What it is linked to.
    pub cid: Cid,
}

/// What was computed of (digest, CID) pairs. The first ones are forgotten first.
#[derive(Default)]
pub struct Verdicts(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    good: HashMap<(Digest, Cid), bool>,
    order: VecDeque<(Digest, Cid)>,
}

impl Verdicts {
    /// `Some(true)`: the file holds it; `Some(false)`: it does not; `None`: nobody looked.
    pub fn of(&self, digest: &Digest, cid: &Cid) -> Option<bool> {
        self.0.lock().good.get(&(digest.clone(), *cid)).copied()
    }

    /// Remembers.
    pub fn settle(&self, digest: &Digest, cid: &Cid, good: bool) {
        let mut inner = self.0.lock();
        let key = (digest.clone(), *cid);
        if inner.good.insert(key.clone(), good).is_none() {
            inner.order.push_back(key);
        }
        if inner.order.len() > LIMIT
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.good.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn the_oldest_are_forgotten() {
        let verdicts = Verdicts::default();
        let cid = *Block::raw(&b"x"[..]).cid();
        let digest = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            Digest::sha256(&hash)
        };
        for n in 0..=LIMIT {
            verdicts.settle(&digest(n), &cid, n % 2 == 0);
            verdicts.settle(&digest(n), &cid, n % 2 == 0);
        }
        assert_eq!(verdicts.of(&digest(0), &cid), None);
        assert_eq!(verdicts.of(&digest(1), &cid), Some(false));
        assert_eq!(verdicts.of(&digest(LIMIT), &cid), Some(true));
    }
}
