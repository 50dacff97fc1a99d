//! All packs of a store: who writes where, which need a flush, which files are open.

use super::{AppendError, Class, FILE_HEADER, FileHeader, Location, NewRecord, Pack};
use crate::disk::{Disk, DiskFile};
use cidery_core::StoreError;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

/// The directory of packs.
pub(crate) const DIRECTORY: &str = "packs";
/// Files that are kept open beyond those being written.
const OPEN_FILES: usize = 256;

/// A pack's file name.
pub(crate) fn file_name(id: u64) -> String {
    format!("{DIRECTORY}/{id:016x}.pack")
}

/// The id in a pack's file name.
pub(crate) fn id_of(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".pack")?;
    (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok())?
}

/// Ranges that wait to be written back; more are left to the system.
const WRITEBACK_QUEUE: usize = 32;

/// A range of a file whose pages should go to the disk now.
pub(crate) struct Writeback {
    file: Arc<dyn DiskFile>,
    range: Range<u64>,
}

/// Starts the writing back of whatever `ranges` brings. A thread's work, since submitting takes as long as
/// copying the bytes did.
pub(crate) fn write_back(ranges: Receiver<Writeback>) {
    for Writeback { file, range } in ranges {
        file.start_writeback(range.start, range.end - range.start);
    }
}

pub(crate) struct Packs {
    disk: Arc<dyn Disk>,
    all: RwLock<BTreeMap<u64, Arc<Pack>>>,
    /// Packs with room that nobody writes to now.
    idle: Mutex<Vec<Arc<Pack>>>,
    /// The packs that everybody shares, by class.
    shared: [Mutex<Option<Arc<Pack>>>; 2],
    dirty: Mutex<Vec<Arc<Pack>>>,
    open: Mutex<VecDeque<Arc<Pack>>>,
    next_id: AtomicU64,
    /// Where ranges to write back go, until the store is closed.
    writeback: Mutex<Option<SyncSender<Writeback>>>,
    /// A pack takes no more records beyond this length.
    limit: u64,
}

impl Packs {
    /// `packs` are those found; ids from `next_id` on were never used.
    /// The receiver is for [`write_back`].
    pub(crate) fn new(disk: Arc<dyn Disk>, packs: Vec<Pack>, next_id: u64, limit: u64) -> (Self, Receiver<Writeback>) {
        let all: BTreeMap<u64, Arc<Pack>> = packs.into_iter().map(|pack| (pack.id(), Arc::new(pack))).collect();
        let idle =
            all.values().filter(|pack| pack.len() < limit && !pack.sealed.load(Ordering::Acquire)).cloned().collect();
        let dirty: Vec<_> = all.values().filter(|pack| pack.durable() < pack.len()).cloned().collect();
        for pack in &dirty {
            pack.append.lock().queued = true;
        }
        let (writeback, ranges) = sync_channel(WRITEBACK_QUEUE);
        let packs = Self {
            disk,
            all: RwLock::new(all),
            idle: Mutex::new(idle),
            shared: Default::default(),
            dirty: Mutex::new(dirty),
            open: Mutex::default(),
            next_id: AtomicU64::new(next_id),
            writeback: Mutex::new(Some(writeback)),
            limit,
        };
        (packs, ranges)
    }

    /// Ends the thread that writes back.
    pub(crate) fn end_writeback(&self) {
        *self.writeback.lock() = None;
    }

