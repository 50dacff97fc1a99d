//! What packs hold beyond what the index knows of them, at a start.

use crate::{
    index::{Index, prefer},
    pack::{Header, Kind, Location},
    recent::Recent,
};
use cidery_core::{Multihash, StoreError};

/// Records that are sorted together, in some 30 MB. Mostly there are far fewer.
const RUN: usize = if cfg!(test) { 100 } else { 256 << 10 };
/// Of these so many are looked up together.
const BATCH: usize = if cfg!(test) { 30 } else { 16 << 10 };

/// Blocks that the index does not have, or places elsewhere.
#[derive(Default)]
pub(super) struct Caught {
    pub(super) table: Recent,
    /// How many of them it does not have at all, …
    pub(super) blocks: u64,
    /// … and their bytes.
    pub(super) bytes: u64,
}

/// Takes records and compares them with the index.
///
/// They are looked up in the order of the index: a pack that has lost its checkpoint may hold millions, and each would
/// read another page. Nothing is written to the disk for it, which may be full.
pub(super) struct Catching<'a> {
    index: &'a dyn Index,
    records: Vec<(Multihash, Location, Kind)>,
    caught: Caught,
}

impl<'a> Catching<'a> {
    pub(super) fn up(index: &'a dyn Index) -> Self {
        Self { index, records: Vec::new(), caught: Caught::default() }
    }

    /// Adds a record; those of one block in the order of their packs.
    pub(super) fn add(&mut self, header: &Header) -> Result<(), StoreError> {
        if let Some(cid) = header.cid {
            self.records.push((*cid.hash(), header.location, header.kind));
        }
        if self.records.len() >= RUN { self.compare() } else { Ok(()) }
    }

    pub(super) fn done(mut self) -> Result<Caught, StoreError> {
        self.compare()?;
        Ok(self.caught)
    }

    fn compare(&mut self) -> Result<(), StoreError> {
        let Self { index, records, caught } = self;
        // Those of one block stay in the order of their packs.
        records.sort_unstable_by_key(|(hash, place, _)| (*hash, place.pack, place.offset));
        for batch in records.chunks(BATCH) {
            let hashes: Vec<Multihash> = batch.iter().map(|(hash, ..)| *hash).collect();
            let indexed = index.get_all(&hashes).map_err(|error| StoreError::Index(error.0))?;
            for ((hash, place, kind), indexed) in batch.iter().zip(indexed) {
                let Some(known) = caught.table.get(hash).or(indexed) else {
                    caught.table.insert(*hash, *place);
                    caught.blocks += 1;
                    caught.bytes += u64::from(place.len);
                    continue;
                };
                let better = prefer(&known, place, *kind);
                if better != known {
                    caught.table.insert(*hash, better);
                }
            }
        }
        records.clear();
        Ok(())
    }
}
