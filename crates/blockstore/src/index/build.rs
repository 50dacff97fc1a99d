//! Checking an index against the packs, and making one from them.

use super::{Checkpoint, Index, IndexError};
use crate::{
    disk::DiskFile,
    pack::{FILE_HEADER, Found, Kind, Location, Scan},
};
use cidery_core::{Multihash, Origin, StoreError};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Blocks that go into the index at once, in the order of their keys: in the order of the packs every one
/// of them would touch another page of the index, far more than its cache holds.
const CHUNK: usize = 128 << 10;
/// How many bytes of packs lie between two calls of a progress function.
const STRIDE: u64 = 16 << 20;

/// Blocks that are looked at together.
const PAGE: usize = 16 << 10;

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
        self.dead.binary_search(&offset).is_ok()
    }

    fn dead_before(&self, offset: u64) -> u64 {
        self.dead.partition_point(|dead| *dead < offset) as u64
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
    let (mut settled, mut misplaced) = (BTreeMap::<u64, u64>::new(), 0_u64);
    let mut last = None;
    loop {
        let page = index.page(last.as_ref(), PAGE)?;
        let Some((hash, _)) = page.last() else { break };
        last = Some(*hash);
        let mut gone = Vec::new();
        for (hash, place) in page {
            let pack = packs.get(&place.pack);
            if is_removed(place.pack) || pack.is_some_and(|pack| pack.is_dead(place.offset)) {
                gone.push((hash, place));
                continue;
            }
            misplaced += u64::from(pack.is_none_or(|pack| place.end() > pack.durable));
            survey.blocks += 1;
            survey.bytes += u64::from(place.len);
            *survey.counts.entry(place.pack).or_default() += 1;
            let upto = survey.checkpoints.get(&place.pack).map_or(0, |checkpoint| checkpoint.upto);
            *settled.entry(place.pack).or_default() += u64::from(place.offset < upto);
        }
        index.remove(&gone)?;
    }
    if misplaced > 0 {
        return wrong(format!("{misplaced} of its blocks are where no pack is"));
    }
    for (id, checkpoint) in &survey.checkpoints {
        let dead = packs.get(id).map_or(0, |pack| pack.dead_before(checkpoint.upto));
        let found = settled.get(id).copied().unwrap_or_default() + dead;
        if found != checkpoint.blocks {
            return wrong(format!("it holds {found} blocks of pack {id:016x} and should hold {}", checkpoint.blocks));
        }
    }
    for pack in packs.values().filter(|pack| !pack.dead.is_empty()) {
        *survey.counts.entry(pack.id).or_default() += pack.dead.len() as u64;
    }
    Ok(survey)
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
    let failed = |error: IndexError| StoreError::Index(error.0);
    let (mut chunk, mut before, mut told) = (Chunk::default(), 0, 0);
    for pack in packs.values() {
        let mut scan = Scan::new(&*pack.file, pack.salt, pack.id, FILE_HEADER, pack.durable, pack.durable);
        while let Some(found) = scan.next() {
            match found.map_err(|e| StoreError::io(format!("reading pack {:016x}", pack.id), e))? {
                Found::Record(header) => {
                    if let Some(cid) = header.cid
                        && !pack.is_dead(header.location.offset)
                    {
                        chunk.add(*cid.hash(), header.location, header.kind);
                    }
                }
                Found::Gap { from, to } => gap(pack.id, from, to),
            }
            if chunk.blocks.len() >= CHUNK {
                chunk.store(index).map_err(failed)?;
            }
            if before + scan.position() >= told + STRIDE {
                told = before + scan.position();
                progress(told);
            }
        }
        before += pack.durable;
    }
    chunk.store(index).map_err(failed)?;
    index.flush().map_err(failed)?;
    progress(before);
    let mut survey = survey(index, store, packs, &|_| false).map_err(failed)?;
    for pack in packs.values().filter(|pack| pack.durable >= FILE_HEADER) {
        let blocks = survey.counts.get(&pack.id).copied().unwrap_or_default();
        survey.checkpoints.insert(pack.id, Checkpoint { salt: pack.salt, upto: pack.durable, blocks });
    }
    let checkpoints: Vec<_> = survey.checkpoints.iter().map(|(id, checkpoint)| (*id, *checkpoint)).collect();
    index.set_checkpoints(&checkpoints).map_err(failed)?;
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

#[derive(Default)]
struct Chunk {
    blocks: HashMap<Multihash, (Location, Kind)>,
}

impl Chunk {
    fn add(&mut self, hash: Multihash, place: Location, kind: Kind) {
        self.blocks
            .entry(hash)
            .and_modify(|(first, first_kind)| {
                if *first_kind != Kind::Replacement {
                    (*first, *first_kind) = (prefer(first, &place, kind), kind);
                }
            })
            .or_insert((place, kind));
    }

    fn store(&mut self, index: &dyn Index) -> Result<(), IndexError> {
        let mut places: Vec<_> = self.blocks.iter().map(|(hash, (place, _))| (*hash, *place)).collect();
        places.sort_unstable_by(|(one, _), (other, _)| one.digest().cmp(other.digest()));
        let mut settled = Vec::new();
        index.set(&places, &mut |hash, former| {
            if let Some((place, kind)) = self.blocks.get(hash) {
                settled.push((*hash, prefer(&former, place, *kind)));
            }
        })?;
        if !settled.is_empty() {
            index.set(&settled, &mut |_, _| {})?;
        }
        self.blocks.clear();
        Ok(())
    }
}
