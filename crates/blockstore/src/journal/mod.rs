//! The journal: one append-only file for everything that is not a block.
//!
//! ```text
//! file header, 32 bytes                   batch header, 36 bytes, then the records
//!   0  magic "CIDRJRNL"                     0  marker ba 7c 4e d1
//!   8  u16 version                          4  u32 length of the records
//!  10  u16 reserved, 0                      8  u64 sequence of the first record
//!  12  u64 id of the store                 16  u64 reserved, 0
//!  20  u64 sequence before the first one   24  u32 number of records
//!  28  u32 CRC32C of bytes 0..28           28  u32 CRC32C of the records
//!                                          32  u32 CRC32C of store id, offset of the batch, bytes 0..32
//! ```
//!
//! What one group of commits has to say is one batch: one write, one flush. The next batch is written
//! only after that flush, so after a crash at most the last batch can be incomplete. Hence:
//! - a batch that does not hold, with no later one behind it, is the torn tail of a commit that was
//!   never answered: it is cut off;
//! - a batch that does not hold *with* a later one behind it was acknowledged and is damaged now: the
//!   store refuses to open, since going on would silently lose or resurrect state.
//!
//! When most of it says nothing any more, a shorter one takes its place ([`compact`]).

mod compact;
mod record;
mod state;

pub(crate) use compact::image;
pub(crate) use record::{Event, MAX_BODY, Record};
pub(crate) use state::{PackMark, Published, Space, State, from_millis, to_millis};

use crate::{
    codec::{Put, Take},
    disk::{Disk, DiskFile},
    format,
    notes::Notes,
    options::OpenError,
};
use cidery_core::StoreError;
use crc32c::{crc32c, crc32c_append};
use record::{BadRecord, LAST_KIND};
use std::{io, sync::Arc};

/// The newest format of journals that is known here.
const VERSION: u16 = 1;
pub(crate) const NAME: &str = "journal";
const MAGIC: &[u8; 8] = b"CIDRJRNL";
const FILE_HEADER: u64 = 32;
const MARKER: [u8; 4] = [0xba, 0x7c, 0x4e, 0xd1];
const BATCH_HEADER: usize = 36;
/// The largest batch that is written or read, in bytes: several of the largest records.
const MAX_BATCH: usize = 4 * MAX_BODY;

/// The open journal.
pub(crate) struct Journal {
    file: Arc<dyn DiskFile>,
    id: u64,
    len: u64,
    /// How long it has to be before it is looked at whether a shorter one would do.
    look_at: u64,
    /// The next one who looks finds that it would.
    #[cfg(test)]
    pub(crate) forced: bool,
}

/// Why a batch, or a new journal, was not made durable.
pub(crate) enum AppendError {
    /// Nothing was written that counts; a later attempt may work.
    Write(StoreError),
    /// It may or may not be on the disk, and so may everything later.
    Flush(StoreError),
}

struct BatchHeader {
    len: usize,
    first: u64,
    count: u32,
    crc: u32,
}

fn batch_checksum(id: u64, offset: u64, bytes: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c(&id.to_le_bytes()), &offset.to_le_bytes()), bytes)
}

impl BatchHeader {
    fn decode(id: u64, offset: u64, bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let checked = bytes.get(..32)?;
        (take.raw(4)? == MARKER).then_some(())?;
        let (len, first, _reserved) = (take.u32()?, take.u64()?, take.u64()?);
        let (count, crc) = (take.u32()?, take.u32()?);
        (take.u32()? == batch_checksum(id, offset, checked)).then_some(Self { len: len as usize, first, count, crc })
    }
}

/// The header of a journal whose records come after the sequence `base`.
fn file_header(id: u64, base: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.put_u16(VERSION);
    header.put_u16(0);
    header.put_u64(id);
    header.put_u64(base);
    header.put_u32(crc32c(&header));
    header
}

/// The header of a batch of so many records, the first of which has this sequence.
fn batch_header(id: u64, offset: u64, first: u64, count: usize, body: &[u8]) -> Vec<u8> {
    let mut header = MARKER.to_vec();
    header.put_u32(body.len() as u32);
    header.put_u64(first);
    header.put_u64(0);
    header.put_u32(count as u32);
    header.put_u32(crc32c(body));
    header.put_u32(batch_checksum(id, offset, &header));
    header
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::io(format!("{doing} the journal"), error)
}

