//! Peers to stay connected to: configured ones always, nearby ones while they are near, bootstrap peers
//! while the node knows too few others.

use super::dial::{Dials, Waiter};
use crate::{
    StartError,
    address::{Dht, Surroundings, peer_of, with_peer},
    dht,
    swarm::Swarm,
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Nearby peers that are remembered. A flood of multicast answers costs no more than this.
const MAX_NEARBY: usize = 128;
/// Addresses kept of one peer.
const MAX_ADDRESSES: usize = 8;
/// Peers in the wide-area routing table below which bootstrap peers are dialled.
const FEW: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Configured,
    Nearby,
    Bootstrap,
}

impl Kind {
    /// First and longest time between two dials.
    fn backoff(self) -> (Duration, Duration) {
        let seconds = |least, most| (Duration::from_secs(least), Duration::from_secs(most));
        match self {
            Kind::Configured => seconds(1, 60),
            Kind::Nearby => seconds(2, 120),
            Kind::Bootstrap => seconds(10, 600),
        }
    }
}

struct Standing {
    kind: Kind,
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    dialling: bool,
    next: Instant,
    backoff: Duration,
}

impl Standing {
    fn new(kind: Kind, peer: Option<PeerId>, addresses: Vec<Multiaddr>) -> Self {
        Self { kind, peer, addresses, dialling: false, next: Instant::now(), backoff: kind.backoff().0 }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Peers {
    standing: BTreeMap<u64, Standing>,
    count: u64,
}

impl Peers {
    /// Adds addresses from the configuration; those of one peer are dialled together.
    pub(crate) fn add(&mut self, swarm: &mut Swarm, kind: Kind, addresses: &[String]) -> Result<(), StartError> {
        for text in addresses {
            let refused = |detail: String| StartError::Address { address: text.clone(), detail };
            let address: Multiaddr = text.parse().map_err(|error| refused(format!("{error}")))?;
            if address.iter().any(|part| matches!(part, Protocol::P2pCircuit)) {
                return Err(refused("relayed peers can't be dialled".into()));
            }
            let peer = peer_of(&address);
            if peer == Some(*swarm.local_peer_id()) {
                tracing::info!(%address, "this is the node itself");
                continue;
            }
            match self.standing.values_mut().find(|standing| standing.peer.is_some() && standing.peer == peer) {
                Some(standing) => standing.addresses.push(address),
                None => self.insert(Standing::new(kind, peer, vec![address])),
            }
            if let Some(peer) = peer.filter(|_| kind == Kind::Configured) {
                welcome(swarm, peer);
            }
        }
        Ok(())
    }

    fn insert(&mut self, standing: Standing) {
        self.count += 1;
        self.standing.insert(self.count, standing);
    }

    /// Takes up a peer that multicast DNS found.
    pub(crate) fn discovered(&mut self, swarm: &mut Swarm, surroundings: &Surroundings, peer: PeerId, at: Multiaddr) {
        if peer == surroundings.own_peer() || !Dht::Local.holds(&at) || !surroundings.allow(&at) {
            return;
        }
        let at = with_peer(at, peer);
        if let Some(known) = self.standing.values_mut().find(|standing| standing.peer == Some(peer)) {
            if known.kind == Kind::Nearby && !known.addresses.contains(&at) && known.addresses.len() < MAX_ADDRESSES {
                known.addresses.push(at);
            }
        } else if self.of(Kind::Nearby).count() < MAX_NEARBY {
            swarm.behaviour_mut().keep.add(peer);
            self.insert(Standing::new(Kind::Nearby, Some(peer), vec![at]));
        }
    }

    /// Forgets an address of a nearby peer, and the peer with its last one.
    pub(crate) fn expired(&mut self, swarm: &mut Swarm, peer: PeerId, at: Multiaddr) {
        let at = with_peer(at, peer);
        self.standing.retain(|_, standing| {
            if standing.kind != Kind::Nearby || standing.peer != Some(peer) {
                return true;
            }
            standing.addresses.retain(|have| *have != at);
            let keep = !standing.addresses.is_empty();
            if !keep {
                swarm.behaviour_mut().keep.remove(peer);
            }
            keep
        });
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Standing> {
        self.standing.values().filter(move |standing| standing.kind == kind)
    }

    /// Configured peers, then nearby ones: whom a session asks first.
    pub(crate) fn preferred(&self) -> Vec<PeerId> {
        self.of(Kind::Configured).chain(self.of(Kind::Nearby)).filter_map(|standing| standing.peer).collect()
    }

    /// Whether any may still answer, so that "nobody has it" would be said too early.
    pub(crate) fn any_dialling(&self) -> bool {
        self.standing.values().any(|standing| standing.dialling)
    }

    /// Somebody waits for blocks: dial those that are not connected without regard to their backoff.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for standing in self.standing.values_mut().filter(|standing| standing.kind != Kind::Bootstrap) {
            standing.next = standing.next.min(now + Duration::from_secs(1)).max(now);
        }
    }

    /// Dials those whose turn it is.
    pub(crate) fn tick(&mut self, swarm: &mut Swarm, dials: &mut Dials, now: Instant) {
        let mut few = None;
        for (id, standing) in &mut self.standing {
            if standing.dialling || standing.next > now {
                continue;
            }
            if standing.peer.is_some_and(|peer| swarm.is_connected(&peer)) {
                standing.next = now + standing.kind.backoff().0;
                continue;
            }
            if standing.kind == Kind::Bootstrap && !*few.get_or_insert_with(|| dht::table(swarm, Dht::Wide).len() < FEW)
            {
                standing.next = now + standing.kind.backoff().0;
                continue;
            }
            standing.dialling = true;
            let waiter = Waiter::Standing(*id);
            match (standing.peer, standing.addresses.as_slice()) {
                (Some(peer), addresses) => dials.peer(swarm, peer, addresses.to_vec(), waiter),
                (None, [address, ..]) => dials.address(swarm, address.clone(), waiter),
                (None, []) => {}
            }
        }
    }

    /// Follows the end of a dial.
    pub(crate) fn on_outcome(&mut self, swarm: &mut Swarm, id: u64, outcome: Result<PeerId, String>) {
        let Some(standing) = self.standing.get_mut(&id) else { return };
        let (least, most) = standing.kind.backoff();
        standing.dialling = false;
        match outcome {
            Ok(peer) => {
                standing.backoff = least;
                standing.next = Instant::now() + least;
                if standing.peer.is_none() && standing.kind == Kind::Configured {
                    welcome(swarm, peer);
                }
                standing.peer = Some(peer);
            }
            Err(error) => {
                if standing.kind == Kind::Configured && standing.backoff == least {
                    let address = standing.addresses.first().map(ToString::to_string);
                    tracing::warn!(address, error, "a configured peer does not answer; trying again from time to time");
                }
                standing.next = Instant::now() + standing.backoff;
                standing.backoff = (standing.backoff * 2).min(most);
            }
        }
    }

    /// A peer is gone: configured ones are dialled again soon.
    pub(crate) fn on_disconnected(&mut self, peer: PeerId) {
        for standing in self.standing.values_mut().filter(|standing| standing.peer == Some(peer)) {
            standing.next = Instant::now() + standing.backoff;
        }
    }
}

/// A configured peer keeps its connection, and is let in when the node is full.
fn welcome(swarm: &mut Swarm, peer: PeerId) {
    swarm.behaviour_mut().keep.add(peer);
    swarm.behaviour_mut().limits.bypass_peer_id(&peer);
}
