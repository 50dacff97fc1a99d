//! A bounded number of places, for which those that come later wait a while.

use crate::patience::Pressure;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places of one kind.
pub struct Places {
    what: &'static str,
    limit: usize,
    free: Arc<Semaphore>,
    queue: Duration,
    pressure: Arc<Pressure>,
}

/// A place, free again when this is dropped.
pub type Place = OwnedSemaphorePermit;

impl Places {
    /// At most `limit` places for `what`, for each of which one waits up to `queue`.
    pub fn new(what: &'static str, limit: usize, queue: Duration, pressure: Arc<Pressure>) -> Self {
        let free = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self { what, limit, free, queue, pressure }
    }

    /// Takes one, in the order of asking; `None` when there was none for too long. Meanwhile slow clients are
    /// made to leave.
    pub async fn take(&self) -> Option<Place> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Some(place);
        }
        self.pressure.note(self.what, self.limit);
        let place = tokio::time::timeout(self.queue, self.free.clone().acquire_owned()).await;
        // Never closed, so the only failure is that nobody left.
        place.ok()?.ok()
    }
}
