//! Reads one inbound stream: frames, one after the other, until the peer closes it.

use crate::{
    api::Misbehaviour,
    frames::Place,
    shared::Shared,
    slot::PeerSlot,
    wire::{MAX_FRAME, decode},
};
use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, io::BufReader};
use std::{io, sync::Arc, time::Instant};
use tokio::{sync::Semaphore, time::timeout};

/// Parts of frames from this size on are signs of life. Smaller ones come at once or not at all.
const LARGE: usize = 4 << 10;

/// Reads until the end. An error means that the stream is to be reset.
/// `buffer` bounds the bytes of unfinished frames, in KiB, over all streams of the connection.
pub(crate) async fn run(
    stream: impl AsyncRead + Unpin,
    shared: Arc<Shared>,
    slot: Arc<PeerSlot>,
    buffer: Arc<Semaphore>,
) -> io::Result<()> {
    // Small, so that the bulk of a large frame goes past it.
    let mut stream = BufReader::with_capacity(4 << 10, stream);
    while let Some(len) = length(&mut stream).await? {
        if len > MAX_FRAME {
            return Err(bad(&shared, &slot, format!("a frame of {len} bytes")));
        }
        let share = u32::try_from((len >> 10).clamp(1, shared.config.inbound_buffer >> 10)).unwrap_or(u32::MAX);
        // Never closed.
        let permit = buffer.acquire_many(share).await.map_err(io::Error::other)?;
        let place = shared.frames_of(&slot.peer).enter(len).await?;
        let frame = body(&mut stream, len, place.as_ref(), &shared, &slot).await?;
        let message =
            decode(frame, shared.config.max_entries).map_err(|error| bad(&shared, &slot, error.to_string()))?;
        shared.receive(slot.peer, message).await;
        drop((permit, place));
    }
    Ok(())
}

/// The length before a frame; `None` at the end of the stream.
async fn length(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<usize>> {
    let mut len = 0usize;
    for place in 0..5 {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return if place == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        len |= usize::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            return Ok(Some(len));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the length of a frame has more than five bytes"))
}

async fn body(
    stream: &mut (impl AsyncRead + Unpin),
    len: usize,
    place: Option<&Place>,
    shared: &Shared,
    slot: &PeerSlot,
) -> io::Result<Bytes> {
    let mut frame = shared.buffers.take(len);
    let mut filled = 0;
    while filled < len {
        let read = timeout(shared.config.stream_timeout, stream.read(&mut frame.as_mut()[filled..]));
        let read = match place {
            None => read.await,
            Some(place) => tokio::select! {
                biased;
                read = read => read,
                () = place.over() => return Err(crate::session::timed_out("others need the memory of a slow frame")),
            },
        };
        let read = read.map_err(|_| crate::session::timed_out("the rest of a frame did not come"))??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if len >= LARGE {
            slot.hear();
        }
        if let Some(place) = place {
            place.filled(filled);
        }
    }
    if let Some(place) = place {
        place.complete();
    }
    Ok(frame.freeze())
}

fn bad(shared: &Shared, slot: &PeerSlot, what: String) -> io::Error {
    shared.client.lock().offence(slot.peer, Misbehaviour::BadMessage, Instant::now());
    io::Error::new(io::ErrorKind::InvalidData, what)
}
