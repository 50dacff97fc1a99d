//! Dials: whom, where, and who waits for it. TCP has a head start on QUIC, because it moves more bytes.

use super::listen::is_quic;
use crate::{address::peer_of, swarm::Swarm};
use cidery_core::NetworkError;
use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long TCP is tried before QUIC joins in.
const HEAD_START: Duration = Duration::from_millis(200);
/// Addresses of one peer that are dialled.
const MAX_ADDRESSES: usize = 16;
/// Peers that are being dialled at a time; more fail at once.
const MAX_TARGETS: usize = 512;

/// Who waits for a connection.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A search for peers, by its number.
    Search(u64),
    /// A peer to stay connected to, by its number.
    Standing(u64),
    /// A caller.
    Caller(oneshot::Sender<Result<(), NetworkError>>),
}

/// What became of a dial. Callers have been told already.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) waiter: Waiter,
    /// Who answered; `None` if nobody did.
    pub(crate) peer: Result<PeerId, String>,
    /// Whom it was about, where that was known.
    pub(crate) about: Option<PeerId>,
}

/// What is dialled: a peer, or an address whose peer will be known when it answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    Peer(PeerId),
    Address(Multiaddr),
}

impl Target {
    fn peer(&self) -> Option<PeerId> {
        match self {
            Target::Peer(peer) => Some(*peer),
            Target::Address(_) => None,
        }
    }
}

#[derive(Default)]
struct Dial {
    waiters: Vec<Waiter>,
    open: usize,
    later: Option<(Instant, Vec<Multiaddr>)>,
    error: String,
}

/// The dials under way.
#[derive(Default)]
pub(crate) struct Dials {
    targets: HashMap<Target, Dial>,
    attempts: HashMap<ConnectionId, Target>,
    /// What was decided outside of an event, for the next call of [`Dials::outcomes`].
    outcomes: Vec<Outcome>,
}

impl Dials {
    /// Dials a peer at these addresses. A peer that is connected answers at once; the answer comes out
    /// of [`Dials::outcomes`].
    pub(crate) fn peer(&mut self, swarm: &mut Swarm, peer: PeerId, addresses: Vec<Multiaddr>, waiter: Waiter) {
        if swarm.is_connected(&peer) {
            return self.settle(waiter, Ok(peer), Some(peer));
        }
        let (quic, tcp): (Vec<_>, Vec<_>) = addresses.into_iter().take(MAX_ADDRESSES).partition(is_quic);
        if tcp.is_empty() {
            self.begin(swarm, Target::Peer(peer), quic, Vec::new(), waiter);
        } else {
            self.begin(swarm, Target::Peer(peer), tcp, quic, waiter);
        }
    }

    /// Dials an address, with or without a peer id at its end.
    pub(crate) fn address(&mut self, swarm: &mut Swarm, address: Multiaddr, waiter: Waiter) {
        match peer_of(&address) {
            Some(peer) => self.peer(swarm, peer, vec![address], waiter),
            None => self.begin(swarm, Target::Address(address.clone()), vec![address], Vec::new(), waiter),
        }
    }

    fn begin(&mut self, swarm: &mut Swarm, target: Target, now: Vec<Multiaddr>, later: Vec<Multiaddr>, waiter: Waiter) {
        if !self.targets.contains_key(&target) && self.targets.len() >= MAX_TARGETS {
            return self.settle(waiter, Err("too many dials are under way".into()), target.peer());
        }
        let dial = self.targets.entry(target.clone()).or_default();
        dial.waiters.push(waiter);
        if !later.is_empty() {
            dial.later = Some((Instant::now() + HEAD_START, later));
        }
        self.attempt(swarm, target, now);
    }

