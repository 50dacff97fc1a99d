//! What time brings: stalls, silence, deadlines, calls for providers.

use super::{
    Client,
    peer::Peer,
    want::{Answer, Owner, Want},
};
use crate::{Config, api::SessionId};
use cidery_core::{Cid, FetchError, Multihash};
use libp2p::PeerId;
use std::{
    cmp::Reverse,
    collections::HashMap,
    time::{Duration, Instant},
};

/// An idle peer takes over from one that needs at least this much longer.
const HELP_ABOVE: f64 = 0.5;
/// Wants an idle peer takes over at a time.
const HELP_WANTS: usize = 2;

impl Client {
    /// To be called a few times a second while not [`Client::is_idle`].
    pub(crate) fn tick(&mut self, now: Instant) {
        self.check_peers(now);
        self.check_wants(now);
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in sessions {
            self.check_session(id, now);
            self.schedule(id, now);
            self.probe(id, now);
        }
        // Those that let nobody down first, and of those the ones that gave most.
        let mut idle: Vec<(bool, Reverse<u64>, PeerId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.outstanding.is_empty() && !peer.sessions.is_empty())
            .map(|(id, peer)| (peer.let_down, Reverse(peer.blocks), *id))
            .collect();
        idle.sort_unstable_by_key(|(let_down, blocks, _)| (*let_down, *blocks));
        for (_, _, id) in idle {
            self.help(id, now);
        }
    }

