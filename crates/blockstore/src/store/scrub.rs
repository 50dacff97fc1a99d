//! Scrubbing: reading everything, so that damage is found while there is somebody to repair it from.
//!
//! In the order of the packs, since their disks read so fastest. Where no record can be made out, the
//! index says afterwards what was there.

use super::{
    DiskStore, Inner,
    gc::Rotten,
    politely,
    repair::Sight,
    telling::{Tell, Telling},
};
use crate::{
    options::{Progress, Stage},
    pack::{FILE_HEADER, Found, Location, Pack, Scan, cid_of},
};
use cidery_core::{Block, Bytes, Cid, Multihash, Origin, StoreError, codec};
use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How a scrub goes about it.
#[derive(Debug, Clone)]
pub struct ScrubOptions {
    /// How many bytes it reads in a second at most, so that others find the disk free; `None` for as many
    /// as it can.
    pub bytes_per_second: Option<u64>,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self { bytes_per_second: Some(32 << 20) }
    }
}

/// What a scrub found, and what it did about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blocks that were read.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that were damaged and are good again.
    pub repaired: Vec<Cid>,
    /// Blocks that are damaged still, or lost, although an own image needs them. Reading one is an error, and whoever puts it again repairs it.
    pub damaged: Vec<Cid>,
    /// Damaged blocks that came from peers or other registries and were removed: who wants them finds
    /// them there again.
    pub removed: u64,
    /// How long it took.
    pub took: Duration,
}

/// Where good bytes may be had.
type Refetch<'a> = &'a (dyn Fn(&Cid) -> Option<Bytes> + Sync);

impl DiskStore {
    /// Reads every block that was here when it began and checks it, down to the hash of its bytes. A
    /// damaged one is repaired, from its own bytes if only what describes them is damaged, or else with
    /// what `refetch` has for it, which need not be trusted. `progress` and `refetch` are called on
    /// another thread.
    ///
    /// # Errors
    /// When the disk fails otherwise than by damaged sectors, and when the store is closed.
    pub fn scrub(
        &self,
        options: ScrubOptions,
        progress: &(dyn Fn(Progress) + Sync),
        refetch: Refetch<'_>,
    ) -> Result<Scrubbed, StoreError> {
        let inner = &self.0.inner;
        inner.check_open()?;
        let pace = Pace { rate: options.bytes_per_second, since: Instant::now(), read: 0 };
        let scrub = Scrub { inner, refetch, pace, done: Scrubbed::default(), rotten: Vec::new() };
        politely("store-scrub", || scrub.run(progress))
    }
}

struct Scrub<'a> {
    inner: &'a Inner,
    refetch: Refetch<'a>,
    pace: Pace,
    done: Scrubbed,
    /// Cached blocks that stayed damaged.
    rotten: Vec<Rotten>,
}

/// Parts of packs where no record can be made out.
type Gaps = BTreeMap<u64, Vec<Range<u64>>>;

