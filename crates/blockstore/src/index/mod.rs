//! The index: multihash → place of the record. It holds nothing that packs and journal do not say too,
//! so whenever it is in doubt it is thrown away and made again.

mod build;
mod filter;
#[cfg(test)]
pub(crate) mod memory;
mod page;
mod sled;
mod sort;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    build::{PackView, Survey, fill, prefer, survey},
    sled::SledHome,
};

use crate::{
    codec::{Put, Take},
    pack::Location,
};
use cidery_core::Multihash;
use std::{fs::File, io};
use thiserror::Error;

/// The index could not do what was asked: it failed, or what it holds makes no sense.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub(crate) struct IndexError(pub(crate) String);

/// How far the index goes in one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The pack's salt: another pack under the same id is another pack.
    pub(crate) salt: u64,
    /// Every record before this offset is in the index, durably.
    pub(crate) upto: u64,
    /// How many blocks the index placed before `upto` in this pack: those it places still, and those whose
    /// records are dead by the journal.
    pub(crate) blocks: u64,
}

/// An open index.
pub(crate) trait Index: Send + Sync {
    fn get(&self, hash: &Multihash) -> Result<Option<Location>, IndexError>;
    /// Where each of these blocks is. In the index's order they take every page once.
    fn get_all(&self, hashes: &[Multihash]) -> Result<Vec<Option<Location>>, IndexError> {
        hashes.iter().map(|hash| self.get(hash)).collect()
    }
    /// Sets places, and calls `replaced` with each former one.
    fn set(
        &self,
        places: &[(Multihash, Location)],
        replaced: &mut dyn FnMut(&Multihash, Location),
    ) -> Result<(), IndexError>;
    /// Removes blocks, where they are still at these places.
    fn remove(&self, places: &[(Multihash, Location)]) -> Result<(), IndexError>;
    /// Calls `each` with every place, while nobody sets any. From then on the index answers for most of what it
    /// does not hold without looking.
    fn each(&self, each: &mut dyn FnMut(Location)) -> Result<(), IndexError>;
    /// About `limit` blocks with their places, in an order of the index's own, from the one after `after`
    /// on. None is the end.
    fn page(&self, after: Option<&Multihash>, limit: usize) -> Result<Vec<(Multihash, Location)>, IndexError>;
    /// Everything said so far is durable on return.
    fn flush(&self) -> Result<(), IndexError>;
    fn checkpoints(&self) -> Result<Vec<(u64, Checkpoint)>, IndexError>;
    fn set_checkpoints(&self, checkpoints: &[(u64, Checkpoint)]) -> Result<(), IndexError>;
    fn remove_checkpoint(&self, pack: u64) -> Result<(), IndexError>;
    /// Whose packs it describes; `None` for a fresh one.
    fn store(&self) -> Result<Option<u64>, IndexError>;
    fn set_store(&self, id: u64) -> Result<(), IndexError>;
    /// An empty file for whatever does not fit into memory while the index is made. It has no name, and
    /// is gone when it is closed.
    fn scratch(&self) -> io::Result<File>;
}

/// Where an index lives.
pub(crate) trait IndexHome: Send + Sync {
    /// Opens it; creates it if there is none.
    fn open(&self) -> Result<Box<dyn Index>, IndexError>;
    /// Removes it, whatever is there.
    fn wipe(&self) -> Result<(), IndexError>;
}

fn encode_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    out.put_u64(checkpoint.salt);
    out.put_u64(checkpoint.upto);
    out.put_u64(checkpoint.blocks);
    out
}

fn decode_checkpoint(bytes: &[u8]) -> Result<Checkpoint, IndexError> {
    let parse = || {
        let mut take = Take(bytes);
        Some(Checkpoint { salt: take.u64()?, upto: take.u64()?, blocks: take.u64()? })
    };
    parse().ok_or_else(|| IndexError("a checkpoint does not parse".into()))
}
