//! A sharded directory in memory. Shards are loaded as they are needed; those that change are
//! written anew. Its shape is a function of its entries: two names share a slot only as far as
//! their hashes agree, and a sub-shard left with one entry gives it back to its parent.

use super::{
    Entry,
    node::{self, Place, ShardNode, Slot},
};
use crate::{UnixfsError, dagpb::Link, fetch};
use cidery_core::{Block, BlockWriter, Cid, Fetcher, MAX_BLOCK, SHA2_256, codec};
use std::collections::{BTreeMap, VecDeque};

/// Bits per level of what is written here.
const LOG: u32 = node::FANOUT.trailing_zeros();

/// A shard and what of the trie below it is loaded.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    slots: BTreeMap<usize, Child>,
    /// Where its bytes are, unless it changed.
    stored: Option<(Cid, u64)>,
}

#[derive(Debug)]
enum Child {
    Entry(Entry),
    Stored { cid: Cid, tsize: u64 },
    Loaded(Box<Shard>),
}

impl Shard {
    /// Takes over the root of a stored directory; `None` if it was not written by this profile, so
    /// that changing a part of it would give a mixture.
    pub fn from_root(cid: &Cid, tsize: u64, root: &ShardNode<'_>) -> Option<Self> {
        let ours =
            |cid: &Cid| u64::from(cid.version()) == 1 && cid.codec() == codec::DAG_PB && cid.hash().code() == SHA2_256;
        let same = root.log == LOG
            && ours(cid)
            && root.slots.iter().all(|(_, slot)| match slot {
                Slot::Shard { cid, .. } => ours(cid),
                Slot::Entry(_) => true,
            });
        same.then(|| Self::loaded(cid, tsize, root))
    }

    fn loaded(cid: &Cid, tsize: u64, node: &ShardNode<'_>) -> Self {
        let child = |slot: &Slot<'_>| match *slot {
            Slot::Entry(link) => Child::Entry(link.into()),
            Slot::Shard { cid, tsize } => Child::Stored { cid, tsize },
        };
        let slots = node.slots.iter().map(|(number, slot)| (*number, child(slot))).collect();
        Self { slots, stored: Some((*cid, tsize)) }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Loads every shard on the way of `hash`.
    pub async fn load(&mut self, fetcher: &dyn Fetcher, hash: u64) -> Result<(), UnixfsError> {
        let (mut shard, mut place) = (self, Place::ROOT);
        while let Some(number) = place.slot(hash, LOG)
            && let Some(child) = shard.slots.get_mut(&number)
        {
            place = place.below(number, LOG);
            if let Child::Stored { cid, tsize } = *child {
                let block = fetch::block(fetcher, &cid).await?;
                let node = ShardNode::decode(&cid, &block, place, LOG)?;
                *child = Child::Loaded(Box::new(Self::loaded(&cid, tsize, &node)));
            }
            match child {
                Child::Loaded(next) => shard = next,
                _ => break,
            }
        }
        Ok(())
    }

