//! A body of known length that is fed through a bounded channel.

use crate::places::Place;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use thiserror::Error;
use tokio::sync::mpsc;

/// Why a body ends before its length.
#[derive(Debug, Clone, Error)]
pub enum BodyError {
    /// The blob could not be read further.
    #[error(transparent)]
    Read(#[from] cidery_unixfs::UnixfsError),
    /// The blob is not what it is named by.
    #[error(transparent)]
    Bad(#[from] crate::foreign::BadBlob),
    /// The producer stopped: the client took nothing for too long, or a thread failed.
    #[error("the rest of the blob was not sent")]
    Stopped,
}

/// Whoever wants to know how a body ended.
pub trait Fate: Send + 'static {
    /// Called once, when the body is dropped: whether hyper took all of it.
    fn ended(&mut self, whole: bool);
}

/// The body of one blob response. It ends cleanly exactly at its length, else with an error.
pub struct FrameBody {
    frames: mpsc::Receiver<Result<Bytes, BodyError>>,
    remaining: u64,
    failed: bool,
    fate: Option<Box<dyn Fate>>,
    /// Its place among all that are on their way.
    _place: Option<Place>,
}

impl FrameBody {
    pub(super) fn new(frames: mpsc::Receiver<Result<Bytes, BodyError>>, size: u64) -> Self {
        Self { frames, remaining: size, failed: false, fate: None, _place: None }
    }

    /// Keeps a place until the body is gone.
    pub fn in_place(mut self, place: Place) -> Self {
        self._place = Some(place);
        self
    }

    /// Tells `fate` when the body is gone.
    pub fn with_fate(mut self, fate: impl Fate) -> Self {
        self.fate = Some(Box::new(fate));
        self
    }
}

impl Body for FrameBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.remaining == 0 || self.failed {
            return Poll::Ready(None);
        }
        let frame = match std::task::ready!(self.frames.poll_recv(cx)) {
            Some(Ok(frame)) if frame.len() as u64 <= self.remaining => Ok(frame),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Err(BodyError::Stopped),
        };
        Poll::Ready(Some(match frame {
            Ok(frame) => {
                self.remaining -= frame.len() as u64;
                Ok(Frame::data(frame))
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl Drop for FrameBody {
    fn drop(&mut self) {
        if let Some(mut fate) = self.fate.take() {
            fate.ended(self.remaining == 0 && !self.failed);
        }
    }
}
