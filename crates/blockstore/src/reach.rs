//! What roots reach, as a set of 64-bit fingerprints keyed with a secret of this process: two blocks that
//! share one count as one, which nobody can bring about who does not know the secret.
//!
//! Blocks are stored by multihash, but walks go by (codec, multihash), so that a blob with the bytes of
//! a directory does not hide the directory's children.

use cidery_core::{Cid, Multihash, codec};
use std::{
    collections::HashSet,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
};

/// The hash of a fingerprint is itself.
#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // Only u64s are hashed; this would merely be slower.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A set of fingerprints.
pub(crate) type Fingerprints = HashSet<u64, BuildHasherDefault<Identity>>;

/// In whose name a root is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum View {
    /// It is current: all that it reaches counts.
    Current,
    /// An earlier one: what was forgotten since does not count below it.
    Earlier,
    /// Somebody reads it or has pinned it: all of it stays, but for what was purged since, and nothing of it is
    /// shown for that.
    Kept,
}

/// Makes fingerprints.
#[derive(Clone, Default)]
pub(crate) struct Keys(RandomState);

impl Keys {
    /// Of a stored block.
    pub(crate) fn block(&self, hash: &Multihash) -> u64 {
        self.0.hash_one(hash)
    }

    /// Of a node that was walked.
    fn node(&self, cid: &Cid, view: View) -> u64 {
        self.0.hash_one((view, cid.codec(), cid.hash()))
    }

    /// Adds a block to what is reached. Whether its links are still to be followed.
    pub(crate) fn enter(&self, reached: &mut Fingerprints, cid: &Cid, view: View) -> bool {
        reached.insert(self.block(cid.hash()));
        if cid.codec() == codec::RAW {
            return false;
        }
        // Below a node that was walked as a current root's there is nothing more to find, but not the other
        // way round.
        if view == View::Earlier && reached.contains(&self.node(cid, View::Current)) {
            return false;
        }
        reached.insert(self.node(cid, view))
    }

    /// Whether a block was entered as a current root's, and with it all that is below.
    pub(crate) fn has_entered(&self, reached: &Fingerprints, cid: &Cid) -> bool {
        let key = if cid.codec() == codec::RAW { self.block(cid.hash()) } else { self.node(cid, View::Current) };
        reached.contains(&key)
    }

    /// Lets a node be walked again.
    pub(crate) fn reopen(&self, reached: &mut Fingerprints, cid: &Cid) {
        reached.remove(&self.node(cid, View::Current));
        reached.remove(&self.node(cid, View::Earlier));
    }
}
