//! The task that owns the swarm. It routes: each event and command goes to the driver whose job it is,
//! and what one driver says that concerns another is passed on here.

use crate::{
    StartError,
    address::{self, Dht, Surroundings, is_loopback, is_specified},
    dht::{self, Found, Routing},
    drivers::{
        dial::{Dials, Waiter},
        listen,
        observed::{Observed, announced},
        peers::{Kind, Peers},
        provide::{Change, Provider},
        search::{Searches, Tools},
        uplink::Uplink,
    },
    node::Tables,
    swarm::{BehaviourEvent, Swarm},
};
use cidery_bitswap::SessionId;
use cidery_core::{Cid, NetworkError};
use futures::StreamExt;
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, transport::PortUse},
    identify, kad, mdns, ping,
    swarm::{ConnectionId, SwarmEvent},
};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

/// How often drivers look at their clocks.
const TICK: Duration = Duration::from_millis(200);
/// How often routing tables are refreshed (the DHT's own interval).
const REFRESH: Duration = Duration::from_secs(600);
/// How long open connections have to close when the node stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a handle asks of the worker.
pub(crate) enum Command {
    Addresses(oneshot::Sender<Vec<String>>),
    Peers(oneshot::Sender<usize>),
    Tables(oneshot::Sender<Tables>),
    Connect(Multiaddr, oneshot::Sender<Result<(), NetworkError>>),
    Provide(Change, oneshot::Sender<()>),
    Downloading(Cid),
    Search(SessionId, Cid),
    Shutdown(oneshot::Sender<()>),
}

struct Connection {
    peer: PeerId,
    remote: Multiaddr,
    dialled_in: bool,
    /// What the other end sees of this connection is an address of this node's, not a passing port.
    telling: bool,
}

/// The swarm and its drivers.
pub(crate) struct Worker {
    swarm: Swarm,
    surroundings: Surroundings,
    interfaces: Option<IfWatcher>,
    connections: HashMap<ConnectionId, Connection>,
    /// Peers that identified themselves since they connected.
    introduced: HashSet<PeerId>,
    dials: Dials,
    peers: Peers,
    routing: Routing,
    searches: Searches,
    provider: Provider,
    observed: Observed,
    uplink: Uplink,
    /// When the routing tables were refreshed.
    refreshed: Instant,
}

impl Worker {
    /// Takes over a swarm that listens.
    pub(crate) fn new(swarm: Swarm, surroundings: Surroundings, searches: Searches) -> Self {
        let interfaces = IfWatcher::new()
            .inspect_err(|error| tracing::warn!(%error, "network interfaces are not watched: private hints go unused"));
        let mut worker = Self {
            swarm,
            surroundings,
            interfaces: interfaces.ok(),
            connections: HashMap::new(),
            introduced: HashSet::new(),
            dials: Dials::default(),
            peers: Peers::default(),
            routing: Routing::default(),
            searches,
            provider: Provider::new(),
            observed: Observed::default(),
            uplink: Uplink::now(),
            refreshed: Instant::now(),
        };
        worker.note_listeners();
        worker
    }

    /// Adds peers to stay connected to.
    pub(crate) fn add_peers(&mut self, kind: Kind, addresses: &[String]) -> Result<(), StartError> {
        self.peers.add(&mut self.swarm, kind, addresses)
    }

