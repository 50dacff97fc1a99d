//! A store that can be full, slow or broken, and counts what it is asked for.

use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, Origin, Stats, StoreError, UploadRecord, memory::MemoryStore,
};
use cidery_core::{
    CommitError, Link, Namespace, NamespaceState, Pin, PinError, Pinned, PublishMode, RepositoryName, RootEntry,
    RootStore, Tag, TagTime,
};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

/// A [`MemoryStore`] with a disk below it, as it were.
#[derive(Clone)]
pub struct Disk {
    pub memory: MemoryStore,
    pub full: Arc<AtomicBool>,
    /// Puts that still succeed; counted down.
    pub room: Arc<AtomicUsize>,
    /// Writers that were taken.
    pub writers: Arc<AtomicUsize>,
    /// Records of uploads that were written.
    pub saves: Arc<AtomicUsize>,
    /// Links that were journalled.
    pub links: Arc<AtomicUsize>,
    /// Roots that were committed.
    pub commits: Arc<AtomicUsize>,
    /// Whether nothing becomes durable: what should fails.
    pub broken: Arc<AtomicBool>,
    pub gate: Arc<Gate>,
}

/// Where commits, links and unlinks wait while it is closed.
#[derive(Default)]
pub struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    pub waiting: AtomicUsize,
}

impl Gate {
    pub fn close(&self) {
        *self.closed.lock() = true;
    }

    pub fn open(&self) {
        *self.closed.lock() = false;
        self.opened.notify_all();
    }

    fn pass(&self) -> Result<(), StoreError> {
        let mut closed = self.closed.lock();
        self.waiting.fetch_add(1, SeqCst);
        // A test that failed does not open it.
        let late = self.opened.wait_while_for(&mut closed, |closed| *closed, Duration::from_secs(20)).timed_out();
        self.waiting.fetch_sub(1, SeqCst);
        if late { Err(StoreError::Poisoned("the gate stayed closed".into())) } else { Ok(()) }
    }
}

impl Disk {
    pub fn new() -> Self {
        let count = || Arc::new(AtomicUsize::new(0));
        let disk = Self {
            memory: MemoryStore::new(),
            full: Arc::default(),
            room: count(),
            writers: count(),
            saves: count(),
            links: count(),
            commits: count(),
            broken: Arc::default(),
            gate: Arc::default(),
        };
        disk.room.store(usize::MAX / 2, SeqCst);
        disk
    }

    fn room(&self) -> Result<(), StoreError> {
        let full = StoreError::Full { what: "a pack" };
        let left = self.room.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if self.full.load(SeqCst) || left.is_err() { Err(full) } else { Ok(()) }
    }
}

impl Disk {
    /// What a change of the journal waits for.
    fn durable(&self) -> Result<(), StoreError> {
        self.gate.pass()?;
        if self.broken.load(SeqCst) {
            let source = std::io::Error::other("input/output error");
            return Err(StoreError::io("the journal", source));
        }
        Ok(())
    }
}

impl Blockstore for Disk {
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.memory.size(cid)
    }
    fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.memory.get(cid)
    }
    fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        self.room()?;
        self.memory.put(block, origin)
    }
    fn writer(&self, origin: Origin) -> Result<Box<dyn BlockWriter>, StoreError> {
        self.room()?;
        self.writers.fetch_add(1, SeqCst);
        Ok(Box::new(Writer(self.clone(), origin)))
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.room()?;
        self.memory.sync()
    }
    fn stats(&self) -> Stats {
        self.memory.stats()
    }
}

struct Writer(Disk, Origin);

impl BlockWriter for Writer {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        self.0.put(block, self.1)
    }
}

impl RootStore for Disk {
    fn namespaces(&self) -> Result<Vec<Namespace>, StoreError> {
        self.memory.namespaces()
    }
    fn state(&self, namespace: &Namespace) -> Result<NamespaceState, StoreError> {
        self.memory.state(namespace)
    }
    fn commit(
        &self,
        namespace: &Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: &[Link],
    ) -> Result<RootEntry, CommitError> {
        self.room()?;
        self.durable()?;
        self.commits.fetch_add(1, SeqCst);
        self.memory.commit(namespace, expected, root, folded)
    }
    fn note_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        self.memory.note_tags(namespace, tags)
    }
    fn drop_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        self.memory.drop_tags(namespace, tags)
    }
    fn tag_times(
        &self,
        namespace: &Namespace,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Tag, SystemTime>, StoreError> {
        self.memory.tag_times(namespace, repository)
    }
    fn timed_repositories(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StoreError> {
        self.memory.timed_repositories(namespace)
    }
    fn history(&self, namespace: &Namespace, limit: usize) -> Result<Vec<RootEntry>, StoreError> {
        self.memory.history(namespace, limit)
    }
    fn link(&self, link: &Link) -> Result<(), StoreError> {
        self.room()?;
        self.durable()?;
        self.links.fetch_add(1, SeqCst);
        self.memory.link(link)
    }
    fn unlink(&self, link: &Link) -> Result<(), StoreError> {
        self.durable()?;
        self.memory.unlink(link)
    }
    fn links(&self, namespace: &Namespace) -> Result<Vec<Link>, StoreError> {
        self.memory.links(namespace)
    }
    fn publish(&self, namespace: &Namespace, mode: PublishMode) -> Result<(), StoreError> {
        self.memory.publish(namespace, mode)
    }
    fn unpublish(&self, namespace: &Namespace) -> Result<(), StoreError> {
        self.memory.unpublish(namespace)
    }
    fn stale_links(&self, namespace: &Namespace, age: Duration) -> Result<Vec<Link>, StoreError> {
        self.memory.stale_links(namespace, age)
    }
    fn forget(&self, files: &[Cid]) -> Result<(), StoreError> {
        self.memory.forget(files)
    }
    fn purge(&self, files: &[Cid]) -> Result<Vec<String>, StoreError> {
        self.memory.purge(files)
    }
    fn is_forgotten(&self, file: &Cid) -> bool {
        self.memory.is_forgotten(file)
    }
    fn pin(&self, pin: &Pin) -> Result<Pinned, PinError> {
        self.memory.pin(pin)
    }
    fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        self.memory.unpin(name)
    }
    fn pins(&self) -> Result<Vec<Pinned>, StoreError> {
        self.memory.pins()
    }
    fn save_upload(&self, upload: &UploadRecord) -> Result<(), StoreError> {
        self.room()?;
        self.saves.fetch_add(1, SeqCst);
        self.memory.save_upload(upload)
    }
    fn drop_upload(&self, id: &str) -> Result<(), StoreError> {
        self.memory.drop_upload(id)
    }
    fn uploads(&self) -> Result<Vec<UploadRecord>, StoreError> {
        self.memory.uploads()
    }
}
