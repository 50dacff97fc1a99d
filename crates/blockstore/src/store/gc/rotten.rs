//! Cached blocks that cannot be read any more: others have them, so they go.

use super::{Census, Collected, Inner, Marking};
use crate::pack::Location;
use cidery_core::{Multihash, StoreError};
use std::sync::Arc;

/// A cached block that cannot be read.
pub(in crate::store) struct Rotten {
    pub(in crate::store) hash: Multihash,
    pub(in crate::store) place: Location,
    /// It is known to have no links.
    pub(in crate::store) is_leaf: bool,
}

impl Inner {
    /// Removes those that may go: leaves, and nodes that nothing of this node's own reaches. A node that
    /// is reached has to stay, since without it what it links to would look as if nothing reached it.
    pub(in crate::store) fn remove_rotten(&self, rotten: &[Rotten]) -> Result<(), StoreError> {
        let _one = self.collector.one_at_a_time();
        let _keeping = self.holds.keep_released();
        let has_nodes = rotten.iter().any(|block| !block.is_leaf);
        let census = if has_nodes { Census::take(self).ok().map(Arc::new) } else { None };
        let mut marking = Marking::new(self, census);
        // It fails if a damaged one is reached, and then nobody knows about the others.
        let known = has_nodes && marking.walk_all(&|_| {}).is_ok();
        let goes = |block: &&Rotten| block.is_leaf || (known && !marking.reaches(&block.hash));
        let going = rotten.iter().filter(goes).map(|block| (block.hash, block.place)).collect();
        self.bury(going, &mut Collected::default())
    }
}
