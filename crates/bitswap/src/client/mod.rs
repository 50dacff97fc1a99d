//! The client's state: sessions, wants, and what each peer was asked. No I/O and no waiting: the
//! caller holds a lock for the length of one call, and passes the time.
//!
//! A want is on the wire once, however many sessions wait for it. At most one peer has a live
//! want-block for it (its *owner*); others may have want-haves. Peers of a session are those that
//! said HAVE or sent something; the session's queue is handed out to them by expected time of
//! arrival (`schedule`). What no peer of the session has is broadcast, and providers are called for.

mod arrive;
mod peer;
mod recent;
mod schedule;
mod tick;
mod want;

pub(crate) use arrive::Claim;
pub(crate) use peer::Support;

use crate::{
    Config,
    api::{Event, PeerStats, SessionId, Stats},
    slot::PeerSlot,
    wire::{Entry, Version},
};
use cidery_core::{Cid, FetchError, Multihash};
use futures::task::AtomicWaker;
use libp2p::PeerId;
use peer::Peer;
use recent::Recent;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};
use tokio::sync::oneshot;
use want::{Reply, SessionState, Waiter, Want};

/// Events that wait for the swarm's owner; calls for providers are lost beyond.
const MAX_EVENTS: usize = 4_096;
/// Providers remembered per session.
const MAX_OFFERED: usize = 64;
/// Wantlist changes in one message.
const MAX_CHANGES: usize = 4_096;

/// What became of an attempt to register a want.
pub(crate) enum Added {
    /// Wait here; the number withdraws it.
    Wait(u64, oneshot::Receiver<Reply>),
    /// It arrived a moment ago: look into the store again.
    Arrived,
    /// The node is stopping.
    Closed,
}

pub(crate) struct Client {
    config: Arc<Config>,
    sessions: HashMap<SessionId, SessionState>,
    wants: HashMap<Multihash, Want>,
    peers: HashMap<PeerId, Peer>,
    /// Offences and when they were last committed.
    offenders: HashMap<PeerId, (u32, Instant)>,
    /// Blocks that arrived lately.
    arrived: Recent,
    events: VecDeque<Event>,
    sequence: u64,
    closed: bool,
    totals: Stats,
    /// Wakes the behaviour: events, or a timer to be started.
    waker: Arc<AtomicWaker>,
}

impl Client {
    pub(crate) fn new(config: Arc<Config>, waker: Arc<AtomicWaker>) -> Self {
        Self {
            config,
            sessions: HashMap::new(),
            wants: HashMap::new(),
            peers: HashMap::new(),
            offenders: HashMap::new(),
            arrived: Recent::new(4_096),
            events: VecDeque::new(),
            sequence: 0,
            closed: false,
            totals: Stats::default(),
            waker,
        }
    }

    // ---- sessions -------------------------------------------------------------------------

    pub(crate) fn open(&mut self, id: SessionId, root: Cid, received: Arc<AtomicU64>, now: Instant) {
        self.sessions.insert(id, SessionState::new(root, received, now));
    }

    pub(crate) fn end(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for hash in session.wants {
            if let Some(want) = self.wants.get_mut(&hash) {
                want.sessions.retain(|other| *other != id);
                want.waiters.retain(|waiter| waiter.session != id);
                if want.waiters.is_empty() {
                    self.withdraw(&hash, Some(id), now);
                }
            }
        }
        for member in session.peers {
            if let Some(peer) = self.peers.get_mut(&member.peer) {
                peer.sessions.retain(|other| *other != id);
                peer.refresh();
            }
        }
        self.emit(Event::SessionEnded { session: id });
    }

    /// Waits for a block that is under way already.
    pub(crate) fn join(
        &mut self,
        session: SessionId,
        cid: &Cid,
        now: Instant,
    ) -> Option<(u64, oneshot::Receiver<Reply>)> {
        self.wants.contains_key(cid.hash()).then(|| self.wait(session, cid, now))
    }

    /// Wants a block. `looked_again`: it is known not to be usable from the store.
    pub(crate) fn want(&mut self, session: SessionId, cid: &Cid, looked_again: bool, now: Instant) -> Added {
        if self.closed {
            return Added::Closed;
        }
        let hash = cid.hash();
        if !looked_again && !self.wants.contains_key(hash) && self.arrived.get(hash).is_some() {
            return Added::Arrived;
        }
        let (id, receiver) = self.wait(session, cid, now);
        Added::Wait(id, receiver)
    }

    fn wait(&mut self, id: SessionId, cid: &Cid, now: Instant) -> (u64, oneshot::Receiver<Reply>) {
        let (reply, receiver) = oneshot::channel();
        self.sequence += 1;
        let waiter = self.sequence;
        let first = self.wants.is_empty();
        let hash = *cid.hash();
        let want = self.wants.entry(hash).or_insert_with(|| Want::new(*cid, now));
        want.waiters.push(Waiter { id: waiter, session: id, reply });
        if !want.sessions.contains(&id)
            && let Some(session) = self.sessions.get_mut(&id)
        {
            want.sessions.push(id);
            if session.wants.is_empty() {
                session.touched = now;
            }
            session.wants.insert(hash);
            session.queue.push_back(hash);
            self.schedule(id, now);
        }
        if first {
            self.waker.wake();
        }
        (waiter, receiver)
    }

