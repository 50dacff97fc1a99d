//! Blocks: finding, reading and putting them.

use super::{DiskStore, Inner, round::Op, writer::PackWriter};
use crate::pack::{Class, Kind, Location, NewRecord, Verdict, verify};
use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, CommitError, Hold, Multihash, Origin, PublicBlocks, Stats, StoreError,
    codec, identity_bytes,
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// Raw blocks of at least this many bytes are leaves of large files.
pub(super) const LARGE: usize = 256 << 10;

/// What kind of pack a block belongs to.
pub(super) fn class_of(block: &Block) -> Class {
    if block.cid().codec() == codec::RAW && block.data().len() >= LARGE { Class::Leaves } else { Class::Nodes }
}

impl Inner {
    /// Where a block is.
    pub(super) fn locate(&self, hash: &Multihash) -> Result<Option<Location>, StoreError> {
        let place = match self.recent.get(hash) {
            Some(place) => Some(place),
            None => self.look_up(hash)?,
        };
        Ok(self.unless_dying(hash, place))
    }

    /// The same place, unless the block there is being removed.
    pub(super) fn unless_dying(&self, hash: &Multihash, place: Option<Location>) -> Option<Location> {
        place.filter(|place| self.dying.read().get(hash) != Some(place))
    }

    /// The record at a place, checked: the block's bytes, or what is wrong.
    pub(super) fn read_record(&self, place: &Location, cid: &Cid) -> Result<Result<Bytes, Verdict>, StoreError> {
        let Some(pack) = self.packs.get(place.pack) else { return Ok(Err(Verdict::OtherBlock)) };
        let file = self.packs.file(&pack)?;
        let mut buffer = self.buffers.take(place.total());
        let bytes = &mut buffer.as_mut()[..place.total()];
        let read = file.read_at(bytes, place.offset);
        let got = read.map_err(|e| StoreError::io(format!("reading block {cid} from pack {:016x}", place.pack), e))?;
        Ok(match verify(pack.header.salt, place, cid.hash(), &bytes[..got]) {
            Verdict::Good => Ok(buffer.freeze(usize::from(place.head)..place.total())),
            wrong => Err(wrong),
        })
    }

    fn read_checked(&self, mut place: Location, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        let mut renewed = false;
        let wrong = loop {
            let wrong = match self.read_record(&place, cid)? {
                Ok(bytes) => {
                    if matches!(place.origin, Origin::Peer | Origin::Upstream) {
                        self.uses.touch(cid.hash());
                    }
                    return Ok(Some(bytes));
                }
                Err(wrong) => wrong,
            };
            // It may have been removed or moved to another pack meanwhile.
            match self.locate(cid.hash())? {
                None => return Ok(None),
                Some(now) if now != place => place = now,
                Some(_) if wrong == Verdict::OtherBlock && !renewed => {
                    // The index is wrong, and with it who knows what else.
                    renewed = true;
                    self.renew_index(&format!("it placed {cid} where another block is"))?;
                }
                Some(_) => break wrong,
            }
        };
        self.damaged.lock().insert(*cid.hash());
        let what = if let Verdict::Damaged(what) = wrong { what } else { "another block is in its place" };
        Err(StoreError::Corrupt {
            cid: *cid,
            detail: format!("{what} (pack {:016x}, byte {})", place.pack, place.offset),
        })
    }

    /// Puts a block with `append`, which gets the record and whom to tell its place, unless it is here.
    pub(super) fn put_with(
        &self,
        block: &Block,
        origin: Origin,
        append: impl FnOnce(&NewRecord<'_>, &dyn Fn(Location)) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if identity_bytes(block.cid()).is_some() {
            return Ok(());
        }
        self.check_open()?;
        let hash = block.cid().hash();
        let claim = self.recent.claim(hash);
        self.withdrawn.put(hash, origin);
        let known = match claim.place {
            Some(place) => Some(place),
            None => self.look_up(hash)?,
        };
        let known = self.unless_dying(hash, known);
        match known {
            Some(place) if self.is_damaged(&place, block.cid(), origin) => {
                let record = NewRecord { kind: Kind::Replacement, origin: place.origin, block };
                append(&record, &|place| claim.publish(place))?;
                self.damaged.lock().remove(hash);
            }
            Some(_) => return Ok(()),
            None => {
                self.check_backlog()?;
                self.check_space(block, origin)?;
                append(&NewRecord { kind: Kind::Block, origin, block }, &|place| claim.publish(place))?;
                self.blocks.fetch_add(1, Relaxed);
                self.bytes.fetch_add(block.data().len() as u64, Relaxed);
                if matches!(origin, Origin::Peer | Origin::Upstream) {
                    self.uses.touch(hash);
                    self.count_cached(block.data().len() as u64);
                }
            }
        }
        drop(claim);
        self.marks.arrived(hash);
        self.count_written(block.data().len() as u64);
        Ok(())
    }

