//! Pages: how the index keeps many blocks under one key of its database.
//!
//! A page is entries in the order of their multihashes, one after the other: `u8` length of the multihash,
//! the multihash, the place. A database that is asked for every block alone spends far more on each than
//! these bytes: of memory, of disk, and of time.

use super::IndexError;
use crate::{
    codec::{Put, Take},
    pack::{Location, origin_from},
};
use cidery_core::Multihash;
use std::cmp::Ordering;

/// A page with more entries is split …
const MOST: usize = 24;
/// … into pages of about so many, which leaves room in each.
const FILL: usize = 16;

/// A multihash as the index orders it: its bytes.
pub(super) struct Key {
    bytes: [u8; 84],
    len: usize,
}

impl Key {
    pub(super) fn of(hash: &Multihash) -> Self {
        let mut bytes = [0; 84];
        // Two varints of at most ten bytes, and at most 64 bytes of digest.
        let len = hash.write(&mut bytes[..]).expect("it fits");
        Self { bytes, len }
    }
}

impl std::ops::Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The order of keys, without making them where that can be helped.
pub(super) fn order(one: &Multihash, other: &Multihash) -> Ordering {
    if one.code() == other.code() && one.size() == other.size() {
        one.digest().cmp(other.digest())
    } else {
        Key::of(one).cmp(&Key::of(other))
    }
}

/// One entry of a page.
struct Entry<'a> {
    key: &'a [u8],
    place: Location,
    /// Key and place as they are in the page.
    bytes: &'a [u8],
}

/// The entries of a page up to a key that belongs to the next one.
struct Entries<'a> {
    rest: Take<'a>,
    until: Option<&'a [u8]>,
}

impl<'a> Entries<'a> {
    fn next(&mut self) -> Result<Option<Entry<'a>>, IndexError> {
        let before = self.rest.0;
        if before.is_empty() {
            return Ok(None);
        }
        let (key, place) = entry(&mut self.rest).ok_or_else(|| IndexError("an entry does not parse".into()))?;
        if self.until.is_some_and(|until| key >= until) {
            return Ok(None);
        }
        Ok(Some(Entry { key, place, bytes: &before[..before.len() - self.rest.0.len()] }))
    }
}

/// Takes multihash and place.
pub(super) fn entry<'a>(take: &mut Take<'a>) -> Option<(&'a [u8], Location)> {
    let len = take.u8()?;
    let key = take.raw(len.into())?;
    let (pack, offset, len, head) = (take.varint()?, take.varint()?, take.varint()?, take.varint()?);
    let origin = origin_from(take.u8()?)?;
    Some((key, Location { pack, offset, len: len.try_into().ok()?, head: head.try_into().ok()?, origin }))
}

/// Appends multihash and place.
pub(super) fn put_entry(out: &mut Vec<u8>, key: &[u8], place: &Location) {
    out.put_u8(key.len() as u8);
    out.extend(key);
    for number in [place.pack, place.offset, place.len.into(), place.head.into()] {
        out.put_varint(number);
    }
    out.put_u8(place.origin as u8);
}

/// The place of a block, if the page has it.
pub(super) fn find(page: &[u8], wanted: &[u8]) -> Result<Option<Location>, IndexError> {
    let mut entries = Entries { rest: Take(page), until: None };
    while let Some(entry) = entries.next()? {
        match entry.key.cmp(wanted) {
            Ordering::Less => {}
            Ordering::Equal => return Ok(Some(entry.place)),
            Ordering::Greater => break,
        }
    }
    Ok(None)
}

/// Calls `each` with every key and place in a page; what is from `until` on is in the next one.
pub(super) fn each(page: &[u8], until: Option<&[u8]>, each: &mut dyn FnMut(&[u8], Location)) -> Result<(), IndexError> {
    let mut entries = Entries { rest: Take(page), until };
    while let Some(entry) = entries.next()? {
        each(entry.key, entry.place);
    }
    Ok(())
}

