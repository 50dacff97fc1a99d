//! One wanted block, and one session's view of its blocks.

use crate::api::SessionId;
use cidery_core::{Bytes, Cid, FetchError, Multihash};
use libp2p::PeerId;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};
use tokio::sync::oneshot;

pub(super) type Reply = Result<Bytes, FetchError>;

/// What a peer said about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing yet.
    Asked,
    Have,
    DontHave,
}

/// The one peer with a want-block for it.
pub(super) struct Owner {
    pub peer: PeerId,
    /// Its place among what the peer owes.
    pub sequence: u64,
    pub asked: Instant,
    /// It said DONT_HAVE; the want stays with it in case the block comes there later.
    pub refused: bool,
    /// Blocks the peer had sent us, and owed us, when this was asked.
    pub sent_before: u64,
    pub owed_before: u64,
}

pub(super) struct Waiter {
    pub id: u64,
    pub session: SessionId,
    pub reply: oneshot::Sender<Reply>,
}

/// A block that somebody here waits for: on the wire once, however many wait.
pub(super) struct Want {
    pub cid: Cid,
    pub created: Instant,
    /// When something last came for it.
    pub touched: Instant,
    pub sessions: Vec<SessionId>,
    pub waiters: Vec<Waiter>,
    pub owner: Option<Owner>,
    pub answers: HashMap<PeerId, Answer>,
    /// Peers whose HAVE counted as progress, each once.
    pub promised: HashSet<PeerId>,
    /// Times it was taken from a peer that kept it waiting.
    pub moves: u32,
    /// Routing knows nobody else.
    pub exhausted: bool,
    /// It arrived and is being stored.
    pub storing: bool,
}

impl Want {
    pub(super) fn new(cid: Cid, now: Instant) -> Self {
        Self {
            cid,
            created: now,
            touched: now,
            sessions: Vec::new(),
            waiters: Vec::new(),
            owner: None,
            answers: HashMap::new(),
            promised: HashSet::new(),
            moves: 0,
            exhausted: false,
            storing: false,
        }
    }

    /// Whether some peer is expected to send it.
    pub(super) fn is_under_way(&self) -> bool {
        self.storing || self.owner.as_ref().is_some_and(|owner| !owner.refused)
    }
}

pub(super) struct SessionPeer {
    pub peer: PeerId,
    /// Refusals in a row.
    pub streak: u32,
    /// It sent something, or said that it has something.
    pub good: bool,
}

pub(super) struct SessionState {
    pub root: Cid,
    pub peers: Vec<SessionPeer>,
    /// Providers that were found, connected or not.
    pub offered: Vec<PeerId>,
    pub wants: HashSet<Multihash>,
    /// Wants to be given to a peer, first come first; stale entries are skipped.
    pub queue: VecDeque<Multihash>,
    /// Wants that no peer of the session has, out on broadcast.
    pub asked: Vec<Multihash>,
    /// The same, waiting for their turn.
    pub parked: VecDeque<Multihash>,
    pub received: Arc<AtomicU64>,
    /// When a block last came.
    pub touched: Instant,
    /// When providers were last called for.
    pub called: Option<Instant>,
    pub exhausted: bool,
    /// Connected peers that are none of the session's: how often they were probed, and for what last.
    pub probes: HashMap<PeerId, (u32, Multihash)>,
}

impl SessionState {
    pub(super) fn new(root: Cid, received: Arc<AtomicU64>, now: Instant) -> Self {
        Self {
            root,
            peers: Vec::new(),
            offered: Vec::new(),
            wants: HashSet::new(),
            queue: VecDeque::new(),
            asked: Vec::new(),
            parked: VecDeque::new(),
            received,
            touched: now,
            called: None,
            exhausted: false,
            probes: HashMap::new(),
        }
    }

    pub(super) fn peer(&mut self, peer: &PeerId) -> Option<&mut SessionPeer> {
        self.peers.iter_mut().find(|member| member.peer == *peer)
    }

    /// A want is over, or no more of this session.
    pub(super) fn forget(&mut self, hash: &Multihash) {
        self.wants.remove(hash);
        self.asked.retain(|asked| asked != hash);
        // The queue skips what is gone; it must only not grow without bound.
        if self.queue.len() + self.parked.len() > 64 + 4 * self.wants.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut seen = HashSet::new();
        self.queue.retain(|hash| self.wants.contains(hash) && seen.insert(*hash));
        self.parked.retain(|hash| self.wants.contains(hash) && seen.insert(*hash));
    }

    /// A peer came that may have them: everything without a peer gets another chance, in its order.
    pub(super) fn requeue_unplaced(&mut self) {
        let mut queue: VecDeque<Multihash> = self.asked.drain(..).collect();
        queue.append(&mut self.parked);
        queue.append(&mut self.queue);
        self.queue = queue;
        self.compact();
    }
}
