//! Networks for tests: one that must not be used, and one that counts and can be told to fail.

use async_trait::async_trait;
use bytes::Bytes;
use cidery_core::{
    Block, Blockstore, Cid, Claim, Digest, Digests, FetchError, Fetcher, ForeignName, Inquiry, Namespace, Network,
    NetworkError, Origin, PublicBlocks, ResolveError, Resolved, Session, SessionSpec, memory::MemoryStore,
};
use futures::{FutureExt, future::BoxFuture, future::Shared, future::WeakShared};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// Panics at every touch.
pub struct Forbidden;

#[async_trait]
impl Network for Forbidden {
    fn session(&self, spec: SessionSpec) -> Arc<dyn Session> {
        panic!("a session for {}", spec.root)
    }

    async fn resolve(&self, name: &ForeignName) -> Result<Resolved, ResolveError> {
        panic!("resolving {name}")
    }

    async fn provide(&self, namespace: &Namespace, _: Vec<Cid>) -> Result<(), NetworkError> {
        panic!("providing {namespace}")
    }

    async fn inquire(&self, digest: &Digest) -> Box<dyn Inquiry> {
        panic!("asking for {digest}")
    }

    fn distrust(&self, claim: &Claim) {
        panic!("distrusting {}", claim.peer)
    }
}

/// What to do with one block.
#[derive(Clone)]
pub enum Fault {
    /// Nobody has it.
    Missing,
    /// Nobody sends it in time.
    Stalled,
    /// It never arrives.
    Never,
}

/// A network of one origin. Its sessions fetch each block once, store it, and count.
pub struct Counting {
    pub origin: MemoryStore,
    pub store: MemoryStore,
    /// Bytes that the origin sent.
    pub sent: AtomicU64,
    /// Sessions that were opened.
    pub sessions: AtomicUsize,
    /// Names that were resolved.
    pub resolved: AtomicUsize,
    /// The specs of the sessions.
    pub specs: Mutex<Vec<SessionSpec>>,
    pub names: Mutex<HashMap<String, Result<Resolved, ResolveError>>>,
    pub faults: Mutex<HashMap<Cid, Fault>>,
    /// Blocks that somebody waits for now.
    pub waiting: Arc<()>,
    /// Who answers for digests, and is asked in this order.
    pub answering: Mutex<Vec<(String, Arc<dyn Digests>)>>,
    /// How long they take for it; nothing if it is not said.
    pub pondering: Mutex<HashMap<String, Duration>>,
    /// Digests that were asked for.
    pub inquiries: Mutex<Vec<Digest>>,
    /// Whose claims were false.
    pub distrusted: Mutex<Vec<String>>,
    /// Alive as long as any session is.
    pub alive: Arc<()>,
    /// Taken by every block of more than 100,000 bytes, and not given back.
    pub gate: Semaphore,
}

impl Counting {
    /// `open`: whether large blocks pass at once.
    pub fn new(origin: &MemoryStore, store: &MemoryStore, open: bool) -> Arc<Self> {
        Arc::new(Self {
            origin: origin.clone(),
            store: store.clone(),
            sent: AtomicU64::new(0),
            sessions: AtomicUsize::new(0),
            resolved: AtomicUsize::new(0),
            specs: Mutex::default(),
            names: Mutex::default(),
            faults: Mutex::default(),
            waiting: Arc::default(),
            answering: Mutex::default(),
            pondering: Mutex::default(),
            inquiries: Mutex::default(),
            distrusted: Mutex::default(),
            alive: Arc::default(),
            gate: Semaphore::new(if open { Semaphore::MAX_PERMITS / 2 } else { 0 }),
        })
    }

    /// Wants that were not withdrawn.
    pub fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }

    /// Sessions that did not end.
    pub fn alive(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }

    async fn pass(self: Arc<Self>, cid: Cid) -> Result<Bytes, FetchError> {
        let fault = self.faults.lock().get(&cid).cloned();
        let _waiting = self.waiting.clone();
        match fault {
            Some(Fault::Missing) => return Err(FetchError::NotFound(cid)),
            Some(Fault::Stalled) => return Err(FetchError::Stalled { cid, waited: Duration::from_secs(9) }),
            Some(Fault::Never) => std::future::pending().await,
            None => {}
        }
        let bytes = self.origin.public_get(&cid)?.ok_or(FetchError::NotFound(cid))?;
        if bytes.len() > 100_000 {
            self.gate.acquire().await.unwrap().forget();
        }
        self.sent.fetch_add(bytes.len() as u64, SeqCst);
        let block = Block::new(cid, bytes)?;
        self.store.put(&block, Origin::Peer)?;
        Ok(block.into_parts().1)
    }
}