/// Calls `each` with every block in a page and its place; as [`each`] otherwise.
pub(super) fn each_block(
    page: &[u8],
    until: Option<&[u8]>,
    mut each: impl FnMut(Multihash, Location),
) -> Result<(), IndexError> {
    let mut entries = Entries { rest: Take(page), until };
    while let Some(entry) = entries.next()? {
        let hash = Multihash::from_bytes(entry.key).map_err(|_| IndexError("a key does not parse".into()))?;
        each(hash, entry.place);
    }
    Ok(())
}

/// A page without the blocks that are at these places, which come in the order of their keys.
pub(super) fn without(
    page: &[u8],
    until: Option<&[u8]>,
    places: &[&(Multihash, Location)],
) -> Result<Vec<u8>, IndexError> {
    let mut kept = Vec::with_capacity(page.len());
    let mut entries = Entries { rest: Take(page), until };
    while let Some(entry) = entries.next()? {
        let found = places.binary_search_by(|(hash, _)| (*Key::of(hash)).cmp(entry.key));
        if found.ok().is_none_or(|at| places[at].1 != entry.place) {
            kept.extend(entry.bytes);
        }
    }
    Ok(kept)
}

/// A page with more entries: one page or several.
pub(super) struct Merged {
    bytes: Vec<u8>,
    /// Where its entries begin.
    starts: Vec<usize>,
}

/// Adds places, in the order of their keys, to a page; what the page has from `until` on is in the next one.
pub(super) fn merge(
    page: &[u8],
    until: Option<&[u8]>,
    places: &[&(Multihash, Location)],
    replaced: &mut dyn FnMut(&Multihash, Location),
) -> Result<Merged, IndexError> {
    let mut merged = Merged { bytes: Vec::with_capacity(page.len() + 48 * places.len()), starts: Vec::new() };
    let mut entries = Entries { rest: Take(page), until };
    let mut old = entries.next()?;
    for (n, (hash, place)) in places.iter().enumerate() {
        let key = Key::of(hash);
        while let Some(entry) = old.as_ref().filter(|entry| entry.key < &*key) {
            merged.starts.push(merged.bytes.len());
            merged.bytes.extend(entry.bytes);
            old = entries.next()?;
        }
        if let Some(entry) = old.as_ref().filter(|entry| entry.key == &*key) {
            replaced(hash, entry.place);
            old = entries.next()?;
        }
        if places.get(n + 1).is_some_and(|(next, _)| next == hash) {
            replaced(hash, *place);
            continue;
        }
        merged.starts.push(merged.bytes.len());
        put_entry(&mut merged.bytes, &key, place);
    }
    while let Some(entry) = old {
        merged.starts.push(merged.bytes.len());
        merged.bytes.extend(entry.bytes);
        old = entries.next()?;
    }
    Ok(merged)
}

impl Merged {
    fn key(&self, n: usize) -> &[u8] {
        let at = self.starts[n];
        &self.bytes[at + 1..][..usize::from(self.bytes[at])]
    }

    /// Calls `store` with key and bytes of every page, the last one first; the first one keeps the key it had.
    pub(super) fn pages(
        &self,
        first: &[u8],
        mut store: impl FnMut(&[u8], &[u8]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let total = self.starts.len();
        let count = if total <= MOST { 1 } else { total.div_ceil(FILL) };
        let mut end = self.bytes.len();
        for page in (0..count).rev() {
            let from = page * total / count;
            if page == 0 {
                store(first, &self.bytes[..end])?;
                break;
            }
            // The shortest that tells it from the page before.
            let (before, key) = (self.key(from - 1), self.key(from));
            let same = before.iter().zip(key).take_while(|(one, other)| one == other).count();
            store(&key[..key.len().min(same + 1)], &self.bytes[self.starts[from]..end])?;
            end = self.starts[from];
        }
        Ok(())
    }
}
