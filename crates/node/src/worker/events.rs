//! What the swarm says, and whose job each of it is.

use super::{Connection, Worker};
use crate::{
    address::{Dht, is_loopback},
    dht::{self, Found},
    digest,
    drivers::observed::announced,
    swarm::BehaviourEvent,
};
use libp2p::{
    PeerId,
    core::{ConnectedPoint, transport::PortUse},
    identify, kad, mdns, ping, request_response,
    swarm::{ConnectionId, SwarmEvent},
};
use std::time::Instant;

impl Worker {
    pub(super) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.connections.remove(&connection_id);
                if num_established == 0 {
                    self.introduced.remove(&peer_id);
                    self.peers.on_disconnected(peer_id);
                    self.inquiries.on_disconnected(&peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, peer_id } => {
                tracing::debug!(?peer_id, %error, "dial failed");
                self.dials.on_failed(&mut self.swarm, connection_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::debug!(%address, "listening");
                self.note_listeners();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.note_listeners(),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "a listener closed");
                self.note_listeners();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let remote = endpoint.get_remote_address().clone();
        if endpoint.is_dialer() {
            self.with_searches(|searches, tools| searches.on_connected(tools, peer, &remote));
        }
        let (dialled_in, telling) = match endpoint {
            ConnectedPoint::Dialer { port_use, .. } => (false, *port_use == PortUse::Reuse),
            ConnectedPoint::Listener { .. } => (true, true),
        };
        self.connections.insert(connection, Connection { peer, remote, dialled_in, telling });
        self.dials.on_established(connection, peer);
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Bitswap(event) => self.on_bitswap(event),
            BehaviourEvent::Local(event) => self.on_dht(Dht::Local, event),
            BehaviourEvent::Wide(event) => self.on_dht(Dht::Wide, event),
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Digest(event) => self.on_digest(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.peers.discovered(&mut self.swarm, &self.surroundings, peer, address);
                }
                self.peers.tick(&mut self.swarm, &mut self.dials, Instant::now());
            }
            BehaviourEvent::Mdns(mdns::Event::Expired(gone)) => {
                for (peer, address) in gone {
                    self.peers.expired(&mut self.swarm, peer, address);
                }
            }
            // A connection that does not answer pings is dead; closing it lets the peer be dialled anew.
            BehaviourEvent::Ping(ping::Event { connection, result: Err(ping::Failure::Timeout), .. }) => {
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Ping(_) => {}
            BehaviourEvent::Limits(event) | BehaviourEvent::Memory(event) => match event {},
            BehaviourEvent::Keep(event) | BehaviourEvent::Sender(event) => match event {},
        }
    }

    fn on_bitswap(&mut self, event: cidery_bitswap::Event) {
        match event {
            cidery_bitswap::Event::NeedPeers { session, cid } => {
                self.with_searches(|searches, tools| searches.need_peers(tools, session, cid));
            }
            cidery_bitswap::Event::SessionEnded { session } => {
                self.with_searches(|searches, tools| searches.session_ended(tools, session));
            }
            cidery_bitswap::Event::PeerMisbehaved { peer, reason } => {
                tracing::info!(%peer, ?reason, "a peer misbehaves");
            }
            _ => {}
        }
    }

    fn on_digest(&mut self, event: digest::Event) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.answers.on_request(&mut self.swarm, peer, request, channel);
            }
            event => self.inquiries.on_event(event),
        }
    }

    fn on_identify(&mut self, event: identify::Event) {
        let (identify::Event::Received { connection_id, peer_id, info }
        | identify::Event::Pushed { connection_id, peer_id, info }) = event
        else {
            return;
        };
        let connection = self.connections.get(&connection_id);
        let via = connection.map(|connection| connection.remote.clone());
        self.routing.identified(
            &mut self.swarm,
            &self.surroundings,
            peer_id,
            via.as_ref(),
            &info.protocols,
            &info.listen_addrs,
        );
        if let Some(connection) = self.connections.get(&connection_id).filter(|connection| connection.telling) {
            let reached = self.observed.witness(&connection.remote, &info.observed_addr, connection.dialled_in);
            if let Some(address) = reached {
                tracing::info!(%address, "this node can be reached from outside: serving the wide-area DHT");
                self.swarm.add_external_address(address);
                dht::set_reachable(&mut self.swarm, true);
            }
        }
        if info.protocols.contains(&digest::PROTOCOL) {
            self.inquiries.on_speaker(&mut self.swarm, peer_id);
        }
        if info.protocols.contains(&Dht::Local.protocol()) && self.introduced.insert(peer_id) {
            let addresses = announced(&self.swarm, &self.observed, Dht::Local);
            self.provider.introduce(&mut self.swarm, peer_id, addresses);
        }
    }

    fn on_dht(&mut self, dht: Dht, event: kad::Event) {
        let connections = &self.connections;
        let met_on_loopback = |peer: &PeerId| {
            connections.values().any(|connection| connection.peer == *peer && is_loopback(&connection.remote))
        };
        for found in self.routing.on_event(&mut self.swarm, dht, event, met_on_loopback) {
            match found {
                Found::Provider { search, peer, addresses } => {
                    self.with_searches(|searches, tools| searches.on_provider(tools, search, peer, addresses));
                }
                Found::SearchOver { search } => self.searches.on_lookup_over(search),
                Found::Region { region, mut peers } => {
                    for peer in &mut peers {
                        peer.addrs.retain(|address| self.surroundings.allow(address));
                    }
                    let addresses = announced(&self.swarm, &self.observed, dht);
                    self.provider.on_region(&mut self.swarm, region, peers, addresses);
                    self.provide();
                }
                Found::NewPeer { dht, peer } => {
                    tracing::debug!(%peer, ?dht, "a new peer in the routing table");
                    self.searches.on_new_peer();
                    self.provider.wake(dht);
                }
            }
        }
    }
}
