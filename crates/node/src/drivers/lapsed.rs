//! Keys that ceased to be announced a short while ago, with the times at which they would have been due
//! again: the records that other nodes hold of them are still good if they come back.

use super::keyspace::Point;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// How long they are remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// Bounded in number and time.
pub(crate) struct Lapsed {
    limit: usize,
    keys: HashMap<Point, (Instant, [Instant; 2])>,
    order: VecDeque<(Instant, Point)>,
}

impl Lapsed {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, keys: HashMap::new(), order: VecDeque::new() }
    }

    /// Remembers a key that went now.
    pub(crate) fn remember(&mut self, now: Instant, point: Point, due: [Instant; 2]) {
        self.keys.insert(point, (now, due));
        self.order.push_back((now, point));
        while self.order.len() > self.limit {
            self.forget_oldest();
        }
    }

    /// When the key went, and when it would be due, if that is remembered. It is forgotten by that.
    pub(crate) fn take(&mut self, point: &Point) -> Option<(Instant, [Instant; 2])> {
        self.keys.remove(point)
    }

    /// Forgets what went too long ago.
    pub(crate) fn tick(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(gone, _)| now.saturating_duration_since(*gone) > MEMORY) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((gone, point)) = self.order.pop_front() else { return };
        // It may have come back since, and gone again.
        if self.keys.get(&point).is_some_and(|(last, _)| *last == gone) {
            self.keys.remove(&point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lapsed_is_remembered_for_a_while() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut lapsed = Lapsed::new(3);
        let [a, b, c, d] = [[1; 32], [2; 32], [3; 32], [4; 32]];
        let due = [after(1000); 2];
        lapsed.remember(start, a, due);
        assert_eq!(lapsed.take(&a), Some((start, due)));
        assert_eq!(lapsed.take(&a), None);
        lapsed.remember(after(1), a, due);
        lapsed.remember(after(2), b, due);
        lapsed.remember(after(3), c, due);
        // The place that went was that of the first time.
        assert_eq!((lapsed.order.len(), lapsed.keys.len()), (3, 3));
        lapsed.remember(after(4), d, due);
        assert_eq!((lapsed.order.len(), lapsed.take(&a)), (3, None));
        lapsed.tick(after(603));
        assert_eq!(lapsed.take(&b), None);
        assert!(lapsed.take(&c).is_some());
        lapsed.tick(after(605));
        assert!(lapsed.keys.is_empty() && lapsed.order.is_empty());
    }
}
