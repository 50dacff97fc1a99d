//! Group commit: whoever comes first leads, and what arrives while he works is the next group.

use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};

/// How large the members of one group may be together, in bytes.
const GROUP: usize = 8 << 20;

/// Callers waiting for their turn. Bounded by the number of threads that call.
pub(crate) struct Group<T, R> {
    queue: Mutex<Queue<T, R>>,
    turn: Condvar,
}

struct Queue<T, R> {
    next: u64,
    waiting: VecDeque<Waiting<T>>,
    done: HashMap<u64, R>,
    leading: bool,
}

struct Waiting<T> {
    ticket: u64,
    size: usize,
    work: T,
}

impl<T, R> Default for Group<T, R> {
    fn default() -> Self {
        let queue = Queue { next: 0, waiting: VecDeque::new(), done: HashMap::new(), leading: false };
        Self { queue: Mutex::new(queue), turn: Condvar::new() }
    }
}

impl<T, R> Group<T, R> {
    /// Hands in work of about `size` bytes and waits for its result.
    ///
    /// `lead` does the work of a whole group and gives one result for each, in order; it may run
    /// on any waiting thread, one at a time. Should it panic, the others get `abandoned`.
    pub(crate) fn submit(&self, work: T, size: usize, lead: impl Fn(Vec<T>) -> Vec<R>, abandoned: impl Fn() -> R) -> R {
        let mut queue = self.queue.lock();
        let ticket = queue.next;
        queue.next += 1;
        queue.waiting.push_back(Waiting { ticket, size, work });
        loop {
            if let Some(result) = queue.done.remove(&ticket) {
                return result;
            }
            if queue.leading {
                self.turn.wait(&mut queue);
                continue;
            }
            queue.leading = true;
            let (tickets, group) = queue.take_group();
            drop(queue);
            let mut reign = Reign { group: self, tickets, results: Vec::new(), abandoned: &abandoned };
            reign.results = lead(group);
            drop(reign);
            queue = self.queue.lock();
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }
}

impl<T, R> Queue<T, R> {
    fn take_group(&mut self) -> (Vec<u64>, Vec<T>) {
        let (mut tickets, mut group, mut size) = (Vec::new(), Vec::new(), 0);
        while let Some(first) = self.waiting.front() {
            size += first.size;
            if size > GROUP && !group.is_empty() {
                break;
            }
            let Some(first) = self.waiting.pop_front() else { break };
            tickets.push(first.ticket);
            group.push(first.work);
        }
        (tickets, group)
    }
}

/// Leadership, which ends with everybody of the group answered, also by a panic.
struct Reign<'a, T, R, A: Fn() -> R> {
    group: &'a Group<T, R>,
    tickets: Vec<u64>,
    results: Vec<R>,
    abandoned: &'a A,
}

impl<T, R, A: Fn() -> R> Drop for Reign<'_, T, R, A> {
    fn drop(&mut self) {
        let mut queue = self.group.queue.lock();
        let mut results = std::mem::take(&mut self.results).into_iter();
        for ticket in std::mem::take(&mut self.tickets) {
            queue.done.insert(ticket, results.next().unwrap_or_else(self.abandoned));
        }
        queue.leading = false;
        drop(queue);
        self.group.turn.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    #[test]
    fn everybody_who_waits_shares_the_next_round() {
        let group: Group<usize, usize> = Group::default();
        let (rounds, started, go) = (AtomicUsize::new(0), Barrier::new(2), Barrier::new(2));
        let lead = |work: Vec<usize>| {
            if rounds.fetch_add(1, SeqCst) == 0 {
                started.wait();
                go.wait();
            }
            work.iter().map(|n| n * 2).collect()
        };
        std::thread::scope(|scope| {
            let submit = |n| assert_eq!(group.submit(n, 1, lead, || unreachable!()), n * 2);
            scope.spawn(move || submit(0));
            started.wait();
            for n in 1..64 {
                scope.spawn(move || submit(n));
            }
            while group.waiting() < 63 {
                std::thread::yield_now();
            }
            go.wait();
        });
        assert_eq!(rounds.load(SeqCst), 2);
    }

    #[test]
    fn large_members_are_spread_over_rounds() {
        let group: Group<usize, usize> = Group::default();
        let (most, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let lead = |work: Vec<usize>| {
            rounds.fetch_add(1, SeqCst);
            most.fetch_max(work.iter().sum(), SeqCst);
            work
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| group.submit(GROUP / 2, GROUP / 2, lead, || unreachable!()));
            }
        });
        assert!(most.load(SeqCst) <= GROUP && rounds.load(SeqCst) >= 4);
        // A member larger than a group makes one of its own.
        assert_eq!(group.submit(GROUP + 1, GROUP + 1, lead, || unreachable!()), GROUP + 1);
    }

    #[test]
    fn a_panic_answers_the_group_and_the_next_one_works() {
        let group: Group<bool, &str> = Group::default();
        let lead = |work: Vec<bool>| {
            assert!(!work[0], "asked to panic");
            vec!["fine"; work.len()]
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            group.submit(true, 1, lead, || "abandoned");
        }));
        assert!(caught.is_err());
        assert_eq!(group.submit(false, 1, lead, || "abandoned"), "fine");
    }
}
