//! What a handler leaves of a request's body. A connection that is closed over bytes that nobody read
//! is reset, and the client sees a broken pipe instead of the answer: so some of them are read and
//! dropped, while the answer is on its way.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::runtime::Handle;

/// How much is read, and how long that may take.
const LIMIT: (usize, Duration) = (16 << 20, Duration::from_secs(5));

/// A body whose rest is read when it is dropped.
struct Drained(Option<Body>);

/// Sees to the rest of a request's body.
pub fn drained(headers: &HeaderMap, body: Body) -> Body {
    // Who waits to be told to go on has sent nothing yet, and is not to be told so by this.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return body;
    }
    Body::new(Drained(Some(body)))
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        // Without a runtime there is no connection either.
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(drain(body));
        }
    }
}

async fn drain(mut body: Body) {
    let (limit, time) = LIMIT;
    let read = async {
        let mut size = 0;
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > limit {
                return;
            }
        }
    };
    // However it ends, the answer is the same.
    let _ = tokio::time::timeout(time, read).await;
}
