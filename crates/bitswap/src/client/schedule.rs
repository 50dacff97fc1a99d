//! Who is asked for what.

use super::{
    Client, Event,
    peer::Kind,
    want::{Answer, Owner, SessionPeer, SessionState},
};
use crate::api::SessionId;
use cidery_core::{Cid, Multihash};
use libp2p::PeerId;
use std::{collections::HashSet, time::Instant};

/// Queue entries looked at in one go.
const MAX_SCAN: usize = 2_048;
/// Wants passed over because the peers that may have them are busy, before a scan stops.
const MAX_SKIPPED: usize = 64;

/// Times a session asks a peer that is none of its own, beside broadcasts.
const MAX_PROBES: u32 = 4;

impl Client {
    /// Hands out a session's queue to its peers.
    pub(super) fn schedule(&mut self, id: SessionId, now: Instant) {
        if self.sessions.get(&id).is_none_or(|session| session.queue.is_empty()) {
            return;
        }
        // Taken out for the while, so that peers and wants can be changed next to it.
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let mut skipped = Vec::new();
        for _ in 0..MAX_SCAN {
            if skipped.len() >= MAX_SKIPPED || (!session.peers.is_empty() && !self.any_room(&session, now)) {
                break;
            }
            let Some(hash) = session.queue.pop_front() else { break };
            let Some(want) = self.wants.get(&hash) else { continue };
            if want.is_under_way() || !session.wants.contains(&hash) {
                continue;
            }
            let mut candidates = false;
            let mut best: Option<(f64, PeerId)> = None;
            for member in &session.peers {
                let Some(peer) = self.peers.get(&member.peer).filter(|peer| peer.usable(now)) else { continue };
                if want.answers.get(&member.peer) == Some(&Answer::DontHave) {
                    continue;
                }
                candidates = true;
                let cost = peer.cost();
                if peer.has_room(&self.config, member.streak, now) && best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, member.peer));
                }
            }
            match best {
                Some((_, peer)) => self.assign(&hash, peer, now),
                None if candidates => skipped.push(hash),
                None if session.asked.len() < self.config.broadcast_wants => self.seek(&hash, id, &mut session, now),
                None => session.parked.push_back(hash),
            }
        }
        for hash in skipped.into_iter().rev() {
            session.queue.push_front(hash);
        }
        self.sessions.insert(id, session);
    }

    fn any_room(&self, session: &SessionState, now: Instant) -> bool {
        session.peers.iter().any(|member| {
            self.peers.get(&member.peer).is_some_and(|peer| peer.has_room(&self.config, member.streak, now))
        })
    }

    /// Hands out work to peers that have room again.
    pub(super) fn schedule_for(&mut self, peers: &[PeerId], now: Instant) {
        let sessions: HashSet<SessionId> =
            peers.iter().filter_map(|id| self.peers.get(id)).flat_map(|peer| peer.sessions.iter().copied()).collect();
        for id in sessions {
            self.schedule(id, now);
        }
    }

    /// Asks one peer for the block, instead of whoever was asked before.
    pub(super) fn assign(&mut self, hash: &Multihash, id: PeerId, now: Instant) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        if let Some(old) = want.owner.take().filter(|old| old.peer != id)
            && let Some(peer) = self.peers.get_mut(&old.peer)
        {
            peer.outstanding.remove(&old.sequence);
            peer.settled.insert(hash, want.sessions.first().copied());
            peer.withdraw(hash);
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        self.sequence += 1;
        want.owner = Some(Owner {
            peer: id,
            sequence: self.sequence,
            asked: now,
            refused: false,
            sent_before: peer.blocks,
            owed_before: peer.outstanding.len() as u64,
        });
        want.answers.entry(id).or_insert(Answer::Asked);
        peer.owes(self.sequence, *hash, now);
        peer.desire(*hash, want.cid, Kind::Block, priority(self.sequence));
    }

    /// No peer of the session has it, or there is none: asks the other connected peers.
    fn seek(&mut self, hash: &Multihash, id: SessionId, session: &mut SessionState, now: Instant) {
        session.asked.push(*hash);
        let Some(want) = self.wants.get(hash) else { return };
        let cid = want.cid;
        let mut targets: Vec<(u64, PeerId)> = self
            .peers
            .iter()
            .filter(|(peer, state)| state.usable(now) && !want.answers.contains_key(peer))
            .map(|(peer, state)| (state.blocks, *peer))
            .collect();
        let unanswered = want.answers.values().any(|answer| *answer == Answer::Asked);
        let standing = want.owner.is_some();
        if targets.is_empty() && !unanswered {
            self.call(id, session, cid, now);
            return;
        }
        if let ([(_, only)], false, false) = (targets.as_slice(), unanswered, standing) {
            // Nobody else to ask, so the answer may be the block itself.
            self.assign(hash, *only, now);
            return;
        }
        // Those that gave us something before come first.
        targets.sort_unstable_by_key(|(blocks, _)| std::cmp::Reverse(*blocks));
        for (_, peer) in targets.into_iter().take(self.config.broadcast_peers) {
            self.ask_have(hash, peer);
        }
    }

    pub(super) fn ask_have(&mut self, hash: &Multihash, id: PeerId) {
        let (Some(want), Some(peer)) = (self.wants.get_mut(hash), self.peers.get_mut(&id)) else { return };
        if peer.is_old() || !peer.has_room_for_have(&self.config) || want.answers.contains_key(&id) {
            return;
        }
        want.answers.insert(id, Answer::Asked);
        self.sequence += 1;
        peer.desire(*hash, want.cid, Kind::Have, priority(self.sequence));
    }

    /// Asks other connected peers about wants whose owner keeps them waiting. Those that said HAVE when
    /// the session was full may have a place now.
    pub(super) fn ask_around(&mut self, late: &[Multihash], now: Instant) {
        for hash in late {
            let Some(want) = self.wants.get(hash) else { continue };
            let promised = want.answers.iter().filter(|(_, answer)| **answer == Answer::Have);
            let promised: Vec<PeerId> = promised.map(|(id, _)| *id).collect();
            for session in want.sessions.clone() {
                promised.iter().for_each(|id| self.admit(session, *id, now));
            }
            let Some(want) = self.wants.get(hash) else { continue };
            let others = self.peers.iter().filter(|(id, peer)| peer.usable(now) && !want.answers.contains_key(*id));
            let others: Vec<PeerId> = others.map(|(id, _)| *id).take(self.config.broadcast_peers).collect();
            for id in others {
                self.ask_have(hash, id);
            }
        }
    }

    /// Asks connected peers that are none of the session's whether they have what is wanted last,
    /// so that all who can help do: the first broadcast may have been answered by others before.
    pub(super) fn probe(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.queue.is_empty() || session.peers.is_empty() || session.peers.len() >= self.config.session_peers {
            return;
        }
        let strangers: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, state)| state.usable(now) && !state.is_old() && !state.sessions.contains(&id))
            .map(|(peer, _)| *peer)
            .take(self.config.broadcast_peers)
            .collect();
        if strangers.is_empty() {
            return;
        }
        let Some(last) = session.queue.iter().rev().find(|hash| self.wants.contains_key(*hash)).copied() else {
            return;
        };
        let mut asked = Vec::new();
        for peer in strangers {
            let (times, before) = session.probes.get(&peer).copied().unwrap_or((0, last));
            let pending = self.wants.get(&before).is_some_and(|want| want.answers.get(&peer) == Some(&Answer::Asked));
            if times < MAX_PROBES && !pending {
                session.probes.insert(peer, (times + 1, last));
                asked.push(peer);
            }
        }
        for peer in asked {
            self.ask_have(&last, peer);
        }
    }

    /// Calls for providers, unless that was done a moment ago.
    pub(super) fn call(&mut self, id: SessionId, session: &mut SessionState, cid: Cid, now: Instant) {
        let due = |at: Instant| now.saturating_duration_since(at) >= self.config.provider_interval;
        if session.called.is_none_or(due) {
            session.called = Some(now);
            // Roots are what provider records are made for.
            let cid = if session.wants.contains(session.root.hash()) { session.root } else { cid };
            self.emit(Event::NeedPeers { session: id, cid });
        }
    }

    /// Makes a peer one of the session's, and lets it try what has no peer.
    pub(super) fn admit(&mut self, id: SessionId, from: PeerId, now: Instant) {
        let most = self.config.session_peers;
        let (Some(session), Some(peer)) = (self.sessions.get_mut(&id), self.peers.get_mut(&from)) else { return };
        if !peer.usable(now) || session.peers.iter().any(|member| member.peer == from) {
            return;
        }
        if session.peers.len() >= most {
            // One that never had anything makes room; or one that only promises, for one that may do better.
            let doubtful = peer.let_down;
            let useless = session.peers.iter().position(|member| !member.good && member.streak > 0);
            let lets_down = |member: &SessionPeer| self.peers.get(&member.peer).is_some_and(|peer| peer.let_down);
            let idler = || session.peers.iter().position(lets_down).filter(|_| !doubtful);
            let Some(at) = useless.or_else(idler) else { return };
            let gone = session.peers.swap_remove(at).peer;
            if let Some(peer) = self.peers.get_mut(&gone) {
                peer.sessions.retain(|other| *other != id);
                peer.refresh();
            }
        }
        session.peers.push(SessionPeer { peer: from, streak: 0, good: false });
        session.requeue_unplaced();
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.sessions.push(id);
            peer.refresh();
        }
    }

    /// A peer is there now: sessions that were told of it use it, others ask it for what they lack.
    pub(super) fn introduce(&mut self, id: PeerId, now: Instant) {
        if self.peers.get(&id).is_none_or(|peer| !peer.usable(now)) {
            return;
        }
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
            let Some(state) = self.sessions.get_mut(&session) else { continue };
            if state.offered.contains(&id) {
                self.admit(session, id, now);
                self.schedule(session, now);
            } else {
                for hash in state.asked.clone() {
                    if self.wants.get(&hash).is_some_and(|want| !want.is_under_way()) {
                        self.ask_have(&hash, id);
                    }
                }
            }
        }
    }

    /// Takes everything from a peer and gives it to others.
    pub(super) fn release(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let asked = peer.desired();
        let mut touched: HashSet<SessionId> = peer.sessions.drain(..).collect();
        for hash in &asked {
            peer.withdraw(hash);
        }
        peer.outstanding.clear();
        peer.refresh();
        for session in &touched {
            if let Some(state) = self.sessions.get_mut(session) {
                state.peers.retain(|member| member.peer != id);
            }
        }
        for hash in asked {
            let Some(want) = self.wants.get_mut(&hash) else { continue };
            let session = want.sessions.first().copied();
            want.answers.remove(&id);
            if want.owner.as_ref().is_some_and(|owner| owner.peer == id) {
                want.owner = None;
                for session in &want.sessions {
                    if let Some(state) = self.sessions.get_mut(session) {
                        state.queue.push_front(hash);
                        touched.insert(*session);
                    }
                }
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.settled.insert(&hash, session);
            }
        }
        for session in touched {
            self.schedule(session, now);
        }
    }
}

/// Earlier wants first.
fn priority(sequence: u64) -> i32 {
    i32::MAX - i32::try_from(sequence % (1 << 30)).unwrap_or(0)
}
