//! Uploads that nobody goes on with: when they are given up.

use super::{Upload, Uploads, engine::Work};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Where there are too many uploads, one that has nothing yet is given up after this. Clients send the
/// first bytes at once.
const EMPTY_IDLE: Duration = Duration::from_secs(10);

/// Where there are too many uploads, and none is empty, one that has something is given up after this.
const BEGUN_IDLE: Duration = Duration::from_secs(600);

impl Upload {
    fn is_empty(&self) -> bool {
        self.received() == 0
    }

    /// Whether its client has probably gone: pushes that were interrupted must not keep others out
    /// for as long as they could be resumed.
    fn is_given_up(&self) -> bool {
        self.stalled.load(Ordering::Acquire) || self.idle() >= if self.is_empty() { EMPTY_IDLE } else { BEGUN_IDLE }
    }
}

impl Uploads {
    /// Cancels those that nobody touched for too long.
    pub fn expire(&self) {
        let idle: Vec<_> = self.open.lock().values().filter(|upload| upload.idle() >= self.expiry).cloned().collect();
        for upload in idle {
            // One that is being written to is not idle.
            if let Ok(mut work) = upload.work.try_lock() {
                tracing::info!(id = upload.id, "an upload expired");
                *work = Work::Ended;
                drop(work);
                self.forget(&upload);
            }
        }
    }

    /// Cancels the upload that is least likely to go on; `false` if all may.
    pub(super) fn make_room(&self, open: &mut HashMap<String, Arc<Upload>>) -> bool {
        let mut given_up: Vec<_> = open.values().filter(|upload| upload.is_given_up()).cloned().collect();
        given_up.sort_by_key(|upload| (!upload.is_empty(), std::cmp::Reverse(upload.idle())));
        for upload in given_up {
            // One that is being written to is not given up.
            if let Ok(mut work) = upload.work.try_lock() {
                tracing::info!(id = upload.id, "an idle upload was cancelled to make room for another");
                *work = Work::Ended;
                open.remove(&upload.id);
                self.drop_record(&upload);
                return true;
            }
        }
        false
    }
}
