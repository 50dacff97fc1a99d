//! Where all blocks are that the index held when a collection began, small enough to be kept in memory: about
//! eleven bytes for each.
//!
//! Looking up millions of nodes one by one, each at its own place of the index, takes far longer than going
//! through the index twice.
//!
//! Of a fingerprint's 64 bits it holds all where there are some ten million blocks in packs of a gigabyte, and about
//! sixty where there are a hundred million. Blocks of the census that have the same are not in it. One that came since
//! and has the same as another one would be taken for that.

use super::Inner;
use crate::{pack::Location, reach::Keys};
use cidery_core::{Multihash, StoreError};
use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

/// A block's number in the census.
pub(super) type Number = u32;

/// So many blocks, or up to twice as many, are in one bucket.
const TOGETHER: u64 = 8;
/// Logarithm of the number of buckets, at most.
const MOST_BUCKETS: u32 = 28;
/// Nothing is here.
const FREE: u64 = u64::MAX;

/// Fingerprints and places of blocks, as a table of buckets: a block's bucket is the first bits of its fingerprint.
pub(in crate::store) struct Census {
    pub(super) keys: Keys,
    /// The next bits of the fingerprint, then the pack's number, then the offset. Where the last two are ones only, several
    /// blocks have this fingerprint.
    slots: Vec<u64>,
    /// The last bits of the fingerprint.
    ends: Vec<u16>,
    /// Where each bucket begins, and where the last one ends.
    starts: Vec<Number>,
    bits: Bits,
    /// The packs by their number.
    packs: Vec<u64>,
}

/// How many bits are for what.
struct Bits {
    bucket: u32,
    pack: u32,
    offset: u32,
}

/// The bits that tell so many things and one more from another.
fn bits_for(things: u64) -> u32 {
    u64::BITS - things.leading_zeros()
}

impl Bits {
    fn places(&self) -> u64 {
        (1 << (self.pack + self.offset)) - 1
    }

    fn bucket(&self, block: u64) -> usize {
        (block >> (u64::BITS - self.bucket)) as usize
    }

    /// The part of a fingerprint that a slot has.
    fn rest(&self, block: u64) -> u64 {
        (block << self.bucket) & !self.places()
    }
}

impl Census {
    /// Goes through the index: once to see how many blocks there are in each bucket, once to fill them.
    pub(in crate::store) fn take(inner: &Inner) -> Result<Self, StoreError> {
        let keys = Keys::default();
        let all = inner.packs.all();
        let longest = all.iter().map(|pack| pack.len()).max().unwrap_or_default();
        let packs: Vec<u64> = all.iter().map(|pack| pack.id()).collect();
        let numbers: BTreeMap<u64, u64> = packs.iter().copied().zip(0..).collect();
        let blocks = inner.blocks.load(Relaxed);
        let bits = Bits {
            bucket: (blocks / TOGETHER).max(2).ilog2().min(MOST_BUCKETS),
            pack: bits_for(packs.len() as u64),
            offset: bits_for(longest),
        };
        let mut starts: Vec<Number> = vec![0; (1 << bits.bucket) + 1];
        inner.each_page(|page| {
            page.iter().for_each(|(hash, _)| starts[bits.bucket(keys.block(hash)) + 1] += 1);
            Ok(())
        })?;
        for bucket in 1..starts.len() {
            starts[bucket] = starts[bucket].saturating_add(starts[bucket - 1]);
        }
        let len = starts[starts.len() - 1] as usize;
        let mut census = Self { keys, slots: vec![FREE; len], ends: vec![0; len], starts, bits, packs };
        inner.each_page(|page| {
            for (hash, place) in page {
                // One that has come since, like all that are not in the census, is looked up when it is wanted.
                if let Some(number) = numbers.get(&place.pack).filter(|_| place.offset <= longest) {
                    census.add(census.keys.block(&hash), (number << census.bits.offset) | place.offset);
                }
            }
            Ok(())
        })?;
        Ok(census)
    }

    /// Adds a block, if there is room. Blocks that can't be told from one another are looked up, too.
    fn add(&mut self, block: u64, place: u64) {
        let (from, to) = self.bucket(block);
        let rest = self.bits.rest(block);
        for at in from..to {
            if self.slots[at] == FREE {
                (self.slots[at], self.ends[at]) = (rest | place, block as u16);
                return;
            }
            if self.is(at, block) {
                self.slots[at] |= self.bits.places();
                return;
            }
        }
    }

    fn bucket(&self, block: u64) -> (usize, usize) {
        let bucket = self.bits.bucket(block);
        (self.starts[bucket] as usize, self.starts[bucket + 1] as usize)
    }

