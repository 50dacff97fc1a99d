//! Checking an index against the packs, and making one from them.

use super::{
    Checkpoint, Index, IndexError,
    sort::{Record, Sorted, Sorter},
};
use crate::{
    disk::DiskFile,
    pack::{FILE_HEADER, Found, Kind, Location, Scan},
};
use cidery_core::{Multihash, Origin, StoreError};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

/// Blocks that go into the index at once.
const BATCH: usize = 16 << 10;
/// After so many batches the index is flushed: it would take more than it can write, into memory.
const BATCHES: usize = 4;
/// How many bytes of packs lie between two calls of a progress function.
const STRIDE: u64 = 16 << 20;

/// A pack, as far as the index is concerned.
#[derive(Clone)]
pub(crate) struct PackView {
    pub(crate) id: u64,
    pub(crate) salt: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// The index may place blocks before this offset, and no others.
    pub(crate) durable: u64,
    /// Offsets of dead records, ascending: the index places no block there.
    pub(crate) dead: Vec<u64>,
}

impl PackView {
    fn is_dead(&self, offset: u64) -> bool {
        !self.dead.is_empty() && self.dead.binary_search(&offset).is_ok()
    }
}

/// What an index holds.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Blocks by pack, with its dead records.
    pub(crate) counts: BTreeMap<u64, u64>,
    pub(crate) checkpoints: BTreeMap<u64, Checkpoint>,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// It was never opened for a store before: new, or lost.
    pub(crate) fresh: bool,
}

/// What a survey counts in one pack.
struct Tally<'a> {
    pack: &'a PackView,
    upto: u64,
    /// Dead ones included.
    blocks: u64,
    /// Of these, how many lie before the checkpoint.
    settled: u64,
}

/// Goes through an index and checks that it can be one of these packs. Blocks of dead records, and of packs
/// for which `is_removed` holds, were taken out by the journal and are taken out of the index now.
///
/// This finds an index of another store, one that fell behind its own checkpoints, and one that
/// knows of bytes the packs do not have. A fresh index is taken for the store's own.
pub(crate) fn survey(
    index: &dyn Index,
    store: u64,
    packs: &BTreeMap<u64, PackView>,
    is_removed: &dyn Fn(u64) -> bool,
) -> Result<Survey, IndexError> {
    let wrong = |what: String| Err(IndexError(what));
    let mut survey = Survey { checkpoints: index.checkpoints()?.into_iter().collect(), ..Survey::default() };
    match index.store()? {
        Some(id) if id == store => {}
        Some(id) => return wrong(format!("it belongs to store {id:016x}")),
        None => {
            survey.fresh = true;
            index.set_store(store)?;
            // So that it is told from a lost one after a stop before its first checkpoint.
            index.flush()?;
        }
    }
    let removed: Vec<u64> = survey.checkpoints.keys().copied().filter(|id| is_removed(*id)).collect();
    for id in removed {
        index.remove_checkpoint(id)?;
        survey.checkpoints.remove(&id);
    }
    for (id, checkpoint) in &survey.checkpoints {
        let Some(pack) = packs.get(id) else { return wrong(format!("it knows a pack {id:016x} that is not there")) };
        if pack.salt != checkpoint.salt || checkpoint.upto > pack.durable || checkpoint.upto < FILE_HEADER {
            return wrong(format!("its pack {id:016x} is another one"));
        }
    }
    let mut tallies = HashMap::new();
    for (id, pack) in packs {
        let upto = survey.checkpoints.get(id).map_or(0, |checkpoint| checkpoint.upto);
        let settled = pack.dead.partition_point(|dead| *dead < upto) as u64;
        tallies.insert(*id, Tally { pack, upto, blocks: pack.dead.len() as u64, settled });
    }
    let (mut blocks, mut bytes, mut misplaced, mut stale) = (0, 0, 0_u64, false);
    index.each(&mut |place| match tallies.get_mut(&place.pack) {
        Some(tally) if tally.pack.is_dead(place.offset) => stale = true,
        Some(tally) if place.end() <= tally.pack.durable => {
            blocks += 1;
            bytes += u64::from(place.len);
            tally.blocks += 1;
            tally.settled += u64::from(place.offset < tally.upto);
        }
        None if is_removed(place.pack) => stale = true,
        _ => misplaced += 1,
    })?;
    (survey.blocks, survey.bytes) = (blocks, bytes);
    survey.counts =
        tallies.iter().filter(|(_, tally)| tally.blocks > 0).map(|(id, tally)| (*id, tally.blocks)).collect();
    if misplaced > 0 {
        return wrong(format!("{misplaced} of its blocks are where no pack is"));
    }
    for (id, checkpoint) in &survey.checkpoints {
        let found = tallies.get(id).map_or(0, |tally| tally.settled);
        if found != checkpoint.blocks {
            return wrong(format!("it holds {found} blocks of pack {id:016x} and should hold {}", checkpoint.blocks));
        }
    }
    if stale {
        let gone = |place: &Location| {
            is_removed(place.pack) || packs.get(&place.pack).is_some_and(|pack| pack.is_dead(place.offset))
        };
        remove_all(index, &gone)?;
    }
    Ok(survey)
}