    /// The entry called `name`, whose way is loaded.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        let hash = node::hash(name);
        let (mut shard, mut place) = (self, Place::ROOT);
        loop {
            let number = place.slot(hash, LOG)?;
            match shard.slots.get(&number)? {
                Child::Entry(entry) => return (entry.name == name).then_some(entry),
                Child::Loaded(next) => (shard, place) = (next, place.below(number, LOG)),
                Child::Stored { .. } => {
                    debug_assert!(false, "the way of {name:?} was not loaded");
                    return None;
                }
            }
        }
    }

    /// Adds or replaces an entry, whose way is loaded.
    pub fn insert(&mut self, entry: Entry) -> Result<(), UnixfsError> {
        let hash = node::hash(&entry.name);
        self.insert_at(Place::ROOT, hash, entry)
    }

    fn insert_at(&mut self, place: Place, hash: u64, entry: Entry) -> Result<(), UnixfsError> {
        let Some(number) = place.slot(hash, LOG) else {
            return Err(UnixfsError::Collision { name: entry.name });
        };
        self.stored = None;
        let below = place.below(number, LOG);
        match self.slots.get_mut(&number) {
            Some(Child::Loaded(next)) => next.insert_at(below, hash, entry),
            Some(Child::Entry(old)) if old.name != entry.name => {
                if node::hash(&old.name) == hash {
                    return Err(UnixfsError::Collision { name: entry.name });
                }
                let mut next = Self::default();
                next.insert_at(below, node::hash(&old.name), old.clone())?;
                next.insert_at(below, hash, entry)?;
                self.slots.insert(number, Child::Loaded(Box::new(next)));
                Ok(())
            }
            other => {
                debug_assert!(!matches!(other, Some(Child::Stored { .. })), "the way was not loaded");
                self.slots.insert(number, Child::Entry(entry));
                Ok(())
            }
        }
    }

    /// Removes an entry that is there and whose way is loaded.
    pub fn remove(&mut self, name: &str) {
        self.remove_at(Place::ROOT, node::hash(name));
    }

    fn remove_at(&mut self, place: Place, hash: u64) {
        let Some(number) = place.slot(hash, LOG) else { return };
        self.stored = None;
        let Some(Child::Loaded(next)) = self.slots.get_mut(&number) else {
            self.slots.remove(&number);
            return;
        };
        next.remove_at(place.below(number, LOG), hash);
        if next.slots.len() > 1 {
            return;
        }
        match next.slots.pop_first() {
            None => {
                self.slots.remove(&number);
            }
            Some((_, only @ Child::Entry(_))) => {
                self.slots.insert(number, only);
            }
            // Two or more entries below, whose hashes agree for longer.
            Some((its, only)) => {
                next.slots.insert(its, only);
            }
        }
    }

    /// Bytes of a basic directory with the same entries; once it is known to be more than `limit`, that many or more.
    /// Loads shards until that is known, and for a size of up to `limit` all of them.
    pub async fn size_up_to(&mut self, fetcher: &dyn Fetcher, limit: usize) -> Result<usize, UnixfsError> {
        // Breadth first: shards further up have more entries.
        let mut unknown = VecDeque::new();
        let mut size = node::EMPTY_SIZE + self.weigh(Place::ROOT, &mut unknown);
        while size <= limit
            && let Some(place) = unknown.pop_front()
        {
            // The bits below `place` are zeros, and may load one shard more than was looked for.
            self.load(fetcher, place.hash()).await?;
            size += self.at(place).map_or(0, |shard| shard.weigh(place, &mut unknown));
        }
        Ok(size)
    }

    /// Bytes of the loaded entries, and the places of shards that are not loaded.
    fn weigh(&self, place: Place, unknown: &mut VecDeque<Place>) -> usize {
        let mut size = 0;
        for (number, child) in &self.slots {
            let below = place.below(*number, LOG);
            match child {
                Child::Entry(entry) => size += node::entry_size(&entry.name, &entry.cid, entry.tsize),
                Child::Loaded(next) => size += next.weigh(below, unknown),
                Child::Stored { .. } => unknown.push_back(below),
            }
        }
        size
    }

    fn at(&self, target: Place) -> Option<&Self> {
        let (mut shard, mut place) = (self, Place::ROOT);
        while place != target {
            let number = place.slot(target.hash(), LOG)?;
            let Child::Loaded(next) = shard.slots.get(&number)? else { return None };
            (shard, place) = (next, place.below(number, LOG));
        }
        Some(shard)
    }

    /// Takes all entries out of a trie that is loaded as a whole.
    pub fn into_entries(self, entries: &mut Vec<Entry>) {
        for child in self.slots.into_values() {
            match child {
                Child::Entry(entry) => entries.push(entry),
                Child::Loaded(next) => next.into_entries(entries),
                Child::Stored { .. } => debug_assert!(false, "part of the trie was not loaded"),
            }
        }
    }

    /// Writes the shards that changed, children first; the CID and size of this one.
    pub fn write(&self, out: &mut dyn BlockWriter) -> Result<(Cid, u64), UnixfsError> {
        if let Some(stored) = self.stored {
            return Ok(stored);
        }
        let mut links = Vec::with_capacity(self.slots.len());
        let mut tsize = 0;
        for (number, child) in &self.slots {
            let link = match child {
                Child::Entry(entry) => Link { cid: entry.cid, name: &entry.name, tsize: entry.tsize },
                Child::Stored { cid, tsize } => Link { cid: *cid, name: "", tsize: *tsize },
                Child::Loaded(next) => {
                    let (cid, tsize) = next.write(out)?;
                    Link { cid, name: "", tsize }
                }
            };
            tsize = link.tsize.saturating_add(tsize);
            links.push((*number, link));
        }
        let block = Block::of(codec::DAG_PB, node::encode_shard(links.iter().copied()));
        // Names of ours are short; those of a foreign directory may not be.
        if block.data().len() > MAX_BLOCK {
            return Err(UnixfsError::TooMany { cid: *block.cid(), what: "bytes", limit: MAX_BLOCK });
        }
        out.put(&block)?;
        Ok((*block.cid(), tsize.saturating_add(block.data().len() as u64)))
    }
}
