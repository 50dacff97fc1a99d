//! Writes one outbound stream: what there is to say to a peer, and the blocks it wants, as fast as
//! the stream takes them and never further ahead than a few MiB.

use crate::{
    session::timed_out,
    shared::Shared,
    slot::PeerSlot,
    wire::{Outgoing, Version},
};
use bytes::Bytes;
use cidery_core::Cid;
use futures::{AsyncWrite, AsyncWriteExt, FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use std::{convert::Infallible, io, sync::Arc};
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
    let mut ready = None;
    let mut unflushed = false;
    loop {
        shared.start_lookups(slot.peer);
        loop {
            let taken = shared.server.lock().take_blocks(&slot.peer, reading);
            let Some((cids, bytes)) = taken else { break };
            reading += bytes.max(1);
            reads.push_back(read(shared.clone(), cids, bytes.max(1)).boxed());
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
            for piece in out.encode(version) {
                for piece in piece.chunks(PIECE) {
                    let written = timeout(shared.config.stream_timeout, stream.write_all(piece)).await;
                    written.map_err(|_| timed_out("the peer does not read"))??;
                }
            }
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

async fn read(shared: Arc<Shared>, cids: Vec<Cid>, counted: u64) -> Read {
    let most = (shared.config.read_ahead >> 10) as u64;
    let share = u32::try_from((counted >> 10).clamp(1, most)).unwrap_or(u32::MAX);
    // Never closed.
    let share = shared.read_ahead.clone().acquire_many_owned(share).await.ok();
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
