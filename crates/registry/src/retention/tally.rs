//! What retention did since the start.

use super::Retained;
use crate::{error::Error, ops::Reading};
use parking_lot::Mutex;
use std::time::{Duration, SystemTime};

/// It. Dry runs do not count.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    passes: u64,
    failures: u64,
    tags: u64,
    manifests: u64,
    /// When the last pass ended, and how long it took.
    last: Option<(SystemTime, Duration)>,
}

impl Tally {
    /// One commit removed so many.
    pub fn removed(&self, tags: usize, manifests: usize) {
        let mut counts = self.0.lock();
        counts.tags += tags as u64;
        counts.manifests += manifests as u64;
    }

    /// A pass ended.
    pub fn passed(&self, done: &Result<Retained, Error>, took: Duration) {
        let mut counts = self.0.lock();
        counts.passes += 1;
        counts.failures += match done {
            Ok(done) => done.failed.len() as u64,
            Err(_) => 1,
        };
        counts.last = Some((SystemTime::now(), took));
    }

    /// As numbers for monitoring.
    pub fn readings(&self) -> Vec<Reading> {
        let counts = self.0.lock();
        let counter = Reading::counter;
        let mut all = vec![
            counter(
                "cidery_retention_passes",
                "Times all repositories were looked through for tags to remove",
                counts.passes,
            ),
            counter(
                "cidery_retention_failures",
                "Repositories that retention could not go through, and passes that were given up",
                counts.failures,
            ),
            counter("cidery_retention_removed_tags", "Tags that retention removed", counts.tags),
            counter("cidery_retention_removed_manifests", "Manifests that retention removed", counts.manifests),
        ];
        if let Some((at, took)) = counts.last {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let (name, help) = ("cidery_last_retention_timestamp_seconds", "When the last pass of retention ended");
            all.push(Reading::gauge(name, help, 0).value(since.as_secs_f64()));
            let (name, help) = ("cidery_last_retention_duration_seconds", "How long the last pass of retention took");
            all.push(Reading::gauge(name, help, 0).value(took.as_secs_f64()));
        }
        all
    }
}
