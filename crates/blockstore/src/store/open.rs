//! Opening a store: whatever a stop at any moment left behind is put in order here.

use super::{
    Inner, Parts, Uses, backup,
    caught::{Catching, Caught},
    checkpoint::{Alarm, BYTES as CHECKPOINT_BYTES, IndexSlot, ROOM as INDEX_ROOM},
};
use crate::{
    disk::{Disk, DiskFile},
    format,
    index::{self, Index, IndexError, IndexHome, PackView, Survey},
    journal::{Journal, State},
    marks::Marks,
    notes::Notes,
    options::{OpenError, Options, Progress, Stage},
    pack::{BadHeader, Class, FILE_HEADER, FileHeader, Found, Pack, Packs, Scan, VERSION, Writeback, file_name, id_of},
};
use cidery_core::StoreError;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
        mpsc::Receiver,
    },
};

pub(super) const PACKS: &str = "packs";
/// Appended to the name of a pack that can't be read, instead of removing it.
pub(super) const SET_ASIDE: &str = ".damaged";

/// A pack as it was found.
struct FoundPack {
    header: FileHeader,
    file: Arc<dyn DiskFile>,
    len: u64,
    durable: u64,
    /// Damaged at its beginning or cut off at its end: nothing is appended to it any more.
    sealed: bool,
}

impl Inner {
    /// The store, and what its write-back thread waits for.
    pub(super) fn open(parts: Parts) -> Result<(Self, Receiver<Writeback>), OpenError> {
        let Parts { disk, index: home, options, clock } = parts;
        let mut notes = Notes::default();
        let (id, names, last_id) = prepare(&*disk)?;
        let (journal, state) = Journal::open(&*disk, id, &mut notes)?;
        let names = remove_packs(&*disk, names, &state)?;
        let uses = Uses::load(&*disk);
        let found = find_packs(&*disk, &names, &state, &mut notes)?;
        let known = state.packs.keys().chain(&state.removed).max();
        let next_id = known.map_or(0, |last| *last).max(last_id) + 1;
        let opened = open_index((&*home, &*disk), id, &found, &state, &options, &mut notes)?;
        let (recent, packs) = catch_up(&opened, found, &state, &mut notes)?;
        let (blocks, bytes) = (opened.blocks + recent.blocks, opened.bytes + recent.bytes);
        let published = state.spaces.values().any(|space| space.publication.is_some());
        let (packs, writeback) = Packs::new(disk.clone(), packs, next_id, options.pack_size);
        let inner = Self {
            packs,
            id,
            options,
            clock,
            disk,
            recent: recent.table,
            home,
            index: RwLock::new(IndexSlot::new(opened.index)),
            progressed: Mutex::new(opened.survey.into()),
            alarm: Alarm::default(),
            buffers: Default::default(),
            journal: Mutex::new(journal),
            unmarked: Default::default(),
            state: RwLock::new(state),
            group: Default::default(),
            marks: Marks::new(!published),
            expiries: Default::default(),
            damaged: Default::default(),
            lossy: AtomicBool::new(!notes.list().is_empty()),
            holds: Default::default(),
            dying: Default::default(),
            withdrawn: Default::default(),
            uses,
            room: Default::default(),
            collector: Default::default(),
            pinning: Mutex::default(),
            notes: Mutex::new(notes),
            poison: OnceLock::new(),
            closed: Default::default(),
            blocks: AtomicU64::new(blocks),
            bytes: AtomicU64::new(bytes),
            syncs: AtomicU64::new(0),
        };
        inner.recall_forgotten();
        Ok((inner, writeback))
    }
}

/// Removes the packs that the journal says are no more; the others.
fn remove_packs(disk: &dyn Disk, names: Vec<u64>, state: &State) -> Result<Vec<u64>, StoreError> {
    let (removed, kept): (Vec<u64>, Vec<u64>) = names.into_iter().partition(|id| state.removed.contains(id));
    for id in removed {
        let name = file_name(id);
        disk.remove(&name).map_err(|e| StoreError::io(format!("removing {name}"), e))?;
    }
    Ok(kept)
}

