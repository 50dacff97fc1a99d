//! What arrives from peers: blocks, answers, and what they should not have sent.

use super::{Client, want::Answer};
use crate::api::{Event, Misbehaviour};
use cidery_core::{Bytes, Cid, FetchError, Multihash};
use libp2p::PeerId;
use std::{collections::HashSet, sync::atomic::Ordering::Relaxed, time::Instant};

/// Offenders that are remembered.
const MAX_OFFENDERS: usize = 1_024;

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

impl Client {
    /// Whether blocks from this peer are worth hashing.
    pub(crate) fn expects_from(&self, id: &PeerId, now: Instant) -> bool {
        self.peers.get(id).is_some_and(|peer| {
            peer.shunned_until.is_none_or(|until| until <= now) && (peer.is_asked() || !peer.settled.is_empty())
        })
    }

    /// Whether a peer was asked for blocks that it has not sent.
    pub(crate) fn owes(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(|peer| !peer.outstanding.is_empty())
    }

    /// A block that hashes to `hash` came from a peer.
    pub(crate) fn claim(&mut self, from: &PeerId, hash: &Multihash, len: u64) -> Claim {
        let settled = self.peers.get(from).map(|peer| peer.settled.get(hash));
        let session = match (self.wants.get_mut(hash), settled) {
            (Some(want), _) if !want.storing => {
                want.storing = true;
                if let Some(peer) = self.peers.get(from) {
                    peer.slot.prove();
                }
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
            // What was said before is no news: a peer must not keep a want waiting by talking.
            if *answer == Answer::Asked
                && let Some(peer) = self.peers.get_mut(&from)
            {
                peer.answered_at = now;
            }
            if has {
                *answer = Answer::Have;
                if want.promised.insert(from) {
                    want.touched = now;
                }
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

    pub(super) fn has_not(&mut self, from: PeerId, hash: &Multihash, now: Instant) {
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
}
