//! Puts any number of records in the order of the index within bounded memory: runs that are sorted go to
//! a file, and are merged at the end. So the index takes every page once, where records in the order of the
//! packs, or sorted in parts, would have it take most pages again and again.

use super::page::{self, Key};
use crate::{
    codec::{Put, Take},
    pack::{Kind, Location},
};
use cidery_core::Multihash;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// Records that are held in memory: some 15 MB.
const RUN: usize = if cfg!(test) { 100 } else { 128 << 10 };
/// Bytes of a run that are read at once.
const WINDOW: usize = 64 << 10;

/// A block's record in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) hash: Multihash,
    pub(super) place: Location,
    pub(super) kind: Kind,
}

/// Takes records in any order.
pub(super) struct Sorter<F> {
    /// Makes the file for what does not fit into memory.
    scratch: F,
    file: Option<Arc<File>>,
    /// Where runs end in the file.
    ends: Vec<u64>,
    records: Vec<Record>,
}

impl<F: FnMut() -> io::Result<File>> Sorter<F> {
    pub(super) fn new(scratch: F) -> Self {
        Self { scratch, file: None, ends: vec![0], records: Vec::new() }
    }

    pub(super) fn add(&mut self, record: Record) -> io::Result<()> {
        self.records.push(record);
        if self.records.len() >= RUN { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        sort(&mut self.records);
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.file.insert(Arc::new((self.scratch)()?)).clone(),
        };
        let mut bytes = Vec::with_capacity(1 << 20);
        let mut at = self.ends.last().copied().unwrap_or_default();
        for record in self.records.drain(..) {
            encode(&mut bytes, &record);
            if bytes.len() > (1 << 20) - 256 {
                file.write_all_at(&bytes, at)?;
                at += bytes.len() as u64;
                bytes.clear();
            }
        }
        file.write_all_at(&bytes, at)?;
        self.ends.push(at + bytes.len() as u64);
        Ok(())
    }

    /// All records by their multihash; those of one multihash as they came.
    pub(super) fn sorted(mut self) -> io::Result<Sorted> {
        sort(&mut self.records);
        let mut runs: Vec<Run> = Vec::new();
        if let Some(file) = &self.file {
            for ends in self.ends.windows(2) {
                let part = Part { file: file.clone(), at: ends[0], end: ends[1] };
                runs.push(Box::new(Decoder(BufReader::with_capacity(WINDOW, part))));
            }
        }
        runs.push(Box::new(self.records.into_iter().map(Ok)));
        let mut sorted = Sorted { heads: BinaryHeap::with_capacity(runs.len()), runs };
        for run in 0..sorted.runs.len() {
            sorted.advance(run)?;
        }
        Ok(sorted)
    }
}

/// Numbers are sorted much faster than hashes, and leave next to nothing in disorder.
fn sort(records: &mut [Record]) {
    let beginning = |hash: &Multihash| {
        hash.digest().iter().chain(&[0; 8]).take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    records.sort_by_cached_key(|record| beginning(&record.hash));
    records.sort_by(|one, other| page::order(&one.hash, &other.hash));
}

type Run = Box<dyn Iterator<Item = io::Result<Record>>>;

/// The records, merged.
pub(super) struct Sorted {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
}

/// The next record of a run.
struct Head {
    key: Key,
    run: usize,
    record: Record,
}

impl Head {
    fn rank(&self) -> (&[u8], usize) {
        (&self.key, self.run)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Sorted {
    fn advance(&mut self, run: usize) -> io::Result<()> {
        if let Some(record) = self.runs[run].next().transpose()? {
            self.heads.push(Reverse(Head { key: Key::of(&record.hash), run, record }));
        }
        Ok(())
    }
}

impl Iterator for Sorted {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(head) = self.heads.pop()?;
        Some(self.advance(head.run).map(|()| head.record))
    }
}

/// `u8` length, `u8` 1 for a replacement, entry of a page.
fn encode(out: &mut Vec<u8>, record: &Record) {
    let at = out.len();
    out.put_u8(0);
    out.put_u8(u8::from(record.kind == Kind::Replacement));
    page::put_entry(out, &Key::of(&record.hash), &record.place);
    // A multihash of at most 84 bytes, and 30 for the place.
    out[at] = (out.len() - at - 1) as u8;
}

struct Decoder(BufReader<Part>);

impl Iterator for Decoder {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut len = [0];
        match self.0.read(&mut len) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
        let mut bytes = [0; 255];
        let bytes = &mut bytes[..len[0].into()];
        Some(self.0.read_exact(bytes).and_then(|()| decode(bytes).ok_or_else(|| ErrorKind::InvalidData.into())))
    }
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let mut take = Take(bytes);
    let kind = if take.u8()? == 1 { Kind::Replacement } else { Kind::Block };
    let (key, place) = page::entry(&mut take)?;
    Some(Record { hash: Multihash::from_bytes(key).ok()?, place, kind })
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min((self.end - self.at) as usize);
        let got = self.file.read_at(&mut buffer[..want], self.at)?;
        if got == 0 && want > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Origin;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn more_records_than_fit_come_out_in_order() {
        let mut random = StdRng::seed_from_u64(3);
        for count in [0, 1, RUN, 12 * RUN + 7] {
            let mut made = 0;
            let mut sorter = Sorter::new(|| {
                made += 1;
                tempfile::tempfile()
            });
            let mut expected = Vec::new();
            for n in 0..count as u64 {
                let mut digest = [0; 64];
                digest[..2].copy_from_slice(&random.random_range(0..300_u16).to_be_bytes());
                let code = if n % 7 == 0 { 0xb240 } else { 0x13 };
                let hash = Multihash::wrap(code, &digest).unwrap();
                let place = Location { pack: u64::MAX, offset: n << 40, head: 275, len: 9, origin: Origin::Peer };
                let kind = if n % 5 == 0 { Kind::Replacement } else { Kind::Block };
                expected.push(Record { hash, place, kind });
                sorter.add(expected[n as usize]).unwrap();
            }
            expected.sort_by_key(|record| (record.hash.to_bytes(), record.place.offset));
            let sorted: Vec<_> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            assert!(sorted == expected, "{count}");
            assert_eq!(made, u32::from(count >= RUN));
        }
    }
}