/// Makes sure that the directory is a store; its id, the ids of its packs, and the highest id that was
/// ever a pack's by the names of files.
fn prepare(disk: &dyn Disk) -> Result<(u64, Vec<u64>, u64), OpenError> {
    let journal = Journal::exists(disk)?;
    if !journal && backup::is_one(disk)? {
        return Err(OpenError::Damaged {
            what: "the data directory".into(),
            detail: "it is a backup that was begun and never completed".into(),
        });
    }
    let id = match format::read(disk)? {
        Some(id) => id,
        None if journal => {
            return Err(OpenError::Damaged {
                what: "the data directory".into(),
                detail: "the file \"format\" is missing although there is a journal".into(),
            });
        }
        None => format::create(disk)?,
    };
    let failed = |e| StoreError::io("preparing the directory of packs", e);
    disk.create_dir(PACKS).map_err(failed)?;
    let names = disk.list(PACKS).map_err(failed)?;
    let mut packs: Vec<u64> = names.iter().filter_map(|name| id_of(name)).collect();
    // The id of one that was set aside is not given to another.
    let set_aside = names.iter().filter_map(|name| id_of(name.strip_suffix(SET_ASIDE)?));
    let last = packs.iter().copied().chain(set_aside).max().unwrap_or_default();
    packs.sort_unstable();
    if !journal {
        if !packs.is_empty() {
            return Err(OpenError::Damaged {
                what: "the journal".into(),
                detail: format!("it is missing although there are {} packs", packs.len()),
            });
        }
        // Also makes the directory of packs durable, before anything is in it.
        Journal::create(disk, id)?;
    }
    Ok((id, packs, last))
}

/// Opens the packs that can be used.
fn find_packs(
    disk: &dyn Disk,
    ids: &[u64],
    state: &State,
    notes: &mut Notes,
) -> Result<BTreeMap<u64, FoundPack>, OpenError> {
    let mut found = BTreeMap::new();
    for id in ids {
        let name = file_name(*id);
        let failed = |e| StoreError::io(format!("opening {name}"), e);
        let file = disk.open(&name).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let mut bytes = [0; FILE_HEADER as usize];
        let got = file.read_at(&mut bytes, 0).map_err(failed)?;
        let mark = state.packs.get(id);
        let mut sealed = false;
        let header = match (FileHeader::decode(&bytes[..got]), mark) {
            (Ok(header), _) if header.id == *id => header,
            (Ok(header), _) => {
                notes.push(format!("{name} is not used: by its header it is pack {:016x}", header.id));
                continue;
            }
            (Err(BadHeader::Newer(version)), _) => {
                return Err(OpenError::Newer { what: name, found: version.into(), supported: VERSION.into() });
            }
            (Err(BadHeader::Damaged), Some(mark)) => {
                notes.push(format!("the header of {name} is damaged; its blocks are read with what the journal knows"));
                sealed = true;
                FileHeader { class: Class::Leaves, id: *id, salt: mark.salt }
            }
            (Err(BadHeader::Damaged), None) if len <= FILE_HEADER => {
                // Created just before a stop, and there is nothing in it.
                disk.remove(&name).map_err(failed)?;
                continue;
            }
            (Err(BadHeader::Damaged), None) => {
                // By the journal nothing in it was acknowledged; but then its header is not all that may
                // be damaged, so nothing is removed.
                let aside = format!("{name}{SET_ASIDE}");
                disk.rename(&name, &aside).map_err(failed)?;
                disk.sync_dir(PACKS).map_err(failed)?;
                notes.push(format!(
                    "the header of {name} is damaged and the journal does not know it: it is now {aside}, {len} bytes"
                ));
                continue;
            }
        };
        let durable = mark.filter(|mark| mark.salt == header.salt).map_or(0, |mark| mark.len);
        if durable > len {
            notes.push(format!("{name} has {len} bytes and had {durable}: blocks are lost"));
            sealed = true;
        }
        found.insert(*id, FoundPack { header, file, len: len.max(FILE_HEADER), durable: durable.min(len), sealed });
    }
    for id in state.packs.keys().filter(|id| !found.contains_key(id)) {
        notes.push(format!("{} is missing: blocks are lost", file_name(*id)));
    }
    Ok(found)
}

struct OpenedIndex {
    index: Box<dyn Index>,
    survey: Survey,
    blocks: u64,
    bytes: u64,
}