/// Takes out every block whose place satisfies `gone`.
fn remove_all(index: &dyn Index, gone: &dyn Fn(&Location) -> bool) -> Result<(), IndexError> {
    let mut last = None;
    loop {
        let mut page = index.page(last.as_ref(), BATCH)?;
        let Some((hash, _)) = page.last() else { return Ok(()) };
        last = Some(*hash);
        page.retain(|(_, place)| gone(place));
        index.remove(&page)?;
    }
}

/// Fills an empty index from the packs, as far as they are durable, and sets its checkpoints.
///
/// `progress` hears how many bytes of packs were gone through, `gap` of bytes that are no record.
pub(crate) fn fill(
    index: &dyn Index,
    store: u64,
    packs: &BTreeMap<u64, PackView>,
    progress: &mut dyn FnMut(u64),
    gap: &mut dyn FnMut(u64, u64, u64),
) -> Result<Survey, StoreError> {
    let mut sorter = Sorter::new(|| index.scratch());
    let (mut before, mut told) = (0, 0);
    for pack in packs.values() {
        let mut scan = Scan::new(&*pack.file, pack.salt, pack.id, FILE_HEADER, pack.durable, pack.durable);
        while let Some(found) = scan.next() {
            match found.map_err(|e| StoreError::io(format!("reading pack {:016x}", pack.id), e))? {
                Found::Record(header) => {
                    if let Some(cid) = header.cid
                        && !pack.is_dead(header.location.offset)
                    {
                        let record = Record { hash: *cid.hash(), place: header.location, kind: header.kind };
                        sorter.add(record).map_err(scratch)?;
                    }
                }
                Found::Gap { from, to } => gap(pack.id, from, to),
            }
            if before + scan.position() >= told + STRIDE {
                told = before + scan.position();
                progress(told);
            }
        }
        before += pack.durable;
    }
    load(index, sorter.sorted().map_err(scratch)?)?;
    index.flush().map_err(failed)?;
    progress(before);
    let mut survey = survey(index, store, packs, &|_| false).map_err(failed)?;
    for pack in packs.values().filter(|pack| pack.durable >= FILE_HEADER) {
        let blocks = survey.counts.get(&pack.id).copied().unwrap_or_default();
        survey.checkpoints.insert(pack.id, Checkpoint { salt: pack.salt, upto: pack.durable, blocks });
    }
    let checkpoints: Vec<_> = survey.checkpoints.iter().map(|(id, checkpoint)| (*id, *checkpoint)).collect();
    index.set_checkpoints(&checkpoints).map_err(failed)?;
    index.flush().map_err(failed)?;
    Ok(survey)
}

/// Which of two records of one block counts: a replacement was written because the other is
/// damaged; otherwise the first one does, and in doubt the one that peers may not see.
pub(crate) fn prefer(first: &Location, second: &Location, second_kind: Kind) -> Location {
    match second_kind {
        Kind::Replacement => *second,
        _ if first.origin == Origin::Peer && second.origin != Origin::Peer => *second,
        _ => *first,
    }
}

/// Takes sorted records into an empty index, one for each block.
fn load(index: &dyn Index, sorted: Sorted) -> Result<(), StoreError> {
    let mut batch: Vec<(Multihash, Location)> = Vec::with_capacity(BATCH);
    let mut last: Option<Record> = None;
    let mut batches = 0;
    let mut store = |batch: &mut Vec<_>| -> Result<(), StoreError> {
        index.set(batch, &mut |_, _| {}).map_err(failed)?;
        batch.clear();
        batches += 1;
        if batches % BATCHES == 0 { index.flush().map_err(failed) } else { Ok(()) }
    };
    for record in sorted {
        let record = record.map_err(scratch)?;
        match &mut last {
            Some(last) if last.hash == record.hash => {
                last.place = prefer(&last.place, &record.place, record.kind);
                continue;
            }
            _ => {}
        }
        if let Some(done) = last.replace(record) {
            batch.push((done.hash, done.place));
        }
        if batch.len() == BATCH {
            store(&mut batch)?;
        }
    }
    batch.extend(last.map(|record| (record.hash, record.place)));
    store(&mut batch)
}

fn failed(error: IndexError) -> StoreError {
    StoreError::Index(error.0)
}

fn scratch(error: io::Error) -> StoreError {
    StoreError::io("sorting what the packs hold", error)
}
