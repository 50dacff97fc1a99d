//! The memory that unfinished inbound frames may take, over all connections. When there is no more,
//! large frames wait, and the one that comes slowest is given up: nobody can hold the room by trickling.

use parking_lot::Mutex;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// Smaller frames need no room here: the bound on each connection's suffices.
const SMALL: usize = 16 << 10;

/// The room for frames.
pub(crate) struct Frames {
    /// One permit a KiB.
    room: Arc<Semaphore>,
    most: usize,
    patience: Duration,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    frames: Vec<Arc<Frame>>,
    /// When one was last given up.
    given_up: Option<Instant>,
}

struct Frame {
    started: Instant,
    filled: AtomicUsize,
    over: Notify,
}

impl Frame {
    /// Bytes per second so far.
    fn rate(&self, now: Instant) -> f64 {
        let took = now.saturating_duration_since(self.started).as_secs_f64();
        self.filled.load(Relaxed) as f64 / took.max(1e-3)
    }
}

/// A frame's place in the room; dropping it gives the room back.
pub(crate) struct Place {
    home: Arc<Frames>,
    frame: Arc<Frame>,
    _room: OwnedSemaphorePermit,
}

impl Frames {
    /// Room for `bytes`. Frames that wait for `patience` push out the slowest that is as old.
    pub(crate) fn new(bytes: usize, patience: Duration) -> Arc<Self> {
        let most = (bytes >> 10).max(1);
        let room = Arc::new(Semaphore::new(most));
        Arc::new(Self { room, most, patience, under_way: Mutex::default() })
    }

    /// Waits for room for a frame of `len` bytes; `None` if it needs none.
    pub(crate) async fn enter(self: &Arc<Self>, len: usize) -> io::Result<Option<Place>> {
        if len < SMALL {
            return Ok(None);
        }
        let share = u32::try_from(len.div_ceil(1 << 10).min(self.most)).unwrap_or(u32::MAX);
        let room = {
            let mut room = std::pin::pin!(self.room.clone().acquire_many_owned(share));
            loop {
                tokio::select! {
                    // Never closed.
                    room = &mut room => break room.map_err(io::Error::other)?,
                    () = sleep(self.patience) => self.push_out(),
                }
            }
        };
        let frame = Arc::new(Frame { started: Instant::now(), filled: AtomicUsize::new(0), over: Notify::new() });
        self.under_way.lock().frames.push(frame.clone());
        Ok(Some(Place { home: self.clone(), frame, _room: room }))
    }

    /// Gives up the slowest frame, at most one in a patience however many wait.
    fn push_out(&self) {
        let now = Instant::now();
        let long_ago = |at: Instant| now.saturating_duration_since(at) >= self.patience;
        let mut under_way = self.under_way.lock();
        if !under_way.given_up.is_none_or(long_ago) {
            return;
        }
        let old = under_way.frames.iter().filter(|frame| long_ago(frame.started));
        let Some(slowest) = old.min_by(|a, b| a.rate(now).total_cmp(&b.rate(now))).cloned() else { return };
        under_way.given_up = Some(now);
        under_way.frames.retain(|frame| !Arc::ptr_eq(frame, &slowest));
        slowest.over.notify_one();
    }

    fn leave(&self, frame: &Arc<Frame>) {
        self.under_way.lock().frames.retain(|other| !Arc::ptr_eq(other, frame));
    }
}

impl Place {
    /// So many bytes of the frame are here.
    pub(crate) fn filled(&self, bytes: usize) {
        self.frame.filled.store(bytes, Relaxed);
    }

    /// Ends when the frame is given up.
    pub(crate) async fn over(&self) {
        self.frame.over.notified().await;
    }

    /// The frame is complete: it keeps its room until it is worked on, and is not given up any more.
    pub(crate) fn complete(&self) {
        self.home.leave(&self.frame);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.home.leave(&self.frame);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use futures::FutureExt;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn when_there_is_no_room_the_slowest_goes() {
        let frames = Frames::new(300 << 10, Duration::from_millis(20));
        let slow = frames.enter(100 << 10).await.unwrap().unwrap();
        let fast = frames.enter(100 << 10).await.unwrap().unwrap();
        let whole = frames.enter(100 << 10).await.unwrap().unwrap();
        slow.filled(10);
        fast.filled(90_000);
        whole.complete();
        assert!(frames.enter(100).await.unwrap().is_none(), "small ones pass");
        let (next, ()) = timeout(SOON, async {
            tokio::join!(frames.enter(4 << 20), async {
                slow.over().await;
                assert!(fast.over().now_or_never().is_none(), "one at a time, the slowest first");
                drop((slow, whole));
                fast.over().await;
                drop(fast);
            })
        })
        .await
        .expect("room is made");
        assert!(next.unwrap().is_some(), "more than there is takes all there is");
        assert_eq!((frames.room.available_permits(), frames.under_way.lock().frames.len()), (300, 0));
    }
}
