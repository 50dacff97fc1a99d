//! One node of a directory, basic or sharded, as any writer makes it.
//!
//! A shard's slots are numbered by the next bits of the hash of the name (most significant first)
//! and named with that number in hexadecimal: the number alone for a sub-shard, followed by the
//! entry's name for an entry. Its bitfield is a big-endian number without leading zeros.

use super::{Entry, murmur::murmur3};
use crate::{
    UnixfsError,
    dagpb::{self, Link},
    data::{self, Type},
    error::About,
    wire::Defect,
};
use cidery_core::{Cid, codec};
use std::cmp::Ordering;

/// Multicodec of the hash over names.
pub(crate) const MURMUR3: u64 = 0x22;

/// Slots of a shard that is written here.
pub(crate) const FANOUT: usize = 256;

/// Widest shard that is read (CVE-2023-23625).
const MAX_FANOUT: u64 = 1024;

/// A position in the trie: the bits of the hash that lead to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    bits: u64,
    used: u32,
}

impl Place {
    pub const ROOT: Self = Self { bits: 0, used: 0 };

    /// The slot of `hash` at this place, in a shard with 2^`log` slots; `None` below the last bit.
    pub fn slot(self, hash: u64, log: u32) -> Option<usize> {
        (self.used + log <= 64).then(|| (hash << self.used >> (64 - log)) as usize)
    }

    /// The place of the sub-shard in `slot`.
    pub fn below(self, slot: usize, log: u32) -> Self {
        let used = self.used + log;
        Self { bits: self.bits | (slot as u64) << (64 - used), used }
    }

    /// A hash that leads here.
    pub fn hash(self) -> u64 {
        self.bits
    }

    /// Whether `hash` leads here.
    fn leads(self, hash: u64) -> bool {
        self.used == 0 || (hash ^ self.bits) >> (64 - self.used) == 0
    }
}

/// The hash of a name.
pub(crate) fn hash(name: &str) -> u64 {
    murmur3(name.as_bytes())
}

/// A decoded node.
#[derive(Debug)]
pub(crate) enum DirectoryNode<'a> {
    /// A whole directory.
    Basic(Vec<Link<'a>>),
    /// Part of one.
    Shard(ShardNode<'a>),
}

/// A decoded shard.
#[derive(Debug)]
pub(crate) struct ShardNode<'a> {
    /// Bits per level.
    pub log: u32,
    /// Slot numbers, ascending, and what is in them.
    pub slots: Vec<(usize, Slot<'a>)>,
}

/// What is in a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot<'a> {
    Entry(Link<'a>),
    Shard { cid: Cid, tsize: u64 },
}

impl<'a> DirectoryNode<'a> {
    /// Decodes the root of a directory.
    pub fn decode(cid: &Cid, block: &'a [u8]) -> Result<Self, UnixfsError> {
        Self::decode_at(cid, block, Place::ROOT)
    }

    fn decode_at(cid: &Cid, block: &'a [u8], place: Place) -> Result<Self, UnixfsError> {
        if cid.codec() != codec::DAG_PB {
            return Err(UnixfsError::NotADirectory { cid: *cid });
        }
        let (node, message) = data::decode_block(cid, block)?;
        match message.kind {
            Type::Directory => Ok(Self::Basic(node.links)),
            Type::HamtShard => ShardNode::assemble(node, &message, place).about(cid).map(Self::Shard),
            _ => Err(UnixfsError::NotADirectory { cid: *cid }),
        }
    }
}

impl<'a> ShardNode<'a> {
    /// Decodes the root of a directory that is not in one node.
    pub fn decode_root(cid: &Cid, block: &'a [u8]) -> Result<Self, UnixfsError> {
        match DirectoryNode::decode(cid, block)? {
            DirectoryNode::Shard(shard) => Ok(shard),
            DirectoryNode::Basic(_) => Err(Defect("a directory in one node where a shard must be")).about(cid),
        }
    }

    /// Decodes a sub-shard that stands at `place` in a directory with 2^`log` slots a shard.
    pub fn decode(cid: &Cid, block: &'a [u8], place: Place, log: u32) -> Result<Self, UnixfsError> {
        match DirectoryNode::decode_at(cid, block, place)? {
            DirectoryNode::Basic(_) => Err(Defect("a sub-shard that is not a shard")).about(cid),
            DirectoryNode::Shard(shard) if shard.log != log => {
                Err(Defect("shards of different widths in one directory")).about(cid)
            }
            DirectoryNode::Shard(shard) if shard.slots.is_empty() => Err(Defect("an empty sub-shard")).about(cid),
            DirectoryNode::Shard(shard) => Ok(shard),
        }
    }

    fn assemble(node: dagpb::Node<'a>, message: &data::Data<'_>, place: Place) -> Result<Self, Defect> {
        let log = width(message, place)?;
        let mut links = node.links.into_iter();
        let mut slots = Vec::with_capacity(links.len());
        for slot in (0..1 << log).filter(|slot| bit(message.data, *slot)) {
            let link = links.next().ok_or(Defect("a shard has fewer links than bits"))?;
            slots.push((slot, content(link, slot, log, place)?));
        }
        match links.next() {
            Some(_) => Err(Defect("a shard has more links than bits")),
            None => Ok(Self { log, slots }),
        }
    }
}

/// What is in the slot of `hash` in the root of a directory that is not in one node, with the number of the slot; and
/// bits per level. The other slots are passed over unread.
pub(crate) fn slot_of_root<'a>(
    cid: &Cid,
    block: &'a [u8],
    hash: u64,
) -> Result<(Option<(usize, Slot<'a>)>, u32), UnixfsError> {
    find_slot(cid, block, Place::ROOT, None, hash)
}

/// The same in a sub-shard that stands at `place` in a directory with 2^`log` slots a shard.
pub(crate) fn slot_of<'a>(
    cid: &Cid,
    block: &'a [u8],
    place: Place,
    log: u32,
    hash: u64,
) -> Result<Option<(usize, Slot<'a>)>, UnixfsError> {
    if cid.codec() != codec::DAG_PB {
        return Err(UnixfsError::NotADirectory { cid: *cid });
    }
    Ok(find_slot(cid, block, place, Some(log), hash)?.0)
}

