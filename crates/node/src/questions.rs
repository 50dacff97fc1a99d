//! How many questions for digests went and came.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Questions for digests since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Questions {
    /// That peers were asked.
    pub asked: u64,
    /// Peers' questions that were looked into, whatever was found.
    pub answered: u64,
    /// Peers' questions that were not, since they asked too much, or there was too much else.
    pub refused: u64,
}

/// Counts them; the worker adds, the handle reads.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) asked: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counts {
    pub(crate) fn read(&self) -> Questions {
        let [asked, answered, refused] = [&self.asked, &self.answered, &self.refused].map(|count| count.load(Relaxed));
        Questions { asked, answered, refused }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
