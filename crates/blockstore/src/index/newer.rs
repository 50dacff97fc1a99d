//! What packs hold beyond what an index knows of them.

use super::{
    Index,
    build::{failed, prefer, scratch},
    sort::{Record, Sorter},
};
use crate::pack::{Header, Location};
use cidery_core::{Multihash, StoreError};
use std::{fs::File, io};

/// Records that are looked up together.
const BATCH: usize = 16 << 10;

type Scratch<'a> = Box<dyn FnMut() -> io::Result<File> + 'a>;

/// Records that an index may not know.
///
/// They are looked up in the order of the index: a pack that has lost its checkpoint may hold millions, and each would
/// read another page.
pub(crate) struct Newer<'a> {
    index: &'a dyn Index,
    sorter: Sorter<Scratch<'a>>,
}

/// A block that is not where the index has it.
pub(crate) struct Found {
    pub(crate) hash: Multihash,
    pub(crate) place: Location,
    /// The index does not have it at all.
    pub(crate) is_new: bool,
}

impl<'a> Newer<'a> {
    pub(crate) fn of(index: &'a dyn Index) -> Self {
        Self { index, sorter: Sorter::new(Box::new(|| index.scratch())) }
    }

    /// Adds a record; those of one block in the order of their packs.
    pub(crate) fn add(&mut self, header: &Header) -> Result<(), StoreError> {
        let Some(cid) = header.cid else { return Ok(()) };
        let record = Record { hash: *cid.hash(), place: header.location, kind: header.kind };
        self.sorter.add(record).map_err(scratch)
    }

    /// Calls `each` with every block that the index places elsewhere or does not have.
    pub(crate) fn each(self, mut each: impl FnMut(Found)) -> Result<(), StoreError> {
        let mut batch: Vec<Record> = Vec::new();
        let mut compare = |batch: &mut Vec<Record>| -> Result<(), StoreError> {
            let hashes: Vec<Multihash> = batch.iter().map(|record| record.hash).collect();
            let known = self.index.get_all(&hashes).map_err(failed)?;
            for (record, known) in batch.drain(..).zip(known) {
                let place = known.map_or(record.place, |known| prefer(&known, &record.place, record.kind));
                if known != Some(place) {
                    each(Found { hash: record.hash, place, is_new: known.is_none() });
                }
            }
            Ok(())
        };
        for record in self.sorter.sorted().map_err(scratch)?.blocks() {
            batch.push(record.map_err(scratch)?);
            if batch.len() == BATCH {
                compare(&mut batch)?;
            }
        }
        compare(&mut batch)
    }
}
