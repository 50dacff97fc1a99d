//! The client's state: sessions, wants, and what each peer was asked. No I/O and no waiting: the
//! caller holds a lock for the length of one call, and passes the time.
//!
//! A want is on the wire once, however many sessions wait for it. At most one peer has a live
//! want-block for it (its *owner*); others may have want-haves. Peers of a session are those that
//! said HAVE or sent something; the session's queue is handed out to them by expected time of
//! arrival (`schedule`). What no peer of the session has is broadcast, and providers are called for.

mod peer;
mod schedule;
mod tick;
mod want;

pub(crate) use peer::Support;

use crate::{
    Config,
    api::{Event, Misbehaviour, PeerStats, SessionId, Stats},
    short,
    slot::PeerSlot,
    wire::{Entry, Version},
};
use cidery_core::{Bytes, Cid, FetchError, Multihash};
use futures::task::AtomicWaker;
use libp2p::PeerId;
use peer::Peer;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::oneshot;
use want::{Answer, Reply, SessionState, Waiter, Want};

/// Offenders that are remembered.
const MAX_OFFENDERS: usize = 1_024;
/// Events that wait for the swarm's owner; calls for providers are lost beyond.
const MAX_EVENTS: usize = 4_096;
/// Providers remembered per session.
const MAX_OFFERED: usize = 64;
/// Wantlist changes in one message.
const MAX_CHANGES: usize = 4_096;

/// The last few blocks of some kind, with the session they belonged to. Remembers eight bytes of
/// each hash: nobody can find another block with the same ones.
pub(crate) struct Recent {
    known: HashMap<u64, Option<SessionId>>,
    order: VecDeque<u64>,
    most: usize,
}

impl Recent {
    pub(crate) fn new(most: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), most }
    }

    fn insert(&mut self, hash: &Multihash, session: Option<SessionId>) {
        let key = short(hash);
        if self.known.insert(key, session).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.most
            && let Some(old) = self.order.pop_front()
        {
            self.known.remove(&old);
        }
    }

    fn get(&self, hash: &Multihash) -> Option<Option<SessionId>> {
        self.known.get(&short(hash)).copied()
    }
}

/// What became of an attempt to register a want.
pub(crate) enum Added {
    /// Wait here; the number withdraws it.
    Wait(u64, oneshot::Receiver<Reply>),
    /// It arrived a moment ago: look into the store again.
    Arrived,
    /// The node is stopping.
    Closed,
}

