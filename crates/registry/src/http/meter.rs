//! What is noted of every request from its head to the end of its answer, for metrics and the access log.
//!
//! A request that is dropped on the way, since its client went, is counted too ([`GONE`]).

use crate::{
    ops::{
        labels::{self, Endpoint, GONE},
        metrics::Metrics,
    },
    registry::Inner,
};
use axum::{
    body::{Body, HttpBody},
    extract::Request,
    response::Response,
};
use bytes::{Buf, Bytes};
use hyper::body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

/// An answer of at most this many bytes counts as sent when it is given to the connection, where it fits into the
/// socket's buffer. So the many small ones need no wrapper.
const AT_ONCE: u64 = 64 << 10;

/// What a request turns out to be while it is answered.
#[derive(Debug, Default)]
pub struct Seen {
    endpoint: AtomicU8,
    user: OnceLock<String>,
}

impl Seen {
    /// Its path was read.
    pub fn endpoint(&self, endpoint: Endpoint) {
        self.endpoint.store(endpoint as u8, Relaxed);
    }

    /// Who it is was found out.
    pub fn user(&self, name: &str) {
        // Found out once.
        let _ = self.user.set(name.to_owned());
    }
}

/// One request.
pub struct Meter {
    metrics: Arc<Metrics>,
    started: Instant,
    method: usize,
    seen: Seen,
    received: Option<Arc<AtomicU64>>,
    ended: bool,
}

impl Meter {
    /// A request is here. Its body is counted from now on.
    pub fn begin(registry: &Inner, request: Request) -> (Self, Request) {
        let metrics = registry.metrics.clone();
        metrics.begin();
        let mut meter = Self {
            metrics,
            started: Instant::now(),
            method: labels::method(request.method()),
            seen: Seen::default(),
            received: None,
            ended: false,
        };
        let request = request.map(|body| meter.counting(body));
        (meter, request)
    }

    /// Where it is noted what the request turns out to be.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    fn counting(&mut self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let received = self.received.insert(Arc::default()).clone();
        Body::new(Received { body, received, metrics: self.metrics.clone() })
    }

    /// There is an answer; the request ends when that is sent.
    pub fn answered(mut self, response: Response) -> Response {
        let status = response.status().as_u16();
        match response.body().size_hint().exact() {
            Some(size) if size <= AT_ONCE => {
                self.metrics.sent(size);
                self.end(status, size, true);
                response
            }
            _ => response.map(|body| Body::new(Sent { body, meter: self, status, sent: 0, whole: false })),
        }
    }

    fn end(&mut self, status: u16, _sent: u64, _whole: bool) {
        if !std::mem::replace(&mut self.ended, true) {
            let endpoint = Endpoint::at(self.seen.endpoint.load(Relaxed));
            self.metrics.end(endpoint, self.method, status, self.started.elapsed());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end(GONE, 0, false);
    }
}

/// A request's body.
struct Received {
    body: Body,
    received: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let size = size_of(&frame);
        self.received.fetch_add(size, Relaxed);
        self.metrics.received(size);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; the request ends with it.
struct Sent {
    body: Body,
    meter: Meter,
    status: u16,
    sent: u64,
    whole: bool,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let size = size_of(&frame);
        self.sent += size;
        self.meter.metrics.sent(size);
        // A connection asks no further once it has what was announced.
        self.whole = matches!(frame, None | Some(Ok(_))) && (frame.is_none() || self.body.is_end_stream());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let whole = self.whole || self.body.size_hint().exact() == Some(0);
        self.meter.end(self.status, self.sent, whole);
    }
}

fn size_of(frame: &Option<Result<Frame<Bytes>, axum::Error>>) -> u64 {
    let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
    data.map_or(0, Buf::remaining) as u64
}
