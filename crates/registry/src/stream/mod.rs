//! Blobs on their way out.
//!
//! ```text
//!   local    blocking thread reads a leaf ──► 4 frames of 256 KiB ──► hyper
//!   foreign  session, read-ahead window ──► whole-blob hash beside it ──► frames ──► hyper
//! ```
//!
//! A response's producer is a task of its own that no slow client can tie a thread to: it reads the
//! next leaf only when the one before is nearly gone, gives up when nothing was taken for the stall
//! time, and ends as soon as the body is dropped.
//!
//! What is read in an own namespace is held until it is sent, by a
//! [`HoldingFetcher`](cidery_core::ports::HoldingFetcher) in the reader, which lives as long as the
//! producer. What came from peers is not, since a file larger than the cache could not be streamed
//! then: what the cache gave up is fetched again.

mod body;
mod foreign;
mod local;

pub use body::{Fate, FrameBody};
pub use foreign::{Hash, Settled, Verify, foreign, verify};
pub use local::local;

use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;

/// What hyper gets at once: large enough for few calls, small enough to stay in the CPU's cache.
const FRAME: usize = 256 << 10;

/// Frames between the reader and hyper.
const FRAMES: usize = 4;

/// The producer's end of a body.
struct Sink {
    frames: mpsc::Sender<Result<Bytes, body::BodyError>>,
    stall: Duration,
}

/// The client went away, or takes nothing any more.
struct Gone;

impl Sink {
    async fn send(&self, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            let frame = data.split_to(data.len().min(FRAME));
            match tokio::time::timeout(self.stall, self.frames.send(Ok(frame))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Ends the body with an error, on which hyper resets the connection instead of ending cleanly.
    async fn fail(&self, error: impl Into<body::BodyError>) {
        let error = error.into();
        tracing::warn!(%error, "a blob could not be sent to its end");
        // Nobody to tell when the client is gone already.
        let _ = tokio::time::timeout(self.stall, self.frames.send(Err(error))).await;
    }
}

fn channel(size: u64, stall: Duration) -> (Sink, FrameBody) {
    let (frames, receiver) = mpsc::channel(FRAMES);
    (Sink { frames, stall }, FrameBody::new(receiver, size))
}
