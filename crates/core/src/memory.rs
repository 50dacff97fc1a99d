//! Complete in-memory implementations of the ports: for tests, examples, and embedding without a disk.

mod digests;
mod world;

pub use digests::MemoryDigests;
pub use world::{MemoryNetwork, World};

use crate::{
    Block, BlockWriter, Blockstore, Bytes, Cid, CommitError, Digest, Link, Multihash, Namespace, NamespaceState,
    Origin, Pin, PinError, Pinned, PublicBlocks, Publication, PublishMode, RepositoryName, RootEntry, RootStore, Stats,
    StoreError, Tag, TagTime, UploadRecord, dag, identity_bytes,
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

#[derive(Default)]
struct NamespaceData {
    state: NamespaceState,
    history: Vec<RootEntry>,
    links: BTreeMap<(RepositoryName, Digest), (Link, Instant)>,
    tags: BTreeMap<RepositoryName, BTreeMap<Tag, SystemTime>>,
}

#[derive(Default)]
struct Inner {
    blocks: RwLock<HashMap<Multihash, (Bytes, Origin)>>,
    namespaces: RwLock<BTreeMap<Namespace, NamespaceData>>,
    uploads: Mutex<BTreeMap<String, UploadRecord>>,
    forgotten: Mutex<HashSet<Multihash>>,
    pins: Mutex<BTreeMap<String, Pinned>>,
    sequence: AtomicU64,
    syncs: AtomicU64,
}

/// Blocks and roots in memory; clones share them. It keeps every block it was given, and shows peers
/// the present roots of what is published, not their predecessors.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Inner>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lookup(&self, cid: &Cid) -> Option<(Bytes, Origin)> {
        match identity_bytes(cid) {
            Some(bytes) => Some((Bytes::copy_from_slice(bytes), Origin::Peer)),
            None => self.0.blocks.read().get(cid.hash()).cloned(),
        }
    }

    fn is_public(&self, cid: &Cid) -> bool {
        let spaces = self.0.namespaces.read();
        let public = spaces.values().filter_map(|data| data.state.published.map(|p| p.root)).collect();
        let mut found = false;
        self.walk(public, |_| true, |next, _| found |= next.hash() == cid.hash());
        found
    }

    /// Goes through all that these reach, as far as `enter` lets it, and tells of each whether it is here.
    fn walk(&self, mut open: Vec<Cid>, enter: impl Fn(&Cid) -> bool, mut each: impl FnMut(&Cid, bool)) {
        // Reached by (codec, multihash): a blob with the bytes of a directory must not hide its children.
        let mut seen = HashSet::new();
        while let Some(next) = open.pop() {
            if !enter(&next) || !seen.insert((next.codec(), *next.hash())) {
                continue;
            }
            let found = self.lookup(&next);
            each(&next, found.is_some());
            if let Some((bytes, _)) = found {
                open.extend(dag::links(&next, &bytes).unwrap_or_default());
            }
        }
    }
}

impl Blockstore for MemoryStore {
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        Ok(self.lookup(cid).map(|(bytes, _)| bytes.len() as u64))
    }

    fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lookup(cid).map(|(bytes, _)| bytes))
    }

    fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        if matches!(origin, Origin::Pushed | Origin::Imported) {
            self.0.forgotten.lock().remove(block.cid().hash());
        }
        if identity_bytes(block.cid()).is_none() {
            self.0.blocks.write().entry(*block.cid().hash()).or_insert_with(|| (block.data().clone(), origin));
        }
        Ok(())
    }

    fn writer(&self, origin: Origin) -> Result<Box<dyn BlockWriter>, StoreError> {
        Ok(Box::new(MemoryWriter(self.clone(), origin)))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.syncs.fetch_add(1, Relaxed);
        Ok(())
    }

    fn stats(&self) -> Stats {
        let blocks = self.0.blocks.read();
        Stats {
            blocks: blocks.len() as u64,
            bytes: blocks.values().map(|(bytes, _)| bytes.len() as u64).sum(),
            syncs: self.0.syncs.load(Relaxed),
        }
    }
}

struct MemoryWriter(MemoryStore, Origin);

