use crate::Config;
use async_trait::async_trait;
use cidery_core::{Blockstore, Bytes, Cid, FetchError, Fetcher, PublicBlocks, Scope, identity_bytes};
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm, dummy,
    },
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

/// Names a session for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// What the swarm's owner is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session wants providers of `cid`; rate-limited per session. Answer with
    /// [`Bitswap::offer_peers`] or [`Bitswap::no_more_peers`].
    NeedPeers {
        /// The session.
        session: SessionId,
        /// What is wanted.
        cid: Cid,
    },
    /// The last handle of a session is gone.
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// A peer sent what nobody asked for, or what cannot be read.
    PeerMisbehaved {
        /// The peer.
        peer: PeerId,
        /// What it did.
        reason: Misbehaviour,
    },
}

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// A block that was not asked of it, or bytes that are no accepted block.
    UnrequestedBlock,
    /// A frame over the limit, or one that does not decode.
    BadMessage,
}

/// One peer's share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    /// The peer.
    pub peer: PeerId,
    /// Blocks sent to it.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Blocks received from it that were wanted.
    pub blocks_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

/// What went over the wire since the start, and what is queued now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Blocks received that were wanted.
    pub blocks_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Blocks received that had been asked for, but were here already.
    pub duplicate_blocks: u64,
    /// Their bytes.
    pub duplicate_bytes: u64,
    /// Blocks dropped because nobody had asked for them, or because they hash to something else.
    pub rejected_blocks: u64,
    /// Blocks wanted now.
    pub wants: usize,
    /// Sessions now.
    pub sessions: usize,
    /// Wants of peers now, over all peers.
    pub peer_wants: usize,
    /// Connected peers.
    pub peers: Vec<PeerStats>,
}

/// Makes the behaviour for a swarm, and the handle to use it with.
pub fn new(config: Config, store: Arc<dyn Blockstore>, public: Arc<dyn PublicBlocks>) -> (Behaviour, Bitswap) {
    let _ = (config, public);
    (Behaviour(()), Bitswap(store))
}

/// The behaviour for a swarm.
pub struct Behaviour(());

/// The handle: clone it freely.
#[derive(Clone)]
pub struct Bitswap(Arc<dyn Blockstore>);

impl Bitswap {
    /// Opens a session for blocks below `root`. Costs nothing until something is fetched.
    pub fn session(&self, root: Cid, scope: Scope) -> Session {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let _ = (root, scope);
        Session(SessionId(NEXT.fetch_add(1, Relaxed)), self.0.clone())
    }

    /// Providers that were found for a session: connected, or soon to be.
    pub fn offer_peers(&self, session: SessionId, peers: Vec<PeerId>) {
        let _ = (session, peers);
    }

    /// Routing is exhausted: a want for `cid` that nobody has may fail with `NotFound` after its deadline.
    pub fn no_more_peers(&self, session: SessionId, cid: Cid) {
        let _ = (session, cid);
    }

    /// Blocks that became available by other ways than a session: serves peers that wait for them.
    pub fn announce(&self, cids: impl IntoIterator<Item = Cid>) {
        let _ = cids.into_iter().count();
    }

    /// Traffic and queues.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}

/// A session: clones share it, and dropping the last one ends it.
#[derive(Clone)]
pub struct Session(SessionId, Arc<dyn Blockstore>);

impl Session {
    /// Its id, as events carry it.
    pub fn id(&self) -> SessionId {
        self.0
    }
}

#[async_trait]
impl Fetcher for Session {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.local(cid)?.ok_or(FetchError::NotFound(*cid))
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        Ok(self.1.get(cid)?)
    }
}

impl cidery_core::Session for Session {
    fn received(&self) -> u64 {
        0
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
