//! A window that moves over a pack: what is read in ascending order takes few calls.

use super::record::{self, MAX_HEAD};
use crate::disk::DiskFile;
use cidery_core::Cid;
use crc32c::crc32c;
use std::io;

pub(super) const WINDOW: usize = 64 << 10;
/// As much is read behind what was skipped: more would mostly be what is not asked for.
const PEEK: usize = 4 << 10;

/// Bytes of a pack up to `end`.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    bytes: Vec<u8>,
    at: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, end: u64) -> Self {
        Self { file, end, bytes: Vec::new(), at: 0 }
    }

    /// The bytes at `offset`: `want` of them unless the pack ends before.
    pub(super) fn bytes(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(self.end.saturating_sub(offset) as usize);
        let inside = offset.checked_sub(self.at).is_some_and(|skip| skip as usize + want <= self.bytes.len());
        if !inside {
            let expected = self.at + (self.bytes.len() + PEEK) as u64;
            // More of what was peeked at is not yet a reason to read what follows.
            let size = if offset > expected || (offset == self.at && want > PEEK) { PEEK } else { WINDOW };
            let size = size.max(want).min(self.end.saturating_sub(offset) as usize);
            self.bytes.resize(size, 0);
            let read = self.file.read_at(&mut self.bytes, offset);
            // After an error nothing of it counts.
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
            read?;
            self.at = offset;
        }
        let skip = (offset - self.at) as usize;
        let until = (skip + want).min(self.bytes.len());
        Ok(&self.bytes[skip..until])
    }
}

/// Records of one pack, read one after the other at ascending offsets.
pub(crate) struct Records<'a> {
    window: Window<'a>,
    salt: u64,
    pack: u64,
}

impl<'a> Records<'a> {
    /// Those before `end`.
    pub(crate) fn new(file: &'a dyn DiskFile, salt: u64, pack: u64, end: u64) -> Self {
        Self { window: Window::new(file, end), salt, pack }
    }

    /// The block at `offset`; `None` if there is none, or its record does not hold.
    pub(crate) fn read(&mut self, offset: u64) -> io::Result<Option<(Cid, &[u8])>> {
        let head = self.window.bytes(offset, MAX_HEAD)?;
        let Some(header) = record::decode(self.salt, self.pack, offset, head) else { return Ok(None) };
        let bytes = self.window.bytes(offset, header.location.total())?;
        let payload = bytes.get(usize::from(header.location.head)..header.location.total());
        Ok(header.cid.zip(payload.filter(|payload| crc32c(payload) == header.payload_crc)))
    }
}