/// As [`Counting`], in the form a registry takes.
pub struct Handle(pub Arc<Counting>);

#[async_trait]
impl Network for Handle {
    fn session(&self, spec: SessionSpec) -> Arc<dyn Session> {
        self.0.sessions.fetch_add(1, SeqCst);
        let scope = spec.scope;
        self.0.specs.lock().push(spec);
        let alive = self.0.alive.clone();
        Arc::new(CountingSession { network: self.0.clone(), scope, wanted: Mutex::default(), _alive: alive })
    }

    async fn resolve(&self, name: &ForeignName) -> Result<Resolved, ResolveError> {
        self.0.resolved.fetch_add(1, SeqCst);
        match self.0.names.lock().get(&name.to_string()) {
            Some(result) => result.clone(),
            None => match name {
                ForeignName::Cid(root) => Ok(Resolved { root: *root, path: Vec::new(), hints: Vec::new() }),
                _ => Err(ResolveError::NotFound { name: name.to_string(), detail: "it has no TXT record".into() }),
            },
        }
    }

    async fn provide(&self, _: &Namespace, _: Vec<Cid>) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn inquire(&self, digest: &Digest) -> Box<dyn Inquiry> {
        self.0.inquiries.lock().push(digest.clone());
        let distrusted = self.0.distrusted.lock().clone();
        let answering = self.0.answering.lock().clone();
        let trusted = answering.into_iter().filter(|(peer, _)| !distrusted.contains(peer));
        let (now, pondering) = (Instant::now(), self.0.pondering.lock().clone());
        let claims = trusted.flat_map(|(peer, digests)| {
            let files = digests.files(digest).unwrap();
            let at = now + pondering.get(&peer).copied().unwrap_or_default();
            files.into_iter().map(move |file| (at, Claim { file, peer: peer.clone().into() }))
        });
        let mut claims: Vec<_> = claims.collect();
        claims.sort_by_key(|(at, _)| *at);
        Box::new(Answers(claims.into()))
    }

    fn distrust(&self, claim: &Claim) {
        self.0.distrusted.lock().push(claim.peer.to_string());
    }
}

struct Answers(VecDeque<(Instant, Claim)>);

#[async_trait]
impl Inquiry for Answers {
    async fn next(&mut self) -> Option<Claim> {
        let (at, _) = self.0.front()?;
        tokio::time::sleep_until(*at).await;
        self.0.pop_front().map(|(_, claim)| claim)
    }
}

type Wanted = Shared<BoxFuture<'static, Result<Bytes, FetchError>>>;
type WeakWanted = WeakShared<BoxFuture<'static, Result<Bytes, FetchError>>>;

struct CountingSession {
    network: Arc<Counting>,
    scope: cidery_core::Scope,
    wanted: Mutex<HashMap<Cid, WeakWanted>>,
    _alive: Arc<()>,
}

#[async_trait]
impl Fetcher for CountingSession {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        if let Some(bytes) = self.local(cid)? {
            return Ok(bytes);
        }
        // Held by those who wait: when the last one is gone, so is the want.
        let wanted = {
            let mut all = self.wanted.lock();
            match all.get(cid).and_then(WeakShared::upgrade).filter(|wanted| wanted.peek().is_none()) {
                Some(wanted) => wanted,
                None => {
                    let wanted: Wanted = self.network.clone().pass(*cid).boxed().shared();
                    wanted.downgrade().and_then(|weak| all.insert(*cid, weak));
                    wanted
                }
            }
        };
        wanted.await
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        Ok(match self.scope {
            cidery_core::Scope::Owner => self.network.store.get(cid)?,
            cidery_core::Scope::Public => self.network.store.public_get(cid)?,
        })
    }
}

impl Session for CountingSession {
    fn received(&self) -> u64 {
        self.network.sent()
    }
}
