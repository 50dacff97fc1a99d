//! A connection whose other end must go on taking what is sent to it.
//!
//! A body's producer gives up by itself when hyper takes nothing of it any more; but what hyper and
//! the frames between them hold would wait for the client for ever, and the connection with it.

use crate::patience::{Meter, Patience};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

/// Fails when writes make next to no progress for longer than there is patience.
pub struct WriteDeadline<S> {
    stream: S,
    meter: Meter,
}

impl<S> WriteDeadline<S> {
    /// Nothing is being written yet.
    pub fn new(stream: S, patience: &Patience) -> Self {
        Self { stream, meter: patience.meter() }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        size: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = &written {
            self.meter.moved(result.as_ref().map_or(0, size));
            return written;
        }
        self.meter.poll_wait(cx).map(|_| {
            let what = format!("the client took next to nothing for {:?}", self.meter.limit());
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        })
    }
}

impl<S: Read + Unpin> Read for WriteDeadline<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Write + Unpin> Write for WriteDeadline<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written, |size| *size)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written, |size| *size)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, shut, |()| 0)
    }
}
