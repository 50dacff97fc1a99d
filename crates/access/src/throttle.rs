//! Failed logins make the next one wait, per source: an IPv4 address, or the first half of an IPv6 one, which
//! is what one customer has.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Failures that cost nothing: people mistype, and programs try twice.
const FREE: u32 = 10;

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// After this long without a failure all are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// Sources that are remembered at most.
const MAX_SOURCES: usize = 8192;

/// Who failed, and how often.
#[derive(Default)]
pub(crate) struct Throttle {
    sources: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    /// Nothing is tried before.
    until: Instant,
}

impl Throttle {
    /// How long this source has to wait, if it has to.
    pub fn wait(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let until = self.sources.lock().get(&network(source))?.until;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// A password is about to be checked. It counts as a failure from now on, so that many at the same time are
    /// not many for one; [`Throttle::succeeded`] takes it back.
    pub fn attempt(&self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(source, now) {
            return Err(wait);
        }
        let mut sources = self.sources.lock();
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&network(source)) {
            make_room(&mut sources, now);
        }
        let failures = sources.entry(network(source)).or_insert(Failures { count: 0, last: now, until: now });
        if now.saturating_duration_since(failures.last) >= FORGOTTEN {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        failures.until = now + delay(failures.count);
        Ok(())
    }

    /// The password was right.
    pub fn succeeded(&self, source: IpAddr) {
        self.sources.lock().remove(&network(source));
    }
}

/// One second after the last free failure, then twice as long each time.
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => Duration::from_secs(1 << more.min(16)).min(LONGEST),
    }
}

/// Forgets what is over; and if that is not enough, half of the others, those first who failed long ago.
fn make_room(sources: &mut HashMap<IpAddr, Failures>, now: Instant) {
    sources.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGOTTEN);
    if sources.len() >= MAX_SOURCES {
        let mut times: Vec<Instant> = sources.values().map(|failures| failures.last).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        sources.retain(|_, failures| failures.last > median);
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn waits_double() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        let source = ip("192.0.2.1");
        for _ in 0..FREE {
            assert_eq!(throttle.attempt(source, now), Ok(()));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let wait = Duration::from_secs(seconds);
            assert_eq!((throttle.attempt(source, now), throttle.wait(source, now)), (Err(wait), Some(wait)));
            assert_eq!(throttle.wait(ip("192.0.2.2"), now), None);
            now += wait;
            assert_eq!(throttle.attempt(source, now), Ok(()), "after {seconds}");
        }
        throttle.succeeded(source);
        assert_eq!((throttle.wait(source, now), throttle.attempt(source, now)), (None, Ok(())));
    }

    #[test]
    fn failures_are_forgotten() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE - 1 {
            assert_eq!(throttle.attempt(ip("::1"), now), Ok(()));
        }
        let later = now + FORGOTTEN;
        for _ in 0..FREE {
            assert_eq!(throttle.attempt(ip("::1"), later), Ok(()));
        }
        assert!(throttle.attempt(ip("::1"), later).is_err());
    }

    #[test]
    fn a_network_is_one_source() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..FREE {
            assert_eq!(throttle.attempt(ip(&format!("2001:db8:1:2::{n}")), now), Ok(()));
        }
        assert!(throttle.wait(ip("2001:db8:1:2:ffff::"), now).is_some());
        assert!(throttle.wait(ip("2001:db8:1:3::"), now).is_none());
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        for n in 0..3 * MAX_SOURCES as u32 {
            now += Duration::from_millis(1);
            assert_eq!(throttle.attempt(IpAddr::from(n.to_be_bytes()), now), Ok(()));
            assert!(throttle.sources.lock().len() <= MAX_SOURCES);
        }
        let all_at_once = Throttle::default();
        for n in 0..2 * MAX_SOURCES as u32 {
            let _ = all_at_once.attempt(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(all_at_once.sources.lock().len() <= MAX_SOURCES);
    }
}
