//! Writes one outbound stream: what there is to say to a peer, and the blocks it wants, as fast as
//! the stream takes them and hardly further ahead than that.

use crate::{
    Config,
    session::timed_out,
    shared::Shared,
    slot::PeerSlot,
    wire::{Outgoing, Version},
};
use bytes::Bytes;
use cidery_core::{Cid, MAX_BLOCK};
use futures::{AsyncWrite, AsyncWriteExt, FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use std::{
    convert::Infallible,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

/// A write of this many bytes has to make progress within the time limit.
const PIECE: usize = 256 << 10;

/// Blocks that were read, the bytes they were counted with, and their share of the read-ahead.
struct Read {
    blocks: Vec<(Cid, Option<Bytes>)>,
    counted: u64,
    _share: Option<OwnedSemaphorePermit>,
}

/// Waits until there is something to say.
pub(crate) async fn work(shared: Arc<Shared>, slot: Arc<PeerSlot>) {
    while !shared.has_work(&slot.peer) {
        slot.work.notified().await;
    }
}

/// However the stream ends, what was under way on it is taken up again.
struct Closing(Arc<Shared>, Arc<PeerSlot>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.client.lock().stream_closed(&self.1.peer);
        self.0.server.lock().stream_closed(&self.1.peer);
    }
}

/// Writes until the stream fails.
pub(crate) async fn run(
    mut stream: impl AsyncWrite + Unpin,
    version: Version,
    shared: Arc<Shared>,
    slot: Arc<PeerSlot>,
) -> io::Result<Infallible> {
    shared.client.lock().stream_opened(&slot.peer, version);
    let _closing = Closing(shared.clone(), slot.clone());
    let mut reads: FuturesOrdered<BoxFuture<'static, Read>> = FuturesOrdered::new();
    let mut reading = 0;
    let mut window = Window::default();
    let mut ready = None;
    let mut unflushed = false;
    loop {
        shared.start_lookups(slot.peer);
        while let Some((cids, bytes, share)) = take(&shared, &slot, reading, window.0) {
            reading += bytes.max(1);
            reads.push_back(read(shared.clone(), cids, bytes.max(1), share).boxed());
        }
        let mut out = Outgoing::default();
        shared.fill(&slot.peer, version, &mut out);
        // Polling starts the reads; what is done already goes out at once.
        let mut done: Option<Read> = ready.take();
        if done.is_none() && !reads.is_empty() {
            done = reads.next().now_or_never().flatten();
        }
        if let Some(done) = &mut done {
            reading -= done.counted;
            let mut server = shared.server.lock();
            for (cid, data) in done.blocks.drain(..) {
                match data {
                    // Cancelled meanwhile, if not.
                    Some(data) if server.still_wanted(&slot.peer, cid.hash()) => {
                        server.sent(&slot.peer, cid.hash(), data.len() as u64);
                        out.blocks.push((cid, data));
                    }
                    Some(_) => {}
                    None => server.vanished(&slot.peer, cid.hash()),
                }
            }
        }
        if !out.is_empty() {
            let (started, mut len) = (Instant::now(), 0);
            for piece in out.encode(version) {
                len += piece.len() as u64;
                for piece in piece.chunks(PIECE) {
                    let written = timeout(shared.config.stream_timeout, stream.write_all(piece)).await;
                    written.map_err(|_| timed_out("the peer does not read"))??;
                }
            }
            window.drained(len, started.elapsed(), &shared.config);
            unflushed = true;
            continue;
        }
        if done.is_some() {
            continue;
        }
        if unflushed {
            timeout(shared.config.stream_timeout, stream.flush())
                .await
                .map_err(|_| timed_out("the peer does not read"))??;
            unflushed = false;
            continue;
        }
        tokio::select! {
            () = slot.work.notified() => {}
            next = reads.next(), if !reads.is_empty() => ready = next,
        }
    }
}

/// How many bytes may be read ahead: as many as the peer drains in a while. It grows from nothing by
/// what the peer drains, so that one which reads nothing has nothing read ahead.
#[derive(Default)]
struct Window(u64);

impl Window {
    fn drained(&mut self, bytes: u64, took: Duration, config: &Config) {
        let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
        let worth = (rate * config.read_ahead_time.as_secs_f64()) as u64;
        // Small messages say little about the rate, so one of them does not undo what was measured.
        let least = self.0.saturating_sub(bytes);
        self.0 = worth.clamp(least, self.0 + bytes).min(config.peer_read_ahead as u64);
    }
}

/// The next blocks to read, with their share of what all peers may have read ahead. The first message
/// needs none: it cannot be held up by others.
fn take(
    shared: &Shared,
    slot: &PeerSlot,
    reading: u64,
    window: u64,
) -> Option<(Vec<Cid>, u64, Option<OwnedSemaphorePermit>)> {
    if reading == 0 {
        let (cids, bytes) = shared.server.lock().take_blocks(&slot.peer, 0, true)?;
        return Some((cids, bytes, None));
    }
    let room = window.saturating_sub(reading).min(MAX_BLOCK as u64);
    let permits = usize::try_from(room.div_ceil(1 << 10)).ok().filter(|permits| *permits > 0)?;
    let mut share = shared.read_ahead.clone().try_acquire_many_owned(u32::try_from(permits).ok()?).ok()?;
    let (cids, bytes) = shared.server.lock().take_blocks(&slot.peer, room, false)?;
    let needed = usize::try_from(bytes.div_ceil(1 << 10)).unwrap_or(usize::MAX);
    drop(share.split(permits.saturating_sub(needed)));
    Some((cids, bytes, Some(share)))
}

async fn read(shared: Arc<Shared>, cids: Vec<Cid>, counted: u64, share: Option<OwnedSemaphorePermit>) -> Read {
    let permit = shared.readers.clone().acquire_owned().await.ok();
    let gone = cids.clone();
    let read = tokio::task::spawn_blocking(move || {
        let blocks = shared.read(cids);
        drop(permit);
        blocks
    });
    // Without a result the store panicked, or the runtime stops.
    let blocks = read.await.unwrap_or_else(|_| gone.into_iter().map(|cid| (cid, None)).collect());
    Read { blocks, counted, _share: share }
}