    /// Whether a block that is put again must be written again. What is acknowledged once more has to be here
    /// whole, so the checksum of what a client brings again is checked; what comes from peers was only asked for because it is not.
    fn is_damaged(&self, place: &Location, cid: &Cid, origin: Origin) -> bool {
        if self.damaged.lock().contains(cid.hash()) {
            return true;
        }
        let is_acknowledged = matches!(origin, Origin::Pushed | Origin::Imported);
        // A wrong place in the index is found, and mended, by who reads.
        is_acknowledged && matches!(self.read_record(place, cid), Ok(Err(Verdict::Damaged(_))) | Err(_))
    }

    fn is_public(&self, place: &Location, hash: &Multihash) -> bool {
        (place.origin == Origin::Peer || self.marks.show(hash)) && !self.withdrawn.hides(hash)
    }
}

impl Inner {
    /// As [`Blockstore::size`].
    pub(crate) fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(bytes.len() as u64));
        }
        Ok(self.locate(cid.hash())?.map(|place| place.len.into()))
    }

    /// As [`Blockstore::get`].
    pub(crate) fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        match self.locate(cid.hash())? {
            Some(place) => self.read_checked(place, cid),
            None => Ok(None),
        }
    }

    /// As [`Blockstore::put`].
    pub(super) fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        self.put_with(block, origin, |record, publish| self.packs.append_shared(class_of(block), record, publish))
    }
}

/// The error of an operation that can't conflict.
pub(super) fn only_store(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        conflict => StoreError::Journal(conflict.to_string()),
    }
}

impl Blockstore for DiskStore {
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.0.inner.size(cid)
    }

    fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.0.inner.get(cid)
    }

    fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        self.0.inner.put(block, origin)
    }

    fn writer(&self, origin: Origin) -> Result<Box<dyn BlockWriter>, StoreError> {
        self.0.inner.check_open()?;
        Ok(Box::new(PackWriter::new(self.clone(), origin)))
    }

    fn hold(&self) -> Arc<dyn Hold> {
        self.new_hold()
    }

    fn is_withdrawn(&self, cid: &Cid) -> bool {
        self.0.inner.withdrawn.hides(cid.hash())
    }

    fn knows_damage(&self) -> bool {
        self.0.inner.knows_damage()
    }

    fn has_whole(&self, root: &Cid) -> Result<bool, StoreError> {
        self.0.inner.has_whole(root)
    }

    fn discard(&self, root: &Cid) {
        self.0.inner.discard(root);
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.inner.check_open()?;
        self.0.inner.submit(Op::Sync).map(drop).map_err(only_store)
    }

    fn stats(&self) -> Stats {
        let inner = &self.0.inner;
        Stats { blocks: inner.blocks.load(Relaxed), bytes: inner.bytes.load(Relaxed), syncs: inner.syncs.load(Relaxed) }
    }
}

impl PublicBlocks for DiskStore {
    fn public_size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(bytes.len() as u64));
        }
        let inner = &self.0.inner;
        let place = inner.locate(cid.hash())?.filter(|place| inner.is_public(place, cid.hash()));
        Ok(place.map(|place| place.len.into()))
    }

    fn public_get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        let inner = &self.0.inner;
        match inner.locate(cid.hash())?.filter(|place| inner.is_public(place, cid.hash())) {
            Some(place) => inner.read_checked(place, cid),
            None => Ok(None),
        }
    }
}
