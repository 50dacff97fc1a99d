//! Whether all of a file is here, as far as that is known: nobody is to be told that he need not bring what is
//! damaged or lost.

use super::Inner;
use cidery_core::{Cid, StoreError, codec, dag, identity_bytes};
use std::{collections::HashSet, sync::atomic::Ordering::Relaxed};

/// A walk that changes meanwhile is made again, so often.
const TRIES: usize = 3;

impl Inner {
    /// Whether something that is here is known to be damaged, or was lost.
    pub(super) fn knows_damage(&self) -> bool {
        self.lossy.load(Relaxed) || !self.damaged.lock().is_empty()
    }

    /// As [`cidery_core::Blockstore::has_whole`].
    pub(super) fn has_whole(&self, root: &Cid) -> Result<bool, StoreError> {
        if !self.knows_damage() {
            return Ok(true);
        }
        let mut whole = true;
        self.walk_whole(vec![*root], |_| whole = false)?;
        Ok(whole)
    }

    /// What current roots and links need and is not here at all.
    pub(super) fn lost(&self) -> Result<Vec<Cid>, StoreError> {
        let mut tries = 1;
        loop {
            let (seen, roots) = {
                let state = self.state.read();
                let roots = state.spaces.values().flat_map(|space| {
                    let links = space.links.values().map(|link| link.fact.cid);
                    space.root().map(|entry| entry.cid).into_iter().chain(links)
                });
                (state.reachable, roots.collect())
            };
            let mut lost = Vec::new();
            self.walk_whole(roots, |cid| {
                if !self.damaged.lock().contains(cid.hash()) {
                    lost.push(*cid);
                }
            })?;
            // Otherwise a collection may have been where the walk was.
            if lost.is_empty() || self.state.read().reachable == seen {
                return Ok(lost);
            }
            if tries == TRIES {
                return Ok(Vec::new());
            }
            tries += 1;
        }
    }

    /// Calls `missing` for what is damaged or not here below these roots.
    fn walk_whole(&self, mut open: Vec<Cid>, mut missing: impl FnMut(&Cid)) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        while let Some(cid) = open.pop() {
            if identity_bytes(&cid).is_some() || !seen.insert(cid) {
                continue;
            }
            self.check_open()?;
            let is_damaged = self.damaged.lock().contains(cid.hash());
            if is_damaged || self.locate(cid.hash())?.is_none() {
                missing(&cid);
            } else if cid.codec() == codec::DAG_PB {
                match self.get(&cid) {
                    // What has no readable links needs nothing else.
                    Ok(Some(bytes)) => open.extend(dag::links(&cid, &bytes).unwrap_or_default()),
                    Ok(None) | Err(StoreError::Corrupt { .. }) => missing(&cid),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