fn damaged(detail: String) -> OpenError {
    OpenError::Damaged { what: "the journal".into(), detail }
}

impl Journal {
    /// Whether there is one.
    pub(crate) fn exists(disk: &dyn Disk) -> Result<bool, StoreError> {
        Ok(disk.list("").map_err(io_error("looking for"))?.iter().any(|name| name == NAME))
    }

    /// Creates an empty one for the store `id`, durably.
    pub(crate) fn create(disk: &dyn Disk, id: u64) -> Result<(), StoreError> {
        format::write_whole(disk, NAME, &file_header(id, 0))
    }

    /// Opens it and replays it into a state; notes what was cut.
    pub(crate) fn open(disk: &dyn Disk, id: u64, notes: &mut Notes) -> Result<(Self, State), OpenError> {
        format::remove_staged(disk, NAME)?;
        // A stop may have come between its last rename and the flush of that.
        disk.sync_dir("").map_err(io_error("opening"))?;
        let file = disk.open(NAME).map_err(io_error("opening"))?;
        let Replayed { state, last, at, end } = replay_all(&*file, id)?;
        if at < end {
            notes.push(format!("the journal ended in an unfinished batch: {} bytes were cut off", end - at));
            file.set_len(at).map_err(io_error("cutting"))?;
        }
        if let Some(last) = last {
            rewrite(&*file, last, at)?;
        }
        let journal = Self {
            file,
            id,
            len: at,
            look_at: 0,
            #[cfg(test)]
            forced: false,
        };
        Ok((journal, state))
    }

    /// What the one on a disk says, which is left as it is, and its bytes.
    pub(crate) fn peek(disk: &dyn Disk, id: u64) -> Result<(State, Vec<u8>), OpenError> {
        let file = disk.open(NAME).map_err(io_error("opening"))?;
        let Replayed { state, end, .. } = replay_all(&*file, id)?;
        let mut bytes = vec![0; end as usize];
        let got = file.read_at(&mut bytes, 0).map_err(io_error("reading"))?;
        bytes.truncate(got);
        Ok((state, bytes))
    }

    /// Appends records as one batch and flushes it.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), AppendError> {
        let mut body = Vec::new();
        records.iter().for_each(|record| {
            record.encode(&mut body);
        });
        if body.len() > MAX_BATCH {
            return Err(AppendError::Write(StoreError::Journal("a batch is too large".into())));
        }
        let first = records.first().map_or(0, |record| record.sequence);
        let header = batch_header(self.id, self.len, first, records.len(), &body);
        if let Err(error) = self.file.write_at(&[&header, &body], self.len) {
            let _ = self.file.set_len(self.len);
            return Err(AppendError::Write(io_error("writing to")(error)));
        }
        self.file.sync_data().map_err(|error| AppendError::Flush(io_error("flushing")(error)))?;
        self.len += (header.len() + body.len()) as u64;
        Ok(())
    }
}

/// What a file of a journal adds up to.
struct Replayed {
    state: State,
    /// Where its last batch begins.
    last: Option<u64>,
    /// Where that ends …
    at: u64,
    /// … and the file.
    end: u64,
}

fn replay_all(file: &dyn DiskFile, id: u64) -> Result<Replayed, OpenError> {
    let end = file.len().map_err(io_error("reading"))?;
    let mut state = State { sequence: check_header(file, id)?, ..State::default() };
    let (mut at, mut last) = (FILE_HEADER, None);
    while at < end {
        match read_batch(file, id, at, end)? {
            Some((header, body)) => {
                replay(&header, &body, at, &mut state)?;
                last = Some(at);
                at += (BATCH_HEADER + body.len()) as u64;
            }
            None => match later_batch(file, id, at, end, state.sequence)? {
                Some(later) => {
                    return Err(damaged(format!(
                        "the batch at byte {at} does not hold, but one at byte {later} does, so it was complete once"
                    )));
                }
                None => break,
            },
        }
    }
    Ok(Replayed { state, last, at, end })
}