fn find_slot<'a>(
    cid: &Cid,
    block: &'a [u8],
    place: Place,
    expected: Option<u32>,
    hash: u64,
) -> Result<(Option<(usize, Slot<'a>)>, u32), UnixfsError> {
    let data = dagpb::data(block).about(cid)?.ok_or(Defect("a node without a UnixFS message")).about(cid)?;
    let message = data::decode(data).about(cid)?;
    match message.kind {
        Type::HamtShard => find_in(block, &message, place, expected, hash).about(cid),
        Type::Directory => Err(Defect("a sub-shard that is not a shard")).about(cid),
        _ => Err(UnixfsError::NotADirectory { cid: *cid }),
    }
}

fn find_in<'a>(
    block: &'a [u8],
    message: &data::Data<'_>,
    place: Place,
    expected: Option<u32>,
    hash: u64,
) -> Result<(Option<(usize, Slot<'a>)>, u32), Defect> {
    let log = width(message, place)?;
    if expected.is_some_and(|expected| expected != log) {
        return Err(Defect("shards of different widths in one directory"));
    }
    let bits: u32 = message.data.iter().map(|byte| byte.count_ones()).sum();
    if expected.is_some() && bits == 0 {
        return Err(Defect("an empty sub-shard"));
    }
    let slot = place.slot(hash, log).filter(|slot| bit(message.data, *slot));
    let at = slot.map(|slot| (0..slot).filter(|slot| bit(message.data, *slot)).count());
    let (mut found, mut count) = (None, 0);
    dagpb::visit_unread(block, |link| {
        if at == Some(count) {
            found = Some(link);
        }
        count += 1;
        Ok(())
    })?;
    match count.cmp(&(bits as usize)) {
        Ordering::Less => return Err(Defect("a shard has fewer links than bits")),
        Ordering::Greater => return Err(Defect("a shard has more links than bits")),
        Ordering::Equal => {}
    }
    let read = |(slot, link): (usize, dagpb::Unread<'a>)| Ok((slot, content(link.read()?, slot, log, place)?));
    Ok((slot.zip(found).map(read).transpose()?, log))
}

/// Bits per level of a shard at `place`.
fn width(message: &data::Data<'_>, place: Place) -> Result<u32, Defect> {
    if message.hash_type != Some(MURMUR3) {
        return Err(Defect("names are hashed with something else than murmur3"));
    }
    let fanout = message.fanout.ok_or(Defect("a shard without a fanout"))?;
    if !(8..=MAX_FANOUT).contains(&fanout) || !fanout.is_power_of_two() {
        return Err(Defect("the fanout of a shard is not a power of two from 8 to 1024"));
    }
    let log = fanout.trailing_zeros();
    if place.used + log > 64 {
        return Err(Defect("a shard that stands below the last bit of the hash"));
    }
    if message.data.len() as u64 > fanout / 8 {
        return Err(Defect("the bitfield of a shard is too long"));
    }
    Ok(log)
}

/// What a link in a slot of a shard at `place` stands for.
fn content(mut link: Link<'_>, slot: usize, log: u32, place: Place) -> Result<Slot<'_>, Defect> {
    // As many hexadecimal digits as the highest number has.
    let digits = log.div_ceil(4) as usize;
    let (number, name) = link.name.split_at_checked(digits).ok_or(Defect("a slot without a number"))?;
    if !is_slot_name(number, slot) {
        return Err(Defect("a slot with another number than its bit"));
    }
    link.name = name;
    if name.is_empty() {
        return Ok(Slot::Shard { cid: link.cid, tsize: link.tsize });
    }
    let hash = hash(name);
    if !place.leads(hash) || place.slot(hash, log) != Some(slot) {
        return Err(Defect("an entry stands where its hash does not lead"));
    }
    Ok(Slot::Entry(link))
}

/// Whether bit `slot` of a big-endian number is set.
fn bit(number: &[u8], slot: usize) -> bool {
    number.len().checked_sub(1 + slot / 8).is_some_and(|at| number[at] >> (slot % 8) & 1 == 1)
}

/// The bitfield of these slots.
fn bitfield(slots: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut number = [0u8; FANOUT / 8];
    for slot in slots {
        number[FANOUT / 8 - 1 - slot / 8] |= 1 << (slot % 8);
    }
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number[zeros..].to_vec()
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Whether a text is the number of a slot, with as many digits as it has.
fn is_slot_name(text: &str, slot: usize) -> bool {
    text.bytes().rev().enumerate().all(|(digit, byte)| byte == DIGITS[slot >> (4 * digit) & 15])
}

/// Encodes a basic directory. `entries` come in the order of their names.
pub(crate) fn encode_basic<'a>(entries: impl Iterator<Item = Link<'a>>) -> Vec<u8> {
    dagpb::encode(entries, &data::directory())
}

/// Encodes a shard of [`FANOUT`] slots: for each, in order, its number, the entry's name (empty
/// for a sub-shard), CID and size.
pub(crate) fn encode_shard<'a>(slots: impl Iterator<Item = (usize, Link<'a>)> + Clone) -> Vec<u8> {
    // One text with all names, one after the other.
    let (mut names, mut ends) = (String::new(), Vec::new());
    for (slot, link) in slots.clone() {
        names.extend([slot >> 4, slot & 15].map(|digit| char::from(DIGITS[digit])));
        names.push_str(link.name);
        ends.push(names.len());
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let named = starts.zip(&ends).map(|(start, end)| &names[start..*end]);
    let links = slots.clone().zip(named).map(|((_, link), name)| Link { name, ..link });
    dagpb::encode(links, &data::shard(&bitfield(slots.map(|(slot, _)| slot)), MURMUR3, FANOUT as u64))
}

/// Bytes of the basic directory that holds only this entry, less those of an empty one.
pub(crate) fn entry_size(name: &str, cid: &Cid, tsize: u64) -> usize {
    dagpb::link_size(cid.encoded_len(), name.len(), tsize)
}

/// Bytes of an empty basic directory.
pub(crate) const EMPTY_SIZE: usize = 4;

impl From<Link<'_>> for Entry {
    fn from(link: Link<'_>) -> Self {
        Self { name: link.name.to_owned(), cid: link.cid, tsize: link.tsize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitfields_are_big_endian_without_leading_zeros() {
        assert_eq!(bitfield([0].into_iter()), [1]);
        assert_eq!(bitfield([9, 1].into_iter()), [2, 2]);
        assert_eq!(bitfield([255].into_iter()).len(), 32);
        let field = bitfield([3, 70, 200].into_iter());
        assert_eq!((0..300).filter(|slot| bit(&field, *slot)).collect::<Vec<_>>(), [3, 70, 200]);
    }

    #[test]
    fn hashes_are_consumed_from_the_top() {
        let hash = hash("470.txt"); // 006e88df5847e67c
        assert_eq!(Place::ROOT.slot(hash, 8), Some(0));
        let second = Place::ROOT.below(0, 8);
        assert_eq!(second.slot(hash, 8), Some(0x6e));
        assert!(second.leads(hash) && !Place::ROOT.below(1, 8).leads(hash));
        let mut place = Place::ROOT;
        for _ in 0..8 {
            place = place.below(place.slot(hash, 8).unwrap(), 8);
        }
        assert_eq!((place.hash(), place.slot(hash, 8)), (hash, None));
        assert_eq!(Place::ROOT.below(0x1ff, 10).slot(u64::MAX, 10), Some(1023));
    }
}
