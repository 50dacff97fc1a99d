//! What is reached: by current roots, kept history, links, uploads, pins and holds.

use super::{
    Inner, Tell, Telling,
    census::{Census, Number},
    marked::{Marked, Open},
};
use crate::{
    options::Stage,
    pack::{Pack, Records},
    reach::View,
};
use cidery_core::{Cid, Multihash, Pinned, StoreError, codec, dag};
use std::{
    collections::HashSet,
    mem::take,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// Marks under way, and complete after [`Marking::walk_all`] but for what comes meanwhile.
pub(in crate::store) struct Marking<'a> {
    inner: &'a Inner,
    marked: Marked,
    /// What a walk for pins that something was purged from passes over.
    purged: HashSet<Cid>,
    /// The state of the journal that the roots were taken from.
    seen: Option<u64>,
    /// Nodes whose links are to be followed: of the census …
    counted: Vec<Number>,
    /// … and others.
    others: Vec<Cid>,
    nodes: u64,
}

impl<'a> Marking<'a> {
    /// With a census it takes far less for each of many blocks; without one it takes nothing at first.
    pub(in crate::store) fn new(inner: &'a Inner, census: Option<Arc<Census>>) -> Self {
        Self::with(inner, Marked::new(census))
    }

    fn with(inner: &'a Inner, marked: Marked) -> Self {
        let (purged, counted, others) = Default::default();
        Self { inner, marked, purged, seen: None, counted, others, nodes: 0 }
    }

    /// What these roots reach, and nothing else.
    pub(in crate::store) fn below(
        inner: &'a Inner,
        census: Option<Arc<Census>>,
        roots: Vec<Cid>,
    ) -> Result<Self, StoreError> {
        let mut marking = Self::new(inner, census);
        marking.walk(View::Current, roots, &mut Telling::new(&|_| {}, Stage::Mark, 0))?;
        Ok(marking)
    }

    /// What these pins keep, and nothing else.
    pub(in crate::store) fn of_pins<'p>(
        inner: &'a Inner,
        census: Option<Arc<Census>>,
        pins: impl IntoIterator<Item = &'p Pinned>,
    ) -> Result<Self, StoreError> {
        let mut marking = Self::new(inner, census);
        pins.into_iter().try_for_each(|pin| marking.walk_pin(pin, &mut Telling::new(&|_| {}, Stage::Mark, 0)))?;
        Ok(marking)
    }

    fn walk_pin(&mut self, pinned: &Pinned, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        let pin = &pinned.pin;
        pin.blocks.iter().for_each(|cid| self.marked.keep(cid.hash()));
        if pinned.purged.is_empty() {
            return self.walk(View::Kept, pin.roots.clone(), telling);
        }
        // A walk of its own: what this one passes over, others keep.
        let mut part = Self::with(self.inner, self.marked.unmarked());
        part.purged = pinned.purged.iter().copied().collect();
        part.walk(View::Kept, pin.roots.clone(), telling)?;
        self.marked.keep_all(&part.marked);
        Ok(())
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
        self.marked.is_reached(hash) || self.marked.is_kept(hash)
    }

    /// Whether a block stays for those alone who are at it or have pinned it.
    pub(super) fn only_keeps(&self, hash: &Multihash) -> bool {
        self.marked.is_kept(hash) && !self.marked.is_reached(hash)
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

    /// Follows all links below some roots: those of the census generation by generation, each in the order of
    /// the packs.
    fn walk(&mut self, view: View, roots: Vec<Cid>, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        roots.iter().for_each(|root| self.enter(view, root));
        loop {
            if !self.counted.is_empty() {
                self.follow_counted(view, telling)?;
            } else if let Some(cid) = self.others.pop() {
                self.follow(view, &cid, telling)?;
            } else {
                return Ok(());
            }
        }
    }

    fn enter(&mut self, view: View, cid: &Cid) {
        let withdrawn = match view {
            View::Current => false,
            View::Earlier => self.inner.withdrawn.is_forgotten(cid),
            View::Kept => self.purged.contains(cid) || self.inner.withdrawn.is_purged(cid),
        };
        if withdrawn {
            return;
        }
        match self.marked.enter(cid, view) {
            Some(Open::Counted(number)) => self.counted.push(number),
            Some(Open::Other(cid)) => self.others.push(cid),
            None => {}
        }
    }

    /// Follows the links of a node that is looked up.
    fn follow(&mut self, view: View, cid: &Cid, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        self.count(telling)?;
        // What is not here reaches nothing that is: an image may be sparse.
        if let Some(bytes) = self.inner.get(cid)? {
            self.enter_links(view, cid, &bytes);
        }
        Ok(())
    }

    fn enter_links(&mut self, view: View, cid: &Cid, bytes: &[u8]) {
        match dag::links(cid, bytes) {
            Ok(links) => links.iter().for_each(|link| self.enter(view, link)),
            Err(error) => tracing::debug!(%cid, %error, "a node that is kept has no readable links"),
        }
    }

    fn count(&mut self, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        self.nodes += 1;
        if self.nodes.is_multiple_of(256) {
            self.inner.check_collecting()?;
            telling.at(self.marked.count());
        }
        Ok(())
    }

    /// Follows the links of all nodes of the census that are open now.
    fn follow_counted(&mut self, view: View, telling: &mut Telling<'_>) -> Result<(), StoreError> {
        let Some(census) = self.marked.census().cloned() else { return Ok(()) };
        let mut open = take(&mut self.counted);
        census.sort_by_place(&mut open);
        let mut elsewhere = Vec::new();
        for nodes in open.chunk_by(|one, other| census.place(*one).0 == census.place(*other).0) {
            match self.inner.packs.get(census.place(nodes[0]).0) {
                Some(pack) => self.follow_in(&pack, view, &census, nodes, &mut elsewhere, telling)?,
                None => elsewhere.extend(nodes),
            }
        }
        // It was moved or removed meanwhile, or is damaged.
        if !elsewhere.is_empty() {
            for hash in census.hashes(self.inner, elsewhere)? {
                self.follow(view, &Cid::new_v1(codec::DAG_PB, hash), telling)?;
            }
        }
        Ok(())
    }

    /// Follows the links of nodes in one pack, in its order. Those that are not where they were go to `elsewhere`.
    fn follow_in(
        &mut self,
        pack: &Arc<Pack>,
        view: View,
        census: &Census,
        nodes: &[Number],
        elsewhere: &mut Vec<Number>,
        telling: &mut Telling<'_>,
    ) -> Result<(), StoreError> {
        let file = self.inner.packs.file(pack)?;
        let mut records = Records::new(&*file, pack.header.salt, pack.id(), pack.len());
        for node in nodes {
            self.count(telling)?;
            match records.read(census.place(*node).1) {
                Ok(Some((cid, bytes))) if census.find(census.keys.block(cid.hash())) == Some(*node) => {
                    self.enter_links(view, &Cid::new_v1(codec::DAG_PB, *cid.hash()), bytes);
                }
                // Whoever reads it by itself is told why it can't be.
                _ => elsewhere.push(*node),
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