    /// A waiter went away.
    pub(crate) fn leave(&mut self, hash: &Multihash, waiter: u64, now: Instant) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        let Some(at) = want.waiters.iter().position(|other| other.id == waiter) else { return };
        let session = want.waiters.swap_remove(at).session;
        if !want.waiters.iter().any(|other| other.session == session) {
            want.sessions.retain(|other| *other != session);
            if let Some(state) = self.sessions.get_mut(&session) {
                state.forget(hash);
            }
        }
        if want.waiters.is_empty() {
            self.withdraw(hash, Some(session), now);
        }
    }

    /// Nobody wants it any more: cancels everywhere.
    fn withdraw(&mut self, hash: &Multihash, session: Option<SessionId>, now: Instant) {
        if let Some(want) = self.wants.remove(hash) {
            let freed = self.detach(hash, &want, None, session);
            self.schedule_for(&freed, now);
        }
    }

    /// Takes a want that is over off every peer's list but the supplier's; gives the peers that
    /// have room for others now.
    fn detach(
        &mut self,
        hash: &Multihash,
        want: &Want,
        supplier: Option<PeerId>,
        session: Option<SessionId>,
    ) -> Vec<PeerId> {
        let mut freed = Vec::new();
        for id in want.answers.keys() {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            peer.settled.insert(hash, session);
            if Some(*id) == supplier {
                peer.settle(hash);
            } else {
                peer.withdraw(hash);
            }
        }
        if let Some(owner) = &want.owner
            && let Some(peer) = self.peers.get_mut(&owner.peer)
            && peer.outstanding.remove(&owner.sequence).is_some()
        {
            freed.push(owner.peer);
        }
        for id in &want.sessions {
            if let Some(session) = self.sessions.get_mut(id) {
                session.forget(hash);
            }
        }
        freed
    }

    // ---- peers ----------------------------------------------------------------------------

    pub(crate) fn connected(&mut self, slot: Arc<PeerSlot>, now: Instant) {
        let id = slot.peer;
        let mut peer = Peer::new(slot, now);
        peer.shunned_until = self
            .offenders
            .get(&id)
            .filter(|(strikes, _)| *strikes >= self.config.max_strikes)
            .map(|(_, last)| *last + self.config.shun);
        self.peers.insert(id, peer);
        self.introduce(id, now);
    }

    pub(crate) fn disconnected(&mut self, id: &PeerId, now: Instant) {
        self.release(*id, now);
        self.peers.remove(id);
        // Its part in wants that were only broadcast to it is over too, so providers may be called for.
        self.waker.wake();
    }

    pub(crate) fn set_support(&mut self, id: &PeerId, support: Support, now: Instant) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let before = std::mem::replace(&mut peer.support, support);
        match support {
            Support::No => self.release(*id, now),
            Support::Yes if before == Support::No => self.introduce(*id, now),
            _ => {}
        }
    }

    pub(crate) fn offer(&mut self, id: SessionId, peers: Vec<PeerId>, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.exhausted &= peers.is_empty();
        for hash in &session.wants {
            if let Some(want) = self.wants.get_mut(hash) {
                want.exhausted &= peers.is_empty();
            }
        }
        for peer in &peers {
            if !session.offered.contains(peer) && session.offered.len() < MAX_OFFERED {
                session.offered.push(*peer);
            }
        }
        for peer in peers {
            if self.peers.contains_key(&peer) {
                self.admit(id, peer, now);
            }
        }
        self.schedule(id, now);
    }

    pub(crate) fn exhausted(&mut self, id: SessionId, cid: &Cid) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.exhausted |= session.root.hash() == cid.hash();
            if let Some(want) = self.wants.get_mut(cid.hash()).filter(|want| want.sessions.contains(&id)) {
                want.exhausted = true;
            }
        }
    }

    // ---- messages -------------------------------------------------------------------------

    /// A stream for sending broke: what was said on it may be lost.
    pub(crate) fn stream_closed(&mut self, id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.resend();
        }
    }

    /// A stream for sending is open: everything on it starts afresh.
    pub(crate) fn stream_opened(&mut self, id: &PeerId, version: Version) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.version = Some(version);
            peer.support = Support::Yes;
            peer.resend();
        }
    }

    pub(crate) fn has_news(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(Peer::has_news)
    }

    /// Wantlist changes for the next message to a peer; whether they replace the whole list.
    pub(crate) fn fill(&mut self, id: &PeerId, full: &mut bool, entries: &mut Vec<Entry>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        for hash in peer.fill(MAX_CHANGES, full, entries) {
            if let Some(want) = self.wants.get_mut(&hash) {
                want.answers.remove(id);
            }
        }
    }

    // ---- the rest -------------------------------------------------------------------------

    fn emit(&mut self, event: Event) {
        // The end of a session is never lost; there are no more of those than there were sessions.
        if self.events.len() < MAX_EVENTS || matches!(event, Event::SessionEnded { .. }) {
            self.events.push_back(event);
        }
        self.waker.wake();
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is nothing that time could change.
    pub(crate) fn is_idle(&self) -> bool {
        self.wants.is_empty()
    }

    /// The node stops: nobody waits any longer.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for (_, mut want) in self.wants.drain() {
            for waiter in want.waiters.drain(..) {
                let _ = waiter.reply.send(Err(FetchError::Closed));
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let peers = self.peers.iter().map(|(id, peer)| PeerStats {
            peer: *id,
            blocks_sent: 0,
            bytes_sent: 0,
            blocks_received: peer.blocks,
            bytes_received: peer.bytes,
        });
        Stats { wants: self.wants.len(), sessions: self.sessions.len(), peers: peers.collect(), ..self.totals.clone() }
    }
}

#[cfg(test)]
mod tests;
