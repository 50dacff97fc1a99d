//! What goes on in an HTTP/2 connection. A client holds back one answer without the connection noticing,
//! by granting no window for it; and a connection without requests has no head that could come too late.

use crate::patience::Patience;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The largest piece that is given to hyper at once. What a client asks for and then does not take is
/// kept until it goes: at most one piece of an answer.
const PIECE: usize = 16 << 10;

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is in use.
    Busy,
    /// Nobody asked for anything lately.
    Idle,
    /// An answer is not taken.
    Stuck,
}

/// The requests of one connection.
#[derive(Clone)]
pub struct Activity(Arc<Mutex<State>>);

struct State {
    next: u64,
    /// When a client began to be waited for to take more of an answer; `None` while it is this side that
    /// is at work.
    open: HashMap<u64, Option<Instant>>,
    /// When the last one ended.
    idle: Instant,
}

/// One request; until it is dropped the connection is not idle.
pub struct Open {
    activity: Activity,
    id: u64,
}

impl Activity {
    /// Of a new connection.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { next: 0, open: HashMap::new(), idle: Instant::now() })))
    }

    /// A request is here.
    pub fn begin(&self) -> Open {
        let mut state = self.0.lock();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, None);
        Open { activity: self.clone(), id }
    }

    /// What is to be done: `idle` is how long a connection without requests is kept.
    pub fn verdict(&self, idle: Duration, patience: &Patience) -> Verdict {
        let state = self.0.lock();
        if state.open.is_empty() {
            return if state.idle.elapsed() >= idle { Verdict::Idle } else { Verdict::Busy };
        }
        let limit = patience.limit();
        let stuck = state.open.values().flatten().any(|since| since.elapsed() >= limit);
        if stuck { Verdict::Stuck } else { Verdict::Busy }
    }
}

impl Open {
    fn waiting(&self, for_client: bool) {
        let since = for_client.then(Instant::now);
        self.activity.0.lock().open.insert(self.id, since);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.activity.0.lock();
        state.open.remove(&self.id);
        state.idle = Instant::now();
    }
}

/// An answer's body in small pieces, whose request is open until it is gone.
pub struct Watched {
    body: Body,
    piece: Bytes,
    open: Open,
}

impl Watched {
    /// From here on the client is waited for.
    pub fn new(body: Body, open: Open) -> Self {
        open.waiting(true);
        Self { body, piece: Bytes::new(), open }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.piece.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    self.open.waiting(false);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.piece = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(other) => return Poll::Ready(other),
            }
        }
        self.open.waiting(true);
        let size = self.piece.len().min(PIECE);
        let mut piece = self.piece.split_to(size);
        // The last one may outlive this body: it must not keep alive what it was cut from.
        if self.is_end_stream() {
            piece = Bytes::copy_from_slice(&piece);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, here) = (self.body.size_hint(), self.piece.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + here);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + here);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::Pressure;
    use http_body_util::BodyExt;
    use std::future::poll_fn;

    fn patience() -> Patience {
        Patience::new(Duration::from_secs(120), Pressure::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_between_requests_only() {
        let (activity, patience, idle) = (Activity::new(), patience(), Duration::from_secs(30));
        let verdict = || activity.verdict(idle, &patience);
        assert_eq!(verdict(), Verdict::Busy);
        tokio::time::advance(idle).await;
        assert_eq!(verdict(), Verdict::Idle);
        let open = activity.begin();
        // However long the handler takes.
        tokio::time::advance(idle * 100).await;
        assert_eq!(verdict(), Verdict::Busy);
        drop(open);
        assert_eq!(verdict(), Verdict::Busy);
        tokio::time::advance(idle).await;
        assert_eq!(verdict(), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_stuck() {
        let (activity, patience, idle) = (Activity::new(), patience(), Duration::from_secs(30));
        let verdict = || activity.verdict(idle, &patience);
        let mut body = Watched::new(Body::from(vec![7; 3 * PIECE]), activity.begin());
        for _ in 0..2 {
            tokio::time::advance(Duration::from_secs(119)).await;
            assert_eq!(verdict(), Verdict::Busy);
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE);
        }
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(verdict(), Verdict::Stuck);
        drop(body);
        assert_eq!(verdict(), Verdict::Busy);
        // One whose bytes are still to come is not the client's fault.
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut body = Watched::new(never, activity.begin());
        poll_fn(|cx| {
            assert!(Pin::new(&mut body).poll_frame(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(verdict(), Verdict::Busy);
    }

    #[tokio::test]
    async fn pieces_add_up_and_the_last_is_a_copy() {
        let whole = Bytes::from((0..100_000u32).map(|n| n as u8).collect::<Vec<_>>());
        let mut body = Watched::new(Body::from(whole.clone()), Activity::new().begin());
        assert_eq!(body.size_hint().exact(), Some(100_000));
        let (mut got, mut last) = (Vec::new(), Bytes::new());
        while !body.is_end_stream() {
            last = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(last.len() <= PIECE);
            got.extend_from_slice(&last);
            assert_eq!(body.size_hint().exact(), Some(100_000 - got.len() as u64));
        }
        assert!(got == whole);
        assert!(!whole.as_ptr_range().contains(&last.as_ptr()));
    }
}