    /// A pack that was found at a start, with its length after whatever had to be cut.
    pub(crate) fn found(header: FileHeader, len: u64, durable: u64, sealed: bool) -> Pack {
        // Its name may have come back without ever having been flushed.
        Pack { sealed: sealed.into(), ..Pack::new(header, None, len, durable, durable < len) }
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Pack>> {
        self.all.read().get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Pack>> {
        self.all.read().values().cloned().collect()
    }

    /// A pack's file, opened if it is not.
    pub(crate) fn file(&self, pack: &Arc<Pack>) -> Result<Arc<dyn DiskFile>, StoreError> {
        let mut slot = pack.file.lock();
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let name = file_name(pack.id());
        let file = self.disk.open(&name).map_err(|e| StoreError::io(format!("opening {name}"), e))?;
        *slot = Some(file.clone());
        drop(slot);
        self.bound_open(pack.clone());
        Ok(file)
    }

    fn bound_open(&self, opened: Arc<Pack>) {
        let mut open = self.open.lock();
        open.push_back(opened);
        for _ in 0..open.len().saturating_sub(OPEN_FILES) {
            let Some(oldest) = open.pop_front() else { break };
            // A failed write-back is reported to descriptors that were open then: keep those.
            if oldest.durable() < oldest.len() || oldest.len() < self.limit {
                open.push_back(oldest);
            } else {
                *oldest.file.lock() = None;
            }
        }
    }

    fn create(&self, class: Class) -> Result<Arc<Pack>, StoreError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let name = file_name(id);
        let failed = |e| StoreError::io(format!("creating {name}"), e);
        let file = self.disk.create(&name).map_err(failed)?;
        // The salt need not be secret from the disk, only unknown to those who push bytes.
        let header = FileHeader { class, id, salt: RandomState::new().hash_one(id) };
        if let Err(error) = file.write_at(&[&header.encode()], 0) {
            let _ = self.disk.remove(&name);
            return Err(failed(error));
        }
        let pack = Arc::new(Pack::new(header, Some(file), FILE_HEADER, 0, true));
        self.all.write().insert(id, pack.clone());
        self.bound_open(pack.clone());
        Ok(pack)
    }

    /// A pack with room for the caller alone; given back with [`Packs::give_back`].
    pub(crate) fn take(&self, class: Class) -> Result<Arc<Pack>, StoreError> {
        let mut idle = self.idle.lock();
        if let Some(at) = idle.iter().position(|pack| pack.header.class == class) {
            return Ok(idle.swap_remove(at));
        }
        drop(idle);
        self.create(class)
    }

    /// Lets others write to a pack again.
    pub(crate) fn give_back(&self, pack: Arc<Pack>) {
        if pack.len() < self.limit && !pack.sealed.load(Ordering::Acquire) {
            self.idle.lock().push(pack);
        }
    }

    /// Lets nobody write to a pack any more.
    pub(crate) fn retire(&self, pack: &Arc<Pack>) {
        pack.seal();
        self.idle.lock().retain(|idle| idle.id() != pack.id());
    }

    /// Removes a pack that the journal says is no more. Who reads from it now can finish.
    pub(crate) fn remove(&self, pack: &Arc<Pack>) -> Result<(), StoreError> {
        self.all.write().remove(&pack.id());
        self.open.lock().retain(|open| open.id() != pack.id());
        self.dirty.lock().retain(|dirty| dirty.id() != pack.id());
        let name = file_name(pack.id());
        // One that stays is removed at the next start.
        self.disk.remove(&name).map_err(|e| StoreError::io(format!("removing {name}"), e))
    }

    /// Appends to the pack that `slot` holds, taking another one when it is full or there is none.
    pub(crate) fn append(
        &self,
        slot: &mut Option<Arc<Pack>>,
        class: Class,
        record: &NewRecord<'_>,
        publish: impl Fn(Location),
    ) -> Result<(), StoreError> {
        loop {
            let pack = match slot {
                Some(pack) => pack.clone(),
                None => slot.insert(self.take(class)?).clone(),
            };
            let file = self.file(&pack)?;
            let queue = || self.dirty.lock().push(pack.clone());
            match pack.append(&*file, self.limit, record, &publish, queue) {
                Ok(None) => return Ok(()),
                Ok(Some(range)) => {
                    if let Some(writeback) = &*self.writeback.lock() {
                        // With a full queue the disk is busy anyway.
                        let _ = writeback.try_send(Writeback { file, range });
                    }
                    return Ok(());
                }
                Err(AppendError::Sealed) => *slot = None,
                Err(AppendError::Io(e)) => {
                    return Err(StoreError::io(format!("writing to {}", file_name(pack.id())), e));
                }
            }
        }
    }

    /// Appends to the pack of a class that everybody shares.
    pub(crate) fn append_shared(
        &self,
        class: Class,
        record: &NewRecord<'_>,
        publish: impl Fn(Location),
    ) -> Result<(), StoreError> {
        // Held while the record is copied to the page cache: appends to one file have an order anyway.
        let mut slot = self.shared[class as usize - 1].lock();
        self.append(&mut slot, class, record, publish)
    }

    /// Writes over bytes of a pack; the next flush makes that durable.
    pub(crate) fn overwrite(&self, pack: &Arc<Pack>, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        let file = self.file(pack)?;
        let mut append = pack.append.lock();
        let written = file.write_at(&[bytes], offset);
        written.map_err(|e| StoreError::io(format!("writing to {}", file_name(pack.id())), e))?;
        if !std::mem::replace(&mut append.queued, true) {
            self.dirty.lock().push(pack.clone());
        }
        Ok(())
    }

    /// Makes everything that was appended before durable, and says which packs had to be flushed.
    /// Counts the flushes in `barriers`. After an error nothing that was written can be called durable.
    pub(crate) fn flush(&self, barriers: &AtomicU64) -> Result<Vec<Arc<Pack>>, StoreError> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        let mut flushed = Vec::with_capacity(dirty.len());
        for pack in dirty {
            let target = pack.begin_flush();
            let file = self.file(&pack)?;
            barriers.fetch_add(1, Ordering::Relaxed);
            file.sync_data().map_err(|e| StoreError::io(format!("flushing {}", file_name(pack.id())), e))?;
            flushed.push((pack, target));
        }
        if flushed.iter().any(|(pack, _)| pack.new.load(Ordering::Acquire)) {
            barriers.fetch_add(1, Ordering::Relaxed);
            let result = self.disk.sync_dir(DIRECTORY);
            result.map_err(|e| StoreError::io("flushing the directory of packs", e))?;
        }
        for (pack, target) in &flushed {
            pack.new.store(false, Ordering::Release);
            pack.durable.fetch_max(*target, Ordering::AcqRel);
        }
        Ok(flushed.into_iter().map(|(pack, _)| pack).collect())
    }
}
