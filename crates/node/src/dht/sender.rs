//! Sends ADD_PROVIDER: many keys to one peer on one stream, each with addresses that are known to be of use.
//!
//! The DHT's own announcement makes a lookup per key and carries confirmed external addresses only,
//! of which a node on a LAN has none; deployed nodes drop a record without addresses. No reply is waited
//! for, because deployed nodes send none.

use crate::address::Dht;
use futures::{AsyncWriteExt, FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{DeniedUpgrade, ReadyUpgrade},
    },
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, DialFailure,
        FromSwarm, NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
        behaviour::ConnectionEstablished,
        dial_opts::{DialOpts, PeerCondition},
        handler::{ConnectionEvent, FullyNegotiatedOutbound},
    },
};
use prost::Message as _;
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Streams written at a time on one connection.
const STREAMS: usize = 2;
/// Batches waiting on one connection; more are dropped, and come again with the next round.
const WAITING: usize = 32;
/// Peers that are dialled for the sake of a batch at a time.
const DIALS: usize = 128;
/// A stream that takes longer than this for its batch is given up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Keys that this node provides, for one peer.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) dht: Dht,
    /// Multihashes.
    pub(crate) keys: Arc<[Vec<u8>]>,
    /// Where this node is found: at least one, or the record is dropped.
    pub(crate) addresses: Arc<[Multiaddr]>,
}

/// The behaviour.
pub(crate) struct Sender {
    own: PeerId,
    connected: HashMap<PeerId, usize>,
    dialling: HashMap<PeerId, Vec<Batch>>,
    actions: VecDeque<ToSwarm<Infallible, Batch>>,
}

impl Sender {
    pub(crate) fn new(own: PeerId) -> Self {
        Self { own, connected: HashMap::new(), dialling: HashMap::new(), actions: VecDeque::new() }
    }

    /// Sends a batch; dials the peer if need be, at `known` and wherever the DHTs know it.
    pub(crate) fn send(&mut self, peer: PeerId, known: Vec<Multiaddr>, batch: Batch) {
        if peer == self.own || batch.addresses.is_empty() || batch.keys.is_empty() {
            return;
        }
        if self.connected.contains_key(&peer) {
            self.notify(peer, batch);
        } else if let Some(waiting) = self.dialling.get_mut(&peer) {
            if waiting.len() < WAITING {
                waiting.push(batch);
            }
        } else if self.dialling.len() < DIALS {
            self.dialling.insert(peer, vec![batch]);
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(known)
                .extend_addresses_through_behaviour()
                .build();
            self.actions.push_back(ToSwarm::Dial { opts });
        }
    }

    fn notify(&mut self, peer_id: PeerId, event: Batch) {
        self.actions.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event });
    }
}

impl NetworkBehaviour for Sender {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.own))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.own))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, .. }) => {
                *self.connected.entry(peer_id).or_default() += 1;
                for batch in self.dialling.remove(&peer_id).unwrap_or_default() {
                    self.notify(peer_id, batch);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, remaining_established: 0, .. }) => {
                self.connected.remove(&peer_id);
            }
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, .. }) => {
                use libp2p::swarm::DialError::DialPeerConditionFalse;
                // Another dial to the same peer is under way: wait for that one.
                if !matches!(error, DialPeerConditionFalse(_)) {
                    self.dialling.remove(&peer);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // Woken by the swarm: actions are added only from its own task, between two polls.
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's part of it.
pub(crate) struct Handler {
    own: PeerId,
    waiting: VecDeque<Batch>,
    opening: usize,
    writing: FuturesUnordered<BoxFuture<'static, io::Result<()>>>,
}

impl Handler {
    fn new(own: PeerId) -> Self {
        Self { own, waiting: VecDeque::new(), opening: 0, writing: FuturesUnordered::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Batch;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Batch;

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn on_behaviour_event(&mut self, batch: Batch) {
        if self.waiting.len() < WAITING {
            self.waiting.push_back(batch);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Batch, Infallible>> {
        while let Poll::Ready(Some(result)) = self.writing.poll_next_unpin(cx) {
            if let Err(error) = result {
                tracing::debug!(%error, "provider records were not sent");
            }
        }
        if self.opening + self.writing.len() < STREAMS
            && let Some(batch) = self.waiting.pop_front()
        {
            self.opening += 1;
            let upgrade = ReadyUpgrade::new(batch.dht.protocol());
            let protocol = SubstreamProtocol::new(upgrade, batch).with_timeout(TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, DeniedUpgrade, Self::OutboundProtocol, (), Batch>) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.opening -= 1;
                let write = tokio::time::timeout(TIMEOUT, write(protocol, info, self.own));
                self.writing.push(write.map(|done| done.unwrap_or(Err(io::ErrorKind::TimedOut.into()))).boxed());
            }
            ConnectionEvent::DialUpgradeError(_) => self.opening -= 1,
            _ => {}
        }
    }
}

async fn write(mut stream: Stream, batch: Batch, own: PeerId) -> io::Result<()> {
    let addrs: Vec<_> = batch.addresses.iter().map(Multiaddr::to_vec).collect();
    let provider = Peer { id: own.to_bytes(), addrs, connection: CONNECTED };
    let mut message = Message { kind: ADD_PROVIDER, key: Vec::new(), providers: vec![provider] };
    let mut frames = Vec::new();
    for key in batch.keys.iter() {
        message.key.clone_from(key);
        let length = message.encoded_len();
        frames.extend_from_slice(unsigned_varint::encode::usize(length, &mut unsigned_varint::encode::usize_buffer()));
        // A Vec takes whatever is written to it.
        message.encode(&mut frames).map_err(io::Error::other)?;
        if frames.len() > 16 << 10 {
            stream.write_all(&frames).await?;
            frames.clear();
        }
    }
    stream.write_all(&frames).await?;
    stream.close().await
}

const ADD_PROVIDER: i32 = 2;
const CONNECTED: i32 = 1;

/// The part of the DHT's `Message` that ADD_PROVIDER uses (libp2p specs, kad-dht, "RPC messages").
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "9")]
    providers: Vec<Peer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addrs: Vec<Vec<u8>>,
    #[prost(int32, tag = "3")]
    connection: i32,
}
