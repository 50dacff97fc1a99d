//! Kademlia that sees the addresses of its own network only, whichever way they come and go.

use super::Records;
use crate::address::{Dht, Surroundings};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    kad::{self, Behaviour, BucketInserts, Caching, Config, Mode, StoreInserts},
    swarm::{
        ConnectionDenied, ConnectionId, ExpiredListenAddr, ExternalAddrExpired, FromSwarm, NetworkBehaviour,
        NewListenAddr, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ExternalAddrConfirmed,
    },
};
use std::{
    num::NonZeroUsize,
    task::{Context, Poll},
    time::Duration,
};

/// Peers asked at a time in one lookup (the DHT's α).
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(10).expect("not zero");
/// What deployed nodes read.
const MAX_PACKET: usize = 4 << 20;
/// Until a lookup counts as failed: a dead peer on the way costs one dial's deadline, several at a time.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// One of the two DHTs.
pub(crate) struct Scoped {
    inner: Behaviour<Records>,
    dht: Dht,
    surroundings: Surroundings,
}

impl Scoped {
    pub(crate) fn new(dht: Dht, surroundings: Surroundings, records: Records) -> Self {
        let mut config = Config::new(dht.protocol());
        config
            .set_parallelism(PARALLELISM)
            .set_max_packet_size(MAX_PACKET)
            .set_query_timeout(QUERY_TIMEOUT)
            .set_record_filtering(StoreInserts::FilterBoth)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None)
            // Done by `refresh`, which does not complain when there is nobody to ask.
            .set_periodic_bootstrap_interval(None)
            // Nothing is written back to peers: values found are not ours to spread.
            .set_caching(Caching::Disabled)
            // Only what identify says, and only addresses of this network: see `Routing`.
            .set_kbucket_inserts(BucketInserts::Manual);
        let mut inner = Behaviour::with_config(surroundings.own_peer(), records, config);
        inner.set_mode(Some(match dht {
            Dht::Local => Mode::Server,
            Dht::Wide => Mode::Client,
        }));
        Self { inner, dht, surroundings }
    }

    pub(crate) fn kad(&mut self) -> &mut Behaviour<Records> {
        &mut self.inner
    }

    /// Where this DHT knows a peer: from its routing table, and from look-ups under way.
    pub(crate) fn known(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        // What a dial would ask; no connection has this id, and asking changes nothing.
        let nobody = ConnectionId::new_unchecked(usize::MAX);
        self.handle_pending_outbound_connection(nobody, Some(peer), &[], Endpoint::Dialer).unwrap_or_default()
    }
}

impl Dht {
    pub(crate) fn protocol(self) -> StreamProtocol {
        StreamProtocol::new(match self {
            Dht::Wide => "/ipfs/kad/1.0.0",
            Dht::Local => "/ipfs/lan/kad/1.0.0",
        })
    }
}

impl NetworkBehaviour for Scoped {
    type ConnectionHandler = <Behaviour<Records> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut known = self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        // These were told by other nodes, about other nodes.
        known.retain(|address| self.dht.holds(address) && self.surroundings.allow(address));
        known.truncate(16);
        Ok(known)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // Listen addresses count as confirmed: on a LAN nobody confirms anything, and the mode is set by
            // hand. As listen addresses they would also start look-ups before there is anybody to ask.
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. }) if self.dht.holds(addr) => {
                self.inner.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }));
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. }) if self.dht.holds(addr) => {
                self.inner.on_swarm_event(FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr }));
            }
            FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr })
            | FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr })
                if !self.dht.holds(addr) => {}
            FromSwarm::NewListenAddr(_) | FromSwarm::ExpiredListenAddr(_) | FromSwarm::NewExternalAddrCandidate(_) => {}
            event => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<kad::Event, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
