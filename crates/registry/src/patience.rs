//! How long clients are borne with that send or take next to nothing: for as long as the configuration
//! says, and for less while others wait for their place.

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::Frame;
use parking_lot::Mutex;
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes in a second with which a client still makes progress.
const SLOWEST: u64 = 1024;

/// The parts of the whole time, each of which is looked at by itself.
const TICKS: u32 = 12;

/// For how long somebody who had to wait, or was refused, makes others hurry.
const LINGER: Duration = Duration::from_secs(15);

/// Whether clients wait for a place that others have.
pub struct Pressure {
    start: Instant,
    /// Milliseconds from `start` to when the last one had to wait; 0 for never.
    last: AtomicU64,
    /// When somebody had to wait for what: so that the log says once what happens a thousand times.
    noted: Mutex<Vec<(&'static str, Instant)>>,
}

impl Pressure {
    /// Nobody waits.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), last: AtomicU64::new(0), noted: Mutex::default() })
    }

    /// Somebody had to wait for one of the `what`, of which there are at most `limit`.
    pub fn note(&self, what: &'static str, limit: usize) {
        let now = self.start.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.last.store(now.max(1), Ordering::Relaxed);
        if self.is_new(what) {
            tracing::warn!(limit, "all {what} are taken: clients wait or are told to come back, and slow ones are cut");
        }
    }

    fn is_new(&self, what: &'static str) -> bool {
        let mut noted = self.noted.lock();
        let Some((_, last)) = noted.iter_mut().find(|(kind, _)| *kind == what) else {
            noted.push((what, Instant::now()));
            return true;
        };
        std::mem::replace(last, Instant::now()).elapsed() >= LINGER
    }

    fn is_on(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last != 0 && self.start.elapsed() < Duration::from_millis(last) + LINGER
    }
}

/// What is borne with on every connection.
#[derive(Clone)]
pub struct Patience {
    stall: Duration,
    pressure: Arc<Pressure>,
}

/// A client sent or took next to nothing for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

impl Patience {
    /// With clients that make no progress for `stall`.
    pub fn new(stall: Duration, pressure: Arc<Pressure>) -> Self {
        Self { stall, pressure }
    }

    /// The longest time without progress after which a client is given up.
    pub fn stall(&self) -> Duration {
        self.stall
    }

    /// The time without progress after which a client is given up now.
    pub fn limit(&self) -> Duration {
        if self.pressure.is_on() { self.tick() } else { self.stall }
    }

    /// How often to look.
    pub fn tick(&self) -> Duration {
        (self.stall / TICKS).max(Duration::from_millis(1))
    }

    /// For one body or connection, in one direction.
    pub fn meter(&self) -> Meter {
        let left = self.tick();
        Meter { patience: self.clone(), sleep: None, since: None, left, moved: 0, slow: 0 }
    }
}

/// Counts what a client moves while it is waited for. Time in which this side is at work does not count.
pub struct Meter {
    patience: Patience,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the wait began that `sleep` runs for.
    since: Option<Instant>,
    /// What is left of the present tick.
    left: Duration,
    /// Bytes in the present tick.
    moved: u64,
    /// How many ticks before it had next to nothing, in a row.
    slow: u32,
}

impl Meter {
    /// The client moved this much; the wait for it, if there was one, is over.
    pub fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.moved = self.moved.saturating_add(bytes as u64);
    }

    /// How long a client without progress would be borne with now.
    pub fn limit(&self) -> Duration {
        self.patience.limit()
    }

    /// Waits for the client; ready when it is too slow.
    pub fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let left = self.left;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(left)));
            if self.since.is_none() {
                let now = Instant::now();
                sleep.as_mut().reset(now + left);
                self.since = Some(now);
            }
            ready!(sleep.as_mut().poll(cx));
            let tick = self.patience.tick();
            let least = u64::try_from(tick.as_millis()).unwrap_or(u64::MAX).saturating_mul(SLOWEST) / 1000;
            self.slow = if self.moved < least.max(1) { self.slow + 1 } else { 0 };
            (self.since, self.left, self.moved) = (None, tick, 0);
            if self.slow >= TICKS || (self.slow > 0 && self.patience.pressure.is_on()) {
                return Poll::Ready(TooSlow);
            }
        }
    }

    /// The next frame of a request's body.
    ///
    /// # Errors
    /// [`TooSlow`] when the client is to be given up.
    pub async fn frame(&mut self, body: &mut Body) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, TooSlow> {
        poll_fn(|cx| {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                return self.poll_wait(cx).map(Err);
            };
            let size = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
            self.moved(size.unwrap_or_default());
            Poll::Ready(Ok(frame))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience::new(Duration::from_secs(120), Pressure::new())
    }

    /// A client that moves `bytes` every `pause`: when it was given up, of an hour.
    async fn given_up(patience: &Patience, bytes: usize, pause: Duration) -> Option<Duration> {
        let (mut meter, start) = (patience.meter(), Instant::now());
        while start.elapsed() < Duration::from_secs(3600) {
            let wait = poll_fn(|cx| meter.poll_wait(cx));
            if tokio::time::timeout(pause, wait).await.is_ok() {
                return Some(start.elapsed());
            }
            meter.moved(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_a_second_is_no_progress_and_a_slow_line_is() {
        let second = Duration::from_secs(1);
        let cut = given_up(&patience(), 1, second).await.unwrap();
        assert!((115..=125).contains(&cut.as_secs()), "{cut:?}");
        assert_eq!(given_up(&patience(), 2000, second).await, None);
        // In bursts, too.
        assert_eq!(given_up(&patience(), 65_536, second * 60).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_wait_the_slow_go_soon() {
        let (patience, second) = (patience(), Duration::from_secs(1));
        assert_eq!(patience.limit().as_secs(), 120);
        patience.pressure.note("tests", 1);
        assert_eq!(patience.limit().as_secs(), 10);
        let cut = given_up(&patience, 1, second).await.unwrap();
        assert!((9..=12).contains(&cut.as_secs()), "{cut:?}");
        patience.pressure.note("tests", 1);
        assert_eq!(given_up(&patience, 2000, second).await, None);
        assert_eq!(patience.limit().as_secs(), 120);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_says_once_what_happens_often() {
        let pressure = Pressure::new();
        assert!(pressure.is_new("uploads") && pressure.is_new("downloads"));
        for _ in 0..20 {
            tokio::time::advance(LINGER / 2).await;
            assert!(!pressure.is_new("uploads"));
        }
        assert!(pressure.is_new("downloads"));
        tokio::time::advance(LINGER).await;
        assert!(pressure.is_new("uploads") && !pressure.is_new("uploads"));
    }

    #[tokio::test(start_paused = true)]
    async fn time_of_this_sides_work_does_not_count() {
        let (patience, start) = (patience(), Instant::now());
        let mut meter = patience.meter();
        for _ in 0..100 {
            let wait = tokio::time::timeout(Duration::from_millis(100), poll_fn(|cx| meter.poll_wait(cx)));
            assert!(wait.await.is_err());
            meter.moved(1);
            sleep(Duration::from_secs(60)).await;
        }
        assert!(start.elapsed() > Duration::from_secs(6000));
    }
}