impl BlockWriter for MemoryWriter {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        self.0.put(block, self.1)
    }
}

impl PublicBlocks for MemoryStore {
    fn public_size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        Ok(self.public_get(cid)?.map(|bytes| bytes.len() as u64))
    }

    fn public_get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .lookup(cid)
            .filter(|(_, origin)| *origin == Origin::Peer || self.is_public(cid))
            .map(|(bytes, _)| bytes))
    }
}

impl RootStore for MemoryStore {
    fn namespaces(&self) -> Result<Vec<Namespace>, StoreError> {
        let spaces = self.0.namespaces.read();
        Ok(spaces.iter().filter(|(_, data)| data.state != NamespaceState::default()).map(|(n, _)| n.clone()).collect())
    }

    fn state(&self, namespace: &Namespace) -> Result<NamespaceState, StoreError> {
        Ok(self.0.namespaces.read().get(namespace).map(|data| data.state.clone()).unwrap_or_default())
    }

    fn commit(
        &self,
        namespace: &Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: &[Link],
    ) -> Result<RootEntry, CommitError> {
        let mut spaces = self.0.namespaces.write();
        let data = spaces.entry(namespace.clone()).or_default();
        let current = data.state.root.as_ref().map(|entry| entry.cid);
        if current != expected {
            return Err(CommitError::Conflict { namespace: namespace.clone(), current });
        }
        let entry = RootEntry { cid: root, sequence: self.0.sequence.fetch_add(1, Relaxed) + 1, at: SystemTime::now() };
        data.state.root = Some(entry.clone());
        data.history.push(entry.clone());
        for link in folded {
            data.links.remove(&(link.repository.clone(), link.digest.clone()));
        }
        if let Some(Publication { mode: PublishMode::Continuous, root: public }) = &mut data.state.published {
            *public = root;
        }
        Ok(entry)
    }

