//! One pack: an append-only file of block records.

mod record;
mod scan;
mod set;
mod window;

pub(crate) use record::{
    BadHeader, Class, FILE_HEADER, FileHeader, Header, Kind, Location, VERSION, Verdict, cid_of, disown, origin_from,
    verify,
};
pub(crate) use scan::{Found, Scan};
pub(crate) use set::{DIRECTORY, Packs, Writeback, file_name, id_of, write_back};
pub(crate) use window::Records;

use crate::disk::DiskFile;
use cidery_core::{Block, Origin};
use parking_lot::Mutex;
use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Written bytes are handed to the disk in steps of this many, so that the flush at the end is short.
const WRITEBACK: u64 = 8 << 20;

/// A pack and its file.
pub(crate) struct Pack {
    pub(crate) header: FileHeader,
    /// Open while it is written to or was read lately.
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    append: Mutex<Append>,
    /// Where the next record goes; everything before it can be read.
    len: AtomicU64,
    /// Everything before this is on the disk.
    durable: AtomicU64,
    /// What the journal says of `durable`.
    pub(crate) journaled: AtomicU64,
    /// Its name in the directory is not flushed yet.
    new: AtomicBool,
    /// Takes no more records, whatever its length.
    sealed: AtomicBool,
}

#[derive(Default)]
struct Append {
    written_back: u64,
    /// In the list of packs that need a flush.
    queued: bool,
}

/// A record to append.
pub(crate) struct NewRecord<'a> {
    pub(crate) kind: Kind,
    pub(crate) origin: Origin,
    pub(crate) block: &'a Block,
}

/// Why a record was not appended.
pub(crate) enum AppendError {
    /// The pack has no room for it; another one has.
    Sealed,
    Io(io::Error),
}

impl Pack {
    fn new(header: FileHeader, file: Option<Arc<dyn DiskFile>>, len: u64, durable: u64, new: bool) -> Self {
        Self {
            header,
            file: Mutex::new(file),
            append: Mutex::new(Append { written_back: len, queued: false }),
            len: AtomicU64::new(len),
            durable: AtomicU64::new(durable),
            journaled: AtomicU64::new(durable),
            new: AtomicBool::new(new),
            sealed: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.header.id
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Appends a record and calls `publish` with its place before any later flush can take it for durable.
    /// `queue` is called when the pack has to be flushed and did not have to before. Gives the range that
    /// should be written back now, if one is due.
    fn append(
        &self,
        file: &dyn DiskFile,
        limit: u64,
        record: &NewRecord<'_>,
        publish: impl FnOnce(Location),
        queue: impl FnOnce(),
    ) -> Result<Option<Range<u64>>, AppendError> {
        let &NewRecord { kind, origin, block } = record;
        let mut append = self.append.lock();
        if self.sealed.load(Ordering::Acquire) {
            return Err(AppendError::Sealed);
        }
        let offset = self.len.load(Ordering::Relaxed);
        let head = record::encode(self.header.salt, offset, kind, origin, block.cid(), block.data());
        let location =
            Location { pack: self.header.id, offset, head: head.len() as u16, len: block.data().len() as u32, origin };
        if location.end() > limit && offset > FILE_HEADER {
            return Err(AppendError::Sealed);
        }
        if let Err(error) = file.write_at(&[&head, block.data()], offset) {
            // The torn record must not grow the file for ever; the next one is written over it anyway.
            let _ = file.set_len(offset);
            return Err(AppendError::Io(error));
        }
        publish(location);
        self.len.store(location.end(), Ordering::Release);
        if !append.queued {
            append.queued = true;
            queue();
        }
        let due = append.written_back..location.end();
        if due.end - due.start < WRITEBACK {
            return Ok(None);
        }
        append.written_back = due.end;
        Ok(Some(due))
    }

    /// Lets nobody append to it any more; whoever is at it is done when this returns.
    fn seal(&self) {
        let _append = self.append.lock();
        self.sealed.store(true, Ordering::Release);
    }

    /// Takes it off the list of packs to flush, and says how far the flush has to go.
    fn begin_flush(&self) -> u64 {
        let mut append = self.append.lock();
        append.queued = false;
        self.len.load(Ordering::Acquire)
    }
}
