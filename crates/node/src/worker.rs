//! The task that owns the swarm. It routes: each event and command goes to the driver whose job it is,
//! and what one driver says that concerns another is passed on here.

mod events;

use crate::{
    StartError,
    address::{self, Dht, Surroundings, is_loopback, is_specified},
    dht::{self, Routing},
    drivers::{
        answer::Answers,
        dial::{Dials, Waiter},
        inquire::Inquiries,
        listen,
        observed::{Observed, announced},
        peers::{Kind, Peers},
        provide::{Change, Provider},
        search::{Searches, Tools},
        uplink::Uplink,
    },
    node::Tables,
    swarm::Swarm,
};
use cidery_bitswap::SessionId;
use cidery_core::{Cid, Claim, Digest, NetworkError};
use futures::StreamExt;
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
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
    Inquire(Digest, mpsc::Sender<Claim>),
    Distrust(PeerId),
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
    inquiries: Inquiries,
    answers: Answers,
    provider: Provider,
    observed: Observed,
    uplink: Uplink,
    /// When the routing tables were refreshed.
    refreshed: Instant,
}

impl Worker {
    /// Takes over a swarm that listens.
    pub(crate) fn new(
        swarm: Swarm,
        surroundings: Surroundings,
        searches: Searches,
        (inquiries, answers): (Inquiries, Answers),
    ) -> Self {
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
            inquiries,
            answers,
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
                answer = self.answers.next() => self.answers.on_answer(&mut self.swarm, answer),
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
            Command::Inquire(digest, claims) => self.inquire(digest, claims),
            Command::Distrust(peer) => self.inquiries.distrust(peer),
            // Taken by the loop.
            Command::Shutdown(_) => {}
        }
    }

    fn inquire(&mut self, digest: Digest, claims: mpsc::Sender<Claim>) {
        let Some(key) = digest.raw_cid() else { return };
        if let Some(inquiry) = self.inquiries.begin(&mut self.swarm, digest, claims) {
            self.with_searches(|searches, tools| searches.inquire(tools, inquiry, key));
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
        for inquiry in self.inquiries.tick(now) {
            self.with_searches(|searches, tools| searches.inquiry_ended(tools, inquiry));
        }
        self.provide();
    }

    fn provide(&mut self) {
        let observed = &self.observed;
        let addresses = |swarm: &Swarm, dht| announced(swarm, observed, dht);
        self.provider.tick(&mut self.swarm, &mut self.routing, addresses, Instant::now());
    }

    /// Passes on what became of dials and what inquiries are offered, until there is nothing more to pass on.
    fn settle(&mut self) {
        loop {
            let (outcomes, offers) = (self.dials.outcomes(), self.searches.offers());
            if outcomes.is_empty() && offers.is_empty() {
                return;
            }
            for offer in offers {
                self.inquiries.on_offer(&mut self.swarm, offer);
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
