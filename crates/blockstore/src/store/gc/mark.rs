//! What is reached: by current roots, kept history, links, uploads, pins and holds.

use super::{Inner, Tell, Telling};
use crate::{
    options::Stage,
    reach::{Fingerprints, Keys, View},
};
use cidery_core::{Cid, Multihash, Pinned, StoreError, dag};
use std::{collections::HashSet, sync::atomic::Ordering::Relaxed};

/// Marks under way, and complete after [`Marking::walk_all`] but for what comes meanwhile.
pub(in crate::store) struct Marking<'a> {
    inner: &'a Inner,
    keys: Keys,
    reached: Fingerprints,
    /// What is in use or pinned, and not reached by anything else.
    kept: Fingerprints,
    /// What pins keep that something was purged from.
    kept_in_part: Fingerprints,
    /// What a walk for those passes over.
    purged: HashSet<Cid>,
    /// The state of the journal that the roots were taken from.
    seen: Option<u64>,
    nodes: u64,
}

impl<'a> Marking<'a> {
    pub(in crate::store) fn new(inner: &'a Inner) -> Self {
        Self::with(inner, Keys::default(), HashSet::new())
    }

    fn with(inner: &'a Inner, keys: Keys, purged: HashSet<Cid>) -> Self {
        let (reached, kept, kept_in_part) = Default::default();
        Self { inner, keys, reached, kept, kept_in_part, purged, seen: None, nodes: 0 }
    }

    /// What these roots reach, and nothing else.
    pub(in crate::store) fn below(inner: &'a Inner, roots: Vec<Cid>) -> Result<Self, StoreError> {
        let mut marking = Self::new(inner);
        marking.walk(View::Current, roots, &mut Telling::new(&|_| {}, Stage::Mark, 0))?;
        Ok(marking)
    }

    /// What these pins keep, and nothing else.
    pub(in crate::store) fn of_pins<'p>(
        inner: &'a Inner,
        pins: impl IntoIterator<Item = &'p Pinned>,
    ) -> Result<Self, StoreError> {
        let mut marking = Self::new(inner);
        pins.into_iter().try_for_each(|pin| marking.walk_pin(pin, &mut Telling::new(&|_| {}, Stage::Mark, 0)))?;
        Ok(marking)
    }

    fn walk_pin(&mut self, pinned: &Pinned, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        let (pin, blocks) = (&pinned.pin, &mut self.kept);
        blocks.extend(pin.blocks.iter().map(|cid| self.keys.block(cid.hash())));
        if pinned.purged.is_empty() {
            return self.walk(View::Kept, pin.roots.clone(), telling);
        }
        // A walk of its own: what this one passes over, others keep.
        let mut part = Self::with(self.inner, self.keys.clone(), pinned.purged.iter().copied().collect());
        part.walk(View::Kept, pin.roots.clone(), telling)?;
        self.kept_in_part.extend(part.kept);
        Ok(())
    }

    fn keeps(&self, block: u64) -> bool {
        self.kept.contains(&block) || self.kept_in_part.contains(&block)
    }

    /// Walks from all roots.
    pub(in crate::store) fn walk_all(&mut self, tell: Tell<'_>) -> Result<(), StoreError> {
        let mut telling = Telling::new(tell, Stage::Mark, self.inner.blocks.load(Relaxed));
        telling.at(0);
        self.catch_up(&mut telling)
    }

    /// Walks from the roots that came meanwhile.
    pub(super) fn walk_new(&mut self) -> Result<(), StoreError> {
        self.catch_up(&mut Telling::new(&|_| {}, Stage::Mark, 0))
    }

    /// Whether something reaches a block, or somebody is at it or has pinned it.
    pub(in crate::store) fn reaches(&self, hash: &Multihash) -> bool {
        let block = self.keys.block(hash);
        self.reached.contains(&block) || self.keeps(block)
    }

    /// Whether a block stays for those alone who are at it or have pinned it.
    pub(super) fn only_keeps(&self, hash: &Multihash) -> bool {
        let block = self.keys.block(hash);
        self.keeps(block) && !self.reached.contains(&block)
    }

    fn catch_up(&mut self, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        loop {
            let seen = self.inner.state.read().reachable;
            if self.seen != Some(seen) {
                let (current, earlier) = self.inner.kept_roots();
                self.walk(View::Current, current, telling)?;
                self.walk(View::Earlier, earlier, telling)?;
                for pinned in self.inner.all_pins() {
                    self.walk_pin(&pinned, telling)?;
                }
                self.seen = Some(seen);
            }
            self.walk(View::Kept, self.inner.holds.roots(), telling)?;
            if self.inner.state.read().reachable == seen {
                return Ok(());
            }
        }
    }

    fn walk(&mut self, view: View, mut open: Vec<Cid>, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        while let Some(cid) = open.pop() {
            let (withdrawn, set) = match view {
                View::Current => (false, &mut self.reached),
                View::Earlier => (self.inner.withdrawn.is_forgotten(&cid), &mut self.reached),
                // What a current root reaches is kept by that.
                View::Kept if self.keys.has_entered(&self.reached, &cid) => continue,
                View::Kept => (self.purged.contains(&cid) || self.inner.withdrawn.is_purged(&cid), &mut self.kept),
            };
            if withdrawn || !self.keys.enter(set, &cid, view) {
                continue;
            }
            self.nodes += 1;
            if self.nodes.is_multiple_of(256) {
                self.inner.check_collecting()?;
                telling.at((self.reached.len() + self.kept.len()) as u64);
            }
            // What is not here reaches nothing that is: an image may be sparse.
            let Some(bytes) = self.inner.get(&cid)? else { continue };
            match dag::links(&cid, &bytes) {
                Ok(links) => open.extend(links),
                Err(error) => tracing::debug!(%cid, %error, "a node that is kept has no readable links"),
            }
        }
        Ok(())
    }
}

impl Inner {
    /// All roots that are kept: those that are current, and those that are not any more.
    fn kept_roots(&self) -> (Vec<Cid>, Vec<Cid>) {
        let (mut current, mut earlier) = (Vec::new(), Vec::new());
        let state = self.state.read();
        for space in state.spaces.values() {
            let kept = space.kept_roots(self.now(), self.options.predecessors, self.options.history);
            current.extend(space.root().map(|entry| entry.cid));
            earlier.extend(kept.iter().map(|entry| entry.cid));
            earlier.extend(space.publication.map(|published| published.root));
            current.extend(space.links.values().map(|link| link.fact.cid));
        }
        current.extend(state.uploads.values().flat_map(|upload| upload.fact.pins.iter().copied()));
        (current, earlier)
    }
}
