//! A store that can be full, and counts what it is asked for.

use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, Origin, Stats, StoreError, UploadRecord, memory::MemoryStore,
};
use cidery_core::{CommitError, Link, Namespace, NamespaceState, PublishMode, RootEntry, RootStore};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
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
}

impl Disk {
    pub fn new() -> Self {
        let count = || Arc::new(AtomicUsize::new(0));
        let (room, writers, saves) = (count(), count(), count());
        let disk = Self { memory: MemoryStore::new(), full: Arc::default(), room, writers, saves };
        disk.room.store(usize::MAX / 2, SeqCst);
        disk
    }

    fn room(&self) -> Result<(), StoreError> {
        let full = StoreError::Full { what: "a pack" };
        let left = self.room.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if self.full.load(SeqCst) || left.is_err() { Err(full) } else { Ok(()) }
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
        self.memory.commit(namespace, expected, root, folded)
    }
    fn history(&self, namespace: &Namespace, limit: usize) -> Result<Vec<RootEntry>, StoreError> {
        self.memory.history(namespace, limit)
    }
    fn link(&self, link: &Link) -> Result<(), StoreError> {
        self.room()?;
        self.memory.link(link)
    }
    fn unlink(&self, link: &Link) -> Result<(), StoreError> {
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