    fn check_peers(&mut self, now: Instant) {
        let busy: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| !peer.outstanding.is_empty()).map(|(id, _)| *id).collect();
        for id in busy {
            let Some(peer) = self.peers.get(&id) else { continue };
            let quiet = peer.quiet(&self.config, now);
            let old = peer.is_old();
            if old && quiet >= self.config.silent_after {
                // It cannot say "don't have": silence says it.
                for hash in peer.outstanding.values().copied().collect::<Vec<_>>() {
                    self.assume_dont_have(id, &hash, now);
                }
            } else if quiet >= self.config.stall_after {
                self.stalled(id, now);
            } else {
                for hash in self.overtaken(peer, now) {
                    self.assume_dont_have(id, &hash, now);
                }
            }
        }
    }

    /// Wants that a peer seems to have dropped: asked long ago, while what was asked later came.
    fn overtaken(&self, peer: &Peer, now: Instant) -> Vec<Multihash> {
        let patience = self.config.silent_after.max(Duration::from_secs_f64(4.0 * peer.drain_time().min(60.0)));
        let dropped = |hash: &Multihash| {
            self.wants.get(hash).and_then(|want| want.owner.as_ref()).is_some_and(|owner| {
                now.saturating_duration_since(owner.asked) >= patience
                    && peer.blocks - owner.sent_before > 2 * owner.owed_before + 8
            })
        };
        peer.outstanding.values().filter(|hash| dropped(hash)).copied().collect()
    }

    fn assume_dont_have(&mut self, id: PeerId, hash: &Multihash, now: Instant) {
        if let Some(answer) = self.wants.get_mut(hash).and_then(|want| want.answers.get_mut(&id)) {
            *answer = Answer::DontHave;
        }
        self.has_not(id, hash, now);
    }

    /// Gives what a stalled peer owes to others, as far as there are others; it is asked again for the rest.
    fn stalled(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // The next stall is measured from here.
        peer.busy_since = now;
        let owed: Vec<Multihash> = peer.outstanding.values().copied().collect();
        let mut moved = false;
        for hash in owed {
            let Some(want) = self.wants.get(&hash) else { continue };
            let others = want.sessions.iter().filter_map(|session| self.sessions.get(session)).any(|session| {
                session.peers.iter().any(|member| {
                    member.peer != id
                        && want.answers.get(&member.peer) != Some(&Answer::DontHave)
                        && self
                            .peers
                            .get(&member.peer)
                            .is_some_and(|peer| peer.usable(now) && peer.slow_until.is_none_or(|until| until <= now))
                })
            });
            if others {
                moved = true;
                self.take_back(&hash, id);
            }
        }
        let until = now + 2 * self.config.stall_after;
        if let Some(peer) = self.peers.get_mut(&id) {
            if moved {
                tracing::debug!(peer = %id, "a peer stalled: others take over");
                peer.slow_down();
                peer.slow_until = Some(until);
            } else {
                peer.resend();
            }
        }
    }

    /// Takes a want-block back from its owner into the queues.
    fn take_back(&mut self, hash: &Multihash, id: PeerId) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        let Some(owner) = want.owner.take() else { return };
        want.answers.remove(&id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.let_down = true;
            peer.outstanding.remove(&owner.sequence);
            peer.settled.insert(hash, want.sessions.first().copied());
            peer.withdraw(hash);
        }
        for session in &want.sessions {
            if let Some(state) = self.sessions.get_mut(session) {
                state.queue.push_front(*hash);
            }
        }
    }

    fn check_wants(&mut self, now: Instant) {
        let mut over: Vec<(Multihash, FetchError)> = Vec::new();
        let mut unplaced = Vec::new();
        let mut starving: HashMap<SessionId, Cid> = HashMap::new();
        let mut late = Vec::new();
        for (hash, want) in &mut self.wants {
            if want.storing {
                continue;
            }
            let sessions = want.sessions.iter().filter_map(|id| self.sessions.get(id));
            let progress = sessions.clone().map(|session| session.touched).max().unwrap_or(want.touched);
            let exhausted = want.exhausted || sessions.clone().any(|session| session.exhausted);
            want.touched = want.touched.max(progress);
            let live = want.owner.as_ref().filter(|owner| !owner.refused);
            // When the last whole block came that this may have waited for.
            let mut block = progress.max(want.created);
            if let Some(peer) = live.and_then(|owner| self.peers.get(&owner.peer)) {
                block = block.max(peer.supplied_at);
                want.touched = want.touched.max(peer.supplied_at).max(peer.slot.heard(self.config.slow_frame));
            } else if exhausted
                && now.saturating_duration_since(want.created) >= self.config.not_found_after
                && !want.answers.values().any(|answer| *answer == Answer::Have)
            {
                over.push((*hash, FetchError::NotFound(want.cid)));
                continue;
            }
            let waited = now.saturating_duration_since(want.touched);
            if waited >= self.config.no_progress {
                over.push((*hash, FetchError::Stalled { cid: want.cid, waited }));
                continue;
            }
            let overdue = now.saturating_duration_since(block) >= self.config.race_after;
            if waited >= self.config.provider_delay || overdue {
                for id in &want.sessions {
                    starving.entry(*id).or_insert(want.cid);
                }
                if live.is_some() && overdue && late.len() < self.config.broadcast_wants {
                    late.push(*hash);
                }
            }
            if match live {
                None => now.saturating_duration_since(want.created) >= self.config.provider_delay,
                Some(_) => waited >= self.config.silent_after,
            } {
                unplaced.push(*hash);
            }
        }
        for (hash, error) in over {
            self.fail(&hash, &error, now);
        }
        self.try_old_peers(&unplaced, now);
        // Peers are raced, not queued: whoever was asked, others are asked and looked for meanwhile.
        self.ask_around(&late, now);
        for (id, cid) in starving {
            if let Some(mut session) = self.sessions.remove(&id) {
                self.call(id, &mut session, cid, now);
                self.sessions.insert(id, session);
            }
        }
    }

    /// Peers that know no want-have are tried one after the other with want-blocks.
    fn try_old_peers(&mut self, unplaced: &[Multihash], now: Instant) {
        let old: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| peer.is_old() && peer.usable(now)).map(|(id, _)| *id).collect();
        if old.is_empty() {
            return;
        }
        for hash in unplaced {
            let Some(want) = self.wants.get(hash) else { continue };
            let untried = old.iter().find(|id| {
                !want.answers.contains_key(id)
                    && self.peers.get(id).is_some_and(|peer| peer.has_room(&self.config, 0, now))
            });
            if let Some(id) = untried {
                self.assign(hash, *id, now);
            }
        }
    }

    fn check_session(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        let waiting = session.asked.iter().chain(session.parked.iter().take(16)).find_map(|hash| {
            let want = self.wants.get(hash)?;
            let due = now.saturating_duration_since(want.created) >= self.config.provider_delay;
            (due && !want.is_under_way()).then_some(want.cid)
        });
        if let Some(cid) = waiting
            && let Some(mut session) = self.sessions.remove(&id)
        {
            self.call(id, &mut session, cid, now);
            self.sessions.insert(id, session);
        }
    }

    /// An idle peer takes over the last wants of a peer that will need much longer: those it has
    /// hardly begun, so that hardly anything comes twice.
    pub(super) fn help(&mut self, id: PeerId, now: Instant) {
        let Some(helper) = self.peers.get(&id) else { return };
        if !helper.outstanding.is_empty() || !helper.usable(now) || !helper.has_room(&self.config, 0, now) {
            return;
        }
        if self.race(id, now) {
            return;
        }
        let Some(helper) = self.peers.get(&id) else { return };
        let enough = HELP_ABOVE.max(3.0 * helper.cost());
        let mut slowest: Option<(f64, PeerId)> = None;
        for session in helper.sessions.iter().filter_map(|session| self.sessions.get(session)) {
            for member in session.peers.iter().filter(|member| member.peer != id) {
                let Some(peer) = self.peers.get(&member.peer).filter(|peer| peer.outstanding.len() > 1) else {
                    continue;
                };
                let drain = peer.drain_time();
                if drain > enough && slowest.is_none_or(|(most, _)| drain > most) {
                    slowest = Some((drain, member.peer));
                }
            }
        }
        let Some((_, slow)) = slowest else { return };
        let sessions = helper.sessions.clone();
        let Some(peer) = self.peers.get(&slow) else { return };
        let takes: Vec<Multihash> = peer
            .outstanding
            .values()
            .skip(1)
            .rev()
            .filter(|hash| {
                self.wants.get(*hash).is_some_and(|want| {
                    !want.storing
                        && want.answers.get(&id) != Some(&Answer::DontHave)
                        && want.sessions.iter().any(|session| sessions.contains(session))
                })
            })
            .take(HELP_WANTS)
            .copied()
            .collect();
        for hash in takes {
            self.assign(&hash, id, now);
        }
    }

    /// An idle peer takes over wants whose owner gives no sign of them, be it the last it has. With
    /// each change of hands from a peer that sends something, or round of those that send nothing, a want
    /// gets more time, so that slow peers do not take turns for ever.
    fn race(&mut self, id: PeerId, now: Instant) -> bool {
        let Some(helper) = self.peers.get(&id) else { return false };
        let mut takes: Vec<Multihash> = Vec::new();
        for (slow, peer) in &self.peers {
            if *slow == id || peer.outstanding.is_empty() {
                continue;
            }
            let quiet = peer.quiet(&self.config, now) >= self.config.race_after;
            let overdue = peer.outstanding.values().filter(|hash| {
                self.wants.get(*hash).is_some_and(|want| {
                    let Some(owner) = want.owner.as_ref().filter(|owner| owner.peer == *slow) else { return false };
                    let moves = if quiet { want.moves / self.members(want) } else { want.moves };
                    !want.storing
                        && want.answers.get(&id) != Some(&Answer::DontHave)
                        && want.sessions.iter().any(|session| helper.sessions.contains(session))
                        && now.saturating_duration_since(owner.asked) >= self.patience(peer, owner, quiet, moves)
                })
            });
            takes.extend(overdue.take(HELP_WANTS - takes.len()));
            if takes.len() == HELP_WANTS {
                break;
            }
        }
        for hash in &takes {
            if let Some(want) = self.wants.get_mut(hash) {
                want.moves += 1;
                let owner = want.owner.as_ref().and_then(|owner| self.peers.get_mut(&owner.peer));
                if let Some(owner) = owner.filter(|owner| owner.quiet(&self.config, now) >= self.config.race_after) {
                    owner.let_down = true;
                }
            }
            self.assign(hash, id, now);
        }
        !takes.is_empty()
    }

    /// Peers that can have a want in turn; at least one.
    fn members(&self, want: &Want) -> u32 {
        let sessions = want.sessions.iter().filter_map(|id| self.sessions.get(id));
        let most = sessions.map(|session| session.peers.len()).max().unwrap_or_default();
        u32::try_from(most).unwrap_or(u32::MAX).max(1)
    }

    /// How long an owner may take while another peer is idle.
    fn patience(&self, peer: &Peer, owner: &Owner, quiet: bool, moves: u32) -> Duration {
        let ahead = usize::try_from(owner.owed_before).unwrap_or(usize::MAX).saturating_add(1);
        let expected = Duration::from_secs_f64(3.0 * peer.time_for(ahead).min(60.0));
        let Config { race_after, stall_after, .. } = *self.config;
        let base = if quiet {
            expected.clamp(race_after.min(stall_after), stall_after)
        } else {
            // Something comes: probably this.
            expected.clamp(stall_after, 5 * stall_after)
        };
        base * (1 << moves.min(5))
    }
}