    /// Works until told to stop, or until nobody is left who could tell.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = commands.recv() => match command {
                    Some(Command::Shutdown(reply)) => break Some(reply),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                (search, addresses) = self.searches.expanded() => self.with_searches(|searches, tools| {
                    searches.on_expanded(tools, search, &addresses);
                }),
                event = next_interface(&mut self.interfaces) => self.on_interface(event),
                _ = tick.tick() => self.on_tick(),
            }
            self.settle();
        };
        commands.close();
        self.stop().await;
        if let Some(reply) = stopped {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }

    /// Closes listeners and connections in an orderly way, so that the ports are free afterwards.
    async fn stop(mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // It may have disconnected meanwhile.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        // Peers that do not say goodbye are left.
        let _ = timeout(GOODBYE, closing).await;
        drop(self);
        // The transports' own tasks notice that they are alone when they run next.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    fn on_command(&mut self, command: Command) {
        // A reply that nobody waits for any more is dropped.
        match command {
            Command::Addresses(reply) => {
                let addresses = listen::addresses(&self.swarm).iter().map(ToString::to_string).collect();
                let _ = reply.send(addresses);
            }
            Command::Peers(reply) => {
                let _ = reply.send(self.swarm.connected_peers().count());
            }
            Command::Tables(reply) => {
                let size = |worker: &mut Self, dht| dht::table(&mut worker.swarm, dht).len();
                let _ = reply.send(Tables { local: size(self, Dht::Local), wide: size(self, Dht::Wide) });
            }
            Command::Connect(address, reply) => {
                self.dials.address(&mut self.swarm, address, Waiter::Caller(reply));
            }
            Command::Provide(change, reply) => {
                self.provider.change(&mut self.swarm, change);
                self.provide();
                let _ = reply.send(());
            }
            Command::Downloading(root) => {
                self.provider.downloaded(&mut self.swarm, &root);
                self.provide();
            }
            Command::Search(session, cid) => {
                self.with_searches(|searches, tools| searches.need_peers(tools, session, cid));
            }
            // Taken by the loop.
            Command::Shutdown(_) => {}
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        if now - self.refreshed > REFRESH {
            self.refreshed = now;
            dht::refresh(&mut self.swarm);
        }
        self.dials.tick(&mut self.swarm, now);
        self.peers.tick(&mut self.swarm, &mut self.dials, now);
        self.with_searches(|searches, tools| searches.tick(tools, now));
        self.provide();
    }

    fn provide(&mut self) {
        let observed = &self.observed;
        let addresses = |swarm: &Swarm, dht| announced(swarm, observed, dht);
        self.provider.tick(&mut self.swarm, &mut self.routing, addresses, Instant::now());
    }

    /// Passes on what became of dials, until there is nothing more to pass on.
    fn settle(&mut self) {
        loop {
            let outcomes = self.dials.outcomes();
            if outcomes.is_empty() {
                return;
            }
            for outcome in outcomes {
                match outcome.waiter {
                    Waiter::Search(id) => self.searches.on_outcome(id, outcome.about, outcome.peer),
                    Waiter::Standing(id) => self.peers.on_outcome(&mut self.swarm, id, outcome.peer),
                    Waiter::Caller(_) => {}
                }
            }
        }
    }

    fn with_searches(&mut self, work: impl FnOnce(&mut Searches, &mut Tools<'_>)) {
        let Self { swarm, dials, peers, routing, searches, .. } = self;
        work(searches, &mut Tools { swarm, dials, peers, routing });
    }

    fn on_interface(&mut self, event: IfEvent) {
        let gone = match event {
            IfEvent::Up(net) => {
                if is_specified(net.addr()) {
                    self.surroundings.add_interface(net.addr());
                }
                None
            }
            IfEvent::Down(net) => {
                self.surroundings.remove_interface(net.addr());
                Some(net.addr())
            }
        };
        let before = std::mem::replace(&mut self.uplink, Uplink::now());
        self.observed.forget(&mut self.swarm, before.lost(self.uplink, gone));
    }

    /// Listening on loopback is what makes loopback hints sensible.
    fn note_listeners(&mut self) {
        self.surroundings.set_loopback(self.swarm.listeners().any(is_loopback));
        for ip in self.swarm.listeners().filter_map(address::ip) {
            self.surroundings.add_interface(ip);
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
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

async fn next_interface(watcher: &mut Option<IfWatcher>) -> IfEvent {
    match watcher {
        Some(watcher) => loop {
            match watcher.select_next_some().await {
                Ok(event) => return event,
                Err(error) => {
                    tracing::debug!(%error, "watching network interfaces");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        },
        None => std::future::pending().await,
    }
}