/// What to do with a block that hashes right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Store it, then call [`Client::complete`] or [`Client::fail`].
    Wanted,
    /// It was asked for, and is here already.
    Duplicate,
    /// Nobody asked for it.
    Unrequested,
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

    // ---- what arrives ---------------------------------------------------------------------

    /// Whether blocks from this peer are worth hashing.
    pub(crate) fn expects_from(&self, id: &PeerId, now: Instant) -> bool {
        self.peers.get(id).is_some_and(|peer| {
            peer.shunned_until.is_none_or(|until| until <= now) && (peer.is_asked() || !peer.settled.known.is_empty())
        })
    }

    /// A block that hashes to `hash` came from a peer.
    pub(crate) fn claim(&mut self, from: &PeerId, hash: &Multihash, len: u64) -> Claim {
        let settled = self.peers.get(from).map(|peer| peer.settled.get(hash));
        let session = match (self.wants.get_mut(hash), settled) {
            (Some(want), _) if !want.storing => {
                want.storing = true;
                return Claim::Wanted;
            }
            (Some(want), _) => want.sessions.first().copied(),
            // Its connection closed meanwhile: no harm meant.
            (None, None) => return Claim::Duplicate,
            (None, Some(Some(session))) => session,
            (None, Some(None)) => return Claim::Unrequested,
        };
        self.totals.duplicate_blocks += 1;
        self.totals.duplicate_bytes += len;
        if let Some(session) = session.and_then(|id| self.sessions.get(&id)) {
            session.received.fetch_add(len, Relaxed);
        }
        Claim::Duplicate
    }

    /// A claimed block is stored.
    pub(crate) fn complete(&mut self, from: PeerId, hash: &Multihash, data: &Bytes, now: Instant) {
        self.arrived.insert(hash, None);
        let len = data.len() as u64;
        self.totals.blocks_received += 1;
        self.totals.bytes_received += len;
        let Some(mut want) = self.wants.remove(hash) else { return };
        for waiter in want.waiters.drain(..) {
            // A waiter that just left needs nothing.
            let _ = waiter.reply.send(Ok(data.clone()));
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            match &want.owner {
                Some(owner) if owner.peer == from && !owner.refused => peer.answered(owner.sequence, Some(len), now),
                _ => peer.supplied(len, now),
            }
        }
        let mut freed = self.detach(hash, &want, Some(from), want.sessions.first().copied());
        for (place, id) in want.sessions.iter().enumerate() {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            session.touched = now;
            if place == 0 {
                session.received.fetch_add(len, Relaxed);
            }
            self.admit(*id, from, now);
            if let Some(member) = self.sessions.get_mut(id).and_then(|session| session.peer(&from)) {
                member.good = true;
                member.streak = 0;
            }
        }
        freed.push(from);
        self.schedule_for(&freed, now);
        for id in &want.sessions {
            // Another place to broadcast from, if it has no peers.
            self.schedule(*id, now);
        }
        self.help(from, now);
    }

    /// A want ends with an error.
    pub(crate) fn fail(&mut self, hash: &Multihash, error: &FetchError, now: Instant) {
        let Some(mut want) = self.wants.remove(hash) else { return };
        for waiter in want.waiters.drain(..) {
            let _ = waiter.reply.send(Err(error.clone()));
        }
        let freed = self.detach(hash, &want, None, want.sessions.first().copied());
        self.schedule_for(&freed, now);
        for id in &want.sessions {
            self.schedule(*id, now);
        }
    }

    /// HAVE (`true`) and DONT_HAVE answers of a peer.
    pub(crate) fn presences(&mut self, from: PeerId, answers: impl IntoIterator<Item = (Cid, bool)>, now: Instant) {
        let mut sessions = HashSet::new();
        for (cid, has) in answers {
            let hash = cid.hash();
            let Some(want) = self.wants.get_mut(hash) else {
                // Too late for this one, but not for the session's others.
                let settled = self.peers.get(&from).and_then(|peer| peer.settled.get(hash)).flatten();
                if let Some(session) = settled.filter(|_| has) {
                    self.admit(session, from, now);
                }
                continue;
            };
            let Some(answer) = want.answers.get_mut(&from) else { continue };
            sessions.extend(want.sessions.iter().copied());
            if has {
                *answer = Answer::Have;
                want.touched = now;
                self.has(from, hash, now);
            } else {
                *answer = Answer::DontHave;
                self.has_not(from, hash, now);
            }
        }
        for id in sessions {
            self.schedule(id, now);
        }
        self.schedule_for(&[from], now);
    }

    fn has(&mut self, from: PeerId, hash: &Multihash, now: Instant) {
        let Some(want) = self.wants.get(hash) else { return };
        let (owned, sessions) = (want.owner.as_ref().is_some_and(|o| o.peer == from), want.sessions.clone());
        let under_way = want.is_under_way();
        if !owned && let Some(peer) = self.peers.get_mut(&from) {
            peer.settle(hash);
        }
        for id in sessions {
            self.admit(id, from, now);
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if let Some(member) = session.peer(&from) {
                member.good = true;
                member.streak = 0;
            }
            if !under_way {
                session.asked.retain(|asked| asked != hash);
                session.queue.push_front(*hash);
            }
        }
    }

    fn has_not(&mut self, from: PeerId, hash: &Multihash, now: Instant) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        let Some(owner) = want.owner.as_mut().filter(|owner| owner.peer == from && !owner.refused) else { return };
        owner.refused = true;
        let sequence = owner.sequence;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.answered(sequence, None, now);
        }
        for id in want.sessions.clone() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.queue.push_front(*hash);
            if let Some(member) = session.peer(&from) {
                member.streak += 1;
                if member.streak >= 16 && !member.good {
                    session.peers.retain(|member| member.peer != from);
                    if let Some(peer) = self.peers.get_mut(&from) {
                        peer.sessions.retain(|other| *other != id);
                        peer.refresh();
                    }
                }
            }
        }
    }

    /// A peer sent what it should not have. Its work goes to others; after some offences it is shunned.
    pub(crate) fn offence(&mut self, from: PeerId, reason: Misbehaviour, now: Instant) {
        if reason == Misbehaviour::UnrequestedBlock {
            self.totals.rejected_blocks += 1;
        }
        if self.offenders.len() >= MAX_OFFENDERS
            && !self.offenders.contains_key(&from)
            && let Some(oldest) = self.offenders.iter().min_by_key(|(_, (_, at))| *at).map(|(id, _)| *id)
        {
            self.offenders.remove(&oldest);
        }
        let shun = self.config.shun;
        let (strikes, last) = self.offenders.entry(from).or_insert((0, now));
        if now.saturating_duration_since(*last) > shun {
            *strikes = 0;
        }
        *strikes += 1;
        *last = now;
        let shunned = *strikes >= self.config.max_strikes;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if shunned {
            if peer.shunned_until.is_some_and(|until| until > now) {
                return;
            }
            peer.shunned_until = Some(now + shun);
        }
        tracing::debug!(peer = %from, ?reason, "a peer misbehaved");
        self.emit(Event::PeerMisbehaved { peer: from, reason });
        self.release(from, now);
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
