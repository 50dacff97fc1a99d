//! A blob that is here: its bytes were checked when they came in, and the store checks its records.

use super::{FrameBody, body::BodyError, channel};
use bytes::Bytes;
use cidery_unixfs::{FileReader, FileStream, UnixfsError};
use std::{ops::Range, time::Duration};
use tokio::task::{JoinHandle, spawn_blocking};

/// Streams `range` of a file whose fetcher never waits. One leaf is read ahead of the one that is sent.
pub fn local(file: FileReader, range: Range<u64>, stall: Duration) -> FrameBody {
    let (sink, body) = channel(range.end - range.start, stall);
    tokio::spawn(async move {
        let mut reading = next(file.read(range, 0));
        loop {
            match reading.await {
                Ok((Ok(Some(leaf)), stream)) => {
                    reading = next(stream);
                    if sink.send(leaf).await.is_err() {
                        return;
                    }
                }
                Ok((Ok(None), _)) => return,
                Ok((Err(error), _)) => return sink.fail(error).await,
                Err(_) => return sink.fail(BodyError::Stopped).await,
            }
        }
    });
    body
}

type Read = (Result<Option<Bytes>, UnixfsError>, FileStream);

fn next(mut stream: FileStream) -> JoinHandle<Read> {
    spawn_blocking(move || (futures::executor::block_on(stream.next()), stream))
}
