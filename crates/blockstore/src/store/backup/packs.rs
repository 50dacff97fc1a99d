//! Bringing one pack of the copy up to date.

use super::{BackedUp, Destination, Inner};
use crate::{
    disk::DiskFile,
    journal::PackMark,
    pack::{Found, Pack, Scan, file_name},
    store::{gc::PUNCHED, scrub::is_bad_sector},
};
use cidery_core::StoreError;
use std::{io, ops::Range, sync::Arc};

/// Bytes that are copied at once.
const CHUNK: u64 = 1 << 20;
/// Where the disk can't read a chunk, it is tried in pieces of this size.
const SECTOR: u64 = 4096;

/// A hole that the copy gets later.
pub(super) type Punch = (Arc<dyn DiskFile>, Range<u64>);

pub(super) struct Copying<'a> {
    pub(super) inner: &'a Inner,
    pub(super) pack: &'a Arc<Pack>,
    /// So much of it is copied.
    pub(super) len: u64,
    pub(super) destination: &'a Destination<'a>,
}

/// Both files of a pack.
struct Files<'a> {
    from: &'a dyn DiskFile,
    to: &'a dyn DiskFile,
    /// So much there is already, of whatever kind.
    to_len: u64,
}

impl Copying<'_> {
    /// Copies what is missing. `punches` gets what is dead here by now and not in the earlier copy, which
    /// may be needed until the new one is complete.
    pub(super) fn copy(
        &self,
        done: &mut BackedUp,
        punches: &mut Vec<Punch>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let id = self.pack.id();
        let failed = |error| StoreError::io(format!("copying {}", file_name(id)), error);
        let from = self.inner.packs.file(self.pack)?;
        let (to, to_len) = self.destination.pack(&self.pack.header).map_err(failed)?;
        done.packs += 1;
        if let Some(mark) = self.mark().filter(|mark| mark.len > self.len) {
            // It lost its end here, and the copy has it.
            done.bytes += mark.len;
            return Ok(());
        }
        let files = Files { from: &*from, to: &*to, to_len };
        let begin = self.had(&files).map_err(failed)?;
        let mut at = begin;
        for hole in self.holes(&files, begin).map_err(failed)? {
            if hole.start < to_len {
                punches.push((to.clone(), hole.clone()));
            }
            if hole.start >= begin {
                self.range(&files, at..hole.start, CHUNK, done, progress)?;
                at = hole.end;
            }
        }
        self.range(&files, at..self.len, CHUNK, done, progress)?;
        if to_len != self.len {
            to.set_len(self.len).map_err(failed)?;
        }
        if begin < self.len || to_len != self.len {
            to.sync_data().map_err(failed)?;
        }
        done.bytes += self.len;
        progress(self.len);
        Ok(())
    }

    /// What the copy's journal says of it.
    fn mark(&self) -> Option<PackMark> {
        let mark = self.destination.earlier.packs.get(&self.pack.id()).copied();
        mark.filter(|mark| mark.salt == self.pack.header.salt)
    }

    /// How much of it the copy has, as its journal says and its end shows.
    fn had(&self, files: &Files<'_>) -> io::Result<u64> {
        let Some(len) = self.mark().map(|mark| mark.len).filter(|len| *len <= files.to_len) else { return Ok(0) };
        let tail = len.saturating_sub(CHUNK)..len;
        let (mut ours, mut theirs) = (vec![0; (tail.end - tail.start) as usize], Vec::new());
        theirs.resize(ours.len(), 0);
        let got = match files.from.read_at(&mut ours, tail.start) {
            // Then what the copy has of it is worth keeping.
            Err(error) if is_bad_sector(&error) => return Ok(len),
            got => got?,
        };
        let same = got == files.to.read_at(&mut theirs, tail.start)? && ours == theirs;
        // Otherwise all of it is compared.
        Ok(if same { len } else { 0 })
    }

    /// The payloads that need not be copied, in order: those of records that are dead.
    fn holes(&self, files: &Files<'_>, begin: u64) -> io::Result<Vec<Range<u64>>> {
        let id = self.pack.id();
        let dead = self.inner.state.read().dead.get(&id).cloned().unwrap_or_default();
        let known = self.destination.earlier.dead.get(&id);
        let is_new = |offset: &u64| *offset >= begin || known.is_none_or(|known| known.binary_search(offset).is_err());
        let mut holes = Vec::new();
        for offset in dead.into_iter().filter(|offset| *offset < self.len).filter(is_new) {
            let mut scan = Scan::new(files.from, self.pack.header.salt, id, offset, self.len, self.len);
            // One that is damaged is copied as it is.
            if let Some(Ok(Found::Record(header))) = scan.next()
                && header.location.len >= PUNCHED
            {
                holes.push(offset + u64::from(header.location.head)..header.location.end());
            }
        }
        Ok(holes)
    }

    fn range(
        &self,
        files: &Files<'_>,
        range: Range<u64>,
        step: u64,
        done: &mut BackedUp,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let failed = |error| StoreError::io(format!("copying {}", file_name(self.pack.id())), error);
        let (mut ours, mut theirs) = (vec![0; step as usize], vec![0; step as usize]);
        let mut at = range.start;
        while at < range.end {
            self.inner.check_open()?;
            let want = step.min(range.end - at) as usize;
            let (ours, theirs) = (&mut ours[..want], &mut theirs[..want]);
            match files.from.read_at(ours, at) {
                Ok(got) if got == want => {
                    let there = at < files.to_len && files.to.read_at(theirs, at).map_err(failed)? == want;
                    if !there || ours != theirs {
                        files.to.write_at(&[ours], at).map_err(failed)?;
                        done.copied_bytes += want as u64;
                    }
                }
                Ok(_) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if is_bad_sector(&error) && step > SECTOR => {
                    self.range(files, at..at + want as u64, SECTOR, done, progress)?;
                }
                Err(error) if is_bad_sector(&error) => done.unreadable_bytes += want as u64,
                Err(error) => return Err(failed(error)),
            }
            at += want as u64;
            progress(at);
        }
        Ok(())
    }
}