/// Opens the index, or makes it anew if it does not open or does not fit.
fn open_index(
    (home, disk): (&dyn IndexHome, &dyn Disk),
    id: u64,
    found: &BTreeMap<u64, FoundPack>,
    state: &State,
    options: &Options,
    notes: &mut Notes,
) -> Result<OpenedIndex, OpenError> {
    // A checkpoint of the index says that a pack was flushed, as the journal's marks do.
    let views = |reach: fn(&FoundPack) -> u64| -> BTreeMap<u64, PackView> {
        let view = |(id, pack): (&u64, &FoundPack)| {
            let dead = state.dead.get(id).cloned().unwrap_or_default();
            (*id, PackView { id: *id, salt: pack.header.salt, file: pack.file.clone(), durable: reach(pack), dead })
        };
        found.iter().map(view).collect()
    };
    let checked = || -> Result<_, IndexError> {
        let index = home.open()?;
        let survey = index::survey(&*index, id, &views(|pack| pack.len), &|pack| state.removed.contains(&pack))?;
        // Without a checkpoint there may be a checkpoint's worth of blocks that it does not hold, not more.
        let known: u64 = found.values().map(|pack| pack.durable.saturating_sub(FILE_HEADER)).sum();
        let lost = survey.checkpoints.is_empty() && known > if survey.fresh { 0 } else { 4 * CHECKPOINT_BYTES };
        if lost { Err(IndexError("it is empty".into())) } else { Ok((index, survey)) }
    };
    let (index, survey) = match checked() {
        Ok(opened) => opened,
        Err(error) => {
            // What is there may be sound, and only not to be opened without room: it is not removed for nothing.
            if disk.free().is_ok_and(|free| free < INDEX_ROOM) {
                return Err(StoreError::Full { what: "the index: make some on the disk, and start again" }.into());
            }
            notes.push(format!("the index was made anew from the packs: {error}"));
            let fresh = || {
                home.wipe()?;
                home.open()
            };
            let index = fresh().map_err(|error| StoreError::Index(error.0))?;
            let total = found.values().map(|pack| pack.durable).sum();
            let mut progress = |done| {
                if let Some(tell) = &options.progress {
                    tell(Progress { stage: Stage::RebuildIndex, done, total });
                }
            };
            let mut gap = |pack, from, to| notes.push(damage(pack, from, to));
            let survey = index::fill(&*index, id, &views(|pack| pack.durable), &mut progress, &mut gap)?;
            (index, survey)
        }
    };
    Ok(OpenedIndex { index, blocks: survey.blocks, bytes: survey.bytes, survey })
}

fn damage(pack: u64, from: u64, to: u64) -> String {
    format!("{} is damaged from byte {from} to {to}: what was there is lost", file_name(pack))
}

/// Reads what the index does not cover, cuts torn ends, and writes the part again that may not
/// be on the disk.
fn catch_up(
    opened: &OpenedIndex,
    found: BTreeMap<u64, FoundPack>,
    state: &State,
    notes: &mut Notes,
) -> Result<(Caught, Vec<Pack>), OpenError> {
    let mut catching = Catching::up(&*opened.index);
    let mut packs = Vec::new();
    for (id, mut pack) in found {
        let failed = |e| StoreError::io(format!("reading {}", file_name(id)), e);
        let checkpoint = opened.survey.checkpoints.get(&id).map_or(FILE_HEADER, |checkpoint| checkpoint.upto);
        pack.durable = pack.durable.max(if checkpoint > FILE_HEADER { checkpoint } else { 0 });
        let mut end = checkpoint;
        for step in Scan::new(&*pack.file, pack.header.salt, id, checkpoint, pack.len, pack.durable) {
            match step.map_err(failed)? {
                Found::Record(header) => {
                    end = header.location.end();
                    if !state.is_dead(id, header.location.offset) {
                        catching.add(&header)?;
                    }
                }
                Found::Gap { from, to } => {
                    if from < pack.durable {
                        notes.push(damage(id, from, to.min(pack.durable)));
                        end = to.min(pack.durable);
                    }
                    // Written and never flushed: nothing from here on was acknowledged. Records that follow
                    // go with it: kept, they would vouch for what lies before them once they are flushed.
                    if to > pack.durable {
                        break;
                    }
                }
            }
        }
        let end = end.max(pack.durable).max(FILE_HEADER);
        if end < pack.len {
            pack.file.set_len(end).map_err(|e| StoreError::io(format!("cutting {}", file_name(id)), e))?;
        }
        write_again(&*pack.file, pack.durable, end).map_err(failed)?;
        packs.push(Packs::found(pack.header, end, pack.durable, pack.sealed));
    }
    Ok((catching.done()?, packs))
}

/// If a flush failed before the restart, the system may believe that these bytes are on the disk.
fn write_again(file: &dyn DiskFile, mut from: u64, to: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while from < to {
        let want = buffer.len().min((to - from) as usize);
        let got = file.read_at(&mut buffer[..want], from)?;
        if got == 0 {
            break;
        }
        file.write_at(&[&buffer[..got]], from)?;
        from += got as u64;
    }
    Ok(())
}
