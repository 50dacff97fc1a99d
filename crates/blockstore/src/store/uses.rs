//! In what order cached blocks were last used, which is the order in which they go. Only advice: what is
//! lost of it makes blocks look older than they are.

use crate::{
    codec::{Put, Take},
    disk::Disk,
};
use cidery_core::Multihash;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

pub(super) const NAME: &str = "uses";
/// Blocks that are remembered at most, about 100 MB of memory: a cache of 4 TB in leaves of 1 MiB.
const MOST: usize = 4 << 20;

/// So many uses are of one age: what is counted by age stays small.
const TOGETHER: u64 = 16;

#[derive(Default)]
pub(super) struct Uses {
    /// By the last eight bytes of a block's digest: the age it was last used in.
    last: Mutex<HashMap<u64, u32>>,
    count: AtomicU64,
}

fn key(hash: &Multihash) -> u64 {
    hash.digest().last_chunk::<8>().map_or(0, |last| u64::from_le_bytes(*last))
}

impl Uses {
    /// A block is used now.
    pub(super) fn touch(&self, hash: &Multihash) {
        let age = 1 + self.count.fetch_add(1, Relaxed) / TOGETHER;
        let mut last = self.last.lock();
        if last.len() < MOST || last.contains_key(&key(hash)) {
            last.insert(key(hash), age as u32);
        }
    }

    /// The age it was last used in; 0 if nobody knows.
    pub(super) fn last(&self, hash: &Multihash) -> u32 {
        self.last.lock().get(&key(hash)).copied().unwrap_or_default()
    }

    pub(super) fn forget(&self, hash: &Multihash) {
        self.last.lock().remove(&key(hash));
    }

    /// What was saved, if it is there and sound.
    pub(super) fn load(disk: &dyn Disk) -> Self {
        let read = || {
            let file = disk.open(NAME).ok()?;
            let mut bytes = vec![0; file.len().ok()?.min(MOST as u64 * 12 + 4) as usize];
            file.read_at(&mut bytes, 0).ok()?;
            let checked = bytes.split_off(4);
            (Take(&bytes).u32()? == crc32c::crc32c(&checked)).then_some(())?;
            let mut take = Take(&checked);
            let mut uses = HashMap::new();
            while !take.is_empty() {
                uses.insert(take.u64()?, take.u32()?);
            }
            Some(uses)
        };
        let last = read().unwrap_or_default();
        let newest = last.values().max().copied().unwrap_or_default();
        Self { last: Mutex::new(last), count: AtomicU64::new(u64::from(newest) * TOGETHER) }
    }

    /// Saves it for the next start.
    pub(super) fn save(&self, disk: &dyn Disk) {
        let mut body = Vec::new();
        for (block, age) in self.last.lock().iter() {
            body.put_u64(*block);
            body.put_u32(*age);
        }
        let mut bytes = Vec::with_capacity(body.len() + 4);
        bytes.put_u32(crc32c::crc32c(&body));
        bytes.extend(body);
        if let Err(error) = crate::format::write_whole(disk, NAME, &bytes) {
            tracing::warn!(%error, "the order in which cached blocks were used could not be saved");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faulty::FaultyDisk;
    use cidery_core::Block;

    #[test]
    fn uses_come_back_unless_they_are_damaged() {
        let disk = FaultyDisk::default();
        let (uses, hash) = (Uses::load(&disk), *Block::raw(&b"x"[..]).cid().hash());
        assert_eq!(uses.last(&hash), 0);
        (0..=TOGETHER).for_each(|_| uses.touch(&hash));
        uses.save(&disk);
        let uses = Uses::load(&disk);
        assert_eq!(uses.last(&hash), 2);
        uses.touch(&hash);
        assert!(uses.last(&hash) > 2, "later uses are later");
        disk.damage(NAME, |bytes| bytes[9] ^= 1);
        assert_eq!(Uses::load(&disk).last(&hash), 0);
        uses.forget(&hash);
        assert_eq!(uses.last(&hash), 0);
    }
}
