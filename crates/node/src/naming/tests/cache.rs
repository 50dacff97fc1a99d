#![allow(clippy::unwrap_used)]

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::time::{advance, sleep};

/// A cache whose look-ups take `takes` and give what `next` says.
struct Fixture {
    cache: Cache<u32>,
    next: Mutex<Result<(u32, Duration), ResolveError>>,
    takes: Mutex<Duration>,
    loads: AtomicUsize,
}

impl Fixture {
    fn new() -> Self {
        Self {
            cache: Cache::new(4),
            next: Mutex::new(Ok((0, seconds(60)))),
            takes: Mutex::default(),
            loads: AtomicUsize::new(0),
        }
    }

    fn says(&self, next: Result<(u32, Duration), ResolveError>, takes: Duration) {
        *self.next.lock() = next;
        *self.takes.lock() = takes;
    }

    async fn get(&self, key: &str) -> Outcome<u32> {
        let load = || {
            self.loads.fetch_add(1, SeqCst);
            let (next, takes) = (self.next.lock().clone(), *self.takes.lock());
            async move {
                sleep(takes).await;
                next
            }
        };
        self.cache.get(key, load).await
    }

    fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn unavailable() -> ResolveError {
    ResolveError::Unavailable { name: "a".into(), detail: "down".into() }
}

fn absent() -> ResolveError {
    ResolveError::NotFound { name: "a".into(), detail: "gone".into() }
}

#[tokio::test(start_paused = true)]
async fn an_answer_lives_for_its_ttl_within_bounds() {
    for (ttl, lives) in [(seconds(60), 60), (Duration::ZERO, 1), (seconds(1_000_000), 3600), (Duration::MAX, 3600)] {
        let fixture = Fixture::new();
        fixture.says(Ok((1, ttl)), Duration::ZERO);
        assert_eq!(fixture.get("a").await.unwrap(), 1);
        fixture.says(Ok((2, ttl)), Duration::ZERO);
        advance(seconds(lives) - Duration::from_millis(10)).await;
        assert_eq!(fixture.get("a").await.unwrap(), 1, "{ttl:?}");
        advance(Duration::from_millis(20)).await;
        assert_eq!(fixture.get("a").await.unwrap(), 2, "{ttl:?}");
        assert_eq!(fixture.loads(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn absence_is_believed_for_five_seconds_and_failure_for_one() {
    for (error, believed) in [(absent(), 5), (unavailable(), 1)] {
        let fixture = Fixture::new();
        fixture.says(Err(error), Duration::ZERO);
        fixture.get("a").await.unwrap_err();
        fixture.says(Ok((1, seconds(60))), Duration::ZERO);
        advance(seconds(believed) - Duration::from_millis(10)).await;
        fixture.get("a").await.unwrap_err();
        advance(Duration::from_millis(20)).await;
        assert_eq!(fixture.get("a").await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_stands_in_for_a_failure_for_a_day() {
    let fixture = Fixture::new();
    fixture.says(Ok((1, seconds(60))), Duration::ZERO);
    fixture.get("a").await.unwrap();
    fixture.says(Err(unavailable()), Duration::ZERO);
    advance(seconds(24 * 60 * 60)).await;
    assert_eq!(fixture.get("a").await.unwrap(), 1);
    // The failure is remembered, and the answer still stands in.
    assert_eq!(fixture.get("a").await.unwrap(), 1);
    assert_eq!(fixture.loads(), 2);
    advance(seconds(61)).await;
    assert!(matches!(fixture.get("a").await, Err(ResolveError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_does_not_stand_in_for_the_owners_word() {
    let fixture = Fixture::new();
    fixture.says(Ok((1, seconds(60))), Duration::ZERO);
    fixture.get("a").await.unwrap();
    fixture.says(Err(absent()), Duration::ZERO);
    advance(seconds(61)).await;
    assert!(matches!(fixture.get("a").await, Err(ResolveError::NotFound { .. })));
    fixture.says(Err(unavailable()), Duration::ZERO);
    advance(seconds(6)).await;
    assert!(matches!(fixture.get("a").await, Err(ResolveError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_slow_refresh_is_waited_for_briefly_and_goes_on() {
    let fixture = Fixture::new();
    fixture.says(Ok((1, seconds(60))), Duration::ZERO);
    fixture.get("a").await.unwrap();
    fixture.says(Ok((2, seconds(60))), seconds(5));
    advance(seconds(61)).await;
    let started = Instant::now();
    assert_eq!(fixture.get("a").await.unwrap(), 1);
    assert_eq!(started.elapsed(), PATIENCE);
    // Whoever comes later does not wait again.
    assert_eq!(fixture.get("a").await.unwrap(), 1);
    assert_eq!(started.elapsed(), PATIENCE);
    sleep(seconds(5)).await;
    assert_eq!(fixture.get("a").await.unwrap(), 2);
    assert_eq!(fixture.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_quick_refresh_is_seen_by_the_caller_that_caused_it() {
    let fixture = Fixture::new();
    fixture.says(Ok((1, seconds(60))), Duration::ZERO);
    fixture.get("a").await.unwrap();
    fixture.says(Ok((2, seconds(60))), PATIENCE / 2);
    advance(seconds(61)).await;
    assert_eq!(fixture.get("a").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_outlives_the_caller_that_started_it() {
    let fixture = Fixture::new();
    fixture.says(Ok((1, seconds(60))), seconds(2));
    assert!(tokio::time::timeout(seconds(1), fixture.get("a")).await.is_err());
    assert_eq!(fixture.get("a").await.unwrap(), 1);
    assert_eq!(fixture.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_panics_does_not_block_its_name() {
    let fixture = Fixture::new();
    let broken = fixture.cache.get("a", || async { panic!("a bug in a look-up, on purpose") }).await;
    assert!(matches!(broken, Err(ResolveError::Unavailable { .. })));
    assert_eq!(fixture.get("a").await.unwrap(), 0);
    assert_eq!(fixture.cache.state.lock().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_goes_first() {
    let fixture = Fixture::new();
    for key in ["a", "b", "c", "d", "a", "e"] {
        fixture.get(key).await.unwrap();
    }
    assert_eq!(fixture.loads(), 5);
    fixture.get("a").await.unwrap();
    assert_eq!(fixture.loads(), 5, "a was used again before e came");
    fixture.get("b").await.unwrap();
    assert_eq!(fixture.loads(), 6, "b had to go");
    assert_eq!(fixture.cache.state.lock().entries.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_names_is_bounded() {
    let fixture = Fixture::new();
    fixture.says(Ok((1, seconds(60))), seconds(3));
    let keys: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let outcomes = futures::future::join_all(keys.iter().map(|key| fixture.get(key))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), MAX_FLIGHTS);
    assert_eq!(fixture.loads(), MAX_FLIGHTS);
    let state = fixture.cache.state.lock();
    assert_eq!(state.flights, 0);
    assert!(state.entries.len() <= MAX_FLIGHTS + 4, "{}", state.entries.len());
}

#[test]
fn a_runtime_that_stops_in_the_middle_leaves_the_cache_usable() {
    let fixture = Fixture::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    fixture.says(Ok((1, seconds(60))), seconds(600));
    first.block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(1), fixture.get("a")).await.is_err());
    });
    drop(first);
    fixture.says(Ok((2, seconds(60))), Duration::ZERO);
    assert_eq!(runtime().block_on(fixture.get("a")).unwrap(), 2);
}