    /// Whether it is the fingerprint of the block in this slot.
    fn is(&self, at: usize, block: u64) -> bool {
        self.slots[at] & !self.bits.places() == self.bits.rest(block) && self.ends[at] == block as u16
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The block with this fingerprint.
    pub(super) fn find(&self, block: u64) -> Option<Number> {
        let (from, to) = self.bucket(block);
        let at = (from..to).find(|at| self.is(*at, block))?;
        (self.slots[at] & self.bits.places() != self.bits.places()).then_some(at as Number)
    }

    /// The pack that a block is in, and its offset there.
    pub(super) fn place(&self, number: Number) -> (u64, u64) {
        let slot = self.slots[number as usize];
        let part = |bits: u32, shift: u32| (slot >> shift) & ((1 << bits) - 1);
        (self.packs[part(self.bits.pack, self.bits.offset) as usize], part(self.bits.offset, 0))
    }

    /// Puts blocks into the order in which their packs are best read.
    pub(super) fn sort_by_place(&self, numbers: &mut [Number]) {
        numbers.sort_unstable_by_key(|number| self.slots[*number as usize] & self.bits.places());
    }

    /// Whether the index placed a block here when the census was taken.
    pub(super) fn placed(&self, hash: &Multihash, place: &Location) -> bool {
        let found = self.find(self.keys.block(hash));
        found.is_some_and(|number| self.place(number) == (place.pack, place.offset))
    }

    /// The multihashes of some blocks, by going through all that is here: they may have come back, to another place.
    pub(super) fn hashes(&self, inner: &Inner, mut numbers: Vec<Number>) -> Result<Vec<Multihash>, StoreError> {
        numbers.sort_unstable();
        let wanted = |hash: &Multihash| {
            self.find(self.keys.block(hash)).is_some_and(|number| numbers.binary_search(&number).is_ok())
        };
        // These first: what leaves them is in the index by then.
        let recent = inner.recent.select(|_| true);
        let mut hashes: Vec<Multihash> = recent.into_iter().map(|(hash, _)| hash).filter(wanted).collect();
        inner.each_page(|page| {
            hashes.extend(page.iter().map(|(hash, _)| *hash).filter(wanted));
            Ok(())
        })?;
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A census of these fingerprints, at places of their own.
    fn census(bits: Bits, blocks: &[u64]) -> Census {
        let mut starts = vec![0; (1 << bits.bucket) + 1];
        blocks.iter().for_each(|block| starts[bits.bucket(*block) + 1] += 1);
        (1..starts.len()).for_each(|bucket| starts[bucket] += starts[bucket - 1]);
        let (slots, ends) = (vec![FREE; blocks.len()], vec![0; blocks.len()]);
        let mut census = Census { keys: Keys::default(), slots, ends, starts, bits, packs: vec![10, 11, 12] };
        for (at, block) in (0..).zip(blocks) {
            census.add(*block, ((at % 3) << census.bits.offset) | at);
        }
        census
    }

    #[test]
    fn what_is_in_a_census_is_found_with_its_place() {
        let blocks: Vec<u64> = (1..1000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let census = census(Bits { bucket: 6, pack: 2, offset: 24 }, &blocks);
        for (at, block) in (0..).zip(&blocks) {
            let found = census.find(*block).expect("it is in the census");
            assert_eq!(census.place(found), (10 + at % 3, at));
            for bit in 0..16 {
                assert_eq!(census.find(block ^ (1 << bit)), None);
                assert_eq!(census.find(block ^ (1 << (63 - bit))), None);
            }
        }
        let mut numbers: Vec<Number> = blocks.iter().filter_map(|block| census.find(*block)).collect();
        census.sort_by_place(&mut numbers);
        assert!(numbers.is_sorted_by_key(|number| census.place(*number)));
    }

    #[test]
    fn blocks_that_look_alike_are_not_in_a_census() {
        // A census has the first 24 bits and the last 16.
        let alike = [0xabcd_ef12_0000_0001, 0xabcd_ef13_0000_0001, 0xabcd_ef14_0000_0001];
        let blocks = [&alike[..], &[0xabcd_f012_0000_0001, 0xabcd_ef12_0000_0002]].concat();
        let census = census(Bits { bucket: 4, pack: 4, offset: 40 }, &blocks);
        assert!(alike.iter().all(|block| census.find(*block).is_none()));
        let found: Vec<_> = blocks[3..].iter().filter_map(|block| census.find(*block)).collect();
        assert_eq!(found.iter().map(|number| census.place(*number)).collect::<Vec<_>>(), [(10, 3), (11, 4)]);
    }
}
