//! Marks of blocks: bits for those of a census, and a table of fingerprints for others.
//!
//! Blocks are stored by multihash, but walks go by (codec, multihash), so that a blob with the bytes of a
//! directory does not hide the directory's children: the bit that says that a block is reached is another one
//! than the bits that say that its links were followed.

use super::census::{Census, Number};
use crate::reach::{Identity, Keys, View};
use cidery_core::{Cid, Multihash, codec};
use std::{collections::HashMap, hash::BuildHasherDefault, sync::Arc};

/// Current or earlier roots reach the block.
const REACHED: u8 = 1;
/// It is in use or pinned.
const KEPT: u8 = 2;
/// Its links were followed, as a node of a current root …
const CURRENT: u8 = 4;
/// … of an earlier one …
const EARLIER: u8 = 8;
/// … or of something in use.
const HELD: u8 = 16;

/// What was marked.
#[derive(Default)]
pub(super) struct Marked {
    keys: Keys,
    census: Option<Arc<Census>>,
    /// By number in the census.
    bits: Vec<u8>,
    /// By fingerprint: what came since, and what is not here.
    others: HashMap<u64, u8, BuildHasherDefault<Identity>>,
    /// How many blocks have a mark.
    count: u64,
}

/// A node whose links are to be followed.
pub(super) enum Open {
    /// It is in the census.
    Counted(Number),
    /// It is to be looked up.
    Other(Cid),
}

impl Marked {
    pub(super) fn new(census: Option<Arc<Census>>) -> Self {
        let keys = census.as_ref().map_or_else(Keys::default, |census| census.keys.clone());
        let bits = vec![0; census.as_ref().map_or(0, |census| census.len())];
        Self { keys, census, bits, ..Self::default() }
    }

    /// Without a mark, for the same blocks.
    pub(super) fn unmarked(&self) -> Self {
        let (keys, census) = (self.keys.clone(), self.census.clone());
        Self { keys, census, bits: vec![0; self.bits.len()], ..Self::default() }
    }

    pub(super) fn census(&self) -> Option<&Arc<Census>> {
        self.census.as_ref()
    }

    /// How many blocks have a mark.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn find(&self, block: u64) -> Option<Number> {
        self.census.as_ref()?.find(block)
    }

    fn slot(&mut self, hash: &Multihash) -> (Option<Number>, &mut u8) {
        let block = self.keys.block(hash);
        let found = self.find(block);
        let bits = match found {
            Some(found) => &mut self.bits[found as usize],
            None => self.others.entry(block).or_default(),
        };
        (found, bits)
    }

    fn bits(&self, hash: &Multihash) -> u8 {
        let block = self.keys.block(hash);
        match self.find(block) {
            Some(found) => self.bits[found as usize],
            None => self.others.get(&block).copied().unwrap_or_default(),
        }
    }

    /// Marks a block that is reached in `view`. Says where its links are to be found, if they are still to be followed.
    pub(super) fn enter(&mut self, cid: &Cid, view: View) -> Option<Open> {
        let (found, bits) = self.slot(cid.hash());
        let has_links = cid.codec() == codec::DAG_PB;
        let (mark, followed, enough) = match view {
            View::Current => (REACHED, CURRENT, CURRENT),
            // Below a node that was followed as a current root's there is nothing more to find, but not the other
            // way round.
            View::Earlier => (REACHED, EARLIER, EARLIER | CURRENT),
            // What a current root reaches is kept by that.
            View::Kept if *bits & if has_links { CURRENT } else { REACHED } != 0 => return None,
            View::Kept => (KEPT, HELD, HELD),
        };
        let (is_new, is_open) = (*bits == 0, has_links && *bits & enough == 0);
        *bits |= if is_open { mark | followed } else { mark };
        self.count += u64::from(is_new);
        is_open.then(|| found.map_or(Open::Other(*cid), Open::Counted))
    }

    /// Marks a block as pinned, and nothing below it.
    pub(super) fn keep(&mut self, hash: &Multihash) {
        let (_, bits) = self.slot(hash);
        let is_new = *bits == 0;
        *bits |= KEPT;
        self.count += u64::from(is_new);
    }

    /// Takes over which blocks are in use or pinned by marks of the same blocks, and not what was followed.
    pub(super) fn keep_all(&mut self, of: &Self) {
        for (bits, of) in self.bits.iter_mut().zip(&of.bits) {
            self.count += u64::from(*bits == 0 && of & KEPT != 0);
            *bits |= of & KEPT;
        }
        for (block, _) in of.others.iter().filter(|(_, of)| **of & KEPT != 0) {
            let bits = self.others.entry(*block).or_default();
            self.count += u64::from(*bits == 0);
            *bits |= KEPT;
        }
    }

    /// Whether a root reaches a block.
    pub(super) fn is_reached(&self, hash: &Multihash) -> bool {
        self.bits(hash) & REACHED != 0
    }

    /// Whether a block is in use or pinned, and that was not known to be so by a current root.
    pub(super) fn is_kept(&self, hash: &Multihash) -> bool {
        self.bits(hash) & KEPT != 0
    }
}