impl Scrub<'_> {
    fn run(mut self, tell: Tell<'_>) -> Result<Scrubbed, StoreError> {
        let started = Instant::now();
        // What comes later is not looked at, and what is looked at is in the index.
        let packs: Vec<(Arc<Pack>, u64)> =
            self.inner.packs.all().into_iter().map(|pack| (pack.clone(), pack.len())).collect();
        self.inner.checkpoint()?;
        let mut telling = Telling::new(tell, Stage::Scrub, packs.iter().map(|(_, len)| len).sum());
        let (mut gaps, mut before) = (Gaps::new(), 0);
        for (pack, len) in packs {
            self.pack(&pack, len, &mut gaps, &mut |at| telling.at(before + at))?;
            before += len;
        }
        self.gaps(&gaps)?;
        self.remove_rotten()?;
        self.lost()?;
        // Replacements are on the disk and in the index.
        self.inner.checkpoint()?;
        self.done.took = started.elapsed();
        tracing::info!(
            blocks = self.done.blocks,
            bytes = self.done.bytes,
            repaired = self.done.repaired.len(),
            damaged = self.done.damaged.len(),
            removed = self.done.removed,
            took = ?self.done.took,
            "scrubbed"
        );
        Ok(self.done)
    }

    /// Reads the records of a pack.
    fn pack(
        &mut self,
        pack: &Arc<Pack>,
        len: u64,
        gaps: &mut Gaps,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let id = pack.id();
        let file = match self.inner.packs.file(pack) {
            Ok(file) => file,
            // A collection was faster.
            Err(_) if self.inner.packs.get(id).is_none() => return Ok(()),
            Err(error) => return Err(error),
        };
        file.forget_read();
        let mut scan = Scan::new(&*file, pack.header.salt, id, FILE_HEADER, len, len);
        loop {
            let from = scan.position();
            match scan.next() {
                None => break,
                Some(Ok(Found::Record(header))) => {
                    if let Some(cid) = header.cid {
                        self.inspect(cid.hash(), header.location, Some(cid))?;
                    }
                }
                Some(Ok(Found::Gap { from, to })) => gaps.entry(id).or_default().push(from..to),
                // Each block behind it is tried by itself.
                Some(Err(error)) if is_bad_sector(&error) => gaps.entry(id).or_default().push(from..len),
                Some(Err(error)) => return Err(StoreError::io(format!("reading pack {id:016x}"), error)),
            }
            progress(scan.position());
        }
        // What others read lately is of more use in memory than this.
        file.forget_read();
        Ok(())
    }

    /// Looks at the blocks that the index places where no record can be made out.
    fn gaps(&mut self, gaps: &Gaps) -> Result<(), StoreError> {
        if gaps.is_empty() {
            return Ok(());
        }
        let inner = self.inner;
        inner.each_page(|page| {
            for (hash, place) in page {
                let inside = |gap: &Range<u64>| gap.contains(&place.offset);
                if gaps.get(&place.pack).is_some_and(|gaps| gaps.iter().any(inside)) {
                    self.inspect(&hash, place, None)?;
                }
            }
            Ok(())
        })
    }

    /// Looks at one block, unless it is elsewhere or gone by now.
    fn inspect(&mut self, hash: &Multihash, place: Location, cid: Option<Cid>) -> Result<(), StoreError> {
        self.pace.wait(self.inner, place.total() as u64)?;
        let rot = match self.inner.look_at(hash, &place)? {
            Sight::Elsewhere => return Ok(()),
            Sight::Good => None,
            Sight::Rotten(rot) => Some(rot),
        };
        self.done.blocks += 1;
        self.done.bytes += u64::from(place.len);
        let Some(rot) = rot else { return Ok(()) };
        let known = cid.or_else(|| cid_of(&rot.head).filter(|cid| cid.hash() == hash));
        // Blocks are stored by their hash: whoever has it under another codec has the same bytes.
        let cid = known.unwrap_or_else(|| Cid::new_v1(codec::RAW, *hash));
        self.inner.quarantine(hash, &place, &rot)?;
        let block = rot.own_block(&cid).or_else(|| rot.block_of(&cid, (self.refetch)(&cid)?));
        match block {
            Some(block) => {
                // Who fetched it may have put it already.
                let is_elsewhere = || Ok::<_, StoreError>(self.inner.locate(hash)?.is_some_and(|now| now != place));
                if self.inner.replace(&block, &place)? || is_elsewhere()? {
                    self.inner.note(format!("block {cid} was damaged ({}), and is repaired", rot.why));
                    self.done.repaired.push(cid);
                }
            }
            None => {
                self.inner.note(format!("block {cid} is damaged: {}", rot.why));
                self.done.damaged.push(cid);
                // Sectors that fail now may be read later.
                if matches!(place.origin, Origin::Peer | Origin::Upstream) && !rot.unreadable {
                    let is_leaf = known.is_some_and(|cid| cid.codec() == codec::RAW);
                    self.rotten.push(Rotten { hash: *hash, place, is_leaf });
                }
            }
        }
        Ok(())
    }

    /// What nothing is left of: packs are lost whole, too.
    fn lost(&mut self) -> Result<(), StoreError> {
        let mut tried = HashSet::new();
        loop {
            let (mut lost, mut found) = (self.inner.lost()?, false);
            if !lost.is_empty() {
                self.inner.lossy.store(true, Relaxed);
            }
            for cid in lost.iter().filter(|cid| tried.insert(**cid)) {
                let block = (self.refetch)(cid).and_then(|bytes| Block::new(*cid, bytes).ok());
                if let Some(block) = block {
                    // Who has an image of his own that needs it had pushed it.
                    self.inner.put(&block, Origin::Pushed)?;
                    self.inner.note(format!("block {cid} was lost, and is fetched again"));
                    self.done.repaired.push(*cid);
                    found = true;
                }
            }
            // Below what came back there may be more.
            if !found {
                if let Some(cid) = lost.first() {
                    let more = lost.len() - 1;
                    self.inner.note(format!("block {cid} is lost, and so are {more} others that own images need"));
                }
                self.done.damaged.append(&mut lost);
                return Ok(());
            }
        }
    }

    fn remove_rotten(&mut self) -> Result<(), StoreError> {
        if self.rotten.is_empty() {
            return Ok(());
        }
        self.inner.remove_rotten(&self.rotten)?;
        let mut gone = Vec::new();
        for rotten in &self.rotten {
            if self.inner.locate(&rotten.hash)?.is_none() {
                gone.push(rotten.hash);
            }
        }
        self.done.removed = gone.len() as u64;
        self.done.damaged.retain(|cid| !gone.contains(cid.hash()));
        Ok(())
    }
}

/// Whether a part of the disk can't be read, and not the disk as a whole.
pub(super) fn is_bad_sector(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Keeps to a rate.
struct Pace {
    rate: Option<u64>,
    since: Instant,
    read: u64,
}

impl Pace {
    /// Waits until so many more bytes may be read, or the store is closed.
    fn wait(&mut self, inner: &Inner, bytes: u64) -> Result<(), StoreError> {
        const NAP: Duration = Duration::from_millis(100);
        inner.check_open()?;
        let Some(rate) = self.rate else { return Ok(()) };
        // Time that went by otherwise is not made up for.
        if self.since.elapsed() > Duration::from_secs(1) {
            (self.since, self.read) = (Instant::now(), 0);
        }
        self.read += bytes;
        let due = self.since + Duration::from_secs_f64(self.read as f64 / rate.max(1) as f64);
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(NAP));
            inner.check_open()?;
        }
        Ok(())
    }
}
