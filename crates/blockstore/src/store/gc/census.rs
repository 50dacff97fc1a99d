//! Where all blocks are that the index held when a collection began, small enough to be kept in memory: sixteen
//! bytes for each.
//!
//! Looking up millions of nodes one by one, each at its own place of the index, takes far longer than going
//! through the index once.

use super::Inner;
use crate::{pack::Location, reach::Keys};
use cidery_core::{Multihash, StoreError};
use std::{collections::HashMap, sync::atomic::Ordering::Relaxed};

/// Of a place, for the offset; the rest is the pack's number in the census.
const OFFSET_BITS: u32 = 40;

/// A block's number in the census.
pub(super) type Number = u32;

struct Entry {
    /// The block's fingerprint, by which the entries are ordered.
    block: u64,
    place: u64,
}

/// Fingerprints and places of blocks.
pub(in crate::store) struct Census {
    pub(super) keys: Keys,
    entries: Vec<Entry>,
    /// Where the entries begin whose fingerprints have the same first bits; and how many bits follow.
    starts: Vec<Number>,
    rest: u32,
    /// Ids of packs, by their number.
    packs: Vec<u64>,
}

/// So many entries, or up to twice as many, have the same first bits.
const TOGETHER: usize = 4;

impl Census {
    /// Goes through the index once.
    pub(in crate::store) fn take(inner: &Inner) -> Result<Self, StoreError> {
        let keys = Keys::default();
        let room = inner.blocks.load(Relaxed);
        let mut entries = Vec::with_capacity((room + room / 64) as usize);
        let (mut packs, mut numbers) = (Vec::new(), HashMap::new());
        inner.each_page(|page| {
            for (hash, place) in page {
                let number = *numbers.entry(place.pack).or_insert_with(|| {
                    packs.push(place.pack);
                    packs.len() as u64 - 1
                });
                // What does not fit is looked up when it is wanted.
                if place.offset >> OFFSET_BITS == 0 && number >> (u64::BITS - OFFSET_BITS) == 0 {
                    let place = (number << OFFSET_BITS) | place.offset;
                    entries.push(Entry { block: keys.block(&hash), place });
                }
            }
            Ok(())
        })?;
        entries.truncate(Number::MAX as usize);
        entries.sort_unstable_by_key(|entry| entry.block);
        let bits = (entries.len() / TOGETHER).max(2).ilog2();
        let rest = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (number, entry) in (0..).zip(&entries) {
            starts.resize(starts.len().max((entry.block >> rest) as usize + 1), number);
        }
        starts.resize((1 << bits) + 1, entries.len() as Number);
        Ok(Self { keys, entries, starts, rest, packs })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The block with this fingerprint.
    pub(super) fn find(&self, block: u64) -> Option<Number> {
        let first = (block >> self.rest) as usize;
        let (from, to) = (self.starts[first], self.starts[first + 1]);
        let found = self.entries[from as usize..to as usize].binary_search_by_key(&block, |entry| entry.block);
        found.ok().map(|at| from + at as Number)
    }

    /// Whether the index placed the block here when the census was taken; `None` if it did not know it.
    pub(super) fn placed(&self, hash: &Multihash, place: &Location) -> Option<bool> {
        let number = self.find(self.keys.block(hash))?;
        Some(self.place(number) == (place.pack, place.offset))
    }

    pub(super) fn block(&self, number: Number) -> u64 {
        self.entries[number as usize].block
    }

    /// The pack that a block is in, and its offset there.
    pub(super) fn place(&self, number: Number) -> (u64, u64) {
        let place = self.entries[number as usize].place;
        (self.packs[(place >> OFFSET_BITS) as usize], place & ((1 << OFFSET_BITS) - 1))
    }

    /// Puts blocks into the order in which their packs are best read.
    pub(super) fn sort_by_place(&self, numbers: &mut [Number]) {
        numbers.sort_unstable_by_key(|number| self.entries[*number as usize].place);
    }

    /// The multihashes behind some fingerprints, by going through the index again.
    pub(super) fn hashes(&self, inner: &Inner, mut blocks: Vec<u64>) -> Result<Vec<Multihash>, StoreError> {
        blocks.sort_unstable();
        let mut hashes = Vec::new();
        inner.each_page(|page| {
            let wanted = |(hash, _): &(Multihash, Location)| blocks.binary_search(&self.keys.block(hash)).is_ok();
            hashes.extend(page.iter().filter(|block| wanted(block)).map(|(hash, _)| *hash));
            Ok(())
        })?;
        Ok(hashes)
    }
}
