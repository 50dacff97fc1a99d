//! Whether all of a file is here, as far as that is known: nobody is to be told that he need not bring what is
//! damaged or lost.

use super::Inner;
use crate::reach::{Fingerprints, Keys, View};
use cidery_core::{Cid, StoreError, codec, dag, identity_bytes};
use std::sync::atomic::Ordering::Relaxed;

/// A walk during which the roots changed is made again, so often.
const TRIES: usize = 3;

/// Why a walk ends early.
enum Stop {
    Missing,
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

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
        match self.walk_below(vec![*root], |_, is_here| if is_here { Ok(()) } else { Err(Stop::Missing) }) {
            Ok(()) => Ok(true),
            Err(Stop::Missing) => Ok(false),
            Err(Stop::Store(error)) => Err(error),
        }
    }

    /// What current roots and links need and is not here at all.
    pub(super) fn lost(&self) -> Result<Vec<Cid>, StoreError> {
        for _ in 0..TRIES {
            let (seen, roots) = {
                let state = self.state.read();
                let roots = state.spaces.values().flat_map(|space| {
                    let links = space.links.values().map(|link| link.fact.cid);
                    space.root().map(|entry| entry.cid).into_iter().chain(links)
                });
                (state.reachable, roots.collect())
            };
            let mut lost = Vec::new();
            self.walk_below(roots, |cid, is_here| {
                if !is_here && !self.damaged.lock().contains(cid.hash()) {
                    lost.push(*cid);
                }
                Ok::<_, StoreError>(())
            })?;
            // Otherwise a collection may have been where the walk was.
            if lost.is_empty() || self.state.read().reachable == seen {
                return Ok(lost);
            }
        }
        Ok(Vec::new())
    }

    /// Visits every block below these roots once, and says of each whether it is here, as far as that is known
    /// without reading leaves. What has no readable links has nothing below it.
    pub(super) fn walk_below<E: From<StoreError>>(
        &self,
        mut open: Vec<Cid>,
        mut visit: impl FnMut(&Cid, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        let (keys, mut seen) = (Keys::default(), Fingerprints::default());
        while let Some(cid) = open.pop() {
            if identity_bytes(&cid).is_some() || keys.has_entered(&seen, &cid) {
                continue;
            }
            keys.enter(&mut seen, &cid, View::Current);
            self.check_open()?;
            let mut is_here = !self.damaged.lock().contains(cid.hash()) && self.locate(cid.hash())?.is_some();
            if is_here && cid.codec() == codec::DAG_PB {
                match self.get(&cid) {
                    Ok(Some(bytes)) => open.extend(dag::links(&cid, &bytes).unwrap_or_default()),
                    Ok(None) | Err(StoreError::Corrupt { .. }) => is_here = false,
                    Err(error) => return Err(error.into()),
                }
            }
            visit(&cid, is_here)?;
        }
        Ok(())
    }
}