    fn attempt(&mut self, swarm: &mut Swarm, target: Target, addresses: Vec<Multiaddr>) {
        let opts = match &target {
            // Another dial of the same peer may be under way with worse addresses.
            Target::Peer(peer) => {
                DialOpts::peer_id(*peer).condition(PeerCondition::Disconnected).addresses(addresses).build()
            }
            Target::Address(address) => DialOpts::unknown_peer_id().address(address.clone()).build(),
        };
        let id = opts.connection_id();
        let result = swarm.dial(opts);
        let Some(dial) = self.targets.get_mut(&target) else { return };
        match result {
            Ok(()) => {
                dial.open += 1;
                self.attempts.insert(id, target);
            }
            Err(error) => {
                dial.error = describe(&error);
                self.failed(swarm, target);
            }
        }
    }

    /// Follows a connection that came about.
    pub(crate) fn on_established(&mut self, connection: ConnectionId, peer: PeerId) {
        let address = self.attempts.remove(&connection).filter(|target| matches!(target, Target::Address(_)));
        for target in address.into_iter().chain([Target::Peer(peer)]) {
            for waiter in self.targets.remove(&target).map(|dial| dial.waiters).unwrap_or_default() {
                self.settle(waiter, Ok(peer), Some(peer));
            }
        }
    }

    /// Follows a dial that failed.
    pub(crate) fn on_failed(&mut self, swarm: &mut Swarm, connection: ConnectionId, error: &DialError) {
        let Some(target) = self.attempts.remove(&connection) else { return };
        if let Some(dial) = self.targets.get_mut(&target) {
            dial.open = dial.open.saturating_sub(1);
            dial.error = describe(error);
            self.failed(swarm, target);
        }
    }

    /// Goes on with what is left to try, or gives up.
    fn failed(&mut self, swarm: &mut Swarm, target: Target) {
        let Some(dial) = self.targets.get_mut(&target) else { return };
        if dial.open > 0 {
            return;
        }
        if let Some((_, addresses)) = dial.later.take() {
            return self.attempt(swarm, target, addresses);
        }
        let about = target.peer();
        if let Some(dial) = self.targets.remove(&target) {
            for waiter in dial.waiters {
                self.settle(waiter, Err(dial.error.clone()), about);
            }
        }
    }

    /// Starts what had to wait.
    pub(crate) fn tick(&mut self, swarm: &mut Swarm, now: Instant) {
        let due = self.targets.iter_mut().filter_map(|(target, dial)| {
            let (_, addresses) = dial.later.take_if(|(at, _)| *at <= now)?;
            Some((target.clone(), addresses))
        });
        for (target, addresses) in due.collect::<Vec<_>>() {
            self.attempt(swarm, target, addresses);
        }
    }

    /// What became of dials since the last call.
    pub(crate) fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    fn settle(&mut self, waiter: Waiter, peer: Result<PeerId, String>, about: Option<PeerId>) {
        match waiter {
            Waiter::Caller(reply) => {
                // A caller that left does not care.
                let _ = reply.send(peer.map(drop).map_err(NetworkError::Failed));
            }
            waiter => self.outcomes.push(Outcome { waiter, peer, about }),
        }
    }
}

/// One line for a person; the errors below differ by platform and transport.
fn describe(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, .. } => format!("another peer answered there: {obtained}"),
        DialError::LocalPeerId { .. } => "that is this node itself".into(),
        DialError::NoAddresses => "no address of it is known".into(),
        DialError::Transport(failures) => {
            let texts = failures.iter().map(|(address, error)| format!("{address}: {}", innermost(error)));
            texts.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut this = error;
    while let Some(source) = this.source() {
        this = source;
    }
    this.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm;

    #[tokio::test]
    async fn a_dial_too_many_fails_at_once_and_says_whom_it_was_about() {
        let (mut swarm, mut dials) = (swarm::idle(), Dials::default());
        for _ in 0..MAX_TARGETS {
            dials.targets.insert(Target::Peer(PeerId::random()), Dial::default());
        }
        let peer = PeerId::random();
        dials.peer(&mut swarm, peer, vec![], Waiter::Search(1));
        // Whoever waits for this peer strikes it off by that.
        let outcomes = dials.outcomes();
        let [Outcome { waiter: Waiter::Search(1), peer: Err(_), about }] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(*about, Some(peer));
        assert_eq!(dials.targets.len(), MAX_TARGETS);
    }
}
