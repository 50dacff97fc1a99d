//! Answers that are kept for their TTL, looked up once however many callers ask, and served beyond
//! their time while nobody can say anything newer.

use cidery_core::ResolveError;
use parking_lot::Mutex;
use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// Bounds of a good answer's life.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(60 * 60);
/// How long "there is nothing" is believed: whoever has just set a record should not have to wait.
const ABSENCE: Duration = Duration::from_secs(5);
/// How long a failure is, so that a burst of requests costs one.
const FAILURE: Duration = Duration::from_secs(1);
/// How long beyond its life an answer stands in when nothing newer can be had.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a refresh is waited for before the last good answer is served instead (cf. RFC 8767 §5).
const PATIENCE: Duration = Duration::from_millis(750);
/// Look-ups under way.
const MAX_FLIGHTS: usize = 256;

type Outcome<V> = Result<V, ResolveError>;

/// A cache of at most `capacity` answers; the least recently used goes first. Clones share it.
pub(super) struct Cache<V> {
    state: Arc<Mutex<State<V>>>,
}

struct State<V> {
    capacity: usize,
    entries: HashMap<Box<str>, Entry<V>>,
    flights: usize,
    /// Counts uses, to tell the least recent one.
    clock: u64,
}

struct Entry<V> {
    good: Option<(V, Instant)>,
    failed: Option<(ResolveError, Instant)>,
    flight: Option<Flight<V>>,
    used: u64,
}

struct Flight<V> {
    started: Instant,
    outcome: watch::Receiver<Option<Outcome<V>>>,
}

impl<V> Clone for Flight<V> {
    fn clone(&self) -> Self {
        Self { started: self.started, outcome: self.outcome.clone() }
    }
}

/// What a caller finds.
enum Step<V> {
    Done(Outcome<V>),
    /// A look-up is under way; the value stands in if it takes long or fails.
    Wait(Flight<V>, Option<V>),
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { capacity, entries: HashMap::new(), flights: 0, clock: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The answer for `key`, looked up by `load` if it has to be. `load` gives the value and its TTL;
    /// it runs in a task of its own, which a caller that leaves does not stop.
    pub(super) async fn get<F>(&self, key: &str, load: impl FnOnce() -> F) -> Outcome<V>
    where
        F: Future<Output = Result<(V, Duration), ResolveError>> + Send + 'static,
    {
        let (mut flight, stale) = match self.step(key, load) {
            Step::Done(outcome) => return outcome,
            Step::Wait(flight, stale) => (flight, stale),
        };
        let landed = flight.outcome.wait_for(Option::is_some);
        let outcome = match &stale {
            None => landed.await.ok().and_then(|outcome| outcome.clone()),
            Some(_) => match timeout_at(flight.started + PATIENCE, landed).await {
                Ok(landed) => landed.ok().and_then(|outcome| outcome.clone()),
                Err(_) => None,
            },
        };
        match (outcome, stale) {
            (Some(Err(ResolveError::Unavailable { .. })) | None, Some(stale)) => Ok(stale),
            (Some(outcome), _) => outcome,
            (None, None) => {
                let detail = "the look-up broke off".to_owned();
                Err(ResolveError::Unavailable { name: key.to_owned(), detail })
            }
        }
    }

    fn step<F>(&self, key: &str, load: impl FnOnce() -> F) -> Step<V>
    where
        F: Future<Output = Result<(V, Duration), ResolveError>> + Send + 'static,
    {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.clock += 1;
        let clock = state.clock;
        let busy = state.flights >= MAX_FLIGHTS;
        state.make_room_for(key);
        let entry = state.entries.entry(key.into()).or_insert_with(Entry::empty);
        entry.used = clock;
        if let Some((value, _)) = entry.good.as_ref().filter(|(_, until)| now < *until) {
            return Step::Done(Ok(value.clone()));
        }
        let stale = entry.good.as_ref().filter(|(_, until)| now < *until + STALE).map(|(value, _)| value.clone());
        if let Some((error, _)) = entry.failed.as_ref().filter(|(_, until)| now < *until) {
            return Step::Done(stale.ok_or_else(|| error.clone()));
        }
        if let Some(flight) = &entry.flight {
            return Step::Wait(flight.clone(), stale);
        }
        if busy {
            let detail = "too many names are being looked up".to_owned();
            return Step::Done(stale.ok_or_else(|| ResolveError::Unavailable { name: key.to_owned(), detail }));
        }
        let (sender, outcome) = watch::channel(None);
        let flight = Flight { started: now, outcome };
        entry.flight = Some(flight.clone());
        state.flights += 1;
        // Unlocked first: a runtime that is shutting down drops the task at once, and it locks.
        drop(state);
        let mut landing = Landing { state: self.state.clone(), key: key.into(), result: None };
        let load = load();
        tokio::spawn(async move {
            let result = load.await;
            landing.result = Some(result.clone());
            // Kept before it is told, so that who is told and asks again finds it.
            drop(landing);
            sender.send_replace(Some(result.map(|(value, _)| value)));
        });
        Step::Wait(flight, stale)
    }
}

impl<V> Entry<V> {
    fn empty() -> Self {
        Self { good: None, failed: None, flight: None, used: 0 }
    }

    fn keep(&mut self, result: Result<(V, Duration), ResolveError>) {
        let now = Instant::now();
        self.failed = None;
        match result {
            Ok((value, ttl)) => self.good = Some((value, now + ttl.clamp(MIN_TTL, MAX_TTL))),
            Err(error @ ResolveError::Unavailable { .. }) => self.failed = Some((error, now + FAILURE)),
            Err(error) => {
                // The owner's word: what was there before does not stand in for it.
                self.good = None;
                self.failed = Some((error, now + ABSENCE));
            }
        }
    }
}

impl<V> State<V> {
    fn make_room_for(&mut self, key: &str) {
        if self.entries.len() < self.capacity || self.entries.contains_key(key) {
            return;
        }
        let oldest =
            self.entries.iter().filter(|(_, entry)| entry.flight.is_none()).min_by_key(|(_, entry)| entry.used);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.entries.remove(&key);
        }
    }
}

/// Ends a flight, however it ends: a look-up that panics must not block its name for ever.
struct Landing<V> {
    state: Arc<Mutex<State<V>>>,
    key: Box<str>,
    result: Option<Result<(V, Duration), ResolveError>>,
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.flights -= 1;
        // Entries with a flight are never evicted, so it is there.
        if let Some(entry) = state.entries.get_mut(&self.key) {
            entry.flight = None;
            if let Some(result) = self.result.take() {
                entry.keep(result);
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/cache.rs"]
mod tests;