    fn note_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        let mut spaces = self.0.namespaces.write();
        for TagTime { repository, tag, at } in tags {
            let known = &mut spaces.entry(namespace.clone()).or_default().tags;
            let time = known.entry(repository.clone()).or_default().entry(tag.clone()).or_insert(*at);
            *time = (*time).max(*at);
        }
        Ok(())
    }

    fn drop_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        let mut spaces = self.0.namespaces.write();
        let Some(data) = spaces.get_mut(namespace) else { return Ok(()) };
        for TagTime { repository, tag, at } in tags {
            if let Some(known) = data.tags.get_mut(repository)
                && known.get(tag) == Some(at)
            {
                known.remove(tag);
            }
        }
        data.tags.retain(|_, known| !known.is_empty());
        Ok(())
    }

    fn tag_times(
        &self,
        namespace: &Namespace,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Tag, SystemTime>, StoreError> {
        let spaces = self.0.namespaces.read();
        Ok(spaces.get(namespace).and_then(|data| data.tags.get(repository)).cloned().unwrap_or_default())
    }

    fn timed_repositories(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StoreError> {
        let spaces = self.0.namespaces.read();
        Ok(spaces.get(namespace).map(|data| data.tags.keys().cloned().collect()).unwrap_or_default())
    }

    fn history(&self, namespace: &Namespace, limit: usize) -> Result<Vec<RootEntry>, StoreError> {
        let spaces = self.0.namespaces.read();
        Ok(spaces.get(namespace).map(|d| d.history.iter().rev().take(limit).cloned().collect()).unwrap_or_default())
    }

    fn link(&self, link: &Link) -> Result<(), StoreError> {
        self.0.forgotten.lock().remove(link.cid.hash());
        let mut spaces = self.0.namespaces.write();
        let links = &mut spaces.entry(link.namespace.clone()).or_default().links;
        links.insert((link.repository.clone(), link.digest.clone()), (link.clone(), Instant::now()));
        Ok(())
    }

    fn unlink(&self, link: &Link) -> Result<(), StoreError> {
        if let Some(data) = self.0.namespaces.write().get_mut(&link.namespace) {
            data.links.remove(&(link.repository.clone(), link.digest.clone()));
        }
        Ok(())
    }

    fn links(&self, namespace: &Namespace) -> Result<Vec<Link>, StoreError> {
        let spaces = self.0.namespaces.read();
        Ok(spaces
            .get(namespace)
            .map(|data| data.links.values().map(|(link, _)| link.clone()).collect())
            .unwrap_or_default())
    }

    fn stale_links(&self, namespace: &Namespace, age: Duration) -> Result<Vec<Link>, StoreError> {
        let spaces = self.0.namespaces.read();
        let links = spaces.get(namespace).into_iter().flat_map(|data| data.links.values());
        Ok(links.filter(|(_, at)| at.elapsed() >= age).map(|(link, _)| link.clone()).collect())
    }

    fn publish(&self, namespace: &Namespace, mode: PublishMode) -> Result<(), StoreError> {
        let mut spaces = self.0.namespaces.write();
        let data = spaces.entry(namespace.clone()).or_default();
        let root = match mode {
            PublishMode::Once(root) => Some(root),
            PublishMode::Continuous => data.state.root.as_ref().map(|entry| entry.cid),
        };
        let Some(root) = root else {
            return Err(StoreError::Journal(format!("{namespace} has no root to publish")));
        };
        data.state.published = Some(Publication { mode, root });
        Ok(())
    }

    fn unpublish(&self, namespace: &Namespace) -> Result<(), StoreError> {
        if let Some(data) = self.0.namespaces.write().get_mut(namespace) {
            data.state.published = None;
        }
        Ok(())
    }

    fn forget(&self, files: &[Cid]) -> Result<(), StoreError> {
        self.0.forgotten.lock().extend(files.iter().map(|file| *file.hash()));
        Ok(())
    }

    fn purge(&self, files: &[Cid]) -> Result<Vec<String>, StoreError> {
        self.forget(files)?;
        let mut lost = Vec::new();
        for (name, pinned) in self.0.pins.lock().iter_mut() {
            let had = |file: &&Cid| {
                let mut found = pinned.pin.blocks.contains(file);
                let done = |cid: &Cid| pinned.purged.contains(cid);
                self.walk(pinned.pin.roots.clone(), |cid| !done(cid), |cid, _| found |= cid.hash() == file.hash());
                found
            };
            let purged: Vec<Cid> = files.iter().filter(had).copied().collect();
            if !purged.is_empty() {
                lost.push(name.clone());
            }
            pinned.pin.blocks.retain(|block| !purged.contains(block));
            pinned.purged.extend(purged);
        }
        Ok(lost)
    }

    fn is_forgotten(&self, file: &Cid) -> bool {
        self.0.forgotten.lock().contains(file.hash())
    }

    fn save_upload(&self, upload: &UploadRecord) -> Result<(), StoreError> {
        self.0.uploads.lock().insert(upload.id.clone(), upload.clone());
        Ok(())
    }

    fn drop_upload(&self, id: &str) -> Result<(), StoreError> {
        self.0.uploads.lock().remove(id);
        Ok(())
    }

    fn uploads(&self) -> Result<Vec<UploadRecord>, StoreError> {
        Ok(self.0.uploads.lock().values().cloned().collect())
    }

    fn pin(&self, pin: &Pin) -> Result<Pinned, PinError> {
        let mut wrong = None;
        let mut look = |cid: &Cid, here: bool| {
            if self.is_forgotten(cid) {
                wrong.get_or_insert(PinError::Withdrawn(*cid));
            } else if !here {
                wrong.get_or_insert(PinError::Missing(*cid));
            }
        };
        self.walk(pin.roots.clone(), |_| true, &mut look);
        pin.blocks.iter().for_each(|block| look(block, self.lookup(block).is_some()));
        if let Some(error) = wrong {
            return Err(error);
        }
        let pinned = Pinned { pin: pin.clone(), at: SystemTime::now(), purged: Vec::new() };
        self.0.pins.lock().insert(pin.name.clone(), pinned.clone());
        Ok(pinned)
    }

    fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.0.pins.lock().remove(name).is_some())
    }

    fn pins(&self) -> Result<Vec<Pinned>, StoreError> {
        Ok(self.0.pins.lock().values().cloned().collect())
    }
}
