//! The directory that a backup goes to: whether it may, and how it becomes the next copy in one step.

use crate::{
    disk::{Disk, DiskFile},
    format::{self, write_whole},
    journal::{self, Journal, State},
    pack::{FILE_HEADER, FileHeader, file_name, id_of},
    store::{
        open::{PACKS, SET_ASIDE},
        uses,
    },
};
use cidery_core::StoreError;
use crc32c::crc32c;
use std::{
    fmt::Write,
    io::{self, ErrorKind},
    sync::Arc,
};

/// The file that says that a directory is a backup: of which store, and with which journals. If it has
/// another one, it has been used as a store since.
const NAME: &str = "backup";
const FIRST_WORDS: &str = "cidery-backup 1";

/// Length and checksum of a journal.
type Seal = (u64, u32);

pub(super) struct Destination<'a> {
    pub(super) disk: &'a dyn Disk,
    id: u64,
    /// Whether it holds a backup already, complete or not.
    begun: bool,
    seals: Vec<Seal>,
    /// What the copy says that is there now.
    pub(super) earlier: State,
}

/// Whether a directory is marked as a backup.
pub(in crate::store) fn is_one(disk: &dyn Disk) -> Result<bool, StoreError> {
    let names = disk.list("").map_err(|e| StoreError::io("looking for a mark of a backup", e))?;
    Ok(names.iter().any(|name| name == NAME))
}

fn refusal(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::AlreadyExists, why.into())
}

fn seal(journal: &[u8]) -> Seal {
    (journal.len() as u64, crc32c(journal))
}

impl<'a> Destination<'a> {
    /// Looks at a directory and changes nothing. Refuses one that anybody else may need.
    pub(super) fn open(disk: &'a dyn Disk, id: u64, beside: &[String]) -> io::Result<Self> {
        let mut names = disk.list("")?;
        names.retain(|name| !beside.contains(name));
        let known = [NAME, format::NAME, journal::NAME, uses::NAME, format::LOCK, PACKS, "index"];
        let is_known = |name: &&String| known.contains(&name.strip_suffix(".new").unwrap_or(name));
        if let Some(other) = names.iter().find(|name| !is_known(name)) {
            return Err(refusal(format!("it holds other files, as {other:?}")));
        }
        let mut destination = Self { disk, id, begun: false, seals: Vec::new(), earlier: State::default() };
        if !names.iter().any(|name| name == NAME) {
            let left_over = [format::LOCK.to_owned(), format!("{NAME}.new")];
            return match names.iter().find(|name| !left_over.contains(name)) {
                Some(_) => Err(refusal("it holds a store that is no backup")),
                None => Ok(destination),
            };
        }
        destination.read_mark()?;
        if names.iter().any(|name| name == journal::NAME) {
            let unreadable = |error| refusal(format!("the backup in it can't be read: {error}"));
            let (earlier, bytes) = Journal::peek(disk, id).map_err(unreadable)?;
            if !destination.seals.contains(&seal(&bytes)) {
                return Err(refusal("it was a backup and has been used as a store since"));
            }
            destination.seals = vec![seal(&bytes)];
            destination.earlier = earlier;
        }
        Ok(destination)
    }

    fn read_mark(&mut self) -> io::Result<()> {
        let file = self.disk.open(NAME)?;
        let mut bytes = vec![0; file.len()?.min(4096) as usize];
        file.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let owner = lines.next().and_then(|line| u64::from_str_radix(line.strip_prefix(FIRST_WORDS)?.trim(), 16).ok());
        let seal = |line: &str| {
            let (len, crc) = line.strip_prefix("journal ")?.split_once(' ')?;
            Some((len.parse().ok()?, u32::from_str_radix(crc, 16).ok()?))
        };
        self.seals = lines.filter_map(seal).collect();
        self.begun = true;
        match owner {
            Some(owner) if owner == self.id => Ok(()),
            Some(owner) => Err(refusal(format!("it holds a backup of another store, {owner:016x}"))),
            None => Err(refusal(format!("its file {NAME:?} is not one of this version"))),
        }
    }

    fn write_mark(&self, seals: &[Seal]) -> Result<(), StoreError> {
        let mut text = format!("{FIRST_WORDS} {:016x}\n", self.id);
        for (len, crc) in seals {
            // Writing to a string does not fail.
            let _ = writeln!(text, "journal {len} {crc:08x}");
        }
        write_whole(self.disk, NAME, text.as_bytes())
    }

    /// Refuses to go over a copy of a store that once was this one and went another way.
    pub(super) fn check_lineage(&self, state: &State) -> Result<(), StoreError> {
        for (namespace, space) in &self.earlier.spaces {
            let Some(last) = space.root() else { continue };
            let ours = state.spaces.get(namespace).map(|space| &space.history);
            let is_ours = ours.is_some_and(|history| {
                // Roots from before our history begins may have been ours.
                history.front().is_some_and(|first| last.sequence < first.sequence)
                    || history.iter().rev().any(|entry| entry.sequence == last.sequence && entry.cid == last.cid)
            });
            if !is_ours {
                let why = format!("it has a root of {namespace} that this store never had: {}", last.cid);
                return Err(StoreError::io("backing up", refusal(why)));
            }
        }
        Ok(())
    }

    /// Makes it a directory that is going to be a backup.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        if !self.begun {
            self.write_mark(&[])?;
        }
        if format::read(self.disk).ok().flatten() != Some(self.id) {
            format::write(self.disk, self.id)?;
        }
        self.disk.create_dir(PACKS).and_then(|()| self.disk.sync_dir("")).map_err(failed)
    }

    /// The pack's file in the copy, empty if there was none or another pack's; how long it is.
    pub(super) fn pack(&self, header: &FileHeader) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        let name = file_name(header.id);
        let file = match self.disk.open(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.disk.create(&name)?,
            opened => opened?,
        };
        let mut bytes = [0; FILE_HEADER as usize];
        let got = file.read_at(&mut bytes, 0)?;
        let mut len = file.len()?;
        if FileHeader::decode(&bytes[..got]).is_ok_and(|found| (found.id, found.salt) != (header.id, header.salt)) {
            file.set_len(0)?;
            len = 0;
        }
        Ok((file, len))
    }

    /// Puts the journal in place, after the packs, which were flushed.
    pub(super) fn complete(&mut self, journal: &[u8]) -> Result<(), StoreError> {
        self.disk.sync_dir(PACKS).map_err(failed)?;
        let new = seal(journal);
        // Whichever of them a stop leaves, it is known.
        self.write_mark(&[self.seals.as_slice(), &[new]].concat())?;
        write_whole(self.disk, journal::NAME, journal)?;
        self.write_mark(&[new])
    }

    /// Removes packs, and what was set aside where an incomplete copy was opened; how many.
    pub(super) fn remove_packs(&self, goes: &dyn Fn(u64) -> bool) -> Result<u64, StoreError> {
        let mut removed = 0;
        for name in self.disk.list(PACKS).map_err(failed)? {
            if name.ends_with(SET_ASIDE) || id_of(&name).is_some_and(goes) {
                self.disk.remove(&format!("{PACKS}/{name}")).map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// What the packs take on the disk.
    pub(super) fn disk_use(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for name in self.disk.list(PACKS).map_err(failed)? {
            let file = self.disk.open(&format!("{PACKS}/{name}")).map_err(failed)?;
            bytes += file.allocated().map_err(failed)?;
        }
        Ok(bytes)
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::io("writing the backup", error)
}