/// Checks the file's header; the sequence before its first record.
fn check_header(file: &dyn DiskFile, id: u64) -> Result<u64, OpenError> {
    let mut bytes = [0; FILE_HEADER as usize];
    file.read_at(&mut bytes, 0).map_err(io_error("reading"))?;
    let parse = || {
        let mut take = Take(&bytes);
        (take.raw(8)? == MAGIC).then_some(())?;
        let (version, _reserved, owner, base) = (take.u16()?, take.u16()?, take.u64()?, take.u64()?);
        (take.u32()? == crc32c(&bytes[..28])).then_some((version, owner, base))
    };
    let (version, owner, base) = parse().ok_or_else(|| damaged("its header does not hold".into()))?;
    if version > VERSION {
        return Err(OpenError::Newer { what: "the journal".into(), found: version.into(), supported: VERSION.into() });
    }
    if owner != id {
        return Err(damaged(format!("it belongs to store {owner:016x}, and this is store {id:016x}")));
    }
    Ok(base)
}

fn read_batch(file: &dyn DiskFile, id: u64, at: u64, end: u64) -> Result<Option<(BatchHeader, Vec<u8>)>, StoreError> {
    let mut bytes = [0; BATCH_HEADER];
    let got = file.read_at(&mut bytes, at).map_err(io_error("reading"))?;
    let Some(header) = BatchHeader::decode(id, at, &bytes[..got]) else { return Ok(None) };
    if header.len > MAX_BATCH || at + (BATCH_HEADER + header.len) as u64 > end {
        return Ok(None);
    }
    let mut body = vec![0; header.len];
    let got = file.read_at(&mut body, at + BATCH_HEADER as u64).map_err(io_error("reading"))?;
    Ok((got == body.len() && crc32c(&body) == header.crc).then_some((header, body)))
}

fn replay(header: &BatchHeader, body: &[u8], at: u64, state: &mut State) -> Result<(), OpenError> {
    let mut take = Take(body);
    for n in 0..header.count {
        let record = Record::decode(&mut take).map_err(|error| match error {
            BadRecord::Unknown(kind) => OpenError::Newer {
                what: "a record of the journal".into(),
                found: kind.into(),
                supported: LAST_KIND.into(),
            },
            BadRecord::Malformed => damaged(format!("record {n} of the batch at byte {at} does not parse")),
        })?;
        if record.sequence <= state.sequence || (n == 0 && record.sequence != header.first) {
            return Err(damaged(format!("record {n} of the batch at byte {at} is out of sequence")));
        }
        state.apply(&record);
    }
    if take.is_empty() { Ok(()) } else { Err(damaged(format!("the batch at byte {at} is longer than its records"))) }
}

/// A later batch behind one that does not hold.
fn later_batch(file: &dyn DiskFile, id: u64, at: u64, end: u64, sequence: u64) -> Result<Option<u64>, StoreError> {
    const WINDOW: usize = 1 << 20;
    let mut from = at + 1;
    let mut window = vec![0; WINDOW];
    while from + BATCH_HEADER as u64 <= end {
        let got = file.read_at(&mut window, from).map_err(io_error("reading"))?;
        let bytes = &window[..got];
        for (skip, candidate) in bytes.windows(BATCH_HEADER).enumerate() {
            let offset = from + skip as u64;
            if candidate.starts_with(&MARKER)
                && BatchHeader::decode(id, offset, candidate).is_some_and(|header| header.first > sequence)
            {
                return Ok(Some(offset));
            }
        }
        if got < BATCH_HEADER {
            break;
        }
        from += (got - BATCH_HEADER + 1) as u64;
    }
    Ok(None)
}

/// Writes the last batch again and flushes it: if its flush failed before the restart, the system may
/// believe that it is on the disk already.
fn rewrite(file: &dyn DiskFile, from: u64, to: u64) -> Result<(), StoreError> {
    let mut bytes = vec![0; (to - from) as usize];
    file.read_at(&mut bytes, from).map_err(io_error("reading"))?;
    file.write_at(&[&bytes], from).map_err(io_error("writing to"))?;
    file.sync_data().map_err(io_error("flushing"))
}
