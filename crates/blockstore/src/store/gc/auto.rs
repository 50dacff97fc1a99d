//! When a collection begins by itself.

use super::{Collected, Inner};
use crate::{disk::give_way, store::Collections};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

/// So many commits leave enough dead tree nodes behind for a collection.
const COMMITS: u64 = 512;
/// After a collection by itself there is a pause of so many times as long as it took.
const PAUSES: u32 = 3;
/// What failed, or was still in use, is tried again after this.
const RETRY: Duration = Duration::from_secs(600);

/// What the thread that collects waits for, and what the last collection found.
#[derive(Default)]
pub(crate) struct Collector {
    one: Mutex<()>,
    due: Mutex<Due>,
    changed: Condvar,
    done: Mutex<Done>,
    commits: AtomicU64,
    /// Bytes in the cache, about: what the last collection counted and what came since.
    cached: AtomicU64,
}

/// The collections of this start.
#[derive(Default)]
struct Done {
    all: Collections,
    last: Option<(SystemTime, Collected)>,
}

#[derive(Default)]
struct Due {
    at: Option<Instant>,
    closing: bool,
}

impl Collector {
    /// Held for a whole collection.
    pub(in crate::store) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.one.lock()
    }

    pub(super) fn finished(&self, at: SystemTime, what: Collected) {
        self.commits.store(0, Relaxed);
        let mut done = self.done.lock();
        done.all.count += 1;
        done.all.freed_blocks += what.freed_blocks;
        done.all.freed_bytes += what.freed_bytes;
        done.all.took += what.took;
        done.last = Some((at, what));
    }

    /// The last one, and when it ended.
    pub(in crate::store) fn last(&self) -> Option<(SystemTime, Collected)> {
        self.done.lock().last.clone()
    }

    /// All of them together.
    pub(in crate::store) fn all(&self) -> Collections {
        self.done.lock().all
    }

    /// Bytes in the cache, about.
    pub(in crate::store) fn cached(&self) -> u64 {
        self.cached.load(Relaxed)
    }

    pub(super) fn cache_is(&self, bytes: u64) {
        self.cached.store(bytes, Relaxed);
    }

    /// A collection begins: it sees all that made one due. Whether one was.
    pub(super) fn take_due(&self) -> bool {
        self.due.lock().at.take().is_some()
    }

    /// A collection failed that was due.
    pub(super) fn retry(&self) {
        self.within(RETRY);
    }

    fn within(&self, time: Duration) {
        let at = Instant::now() + time;
        let mut due = self.due.lock();
        if due.at.is_none_or(|planned| planned > at) {
            due.at = Some(at);
            self.changed.notify_all();
        }
    }

    /// Ends the thread that waits.
    pub(in crate::store) fn close(&self) {
        self.due.lock().closing = true;
        self.changed.notify_all();
    }

    /// Waits until a collection is due; `false` when the store is closing.
    fn wait(&self) -> bool {
        let mut due = self.due.lock();
        loop {
            match due.at {
                _ if due.closing => return false,
                None => self.changed.wait(&mut due),
                Some(at) if Instant::now() >= at => {
                    due.at = None;
                    return true;
                }
                Some(at) => drop(self.changed.wait_until(&mut due, at)),
            }
        }
    }
}

impl Inner {
    /// Something can be collected: it will be, after a while in which more may come.
    pub(in crate::store) fn collect_soon(&self) {
        if let Some(pause) = self.options.collect_after {
            let took = self.collector.last().map_or(Duration::ZERO, |(_, last)| last.took);
            self.collector.within(pause.max(took * PAUSES));
        }
    }

    /// Something could not go yet: tried again later.
    pub(super) fn collect_later(&self) {
        if self.options.collect_after.is_some() {
            self.collector.within(RETRY);
        }
    }

    /// Counts a commit.
    pub(in crate::store) fn count_commit(&self) {
        if self.collector.commits.fetch_add(1, Relaxed) + 1 == COMMITS {
            self.collect_soon();
        }
    }

    /// Counts what went into the cache.
    pub(in crate::store) fn count_cached(&self, len: u64) {
        let cached = self.collector.cached.fetch_add(len, Relaxed) + len;
        if self.options.cache_limit.is_some_and(|limit| cached > limit) {
            self.make_room();
        }
    }

    /// The cache has to give way at once.
    pub(in crate::store) fn make_room(&self) {
        if self.options.collect_after.is_some() && self.collector.last().is_none_or(|(_, last)| last.frees()) {
            self.collector.within(Duration::ZERO);
        } else {
            self.collect_soon();
        }
    }

    /// The thread that collects when it is due.
    pub(in crate::store) fn keep_collected(&self) {
        give_way();
        if self.options.cache_limit.is_some() {
            // Nobody knows yet how much there is.
            self.collect_soon();
        }
        while self.collector.wait() {
            match self.collect(&|_| {}) {
                Ok(_) => {}
                Err(_) if self.check_open().is_err() => return,
                Err(error) => {
                    self.note(format!("a collection was given up: {error}"));
                    self.collector.within(RETRY);
                }
            }
        }
    }
}

impl Collected {
    /// Whether there is a point in collecting again when there is no room.
    fn frees(&self) -> bool {
        self.freed_bytes > 0 || self.cached_bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_collects_does_what_was_due() {
        let collector = Collector::default();
        assert!(!collector.take_due());
        collector.within(Duration::ZERO);
        assert!(collector.take_due() && !collector.take_due());
        collector.retry();
        assert!(collector.take_due());
    }
}
