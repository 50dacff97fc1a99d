//! Reading a pack from front to back: for the start after a stop, and for a new index.
//!
//! Headers alone are read, and payloads skipped, as far as the pack is known to have been flushed; from
//! there on payloads are checked too, because a record whose header reached the disk need not have
//! its bytes there. Where no record begins, the scan goes on at the next place where one does.

use super::{
    record::{self, Header, Location, MARKER, MAX_HEAD, RECORD_HEADER},
    window::{WINDOW, Window},
};
use crate::disk::DiskFile;
use crc32c::crc32c_append;
use std::io;

/// What a scan came across.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A sound record.
    Record(Header),
    /// Bytes that are not one, up to the next record or the end.
    Gap { from: u64, to: u64 },
}

/// An iterator over the records of one pack.
pub(crate) struct Scan<'a> {
    window: Window<'a>,
    salt: u64,
    pack: u64,
    at: u64,
    end: u64,
    verify_from: u64,
}

impl<'a> Scan<'a> {
    /// From `from`, a record's beginning, to `end`; payloads are checked from `verify_from` on.
    pub(crate) fn new(file: &'a dyn DiskFile, salt: u64, pack: u64, from: u64, end: u64, verify_from: u64) -> Self {
        Self { window: Window::new(file, end), salt, pack, at: from, end, verify_from }
    }

    /// How far it got.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    fn payload_holds(&mut self, location: &Location, expected: u32) -> io::Result<bool> {
        let (mut at, mut crc) = (location.offset + u64::from(location.head), 0);
        while at < location.end() {
            let part = self.window.bytes(at, WINDOW.min((location.end() - at) as usize))?;
            if part.is_empty() {
                return Ok(false);
            }
            crc = crc32c_append(crc, part);
            at += part.len() as u64;
        }
        Ok(crc == expected)
    }

    fn record_at(&mut self, offset: u64) -> io::Result<Option<Header>> {
        let (salt, pack) = (self.salt, self.pack);
        let Some(header) = record::decode(salt, pack, offset, self.window.bytes(offset, MAX_HEAD)?) else {
            return Ok(None);
        };
        let end = header.location.end();
        let sound =
            end <= self.end && (end <= self.verify_from || self.payload_holds(&header.location, header.payload_crc)?);
        Ok(sound.then_some(header))
    }

    /// The first offset from `from` on at which a record begins, or the end.
    fn resync(&mut self, from: u64) -> io::Result<u64> {
        let mut at = from;
        while at + RECORD_HEADER as u64 <= self.end {
            let bytes = self.window.bytes(at, WINDOW)?;
            if bytes.len() < MARKER.len() {
                break;
            }
            let candidate = bytes.windows(MARKER.len()).position(|four| four == MARKER);
            match candidate {
                Some(skip) => {
                    at += skip as u64;
                    if self.record_at(at)?.is_some() {
                        return Ok(at);
                    }
                    at += 1;
                }
                None => at += (bytes.len() - MARKER.len() + 1) as u64,
            }
        }
        Ok(self.end)
    }

    fn step(&mut self) -> io::Result<Found> {
        let from = self.at;
        if let Some(header) = self.record_at(from)? {
            self.at = header.location.end();
            return Ok(Found::Record(header));
        }
        self.at = self.resync(from + 1)?;
        Ok(Found::Gap { from, to: self.at })
    }
}

impl Iterator for Scan<'_> {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.at = self.end;
        }
        Some(step)
    }
}
