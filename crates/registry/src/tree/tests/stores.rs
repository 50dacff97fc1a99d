//! Stores that stop, count or fail where a test wants it.

use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, CommitError, Link, Namespace, NamespaceState, Origin, Pin, PinError,
    Pinned, PublishMode, RepositoryName, RootEntry, RootStore, Stats, StoreError, Tag, TagTime, UploadRecord,
    memory::MemoryStore,
};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, SystemTime},
};

/// A store whose commits can be held back, counted, and made to fail.
#[derive(Default)]
pub struct Controlled {
    pub store: MemoryStore,
    pub commits: AtomicUsize,
    pub links: AtomicUsize,
    held: Mutex<bool>,
    released: Condvar,
    /// Commits that are waiting at the gate.
    pub waiting: AtomicUsize,
    /// Fails the next commits, this many.
    pub failing: AtomicUsize,
    /// Blocks that cannot be read.
    pub damaged: Mutex<HashSet<Cid>>,
    /// Replaces the root just before a commit, once.
    pub intruder: Mutex<Option<Cid>>,
}

impl Controlled {
    pub fn hold(&self) {
        *self.held.lock() = true;
    }

    pub fn release(&self) {
        *self.held.lock() = false;
        self.released.notify_all();
    }
}

impl Blockstore for Controlled {
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }
    fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        if self.damaged.lock().contains(cid) {
            return Err(StoreError::Corrupt { cid: *cid, detail: "for a test".into() });
        }
        self.store.get(cid)
    }
    fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        self.store.put(block, origin)
    }
    fn writer(&self, origin: Origin) -> Result<Box<dyn BlockWriter>, StoreError> {
        self.store.writer(origin)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }
    fn stats(&self) -> Stats {
        self.store.stats()
    }
}

impl RootStore for Controlled {
    fn namespaces(&self) -> Result<Vec<Namespace>, StoreError> {
        self.store.namespaces()
    }
    fn state(&self, namespace: &Namespace) -> Result<NamespaceState, StoreError> {
        self.store.state(namespace)
    }
    fn commit(
        &self,
        namespace: &Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: &[Link],
    ) -> Result<RootEntry, CommitError> {
        self.commits.fetch_add(1, SeqCst);
        self.waiting.fetch_add(1, SeqCst);
        let mut held = self.held.lock();
        while *held {
            self.released.wait(&mut held);
        }
        drop(held);
        self.waiting.fetch_sub(1, SeqCst);
        if self.failing.load(SeqCst) > 0 {
            self.failing.fetch_sub(1, SeqCst);
            return Err(StoreError::Full { what: "a test" }.into());
        }
        if let Some(intruder) = self.intruder.lock().take() {
            self.store.commit(namespace, expected, intruder, &[])?;
        }
        self.store.commit(namespace, expected, root, folded)
    }
    fn note_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        self.store.note_tags(namespace, tags)
    }
    fn drop_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        self.store.drop_tags(namespace, tags)
    }
    fn tag_times(
        &self,
        namespace: &Namespace,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Tag, SystemTime>, StoreError> {
        self.store.tag_times(namespace, repository)
    }
    fn timed_repositories(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StoreError> {
        self.store.timed_repositories(namespace)
    }
    fn history(&self, namespace: &Namespace, limit: usize) -> Result<Vec<RootEntry>, StoreError> {
        self.store.history(namespace, limit)
    }
    fn link(&self, link: &Link) -> Result<(), StoreError> {
        self.links.fetch_add(1, SeqCst);
        self.store.link(link)
    }
    fn unlink(&self, link: &Link) -> Result<(), StoreError> {
        self.store.unlink(link)
    }
    fn links(&self, namespace: &Namespace) -> Result<Vec<Link>, StoreError> {
        self.store.links(namespace)
    }
    fn publish(&self, namespace: &Namespace, mode: PublishMode) -> Result<(), StoreError> {
        self.store.publish(namespace, mode)
    }
    fn unpublish(&self, namespace: &Namespace) -> Result<(), StoreError> {
        self.store.unpublish(namespace)
    }
    fn stale_links(&self, namespace: &Namespace, age: Duration) -> Result<Vec<Link>, StoreError> {
        self.store.stale_links(namespace, age)
    }
    fn forget(&self, files: &[Cid]) -> Result<(), StoreError> {
        self.store.forget(files)
    }
    fn purge(&self, files: &[Cid]) -> Result<Vec<String>, StoreError> {
        self.store.purge(files)
    }
    fn is_forgotten(&self, file: &Cid) -> bool {
        self.store.is_forgotten(file)
    }
    fn pin(&self, pin: &Pin) -> Result<Pinned, PinError> {
        self.store.pin(pin)
    }
    fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        self.store.unpin(name)
    }
    fn pins(&self) -> Result<Vec<Pinned>, StoreError> {
        self.store.pins()
    }
    fn save_upload(&self, upload: &UploadRecord) -> Result<(), StoreError> {
        self.store.save_upload(upload)
    }
    fn drop_upload(&self, id: &str) -> Result<(), StoreError> {
        self.store.drop_upload(id)
    }
    fn uploads(&self) -> Result<Vec<UploadRecord>, StoreError> {
        self.store.uploads()
    }
}
