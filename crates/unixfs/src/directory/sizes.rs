//! What sharded directories would take in one node, so that it need not be found out again at every change.

use cidery_core::Cid;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Directories in one generation.
const ROOM: usize = 4096;

/// Sizes of sharded directories, by their CIDs: of those that were changed lately, some 1 MB at most.
///
/// A directory that loses entries must become one node when they fit into it. To know that, most of its shards have
/// to be read, so whoever changes large directories again and again keeps one of these.
#[derive(Default)]
pub struct Sizes(Mutex<Generations>);

/// What was used since the last turn, and what was used before it.
#[derive(Default)]
struct Generations {
    young: HashMap<Cid, usize>,
    old: HashMap<Cid, usize>,
}

impl Sizes {
    /// Bytes that a directory's entries take in one node, or more.
    pub(super) fn at_least(&self, directory: &Cid) -> Option<usize> {
        let known = self.0.lock();
        known.young.get(directory).or_else(|| known.old.get(directory)).copied()
    }

    pub(super) fn note(&self, directory: Cid, at_least: usize) {
        let mut known = self.0.lock();
        if known.young.len() == ROOM {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert(directory, at_least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn they_are_bounded_and_the_latest_stay() {
        let (sizes, cid) = (Sizes::default(), |n: usize| *Block::raw(n.to_be_bytes().to_vec()).cid());
        for n in 0..3 * ROOM {
            sizes.note(cid(n), n);
        }
        assert_eq!((sizes.at_least(&cid(3 * ROOM - 1)), sizes.at_least(&cid(0))), (Some(3 * ROOM - 1), None));
        let known = sizes.0.lock();
        assert!(known.young.len() + known.old.len() <= 2 * ROOM);
    }
}
