//! One connection: negotiates streams and runs their readers and the writer. Everything else
//! happens in the engines, which the readers and the writer call directly: no message passes
//! through the swarm's task.

use crate::{
    client::Support,
    protocol::{Negotiation, is_bitswap},
    reader,
    shared::Shared,
    slot::PeerSlot,
    wire::Version,
    writer,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Stream,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
        },
    },
};
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Pauses between attempts to open a stream for sending: doubled from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What the behaviour tells a connection.
#[derive(Debug)]
pub enum Command {
    /// The peer is registered; inbound streams may be read.
    Start(Registered),
    /// This is the peer's connection to send on.
    Send,
}

/// The peer's part of what is shared.
pub struct Registered(pub(crate) Arc<PeerSlot>);

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.peer)
    }
}

enum Outbound {
    /// Another connection does the sending, or the peer does not speak Bitswap.
    Off,
    /// Until there is something to send.
    Waiting(BoxFuture<'static, ()>),
    Opening,
    Open(BoxFuture<'static, ()>),
}

/// The handler of one connection.
pub struct Handler {
    shared: Arc<Shared>,
    /// Bitswap is not spoken over relayed connections: they are short and slow by design.
    enabled: bool,
    slot: Option<Arc<PeerSlot>>,
    /// Streams that came before `slot`.
    early: Vec<Stream>,
    inbound: FuturesUnordered<BoxFuture<'static, ()>>,
    buffer: Arc<Semaphore>,
    /// Whether this connection does the sending.
    sends: bool,
    outbound: Outbound,
    failures: u32,
    waker: Option<Waker>,
}

impl Handler {
    pub(crate) fn new(shared: Arc<Shared>, enabled: bool) -> Self {
        let buffer = Arc::new(Semaphore::new(shared.config.inbound_buffer >> 10));
        Self {
            shared,
            enabled,
            slot: None,
            early: Vec::new(),
            inbound: FuturesUnordered::new(),
            buffer,
            sends: false,
            outbound: Outbound::Off,
            failures: 0,
            waker: None,
        }
    }

    fn read(&mut self, mut stream: Stream) {
        stream.ignore_for_keep_alive();
        let Some(slot) = self.slot.clone() else {
            if self.early.len() < self.shared.config.inbound_streams {
                self.early.push(stream);
            }
            return;
        };
        if self.inbound.len() >= self.shared.config.inbound_streams {
            tracing::debug!(peer = %slot.peer, "too many inbound streams: one is reset");
            return;
        }
        let (shared, buffer) = (self.shared.clone(), self.buffer.clone());
        self.inbound.push(
            async move {
                let peer = slot.peer;
                // Dropping the stream before its end resets it.
                if let Err(error) = reader::run(stream, shared, slot, buffer).await {
                    tracing::debug!(%peer, %error, "an inbound stream ended early");
                }
            }
            .boxed(),
        );
    }

    /// Waits for something to send, after a pause if the last stream failed.
    fn wait(&mut self) {
        let Some(slot) = self.slot.clone().filter(|_| self.sends) else {
            self.outbound = Outbound::Off;
            return;
        };
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => (RETRY.0 * 2u32.saturating_pow(failures - 1)).min(RETRY.1),
        };
        let work = writer::work(self.shared.clone(), slot);
        self.outbound = Outbound::Waiting(
            async move {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                work.await;
            }
            .boxed(),
        );
        self.wake();
    }

    fn write(&mut self, mut stream: Stream, version: Version) {
        stream.ignore_for_keep_alive();
        let Some(slot) = self.slot.clone() else { return };
        let shared = self.shared.clone();
        self.outbound = Outbound::Open(
            async move {
                let peer = slot.peer;
                match writer::run(stream, version, shared, slot).await {
                    Ok(never) => match never {},
                    Err(error) => tracing::debug!(%peer, %error, "the outbound stream failed"),
                }
            }
            .boxed(),
        );
        self.wake();
    }

    fn support(&self, support: Support) {
        if let Some(slot) = &self.slot {
            self.shared.client.lock().set_support(&slot.peer, support, Instant::now());
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Infallible;
    type InboundProtocol = Negotiation;
    type OutboundProtocol = Negotiation;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Negotiation> {
        SubstreamProtocol::new(Negotiation { enabled: self.enabled }, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.wanted.load(Relaxed) || slot.serving.load(Relaxed))
    }

    fn on_behaviour_event(&mut self, command: Command) {
        match command {
            Command::Start(Registered(slot)) => {
                self.slot = Some(slot);
                for stream in std::mem::take(&mut self.early) {
                    self.read(stream);
                }
            }
            Command::Send => {
                self.sends = true;
                self.wait();
            }
        }
        self.wake();
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Negotiation, Negotiation>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => self.read(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, version), ..
            }) => {
                self.failures = 0;
                self.write(stream, version);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => match error {
                StreamUpgradeError::NegotiationFailed => {
                    self.outbound = Outbound::Off;
                    self.support(Support::No);
                }
                StreamUpgradeError::Apply(never) => match never {},
                StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) => {
                    self.failures += 1;
                    self.wait();
                }
            },
            ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(added))
                if self.enabled && added.clone().any(is_bitswap) =>
            {
                self.support(Support::Yes);
                if self.sends && matches!(self.outbound, Outbound::Off) {
                    self.wait();
                }
            }
            _ => {}
        }
        self.wake();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Negotiation, (), Infallible>> {
        while let Poll::Ready(Some(())) = self.inbound.poll_next_unpin(cx) {}
        loop {
            let (running, writing) = match &mut self.outbound {
                Outbound::Waiting(work) => (work, false),
                Outbound::Open(writer) => (writer, true),
                Outbound::Off | Outbound::Opening => break,
            };
            if running.poll_unpin(cx).is_pending() {
                break;
            }
            if writing {
                self.failures += 1;
                self.wait();
            } else {
                self.outbound = Outbound::Opening;
                let protocol = SubstreamProtocol::new(Negotiation { enabled: true }, ());
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
