//! A directory in one node under change: its entries as they are in the block, and beside them what changed.

use super::{Entry, form::Target};
use crate::{
    UnixfsError,
    dagpb::{self, Link},
    error::About,
    wire::Defect,
};
use cidery_core::{Bytes, Cid};
use std::{collections::BTreeMap, iter, ops::Range};

/// The entries of a directory. Thousands that do not change cost little: their names stay where they are.
#[derive(Default)]
pub(super) struct Basic {
    block: Bytes,
    /// In the order of their names.
    stored: Vec<Stored>,
    /// What names stand for now, or that they went.
    changed: BTreeMap<String, Option<Target>>,
}

struct Stored {
    /// Where its name is in the block.
    name: Range<usize>,
    target: Target,
}

impl Basic {
    /// Takes the block of a directory in one node.
    pub fn read(cid: &Cid, block: Bytes) -> Result<Self, UnixfsError> {
        let start = block.as_ptr() as usize;
        let mut stored = Vec::with_capacity(dagpb::usual_links(&block));
        let take = |link: Link<'_>| {
            if link.name.is_empty() {
                return Err(Defect("a directory has an entry without a name"));
            }
            let at = link.name.as_ptr() as usize - start;
            stored.push(Stored { name: at..at + link.name.len(), target: (link.cid, link.tsize) });
            Ok(())
        };
        dagpb::visit(&block, take).about(cid)?;
        let name = |stored: &Stored| &block[stored.name.clone()];
        if !stored.is_sorted_by(|one, next| name(one) < name(next)) {
            // Of another writer.
            stored.sort_by(|one, other| name(one).cmp(name(other)));
            if stored.windows(2).any(|pair| name(&pair[0]) == name(&pair[1])) {
                return Err(Defect("a directory has two entries with one name")).about(cid);
            }
        }
        Ok(Self { block, stored, changed: BTreeMap::new() })
    }

    /// What `name` stands for.
    pub fn get(&self, name: &str) -> Option<Target> {
        if let Some(change) = self.changed.get(name) {
            return *change;
        }
        let at = self.stored.binary_search_by(|stored| self.block[stored.name.clone()].cmp(name.as_bytes())).ok()?;
        Some(self.stored[at].target)
    }

    /// Makes `name` stand for something else, or for nothing.
    pub fn set(&mut self, name: &str, target: Option<Target>) {
        self.changed.insert(name.to_owned(), target);
    }

    pub fn is_empty(&self) -> bool {
        self.links().next().is_none()
    }

    /// Bytes of everything below.
    pub fn below(&self) -> u64 {
        self.links().fold(0, |sum: u64, link| sum.saturating_add(link.tsize))
    }

    /// The entries as links, in the order of their names.
    pub fn links(&self) -> impl Iterator<Item = Link<'_>> {
        let stored = self.stored.iter().map(|stored| {
            let (cid, tsize) = stored.target;
            let name = std::str::from_utf8(&self.block[stored.name.clone()]).expect("it was read as a str");
            Link { cid, name, tsize }
        });
        let mut kept = stored.filter(|link| !self.changed.contains_key(link.name)).peekable();
        let changed = self.changed.iter();
        let mut new = changed.filter_map(|(name, to)| to.map(|(cid, tsize)| Link { cid, name, tsize })).peekable();
        iter::from_fn(move || match (kept.peek(), new.peek()) {
            (Some(one), Some(other)) if one.name < other.name => kept.next(),
            (_, Some(_)) => new.next(),
            (_, None) => kept.next(),
        })
    }
}

impl FromIterator<Entry> for Basic {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let changed = entries.into_iter().map(|Entry { name, cid, tsize }| (name, Some((cid, tsize)))).collect();
        Self { changed, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    fn target(text: &str) -> Target {
        (*Block::raw(text.to_owned().into_bytes()).cid(), text.len() as u64)
    }

    fn read(names: &[&str]) -> Result<Basic, UnixfsError> {
        let link = |name| Link { cid: target(name).0, name, tsize: target(name).1 };
        let block = dagpb::encode(names.iter().copied().map(link), &[8, 1]);
        Basic::read(&target("directory").0, block.into())
    }

    fn names(basic: &Basic) -> Vec<&str> {
        basic.links().map(|link| link.name).collect()
    }

    #[test]
    fn changes_stand_among_what_was_read() {
        let mut basic = read(&["b", "d", "f"]).unwrap();
        for (name, to) in [("a", Some("x")), ("d", Some("other")), ("e", Some("y")), ("f", None), ("g", None)] {
            basic.set(name, to.map(target));
        }
        assert_eq!(names(&basic), ["a", "b", "d", "e"]);
        assert_eq!((basic.get("d"), basic.get("b")), (Some(target("other")), Some(target("b"))));
        assert_eq!((basic.get("f"), basic.get("c"), basic.below()), (None, None, 1 + 1 + 5 + 1));
        ["a", "b", "d", "e"].into_iter().for_each(|name| basic.set(name, None));
        assert!(basic.is_empty());
    }

    #[test]
    fn another_writers_order_is_put_right_and_names_come_once() {
        let basic = read(&["c", "a", "b"]).unwrap();
        assert_eq!((names(&basic), basic.get("a")), (vec!["a", "b", "c"], Some(target("a"))));
        for wrong in [&["b", "a", "b"][..], &["a", "a"], &["a", ""]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
