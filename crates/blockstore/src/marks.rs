//! What peers may see, beyond what came from peers: the blocks that published roots reach.
//!
//! For every published namespace there is a set of what its public roots reach ([`crate::reach`]); nothing of
//! it is on disk. What was forgotten does not count below predecessors, and is hidden at once, before the
//! sets are made anew.
//! After a start nothing is shown until the sets are complete. A commit to a continuously published
//! namespace walks on from the new root and stops at what is marked already; a new publication, and the
//! end of predecessors' times, make a new set beside the old one and then replace it; withdrawing drops
//! the set.

use crate::{
    journal::Published,
    reach::{Fingerprints, Keys, View},
    store::Inner,
};
use cidery_core::{Cid, Multihash, Namespace, StoreError, dag};
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

/// A namespace's predecessors stop being shown together, at most once in this time: so long may one be
/// shown beyond its own.
const BATCH: Duration = Duration::from_secs(3600);
/// How often the ends of predecessors' times are looked for, at least.
const ROUND: Duration = Duration::from_secs(600);

/// What one publication reaches.
struct Set {
    /// Sequence of the publication in the journal.
    since: u64,
    reached: RwLock<Fingerprints>,
    /// Nodes that are reached and not here, by the fingerprint of their multihash.
    awaited: Mutex<HashMap<u64, Vec<Cid>>>,
}

/// When a namespace's set has to be made anew.
#[derive(Default)]
pub(crate) struct Expiry {
    /// When the next predecessor, of those in the set, stops being public.
    next: Option<SystemTime>,
    renewed: Option<SystemTime>,
}

impl Expiry {
    fn due(&self, now: SystemTime) -> Option<SystemTime> {
        // One that lies ahead is from before the clock was set back.
        let earliest = self.renewed.filter(|at| *at <= now).and_then(|at| at.checked_add(BATCH));
        Some(self.next?.max(earliest.unwrap_or(SystemTime::UNIX_EPOCH)))
    }
}

/// All sets, and the work on them.
pub(crate) struct Marks {
    keys: Keys,
    sets: RwLock<BTreeMap<Namespace, Arc<Set>>>,
    /// Held by whoever changes a set that is shown, or shows another one. Never for a long walk.
    walking: Mutex<()>,
    ready: AtomicBool,
    /// How many awaited nodes there are in all sets together.
    awaited: AtomicUsize,
    todo: Mutex<Todo>,
    wake: Condvar,
}

#[derive(Default)]
struct Todo {
    arrived: Vec<(Namespace, Vec<Cid>)>,
    closing: bool,
}

impl Marks {
    /// Nothing is shown until the worker has been through every publication; `ready` if there is none.
    pub(crate) fn new(ready: bool) -> Self {
        Self {
            keys: Keys::default(),
            sets: RwLock::default(),
            walking: Mutex::default(),
            ready: AtomicBool::new(ready),
            awaited: AtomicUsize::new(0),
            todo: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Whether a published root reaches a block with this multihash.
    pub(crate) fn show(&self, hash: &Multihash) -> bool {
        if !self.is_ready() {
            return false;
        }
        let shown = self.keys.block(hash);
        self.sets.read().values().any(|set| set.reached.read().contains(&shown))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(SeqCst)
    }

    /// Waits until the marking of the start has ended.
    pub(crate) fn wait_ready(&self) -> Result<(), StoreError> {
        let mut todo = self.todo.lock();
        while !self.is_ready() {
            if todo.closing {
                return Err(StoreError::Poisoned("the marking of what is published has ended early".into()));
            }
            self.wake.wait(&mut todo);
        }
        Ok(())
    }

    fn forget(&self, set: &Set) {
        let gone = std::mem::take(&mut *set.awaited.lock()).len();
        self.awaited.fetch_sub(gone, SeqCst);
    }

    /// Tells that a block is here now.
    pub(crate) fn arrived(&self, hash: &Multihash) {
        if self.awaited.load(SeqCst) == 0 {
            return;
        }
        let shown = self.keys.block(hash);
        for (namespace, set) in self.sets.read().iter() {
            if let Some(cids) = set.awaited.lock().remove(&shown) {
                self.awaited.fetch_sub(1, SeqCst);
                self.todo.lock().arrived.push((namespace.clone(), cids));
                self.wake.notify_all();
            }
        }
    }

    /// Ends the worker and whoever waits for it.
    pub(crate) fn close(&self) {
        self.todo.lock().closing = true;
        self.wake.notify_all();
    }

    fn closing(&self) -> bool {
        self.todo.lock().closing
    }
}

/// However the worker ends, nobody waits for it any longer.
struct WorkerEnd<'a>(&'a Marks);

impl Drop for WorkerEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Inner {
    /// Marks what a commit brought. Where the publication has no set yet, whoever makes it takes in
    /// this commit's root as well before anybody can see the set.
    pub(crate) fn extend_marks(&self, namespace: &Namespace, root: &Cid) {
        let _one = self.marks.walking.lock();
        let Some((published, roots)) = self.public_roots(namespace, false) else { return };
        // Its publication may be another one by now, and the root not public.
        if let Some(set) = self.set_of(namespace, &published).filter(|_| roots.contains(root)) {
            self.walk(&set, View::Current, vec![*root]);
        }
    }

