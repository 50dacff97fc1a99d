//! A network without a wire.

use crate::{
    Block, Blockstore, Bytes, Cid, Claim, Digest, Digests, FetchError, Fetcher, ForeignName, Inquiry, Namespace,
    Network, NetworkError, Origin, PublicBlocks, ResolveError, Resolved, Scope, Session, SessionSpec, identity_bytes,
};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// A peer's name, and what it says.
type Answering = (Box<str>, Arc<dyn Digests>);

/// Several nodes' view of each other without a wire: whatever one member's store shows the public,
/// the sessions of every other can fetch, and whoever answers for digests is asked by all.
#[derive(Default)]
pub struct World {
    members: RwLock<Vec<Arc<dyn PublicBlocks>>>,
    answering: RwLock<Vec<Answering>>,
    names: RwLock<HashMap<ForeignName, Resolved>>,
    provided: Mutex<HashMap<Namespace, Vec<Cid>>>,
}

impl World {
    /// A world without members.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a member, and gives the network as it sees it. `store` takes what its sessions fetch.
    pub fn join<S: Blockstore + PublicBlocks + Clone>(self: &Arc<Self>, store: S) -> MemoryNetwork {
        self.members.write().push(Arc::new(store.clone()));
        let distrusted = Mutex::default();
        MemoryNetwork { world: self.clone(), store: Arc::new(store.clone()), public: Arc::new(store), distrusted }
    }

    /// Adds somebody who answers for digests. All are asked in the order in which they came.
    pub fn answer(&self, peer: &str, digests: Arc<dyn Digests>) {
        self.answering.write().push((peer.into(), digests));
    }

    /// Makes a name stand for something, as a DNS record would.
    pub fn set_name(&self, name: ForeignName, resolved: Resolved) {
        self.names.write().insert(name, resolved);
    }

    /// What members told the world they have, by namespace.
    pub fn provided(&self, namespace: &Namespace) -> Vec<Cid> {
        self.provided.lock().get(namespace).cloned().unwrap_or_default()
    }
}

/// One member's [`Network`] in a [`World`].
pub struct MemoryNetwork {
    world: Arc<World>,
    store: Arc<dyn Blockstore>,
    public: Arc<dyn PublicBlocks>,
    distrusted: Mutex<HashSet<Box<str>>>,
}

#[async_trait]
impl Network for MemoryNetwork {
    fn session(&self, spec: SessionSpec) -> Arc<dyn Session> {
        Arc::new(MemorySession {
            world: self.world.clone(),
            store: self.store.clone(),
            public: self.public.clone(),
            scope: spec.scope,
            received: AtomicU64::new(0),
        })
    }

    async fn resolve(&self, name: &ForeignName) -> Result<Resolved, ResolveError> {
        if let ForeignName::Cid(root) = name {
            return Ok(Resolved { root: *root, path: Vec::new(), hints: Vec::new() });
        }
        self.world.names.read().get(name).cloned().ok_or_else(|| ResolveError::NotFound {
            name: name.to_string(),
            detail: "nobody in this world has that name".into(),
        })
    }

    async fn provide(&self, namespace: &Namespace, roots: Vec<Cid>) -> Result<(), NetworkError> {
        self.world.provided.lock().insert(namespace.clone(), roots);
        Ok(())
    }

    async fn inquire(&self, digest: &Digest) -> Box<dyn Inquiry> {
        let (answering, distrusted) = (self.world.answering.read(), self.distrusted.lock());
        let trusted = answering.iter().filter(|(peer, _)| !distrusted.contains(peer));
        // Whoever cannot read what he has looks like one who has nothing.
        let claims = trusted.flat_map(|(peer, digests)| {
            let files = digests.files(digest).unwrap_or_default();
            files.into_iter().map(|file| Claim { file, peer: peer.clone() })
        });
        Box::new(MemoryInquiry(claims.collect()))
    }

    fn distrust(&self, claim: &Claim) {
        self.distrusted.lock().insert(claim.peer.clone());
    }
}

struct MemoryInquiry(VecDeque<Claim>);

#[async_trait]
impl Inquiry for MemoryInquiry {
    async fn next(&mut self) -> Option<Claim> {
        self.0.pop_front()
    }
}

struct MemorySession {
    world: Arc<World>,
    store: Arc<dyn Blockstore>,
    public: Arc<dyn PublicBlocks>,
    scope: Scope,
    received: AtomicU64,
}

#[async_trait]
impl Fetcher for MemorySession {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        if let Some(bytes) = self.local(cid)? {
            return Ok(bytes);
        }
        for member in self.world.members.read().iter() {
            if let Some(bytes) = member.public_get(cid)? {
                self.received.fetch_add(bytes.len() as u64, Relaxed);
                let block = Block::new(*cid, bytes)?;
                self.store.put(&block, Origin::Peer)?;
                return Ok(block.into_parts().1);
            }
        }
        Err(FetchError::NotFound(*cid))
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        Ok(match self.scope {
            Scope::Owner => self.store.get(cid)?,
            Scope::Public => self.public.public_get(cid)?,
        })
    }
}

impl Session for MemorySession {
    fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}
