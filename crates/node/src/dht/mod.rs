//! Kademlia twice, and what this node asks of it: find providers, find the region of a key.
//!
//! [`Routing`] owns every lookup that is under way; the worker passes it the events of both DHTs and
//! passes on what it says.

mod records;
mod scoped;
mod sender;

pub(crate) use records::Records;
pub(crate) use scoped::Scoped;
pub(crate) use sender::{Batch, Sender};

use crate::{
    address::{Dht, Surroundings, is_loopback},
    swarm::Swarm,
};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    kad::{
        self, Event, GetClosestPeersError, GetProvidersOk, InboundRequest, Mode, PeerInfo, QueryId, QueryResult,
        RecordKey,
    },
};
use std::collections::HashMap;

/// Addresses of one peer kept in a routing table: enough, and not more than it may cost.
const ADDRESSES_PER_PEER: usize = 8;
/// Providers taken from one lookup.
const PROVIDERS_PER_LOOKUP: usize = 20;

/// What a lookup is for, as whoever began it counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Providers, for the search of that number.
    Search(u64),
    /// The closest peers, to announce keys there.
    Region(u64),
}

/// What comes out of the two DHTs.
#[derive(Debug)]
pub(crate) enum Found {
    /// A provider. Dial it at once: the lookup still knows its addresses now.
    Provider { search: u64, peer: PeerId, addresses: Vec<Multiaddr> },
    /// A lookup for providers is over in this DHT.
    SearchOver { search: u64 },
    /// The peers closest to a key.
    Region { region: u64, peers: Vec<PeerInfo> },
    /// A peer is new in a routing table.
    NewPeer { dht: Dht, peer: PeerId },
}

/// The lookups under way in both DHTs.
#[derive(Default)]
pub(crate) struct Routing {
    queries: HashMap<(Dht, QueryId), Lookup>,
}

struct Lookup {
    purpose: Purpose,
    providers: Vec<PeerId>,
}

impl Routing {
    /// Looks for providers of a multihash. Answers come as [`Found::Provider`], then [`Found::SearchOver`].
    pub(crate) fn find_providers(&mut self, swarm: &mut Swarm, dht: Dht, key: &[u8], search: u64) {
        let query = kad_of(swarm, dht).get_providers(RecordKey::new(&key));
        self.queries.insert((dht, query), Lookup { purpose: Purpose::Search(search), providers: Vec::new() });
    }

    /// Looks for the peers closest to a multihash. The answer comes as [`Found::Region`].
    pub(crate) fn find_region(&mut self, swarm: &mut Swarm, dht: Dht, key: &[u8], region: u64) {
        let query = kad_of(swarm, dht).get_closest_peers(key.to_vec());
        self.queries.insert((dht, query), Lookup { purpose: Purpose::Region(region), providers: Vec::new() });
    }

    /// Ends the lookups of a search that nobody waits for any more.
    pub(crate) fn cancel(&mut self, swarm: &mut Swarm, search: u64) {
        self.queries.retain(|(dht, query), lookup| {
            let keep = lookup.purpose != Purpose::Search(search);
            if !keep && let Some(mut query) = kad_of(swarm, *dht).query_mut(query) {
                query.finish();
            }
            keep
        });
    }

    /// Takes what identify says of a peer into the routing tables that it belongs in.
    pub(crate) fn identified(
        &self,
        swarm: &mut Swarm,
        surroundings: &Surroundings,
        peer: PeerId,
        via: Option<&Multiaddr>,
        protocols: &[StreamProtocol],
        addresses: &[Multiaddr],
    ) {
        let loopback = via.is_some_and(is_loopback);
        for dht in Dht::BOTH {
            if !protocols.contains(&dht.protocol()) {
                // It stopped serving, or never did.
                kad_of(swarm, dht).remove_peer(&peer);
                continue;
            }
            // A peer's loopback is this node's only if that is how they met.
            let usable = addresses.iter().filter(|address| {
                dht.holds(address) && surroundings.allow(address) && (loopback || !is_loopback(address))
            });
            for address in usable.take(ADDRESSES_PER_PEER) {
                kad_of(swarm, dht).add_address(&peer, address.clone());
            }
        }
    }

