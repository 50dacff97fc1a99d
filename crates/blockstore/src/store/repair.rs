//! One block that may be damaged: looking at it, making sure that nobody gets its bytes, and putting good
//! ones in their place.

use super::{Inner, blocks::class_of, scrub::is_bad_sector};
use crate::pack::{self, Kind, Location, NewRecord, Verdict, verify};
use cidery_core::{Block, Bytes, Cid, Multihash, StoreError};

/// What there is at a block's place.
pub(super) enum Sight {
    Good,
    /// The block is at another place by now, or gone.
    Elsewhere,
    Rotten(Rot),
}

/// A record that is not what it should be.
pub(super) struct Rot {
    pub(super) why: &'static str,
    /// Header and CID, as far as they could be read.
    pub(super) head: Vec<u8>,
    /// What is in the payload's place.
    payload: Bytes,
    /// The disk could not read it.
    pub(super) unreadable: bool,
    /// Its checksums hold, and its hash does not.
    vouched_for: bool,
}

impl Rot {
    /// The block, if only what describes it is damaged.
    pub(super) fn own_block(&self, cid: &Cid) -> Option<Block> {
        self.block_of(cid, self.payload.clone())
    }

    /// The block, if these are its bytes.
    pub(super) fn block_of(&self, cid: &Cid, bytes: Bytes) -> Option<Block> {
        Block::new(*cid, bytes).ok()
    }
}

impl Inner {
    /// Reads a block's record and checks all that can be checked.
    pub(super) fn look_at(&self, hash: &Multihash, place: &Location) -> Result<Sight, StoreError> {
        let is_there = || Ok::<bool, StoreError>(self.locate(hash)? == Some(*place));
        let Some(pack) = self.packs.get(place.pack) else {
            return Ok(Sight::Elsewhere);
        };
        if !is_there()? {
            return Ok(Sight::Elsewhere);
        }
        let mut bytes = vec![0; place.total()];
        let read = match self.packs.file(&pack) {
            Ok(file) => file.read_at(&mut bytes, place.offset),
            Err(_) if self.packs.get(place.pack).is_none() => return Ok(Sight::Elsewhere),
            Err(error) => return Err(error),
        };
        let (verdict, unreadable) = match read {
            Ok(got) => {
                bytes.truncate(got);
                (verify(pack.header.salt, place, hash, &bytes), false)
            }
            Err(error) if is_bad_sector(&error) => {
                bytes.clear();
                (Verdict::Damaged("the disk can't read it"), true)
            }
            Err(error) => {
                return Err(StoreError::io(format!("reading from pack {:016x}", place.pack), error));
            }
        };
        let bytes = Bytes::from(bytes);
        let head = bytes.slice(..usize::from(place.head).min(bytes.len()));
        let payload = bytes.slice(head.len()..);
        let why = match verdict {
            Verdict::Good if hash_holds(hash, &payload) => return Ok(Sight::Good),
            Verdict::Good => "its bytes are not those of its hash",
            Verdict::OtherBlock => "another block is in its place",
            Verdict::Damaged(why) => why,
        };
        // It may have been removed while it was read.
        if !is_there()? {
            return Ok(Sight::Elsewhere);
        }
        let vouched_for = verdict == Verdict::Good;
        Ok(Sight::Rotten(Rot { why, head: head.to_vec(), payload, unreadable, vouched_for }))
    }

    /// Makes sure that a damaged block is an error for whoever reads it, also after a restart and with an
    /// index made anew, and that the next one who puts it repairs it.
    pub(super) fn quarantine(&self, hash: &Multihash, place: &Location, rot: &Rot) -> Result<(), StoreError> {
        self.damaged.lock().insert(*hash);
        if rot.vouched_for
            && let Some(pack) = self.packs.get(place.pack)
            && let Some(header) = pack::disown(pack.header.salt, place.offset, &rot.head)
        {
            self.packs.overwrite(&pack, &header, place.offset)?;
        }
        Ok(())
    }

    /// Writes a block anew in place of a damaged record; `false` if that one does not count any more.
    pub(super) fn replace(&self, block: &Block, damaged: &Location) -> Result<bool, StoreError> {
        let hash = block.cid().hash();
        let claim = self.recent.claim(hash);
        let known = match claim.place {
            Some(place) => Some(place),
            None => self.look_up(hash)?,
        };
        if self.unless_dying(hash, known) != Some(*damaged) {
            return Ok(false);
        }
        let record = NewRecord { kind: Kind::Replacement, origin: damaged.origin, block };
        self.packs.append_shared(class_of(block), &record, |place| claim.publish(place))?;
        self.damaged.lock().remove(hash);
        drop(claim);
        self.count_written(block.data().len() as u64);
        Ok(true)
    }
}

fn hash_holds(hash: &Multihash, bytes: &Bytes) -> bool {
    // The codec has no part in it.
    Block::new(Cid::new_v1(cidery_core::codec::RAW, *hash), bytes.clone()).is_ok()
}
