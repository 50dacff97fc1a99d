//! Backup: a copy of a running store that opens like any other and can be brought up to date.
//!
//! ```text
//!   1  no collection runs; everything is flushed, and the state of that moment is what the copy will say
//!   2  packs: what the copy does not have yet is added to its packs          packs.rs
//!   3  the journal, last, in one step: from here on it is the new copy       destination.rs
//!   4  what only the earlier copy needed goes
//! ```
//!
//! Packs only grow, so an interrupted backup leaves the earlier copy as it was, with longer packs; the next
//! one compares what is there already instead of writing it again.

mod destination;
mod packs;

pub(super) use destination::is_one;

use super::{
    DiskStore, Handle, Inner,
    blocks::only_store,
    politely,
    round::Op,
    telling::{Tell, Telling},
};
use crate::{
    disk::{RealDisk, create_private_dir},
    format,
    index::{IndexHome, SledHome},
    journal::{self, PackMark},
    options::{OpenError, Progress, Stage},
    pack::{FILE_HEADER, Pack},
};
use cidery_core::StoreError;
use destination::Destination;
use packs::Copying;
use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a backup did, and what there is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Packs of the copy.
    pub packs: u64,
    /// How long they are together, holes included.
    pub bytes: u64,
    /// How much of the disk they take.
    pub disk_bytes: u64,
    /// What was written of that this time.
    pub copied_bytes: u64,
    /// Packs of the earlier copy that are no more.
    pub packs_removed: u64,
    /// Bytes that this store's disk could not read: what was there is as damaged in the copy as here.
    pub unreadable_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// A store at one moment.
struct Moment {
    /// A journal that says what was true then.
    journal: Vec<u8>,
    /// The packs that there were, each with the length that was on the disk.
    packs: Vec<(Arc<Pack>, u64)>,
    /// What the journal says of them, and of those that were lost before.
    marks: BTreeMap<u64, PackMark>,
}

impl DiskStore {
    /// Makes a copy in a directory, which is new, empty, or holds an earlier copy of this store: then only
    /// what came since is copied. The copy has all that was acknowledged before the call. `progress` is
    /// called on another thread.
    ///
    /// Others go on meanwhile, but no collection begins. An interrupted backup leaves the earlier copy
    /// usable, and the next one completes it.
    ///
    /// To restore, stop the node and open (a copy of) the directory as a store. Once something was written
    /// to it, it is a store of its own and no backup any more.
    ///
    /// # Errors
    /// When the directory is this store's own or inside it, or holds anything else; nothing of that is
    /// touched. When a disk fails.
    pub fn backup(&self, directory: &Path, progress: &(dyn Fn(Progress) + Sync)) -> Result<BackedUp, StoreError> {
        let inner = &self.0.inner;
        inner.check_open()?;
        let failed = |error| StoreError::io(format!("backing up to {}", directory.display()), error);
        let disk = RealDisk(directory.to_owned());
        let existed = directory.exists();
        if existed {
            // Before anything is written to it.
            Destination::open(&disk, inner.id, &inner.options.beside).map_err(failed)?;
        }
        create_private_dir(directory).map_err(failed)?;
        if self.0.is_inside(directory).map_err(failed)? {
            if !existed {
                fs::remove_dir(directory).map_err(failed)?;
            }
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is inside the store itself")));
        }
        let _lock = format::lock(directory).map_err(|error| match error {
            OpenError::Store(error) => error,
            other => failed(io::Error::new(io::ErrorKind::ResourceBusy, other.to_string())),
        })?;
        politely("store-backup", || {
            let destination = Destination::open(&disk, inner.id, &inner.options.beside).map_err(failed)?;
            // One that was made by looking into the copy would be behind.
            let index = SledHome { path: directory.join("index"), cache: 0 };
            index.wipe().map_err(|error| StoreError::Index(error.0))?;
            inner.back_up(destination, progress).map_err(|error| match error {
                StoreError::Full { .. } => StoreError::Full { what: "the backup" },
                other => other,
            })
        })
    }
}

impl Handle {
    /// Whether a directory is in that of the store, or is it.
    fn is_inside(&self, directory: &Path) -> io::Result<bool> {
        let Some(lock) = &self.lock else { return Ok(false) };
        Ok(directory.canonicalize()?.starts_with(lock.directory().canonicalize()?))
    }
}

impl Inner {
    #[cfg(test)]
    pub(crate) fn back_up_to(&self, disk: &dyn crate::disk::Disk) -> Result<BackedUp, StoreError> {
        let destination =
            Destination::open(disk, self.id, &self.options.beside).map_err(|e| StoreError::io("backing up", e))?;
        self.back_up(destination, &|_| {})
    }

    fn back_up(&self, mut destination: Destination<'_>, tell: Tell<'_>) -> Result<BackedUp, StoreError> {
        let started = Instant::now();
        let _one = self.collector.one_at_a_time();
        self.check_open()?;
        self.submit(Op::Sync).map_err(only_store)?;
        let Moment { journal, packs, marks } = self.moment();
        destination.check_lineage(&self.state.read())?;
        destination.begin()?;
        let mut telling = Telling::new(tell, Stage::Backup, packs.iter().map(|(_, len)| len).sum());
        let (mut done, mut before, mut punches) = (BackedUp::default(), 0, Vec::new());
        for (pack, len) in packs {
            let copying = Copying { inner: self, pack: &pack, len, destination: &destination };
            copying.copy(&mut done, &mut punches, &mut |at| telling.at(before + at))?;
            before += len;
        }
        destination.complete(&journal)?;
        for (file, range) in punches {
            let punched = file.punch(range.start, range.end - range.start);
            punched.map_err(|e| StoreError::io("punching a hole into a pack of the backup", e))?;
        }
        done.packs_removed = destination.remove_packs(&|id| !marks.contains_key(&id))?;
        done.disk_bytes = destination.disk_use()?;
        done.took = started.elapsed();
        if done.unreadable_bytes > 0 {
            self.note(format!("{} bytes could not be read for a backup: scrub the store", done.unreadable_bytes));
        }
        tracing::info!(bytes = done.bytes, copied_bytes = done.copied_bytes, took = ?done.took, "backed up");
        Ok(done)
    }

    /// What is acknowledged now. While no collection runs, all of it stays where it is.
    fn moment(&self) -> Moment {
        let state = self.state.read();
        let packs: Vec<(Arc<Pack>, u64)> =
            self.packs.all().into_iter().map(|pack| (pack.clone(), pack.durable())).collect();
        let mut marks = state.packs.clone();
        for (pack, durable) in packs.iter().filter(|(_, durable)| *durable > FILE_HEADER) {
            let salt = pack.header.salt;
            let mark = marks.entry(pack.id()).or_insert(PackMark { salt, len: 0 });
            // One that lost its end keeps the mark that tells so.
            mark.len = mark.len.max(*durable);
        }
        let records = state.records(journal::to_millis(self.now()), &marks);
        let packs = packs.into_iter().filter(|(pack, _)| marks.contains_key(&pack.id())).collect();
        Moment { journal: journal::image(self.id, &records), packs, marks }
    }
}
