//! What is counted of requests. Every counter is there from the start, so that counting is one addition: no
//! look-up, no lock, no allocation.

use super::{
    histogram::Histogram,
    labels::{CODES, Endpoint, METHODS, code, code_label},
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// One value for each endpoint and method.
const PAIRS: usize = Endpoint::ALL.len() * METHODS.len();

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    /// By endpoint, method and status.
    requests: Box<[AtomicU64]>,
    /// By endpoint and method.
    durations: Box<[Histogram]>,
    begun: AtomicU64,
    ended: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A counter's labels and its value.
pub type Requests = (&'static str, &'static str, String, u64);

/// A histogram's labels and what [`Histogram::read`] gives.
pub type Durations = (&'static str, &'static str, (f64, u64, Vec<(f64, u64)>));

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: (0..PAIRS * CODES.len()).map(|_| AtomicU64::new(0)).collect(),
            durations: (0..PAIRS).map(|_| Histogram::default()).collect(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// A request is here.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    /// Its answer was sent, or cannot be any more. `method` is its place in [`METHODS`].
    pub fn end(&self, endpoint: Endpoint, method: usize, status: u16, took: Duration) {
        let pair = endpoint as usize * METHODS.len() + method;
        // Both are within bounds by construction; a wrong one is not counted rather than a panic.
        if let Some(count) = self.requests.get(pair * CODES.len() + code(status)) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(histogram) = self.durations.get(pair) {
            histogram.observe(took);
        }
        self.ended.fetch_add(1, Relaxed);
    }

    /// Bytes of a body came.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    /// Bytes of a body went.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// Requests that were begun and not ended.
    pub fn in_flight(&self) -> u64 {
        // In this order, so that one that ends meanwhile makes it too large and not less than none.
        let ended = self.ended.load(Relaxed);
        self.begun.load(Relaxed).saturating_sub(ended)
    }

    /// Bytes of bodies that came and went.
    pub fn bytes(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// The counters of requests that are not zero.
    pub fn requests(&self) -> Vec<Requests> {
        let counted = self.requests.iter().map(|count| count.load(Relaxed)).enumerate().filter(|(_, count)| *count > 0);
        let named = counted.map(|(place, count)| {
            let (endpoint, method) = pair(place / CODES.len());
            (endpoint, method, code_label(place % CODES.len()), count)
        });
        named.collect()
    }

    /// The histograms that are not empty: endpoint, method, and what [`Histogram::read`] gives.
    pub fn durations(&self) -> Vec<Durations> {
        let read = self.durations.iter().map(Histogram::read).enumerate().filter(|(_, (_, count, _))| *count > 0);
        read.map(|(place, read)| (pair(place).0, pair(place).1, read)).collect()
    }
}

/// The labels of a place.
fn pair(place: usize) -> (&'static str, &'static str) {
    (Endpoint::at((place / METHODS.len()) as u8).template(), METHODS[place % METHODS.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::labels::method;
    use axum::http::Method;

    #[test]
    fn what_is_counted_has_its_labels() {
        let metrics = Metrics::default();
        (0..3).for_each(|_| metrics.begin());
        metrics.end(Endpoint::Manifest, method(&Method::PUT), 201, Duration::from_millis(3));
        metrics.end(Endpoint::Other, method(&Method::OPTIONS), 418, Duration::ZERO);
        assert_eq!(metrics.in_flight(), 1);
        let expected = [
            ("other", "OPTIONS", "other".to_owned(), 1),
            ("/v2/{name}/manifests/{reference}", "PUT", "201".to_owned(), 1),
        ];
        assert_eq!(metrics.requests(), expected);
        let durations = metrics.durations();
        assert_eq!(
            durations.iter().map(|(_, method, (_, count, _))| (*method, *count)).collect::<Vec<_>>(),
            [("OPTIONS", 1), ("PUT", 1)]
        );
        // The last place of all is within bounds.
        metrics.end(Endpoint::Metrics, METHODS.len() - 1, 599, Duration::MAX);
        assert_eq!(metrics.requests().last(), Some(&("/metrics", "other", "other".to_owned(), 1)));
    }
}
