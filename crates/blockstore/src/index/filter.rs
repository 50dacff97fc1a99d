//! What an index surely does not hold, known without asking it.
//!
//! Most blocks that are put are new, and of a large index every look-up reads and takes apart a few kilobytes.
//! A Bloom filter in memory, whose bits for one key lie in one cache line, answers for nearly all of them.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Keys that even the smallest one has room for.
pub(super) const LEAST: u64 = 128 << 10;
/// Bits for each key there is room for: with the four that are set, about one key in fifty is taken for one that
/// is held.
const BITS: u64 = 10;
const PROBES: u32 = 4;
/// Words in a cache line.
const WORDS: u64 = 8;
/// Bits of a position in one.
const POSITION: u32 = 9;
/// What is left of a hash for the choice of the line.
const LINE: u32 = 64 - POSITION * PROBES;

/// Keys, so that one that was never added is nearly always known as such.
pub(super) struct Filter {
    // Secret, so that nobody can choose blocks that are all taken for held ones.
    hasher: RandomState,
    words: Vec<AtomicU64>,
    room: u64,
    added: AtomicU64,
}

impl Filter {
    /// Room for so many keys, or a few more. Takes ten bits of memory for each.
    pub(super) fn with_room(keys: u64) -> Self {
        let room = keys.max(LEAST);
        let lines = (room * BITS).div_ceil(WORDS * u64::from(u64::BITS)).min(1 << LINE);
        let words = (0..lines * WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: RandomState::new(), words, room, added: AtomicU64::new(0) }
    }

    /// Adds a key. Adding one twice counts it twice.
    pub(super) fn add(&self, key: &[u8]) {
        for (word, bit) in self.bits(key) {
            word.fetch_or(bit, Relaxed);
        }
        self.added.fetch_add(1, Relaxed);
    }

    /// Whether a key may have been added; `false` is certain.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        self.bits(key).all(|(word, bit)| word.load(Relaxed) & bit != 0)
    }

    /// With more keys than there is room for, too many others are taken for held ones: the room that is needed.
    pub(super) fn outgrown(&self) -> Option<u64> {
        let added = self.added.load(Relaxed);
        // Each growth goes through the whole index.
        (added > self.room).then(|| added.saturating_mul(4))
    }

    fn bits(&self, key: &[u8]) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let hash = self.hasher.hash_one(key);
        let lines = self.words.len() as u64 / WORDS;
        let line = (((hash >> (POSITION * PROBES)) * lines) >> LINE) * WORDS;
        (0..PROBES).map(move |probe| {
            let position = (hash >> (POSITION * probe)) & ((1 << POSITION) - 1);
            (&self.words[(line + position / u64::from(u64::BITS)) as usize], 1 << (position % u64::from(u64::BITS)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_held_and_little_else() {
        let filter = Filter::with_room(0);
        let key = |n: u64| n.to_be_bytes();
        (0..LEAST).for_each(|n| filter.add(&key(n)));
        assert!((0..LEAST).all(|n| filter.may_hold(&key(n))));
        assert_eq!(filter.outgrown(), None);
        let taken = (LEAST..2 * LEAST).filter(|n| filter.may_hold(&key(*n))).count() as u64;
        assert!(taken < LEAST / 25, "{taken} of {LEAST}");
        filter.add(&key(LEAST));
        assert_eq!(filter.outgrown(), Some(4 * (LEAST + 1)));
    }

    #[test]
    fn an_empty_one_holds_nothing() {
        let filter = Filter::with_room(1 << 20);
        assert!((0..1000_u64).all(|n| !filter.may_hold(&n.to_be_bytes())));
    }
}