    /// Makes the marks of a new publication, unless they are there: a publication said again.
    pub(crate) fn ensure_marks(&self, namespace: &Namespace) {
        let known = |(published, _): (Published, _)| self.set_of(namespace, &published).is_some();
        if !self.public_roots(namespace, false).is_some_and(known) {
            self.renew_marks(namespace);
        }
    }

    fn set_of(&self, namespace: &Namespace, published: &Published) -> Option<Arc<Set>> {
        self.marks.sets.read().get(namespace).filter(|set| set.since == published.since).cloned()
    }

    /// Makes a namespace's set from nothing, for what was not public before or is not any more.
    ///
    /// The long walk goes on beside commits, which extend the former set meanwhile; only what they
    /// brought is walked while they wait.
    pub(crate) fn renew_marks(&self, namespace: &Namespace) {
        // Withdrawn meanwhile, if there is none.
        let Some((began, roots)) = self.public_roots(namespace, true) else { return };
        let set = Arc::new(Set { since: began.since, reached: RwLock::default(), awaited: Mutex::default() });
        if !self.walk_public(&set, &roots, &[]) {
            return self.marks.forget(&set);
        }
        let _one = self.marks.walking.lock();
        let Some((published, now)) = self.public_roots(namespace, false) else { return self.marks.forget(&set) };
        if published.since != began.since || !self.walk_public(&set, &now, &roots) {
            return self.marks.forget(&set);
        }
        let mut sets = self.marks.sets.write();
        // Withdrawn, or published otherwise, during the walk: then this set must not come up.
        let still = self.state.read().publication(namespace).is_some_and(|now| now.since == published.since);
        let old = if still { sets.insert(namespace.clone(), set.clone()) } else { Some(set.clone()) };
        drop(sets);
        if let Some(old) = old {
            self.marks.forget(&old);
        }
        // What arrived before the set could be told of it.
        let here = |cid: &Cid| matches!(self.size(cid), Ok(Some(_)));
        let late: Vec<Cid> = set.awaited.lock().values().flatten().copied().collect();
        for cid in late.into_iter().filter(here) {
            self.marks.arrived(cid.hash());
        }
    }

    /// Shows nothing of a namespace any more, unless it was published again meanwhile.
    pub(crate) fn withdraw_marks(&self, namespace: &Namespace) {
        let mut sets = self.marks.sets.write();
        let now = self.state.read().publication(namespace).map(|now| now.since);
        let gone =
            if sets.get(namespace).is_some_and(|set| Some(set.since) != now) { sets.remove(namespace) } else { None };
        drop(sets);
        if let Some(set) = gone {
            self.marks.forget(&set);
        }
    }

    /// Marks what public roots reach, the newest first, but those that were `done` before; `false` if the
    /// store is closing.
    fn walk_public(&self, set: &Set, roots: &[Cid], done: &[Cid]) -> bool {
        let (newest, earlier) = roots.split_at(roots.len().min(1));
        // One that was walked as the newest is so no more, if another one is now.
        let new = |root: &&Cid| !done.contains(root);
        self.walk(set, View::Current, newest.iter().filter(|root| done.first() != Some(*root)).copied().collect())
            && self.walk(set, View::Earlier, earlier.iter().filter(new).copied().collect())
    }

    /// Marks what the CIDs reach; `false` if the store is closing.
    fn walk(&self, set: &Set, view: View, mut open: Vec<Cid>) -> bool {
        while let Some(cid) = open.pop() {
            if self.marks.closing() {
                return false;
            }
            if view == View::Earlier && self.withdrawn.is_forgotten(&cid) {
                continue;
            }
            let follow = self.marks.keys.enter(&mut set.reached.write(), &cid, view);
            if follow && let Some(links) = self.links_or_await(set, self.marks.keys.block(cid.hash()), &cid) {
                open.extend(links);
            }
        }
        true
    }

