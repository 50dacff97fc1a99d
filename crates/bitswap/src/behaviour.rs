//! The behaviour: who is connected, which connection of a peer does the sending, and time.

use crate::{
    api::Event,
    handler::{Command, Handler, Registered},
    shared::Shared,
    slot::PeerSlot,
};
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, multiaddr::Protocol, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished,
    },
};
use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep};

/// How often stalls and deadlines are looked at while something is wanted.
const TICK: Duration = Duration::from_millis(100);

struct Connected {
    slot: Arc<PeerSlot>,
    /// Not the relayed ones. The first does the sending.
    connections: Vec<ConnectionId>,
}

/// Bitswap's part of a swarm. Dropping it ends all fetches with `FetchError::Closed`.
pub struct Behaviour {
    shared: Arc<Shared>,
    peers: HashMap<PeerId, Connected>,
    commands: VecDeque<(PeerId, ConnectionId, Command)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Behaviour {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, peers: HashMap::new(), commands: VecDeque::new(), timer: None }
    }

    fn established(&mut self, peer: PeerId, connection: ConnectionId) {
        let connected = self.peers.entry(peer).or_insert_with(|| {
            let slot = PeerSlot::new(peer);
            self.shared.server.lock().connected(slot.clone());
            self.shared.client.lock().connected(slot.clone(), Instant::now());
            Connected { slot, connections: Vec::new() }
        });
        let start = Command::Start(Registered(connected.slot.clone()));
        self.commands.push_back((peer, connection, start));
        if connected.connections.is_empty() {
            self.commands.push_back((peer, connection, Command::Send));
        }
        connected.connections.push(connection);
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(connected) = self.peers.get_mut(&peer) else { return };
        let Some(at) = connected.connections.iter().position(|other| *other == connection) else { return };
        connected.connections.remove(at);
        self.commands.retain(|(_, other, _)| *other != connection);
        match connected.connections.first() {
            Some(next) if at == 0 => self.commands.push_back((peer, *next, Command::Send)),
            Some(_) => {}
            None => {
                self.peers.remove(&peer);
                self.shared.client.lock().disconnected(&peer, Instant::now());
                self.shared.server.lock().disconnected(&peer);
            }
        }
    }
}

impl Drop for Behaviour {
    fn drop(&mut self) {
        self.shared.client.lock().close();
    }
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.shared.clone(), !is_relayed(local) && !is_relayed(remote)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.shared.clone(), !is_relayed(address)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. })
                if !endpoint.is_relayed() =>
            {
                self.established(peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.shared.waker.register(cx.waker());
        if let Some((peer_id, connection, event)) = self.commands.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
        }
        loop {
            let mut client = self.shared.client.lock();
            if let Some(event) = client.next_event() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            if client.is_idle() {
                if self.timer.take().is_some() {
                    self.shared.buffers.clear();
                }
                return Poll::Pending;
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(TICK)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            client.tick(Instant::now());
        }
    }
}
