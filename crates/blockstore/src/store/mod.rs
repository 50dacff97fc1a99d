//! The store: what ties packs, journal, index and marks together.

mod backup;
mod blocks;
mod caught;
mod checkpoint;
mod gc;
mod holds;
mod measures;
mod open;
mod pins;
mod renew;
mod repair;
mod room;
mod roots;
mod round;
mod scrub;
mod shorten;
mod telling;
mod usage;
mod uses;
mod whole;
mod withdrawn;
mod writer;

pub use backup::BackedUp;
pub use gc::Collected;
pub use measures::{Collections, Measures, Obstacle};
pub use scrub::{ScrubOptions, Scrubbed};
pub use usage::{Amount, DiskUsage};

use crate::{
    buffers::Buffers,
    commit::Group,
    disk::{Disk, RealDisk, give_way},
    format::{self, Lock},
    index::{IndexHome, SledHome},
    journal::{Journal, State},
    marks::{Expiry, Marks},
    notes::Notes,
    options::{OpenError, Options},
    pack::{Location, Pack, Packs, write_back},
    recent::Recent,
};
use checkpoint::{Alarm, IndexSlot, Progressed};
use cidery_core::{CommitError, Multihash, Namespace, StoreError};
use gc::Collector;
use holds::Holds;
use parking_lot::{Mutex, RwLock};
use room::Room;
use round::{Op, Outcome};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::SystemTime,
};
use uses::Uses;
use withdrawn::Withdrawn;

/// What a store is made of; the tests put other parts in.
pub(crate) struct Parts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) index: Box<dyn IndexHome>,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// The store itself, shared by its handles and its threads.
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    disk: Arc<dyn Disk>,
    id: u64,
    packs: Packs,
    recent: Recent,
    home: Box<dyn IndexHome>,
    index: RwLock<IndexSlot>,
    /// Held by whoever writes a checkpoint or makes a new index.
    progressed: Mutex<Progressed>,
    alarm: Alarm,
    buffers: Buffers,
    journal: Mutex<Journal>,
    /// Packs that were flushed since the journal last took their marks.
    unmarked: Mutex<BTreeMap<u64, Arc<Pack>>>,
    pub(crate) state: RwLock<State>,
    group: Group<Op, Result<Outcome, CommitError>>,
    pub(crate) marks: Marks,
    pub(crate) expiries: Mutex<BTreeMap<Namespace, Expiry>>,
    /// Blocks whose record was found damaged: the next put of one writes it again.
    damaged: Mutex<HashSet<Multihash>>,
    /// Whether blocks may have been lost, by what was found at the start or by a scrub.
    lossy: AtomicBool,
    /// What a collection keeps although nothing reaches it.
    holds: Arc<Holds>,
    /// Blocks that are being removed: not at these places any more, whatever the index says.
    dying: RwLock<HashMap<Multihash, Location>>,
    pub(crate) withdrawn: Withdrawn,
    uses: Uses,
    room: Room,
    collector: Collector,
    /// Held by whoever makes a pin or purges.
    pinning: Mutex<()>,
    notes: Mutex<Notes>,
    poison: OnceLock<String>,
    closed: AtomicBool,
    blocks: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Inner {
    /// Refuses when the store is closed or what it writes can't be trusted to last.
    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned("the store is closed".into()));
        }
        self.check_sound()
    }

    fn check_sound(&self) -> Result<(), StoreError> {
        self.poison.get().map_or(Ok(()), |why| Err(StoreError::Poisoned(why.clone())))
    }

    /// After a failed flush nothing is acknowledged any more: the system may have dropped the pages that
    /// it could not write, and would call the next flush a success.
    fn poison(&self, error: &StoreError) {
        tracing::error!(%error, "the store takes no more writes");
        // A second reason adds nothing.
        let _ = self.poison.set(error.to_string());
    }

    /// Hands work to the group and waits until it is durable.
    fn submit(&self, op: Op) -> Result<Outcome, CommitError> {
        let size = op.size();
        let abandoned = || Err(StoreError::Poisoned("a commit failed half-way".into()).into());
        self.group.submit(op, size, |ops| self.round(ops), abandoned)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.group.waiting()
    }

    fn note(&self, text: String) {
        self.notes.lock().push(text);
    }
}

/// Blocks and roots on disk.
///
/// Clones share one store. All calls may block; `put`, `get` and the rest are meant for blocking threads.
/// The store is closed when the last clone and the last writer are gone, or by [`DiskStore::close`].
#[derive(Clone)]
pub struct DiskStore(Arc<Handle>);

struct Handle {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Dropped last: the directory is ours until then.
    lock: Option<Lock>,
}

impl DiskStore {
    /// Opens the store in a directory, which is made one if need be.
    ///
    /// Costs about as much as reading what was written since the last checkpoint; an index that is missing
    /// or damaged is made anew, with progress. Notes on whatever was found wrong are kept for
    /// [`DiskStore::damage`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let lock = format::lock(dir)?;
        let index = SledHome { path: dir.join("index"), cache: options.index_cache };
        let parts = Parts {
            disk: Arc::new(RealDisk(dir.to_owned())),
            index: Box::new(index),
            options,
            clock: Arc::new(SystemTime::now),
        };
        Self::assemble(parts, Some(lock))
    }

    pub(crate) fn assemble(parts: Parts, lock: Option<Lock>) -> Result<Self, OpenError> {
        let (inner, writeback) = Inner::open(parts)?;
        let inner = Arc::new(inner);
        let (marks, checkpoints, collections) = (inner.clone(), inner.clone(), inner.clone());
        // Made first: it ends those threads that could be started if another can't.
        let handle = Handle { inner, threads: Mutex::default(), lock };
        handle.spawn("store-marks", move || marks.keep_marks())?;
        handle.spawn("store-index", move || checkpoints.keep_checkpoints())?;
        handle.spawn("store-collect", move || collections.keep_collected())?;
        handle.spawn("store-writeback", move || write_back(writeback))?;
        Ok(Self(Arc::new(handle)))
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Inner {
        &self.0.inner
    }

    /// Flushes everything, brings the index up to date, and ends the store's threads. Later writes are
    /// refused, reads go on. The directory is free for others when the last clone is dropped.
    pub fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }

    /// Whether what is published is still being marked after the start: until that ends, peers
    /// see only what came from peers.
    pub fn marking(&self) -> bool {
        !self.0.inner.marks.is_ready()
    }

    /// What was found wrong and put right, or could not be, since the store was opened: one sentence each.
    /// The same one is kept once, and after the first few hundred only their number.
    pub fn damage(&self) -> Vec<String> {
        self.0.inner.notes.lock().list()
    }
}

/// Runs work on a thread of its own, which gives way to others.
fn politely<T: Send>(name: &str, work: impl FnOnce() -> Result<T, StoreError> + Send) -> Result<T, StoreError> {
    std::thread::scope(|scope| {
        let work = || {
            give_way();
            work()
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| StoreError::io(format!("starting the thread {name}"), e))?;
        thread.join().unwrap_or_else(|_| Err(StoreError::Index(format!("the thread {name} failed half-way"))))
    })
}

impl Handle {
    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        self.threads.lock().push(thread.map_err(|e| StoreError::io(format!("starting the thread {name}"), e))?);
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut threads = self.threads.lock();
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.inner.marks.close();
        self.inner.alarm.close();
        self.inner.collector.close();
        self.inner.packs.end_writeback();
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                self.inner.note("a thread of the store failed".into());
            }
        }
        self.inner.uses.save(&*self.inner.disk);
        self.inner.checkpoint()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the store was not closed cleanly; the next start reads more");
        }
    }
}
