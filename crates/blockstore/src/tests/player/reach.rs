//! What has to stay, what is shown, and pins.

use super::{Facts, Player};
use cidery_core::{Blockstore, Cid, Origin, Pin, PinError, RootStore, StoreError};
use std::collections::BTreeSet;

impl Player {
    /// What roots, links and uploads keep.
    pub(super) fn reached_by_roots(&self) -> BTreeSet<Cid> {
        let facts = &self.facts;
        let pins = facts.uploads.values().flat_map(|upload| upload.pins.iter().copied());
        let current =
            facts.roots.last().copied().into_iter().chain(facts.links.values().map(|link| link.cid)).chain(pins);
        let mut kept = self.below(current.collect(), false);
        let earlier = facts.roots.iter().rev().take(self.rig.options.history).chain(&facts.public);
        kept.append(&mut self.below(earlier.copied().collect(), true));
        kept
    }

    /// What pins keep.
    pub(super) fn pinned(&self) -> BTreeSet<Cid> {
        let below = |(pin, purged): &(Pin, Vec<Cid>)| self.below_but(pin.roots.clone(), |cid| purged.contains(cid));
        let pins = self.facts.pins.values();
        pins.clone().flat_map(below).chain(pins.flat_map(|(pin, _)| pin.blocks.clone())).collect()
    }

    /// What a collection leaves.
    pub(super) fn kept(&self) -> BTreeSet<Cid> {
        let facts = &self.facts;
        let mut kept = self.reached_by_roots();
        kept.append(&mut self.pinned());
        let cached = self.durable.iter().filter(|(_, (_, origin))| matches!(origin, Origin::Peer | Origin::Upstream));
        kept.extend(cached.map(|(cid, _)| *cid).filter(|cid| !facts.hidden.contains(cid)));
        kept
    }

    pub(super) fn below(&self, open: Vec<Cid>, earlier: bool) -> BTreeSet<Cid> {
        self.below_but(open, |cid| earlier && self.facts.forgotten.contains(cid))
    }

    pub(super) fn below_but(&self, mut open: Vec<Cid>, passes_over: impl Fn(&Cid) -> bool) -> BTreeSet<Cid> {
        let mut reached = BTreeSet::new();
        while let Some(cid) = open.pop() {
            if !passes_over(&cid)
                && reached.insert(cid)
                && let Some((block, _)) = self.offered.get(&cid)
            {
                open.extend(cidery_core::dag::links(&cid, block.data()).unwrap());
            }
        }
        reached
    }

    /// What published roots show.
    pub(super) fn reached(&self) -> BTreeSet<Cid> {
        let current = |root: &&Cid| Some(*root) == self.facts.roots.last();
        let (newest, earlier): (Vec<_>, Vec<_>) = self.facts.public.iter().partition(current);
        let mut reached = self.below(newest, false);
        reached.append(&mut self.below(earlier, true));
        reached
    }

    /// Pins what the root that many commits back reaches, and one block; `None` where that is refused.
    pub(super) fn pin(&self, id: u8, back: u8, next: &mut Facts) -> Option<Result<bool, StoreError>> {
        let root = next.roots.iter().rev().nth(usize::from(back)).copied()?;
        let blocks: Vec<Cid> = self.children().next().into_iter().collect();
        let (name, roots) = (format!("p{id}"), vec![root]);
        let pin = Pin { name: name.clone(), root, roots, blocks, bytes: u64::from(back) };
        let below = self.below(pin.roots.clone(), false);
        let here = |cid: &Cid| self.store().size(cid).unwrap().is_some() && !self.store().is_forgotten(cid);
        let possible = below.iter().chain(&pin.blocks).all(here);
        let pinned = self.store().pin(&pin);
        if !possible {
            assert!(matches!(pinned, Err(PinError::Missing(_) | PinError::Withdrawn(_))), "{pinned:?}");
            return None;
        }
        next.pins.insert(name, (pin, Vec::new()));
        Some(match pinned {
            Ok(_) => Ok(true),
            Err(PinError::Store(error)) => Err(error),
            Err(error) => panic!("{error}"),
        })
    }

    /// Purges a file without leaves.
    pub(super) fn purge(&self, file: Cid, next: &mut Facts) -> Result<bool, StoreError> {
        for (pin, purged) in next.pins.values_mut() {
            let kept = self.below_but(pin.roots.clone(), |cid| purged.contains(cid));
            if kept.contains(&file) || pin.blocks.contains(&file) {
                purged.push(file);
            }
            pin.blocks.retain(|block| *block != file);
        }
        self.store().purge(&[file]).map(|_| true)
    }
}
