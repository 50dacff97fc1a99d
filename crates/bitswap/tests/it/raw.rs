//! A peer made by hand: raw streams and its own idea of the protocol, to play what no honest
//! implementation would.

use crate::harness::{LIMIT, builder};
use cidery_core::{Block, Bytes, Cid};
use futures::{
    AsyncReadExt, AsyncWriteExt, StreamExt,
    future::{Ready, ready},
};
use libp2p::{
    InboundUpgrade, Multiaddr, OutboundUpgrade, PeerId, Stream, StreamProtocol,
    core::{Endpoint, transport::PortUse, upgrade::UpgradeInfo},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, SubstreamProtocol, SwarmEvent, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use prost::Message as _;
use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(message, optional, tag = "1")]
    pub wantlist: Option<Wantlist>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub blocks: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    pub payload: Vec<Payload>,
    #[prost(message, repeated, tag = "4")]
    pub presences: Vec<Presence>,
    #[prost(int32, tag = "5")]
    pub pending_bytes: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Wantlist {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    #[prost(bool, tag = "2")]
    pub full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    pub cid: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub priority: i32,
    #[prost(bool, tag = "3")]
    pub cancel: bool,
    #[prost(int32, tag = "4")]
    pub want_type: i32,
    #[prost(bool, tag = "5")]
    pub send_dont_have: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    #[prost(bytes = "vec", tag = "1")]
    pub prefix: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Presence {
    #[prost(bytes = "vec", tag = "1")]
    pub cid: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub kind: i32,
}

pub const HAVE: i32 = 1;
pub const BLOCK: i32 = 0;

/// A message that wants these.
pub fn wants<'a>(cids: impl IntoIterator<Item = &'a Cid>, want_type: i32) -> Message {
    let entry = |cid: &Cid| Entry { cid: cid.to_bytes(), priority: 1, want_type, send_dont_have: true, cancel: false };
    let entries = cids.into_iter().map(entry).collect();
    Message { wantlist: Some(Wantlist { entries, full: false }), ..Message::default() }
}

/// A payload entry of raw sha2-256 bytes.
pub fn payload(data: &[u8]) -> Payload {
    Payload { prefix: vec![1, 0x55, 0x12, 32], data: data.to_vec() }
}

pub async fn send(stream: &mut Stream, message: &Message) {
    let frame = message.encode_length_delimited_to_vec();
    timeout(LIMIT, stream.write_all(&frame)).await.expect("written in time").unwrap();
    timeout(LIMIT, stream.flush()).await.expect("flushed in time").unwrap();
}

/// The next message; `None` at the end of the stream.
pub async fn receive(stream: &mut Stream) -> Option<Message> {
    let mut len = Vec::new();
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        len.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut frame = vec![0; prost::decode_length_delimiter(len.as_slice()).unwrap()];
    stream.read_exact(&mut frame).await.ok()?;
    Some(Message::decode(frame.as_slice()).unwrap())
}

#[derive(Debug, Clone)]
struct Names(&'static [&'static str]);

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;
    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().map(|name| StreamProtocol::new(name)).collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;
    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Names {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;
    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

struct Handler {
    names: Names,
    inbound: mpsc::Sender<Stream>,
    requests: VecDeque<oneshot::Sender<Stream>>,
    opening: VecDeque<oneshot::Sender<Stream>>,
}

#[derive(Debug)]
struct Open(oneshot::Sender<Stream>);

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Names;
    type OutboundProtocol = Names;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(self.names.clone(), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, Open(reply): Open) {
        self.requests.push_back(reply);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Names, Names>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.inbound.try_send(protocol).unwrap();
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.opening.pop_front().unwrap().send(protocol).unwrap();
            }
            _ => {}
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Names, (), Infallible>> {
        match self.requests.pop_front() {
            Some(reply) => {
                self.opening.push_back(reply);
                let protocol = SubstreamProtocol::new(self.names.clone(), ());
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }
}

struct Behaviour {
    names: Names,
    inbound: mpsc::Sender<Stream>,
    opens: mpsc::Receiver<(PeerId, Open)>,
}

impl Behaviour {
    fn handler(&self) -> Handler {
        Handler {
            names: self.names.clone(),
            inbound: self.inbound.clone(),
            requests: VecDeque::new(),
            opening: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        match self.opens.poll_recv(cx) {
            Poll::Ready(Some((peer_id, event))) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            _ => Poll::Pending,
        }
    }
}

pub struct Raw {
    pub id: PeerId,
    pub address: Multiaddr,
    inbound: Mutex<mpsc::Receiver<Stream>>,
    opens: mpsc::Sender<(PeerId, Open)>,
    connected: watch::Receiver<Vec<PeerId>>,
    task: JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Raw {
    pub async fn new() -> Self {
        Self::speaking(&["/ipfs/bitswap/1.2.0"]).await
    }

    pub async fn speaking(names: &'static [&'static str]) -> Self {
        let (inbound_sender, inbound) = mpsc::channel(64);
        let (opens, requests) = mpsc::channel(16);
        let mut swarm = builder(|_| Behaviour { names: Names(names), inbound: inbound_sender, opens: requests });
        let id = *swarm.local_peer_id();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (now_connected, connected) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
                now_connected.send_replace(swarm.connected_peers().copied().collect());
            }
        });
        Self { id, address, inbound: Mutex::new(inbound), opens, connected, task }
    }

    /// Opens a stream to a connected peer.
    pub async fn open(&self, peer: PeerId) -> Stream {
        let mut connected = self.connected.clone();
        let seen = timeout(LIMIT, connected.wait_for(|peers| peers.contains(&peer))).await;
        seen.expect("connected in time").unwrap();
        let (reply, stream) = oneshot::channel();
        self.opens.send((peer, Open(reply))).await.unwrap();
        timeout(LIMIT, stream).await.expect("a stream in time").unwrap()
    }

    /// The next stream that a peer opens.
    pub async fn accept(&self) -> Stream {
        timeout(LIMIT, self.inbound.lock().await.recv()).await.expect("a stream in time").unwrap()
    }

    /// Answers every want with what `answer` makes of it, until the peer goes away.
    pub async fn serve(&self, peer: PeerId, mut answer: impl FnMut(Entry) -> Option<Message>) {
        let mut inbound = self.accept().await;
        let mut outbound = self.open(peer).await;
        while let Some(message) = receive(&mut inbound).await {
            for entry in message.wantlist.into_iter().flat_map(|list| list.entries).filter(|entry| !entry.cancel) {
                if let Some(reply) = answer(entry) {
                    send(&mut outbound, &reply).await;
                }
            }
        }
    }
}

/// Finds the block that an entry names.
pub fn find<'a>(blocks: &'a [Block], entry: &Entry) -> Option<&'a Bytes> {
    blocks.iter().find(|block| block.cid().to_bytes() == entry.cid).map(Block::data)
}

/// A HAVE or DONT_HAVE.
pub fn presence(cid: &[u8], have: bool) -> Message {
    Message { presences: vec![Presence { cid: cid.to_vec(), kind: i32::from(!have) }], ..Message::default() }
}