    /// Follows one event of one DHT.
    pub(crate) fn on_event(
        &mut self,
        swarm: &mut Swarm,
        dht: Dht,
        event: Event,
        met_on_loopback: impl Fn(&PeerId) -> bool,
    ) -> Vec<Found> {
        match event {
            Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.progressed(swarm, dht, id, result, step.last)
            }
            Event::RoutingUpdated { peer, is_new_peer, addresses, .. } => {
                // Dialling may have put an address of the other network here.
                let strange: Vec<_> = addresses.iter().filter(|address| !dht.holds(address)).cloned().collect();
                let beyond = addresses.iter().filter(|address| dht.holds(address)).skip(ADDRESSES_PER_PEER).cloned();
                for address in strange.iter().cloned().chain(beyond) {
                    kad_of(swarm, dht).remove_address(&peer, &address);
                }
                let new = is_new_peer && strange.len() < addresses.len();
                if new { vec![Found::NewPeer { dht, peer }] } else { Vec::new() }
            }
            Event::InboundRequest { request } => {
                store(swarm, dht, request, met_on_loopback);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn progressed(&mut self, swarm: &mut Swarm, dht: Dht, id: QueryId, result: QueryResult, last: bool) -> Vec<Found> {
        let Some(lookup) = self.queries.get_mut(&(dht, id)) else { return Vec::new() };
        let own = *swarm.local_peer_id();
        let mut found = Vec::new();
        match (result, lookup.purpose) {
            (QueryResult::GetProviders(result), Purpose::Search(search)) => {
                if let Ok(GetProvidersOk::FoundProviders { key, providers }) = result {
                    for peer in providers {
                        let enough = lookup.providers.len() >= PROVIDERS_PER_LOOKUP;
                        if peer == own || enough || lookup.providers.contains(&peer) {
                            continue;
                        }
                        lookup.providers.push(peer);
                        let kept = kad::store::RecordStore::providers(kad_of(swarm, dht).store_mut(), &key);
                        let addresses = kept.into_iter().filter(|record| record.provider == peer);
                        let addresses = addresses.flat_map(|record| record.addresses).collect();
                        found.push(Found::Provider { search, peer, addresses });
                    }
                }
                if last {
                    found.push(Found::SearchOver { search });
                }
            }
            (QueryResult::GetClosestPeers(result), Purpose::Region(region)) if last => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                found.push(Found::Region { region, peers });
            }
            _ => {}
        }
        if last {
            self.queries.remove(&(dht, id));
        }
        found
    }
}

/// Stores what a peer asked to store, if it is fit to be.
fn store(swarm: &mut Swarm, dht: Dht, request: InboundRequest, met_on_loopback: impl Fn(&PeerId) -> bool) {
    use kad::store::RecordStore;
    match request {
        InboundRequest::AddProvider { record: Some(mut record) } => {
            // The DHT has checked that the provider is the sender.
            let near = met_on_loopback(&record.provider);
            record.addresses.retain(|address| dht.holds(address) && (near || !is_loopback(address)));
            if !record.addresses.is_empty() {
                // Full or refused: the sender is not told in this protocol.
                let _ = kad_of(swarm, dht).store_mut().add_provider(record);
            }
        }
        InboundRequest::PutRecord { record: Some(record), .. } => {
            let _ = kad_of(swarm, dht).store_mut().put(record);
        }
        _ => {}
    }
}

/// A node that strangers can reach serves the wide-area DHT; any other only asks it.
pub(crate) fn set_reachable(swarm: &mut Swarm, reachable: bool) {
    kad_of(swarm, Dht::Wide).set_mode(Some(if reachable { Mode::Server } else { Mode::Client }));
}

/// Fills the routing tables anew, where there is anybody to ask. Due every 10 min.
pub(crate) fn refresh(swarm: &mut Swarm) {
    for dht in Dht::BOTH {
        if !table(swarm, dht).is_empty() {
            // It fails only for an empty table.
            let _ = kad_of(swarm, dht).bootstrap();
        }
    }
}

/// The peers in a routing table.
pub(crate) fn table(swarm: &mut Swarm, dht: Dht) -> Vec<PeerId> {
    let mut peers = Vec::new();
    for bucket in kad_of(swarm, dht).kbuckets() {
        peers.extend(bucket.iter().map(|entry| *entry.node.key.preimage()));
    }
    peers
}

/// Where the DHTs know a peer, nearest first.
pub(crate) fn known(swarm: &mut Swarm, peer: PeerId) -> Vec<Multiaddr> {
    let behaviour = swarm.behaviour_mut();
    let mut addresses = behaviour.local.known(peer);
    addresses.extend(behaviour.wide.known(peer));
    addresses
}

/// One of the two.
pub(crate) fn kad_of(swarm: &mut Swarm, dht: Dht) -> &mut kad::Behaviour<Records> {
    match dht {
        Dht::Wide => swarm.behaviour_mut().wide.kad(),
        Dht::Local => swarm.behaviour_mut().local.kad(),
    }
}
