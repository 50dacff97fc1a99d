//! What is noted of every request from its head to the end of its answer, for metrics and the access log.
//!
//! A request that is dropped on the way, since its client went, is counted too ([`GONE`]).

use super::telling;
use crate::{
    ops::{
        labels::{self, Endpoint, GONE, METHODS},
        metrics::Metrics,
    },
    registry::Inner,
};
use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request},
    http::header,
    response::Response,
};
use bytes::{Buf, Bytes};
use cidery_access::Principal;
use hyper::body::{Frame, SizeHint};
use std::{
    net::{IpAddr, SocketAddr},
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

/// How much of a path the access log shows, in characters: all of one that is not refused for its length.
const MAX_PATH: usize = 4096;

/// What a request turns out to be while it is answered.
#[derive(Debug, Default)]
pub struct Seen {
    endpoint: AtomicU8,
    client: OnceLock<IpAddr>,
    user: OnceLock<String>,
}

impl Seen {
    /// Its path was read.
    pub fn endpoint(&self, endpoint: Endpoint) {
        self.endpoint.store(endpoint as u8, Relaxed);
    }

    /// A trusted proxy says for whom it asks.
    pub fn client(&self, address: IpAddr) {
        // Said once.
        let _ = self.client.set(address);
    }

    /// Who it is was found out.
    pub fn principal(&self, who: &Principal) {
        if let Some(name) = who.name() {
            // Found out once.
            let _ = self.user.set(name.to_owned());
        }
    }
}

/// What the access log says of a request besides what is counted. No query and no header but one: they may contain
/// secrets.
struct Access {
    id: u64,
    path: String,
    remote: Option<String>,
    agent: Option<String>,
}

impl Access {
    /// Nothing where nobody keeps an access log.
    fn of(request: &Request, id: u64) -> Option<Box<Self>> {
        if !tracing::enabled!(target: "cidery::access", tracing::Level::INFO) {
            return None;
        }
        let remote = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let path = request.uri().path();
        // By characters: a path may contain any.
        let path = path.chars().take(MAX_PATH).collect();
        let remote = remote.map(|ConnectInfo(address)| address.to_string());
        Some(Box::new(Self { id, path, remote, agent: telling::agent(request.headers()) }))
    }
}

/// One request.
pub struct Meter {
    metrics: Arc<Metrics>,
    started: Instant,
    method: usize,
    seen: Seen,
    received: Option<Arc<AtomicU64>>,
    access: Option<Box<Access>>,
    ended: bool,
}

impl Meter {
    /// A request is here. Its body is counted from now on.
    pub fn begin(registry: &Inner, request: Request, id: u64) -> (Self, Request) {
        let metrics = registry.metrics.clone();
        metrics.begin();
        let mut meter = Self {
            metrics,
            started: Instant::now(),
            method: labels::method(request.method()),
            access: Access::of(&request, id),
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
            size => {
                let length = response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok()).or(size);
                response.map(|body| Body::new(Sent { body, meter: self, status, length, sent: 0, ended: false }))
            }
        }
    }

    fn end(&mut self, status: u16, sent: u64, whole: bool) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (endpoint, took) = (Endpoint::at(self.seen.endpoint.load(Relaxed)), self.started.elapsed());
        self.metrics.end(endpoint, self.method, status, took);
        if let Some(access) = &self.access {
            tracing::info!(
                target: "cidery::access",
                request = format!("{:016x}", access.id),
                remote = access.remote,
                client = self.seen.client.get().map(tracing::field::display),
                user = self.seen.user.get().map(String::as_str),
                method = METHODS[self.method],
                path = access.path,
                route = endpoint.template(),
                status = u64::from(status),
                received = self.received.as_ref().map_or(0, |received| received.load(Relaxed)),
                sent,
                whole,
                seconds = took.as_secs_f64(),
                agent = access.agent,
                "request"
            );
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
    /// What was announced.
    length: Option<u64>,
    sent: u64,
    /// Whether it said that nothing more comes.
    ended: bool,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let size = size_of(&frame);
        self.sent += size;
        self.meter.metrics.sent(size);
        self.ended = frame.is_none();
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
        // A connection asks no further once it has what was announced.
        let whole = self.length.map_or(self.ended, |length| self.sent >= length);
        self.meter.end(self.status, self.sent, whole);
    }
}

fn size_of(frame: &Option<Result<Frame<Bytes>, axum::Error>>) -> u64 {
    let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
    data.map_or(0, Buf::remaining) as u64
}