    /// A node's links; if it is not here it is awaited.
    fn links_or_await(&self, set: &Set, shown: u64, cid: &Cid) -> Option<Vec<Cid>> {
        let read = || match self.get(cid) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%cid, %error, "a published node can't be read; what is below it is not shown to peers");
                None
            }
        };
        let bytes = read().or_else(|| {
            let new = {
                let mut awaited = set.awaited.lock();
                let cids = awaited.entry(shown).or_default();
                cids.push(*cid);
                cids.len() == 1
            };
            self.marks.awaited.fetch_add(new.into(), SeqCst);
            // It may have arrived just before it was awaited.
            let bytes = read()?;
            if set.awaited.lock().remove(&shown).is_some() {
                self.marks.awaited.fetch_sub(1, SeqCst);
            }
            Some(bytes)
        })?;
        match dag::links(cid, &bytes) {
            Ok(links) => Some(links),
            Err(error) => {
                tracing::debug!(%cid, %error, "a published node has no readable links");
                None
            }
        }
    }

    /// The worker: marks at the start, then keeps up with arrivals and with time.
    pub(crate) fn keep_marks(&self) {
        let _end = WorkerEnd(&self.marks);
        let published: Vec<Namespace> = self.published_namespaces();
        for namespace in &published {
            self.ensure_marks(namespace);
        }
        {
            let _todo = self.marks.todo.lock();
            self.marks.ready.store(true, SeqCst);
        }
        self.marks.wake.notify_all();
        loop {
            let arrived = {
                let mut todo = self.marks.todo.lock();
                if todo.arrived.is_empty() && !todo.closing {
                    let pause = self.next_expiry().unwrap_or(ROUND).clamp(Duration::from_millis(10), ROUND);
                    self.marks.wake.wait_for(&mut todo, pause);
                }
                if todo.closing {
                    return;
                }
                std::mem::take(&mut todo.arrived)
            };
            for (namespace, cids) in arrived {
                self.walk_arrived(&namespace, cids);
            }
            self.expire_marks();
        }
    }

    fn walk_arrived(&self, namespace: &Namespace, cids: Vec<Cid>) {
        let _one = self.marks.walking.lock();
        let Some(set) = self.marks.sets.read().get(namespace).cloned() else { return };
        {
            let mut reached = set.reached.write();
            for cid in &cids {
                self.marks.keys.reopen(&mut reached, cid);
            }
        }
        self.walk(&set, View::Earlier, cids);
    }

    /// How long until a predecessor stops being public.
    fn next_expiry(&self) -> Option<Duration> {
        let now = self.now();
        let first = self.expiries.lock().values().filter_map(|expiry| expiry.due(now)).min()?;
        Some(first.duration_since(now).unwrap_or_default())
    }

    /// Starts over where a predecessor's time is up, but not again and again for a namespace that is
    /// pushed to all the time.
    pub(crate) fn expire_marks(&self) {
        let now = self.now();
        let is_due = |expiry: &Expiry| expiry.due(now).is_some_and(|due| due <= now);
        let due: Vec<Namespace> =
            self.expiries.lock().iter().filter(|(_, expiry)| is_due(expiry)).map(|(name, _)| name.clone()).collect();
        for namespace in due {
            self.renew_marks(&namespace);
        }
    }

    /// A namespace's publication with the roots that are public now; remembers when the next of them
    /// stops being so. `renewing`: a set is made with these roots alone.
    fn public_roots(&self, namespace: &Namespace, renewing: bool) -> Option<(Published, Vec<Cid>)> {
        let state = self.state.read();
        let published = state.publication(namespace);
        let mut expiries = self.expiries.lock();
        let (Some(published), Some(space)) = (published, state.spaces.get(namespace)) else {
            expiries.remove(namespace);
            return None;
        };
        let now = self.now();
        let (roots, next) = space.public_roots(now, self.options.predecessors);
        let expiry = expiries.entry(namespace.clone()).or_default();
        if renewing {
            *expiry = Expiry { next, renewed: Some(now) };
        } else {
            // One that is overdue is not forgotten.
            expiry.next = [expiry.next, next].into_iter().flatten().min();
        }
        Some((published, roots))
    }

    pub(crate) fn published_namespaces(&self) -> Vec<Namespace> {
        let state = self.state.read();
        state.spaces.iter().filter(|(_, space)| space.publication.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// The clock.
    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
    }
}
