//! What differs between two states of a directory.

use crate::support::{Store, entry, seeded_entries};
use cidery_unixfs::{Difference, Entry, UnixfsError, compare, write_directory};
use futures::executor::block_on;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Compared name by name.
fn expected(before: &[Entry], after: &[Entry]) -> Vec<Difference> {
    let mut names: BTreeMap<&str, Difference> = BTreeMap::new();
    let none = |name: &str| Difference { name: name.to_owned(), before: None, after: None };
    for entry in before {
        names.entry(&entry.name).or_insert_with(|| none(&entry.name)).before = Some(entry.cid);
    }
    for entry in after {
        names.entry(&entry.name).or_insert_with(|| none(&entry.name)).after = Some(entry.cid);
    }
    names.into_values().filter(|difference| difference.before != difference.after).collect()
}

fn assert_compares(before: Vec<Entry>, after: Vec<Entry>) {
    let mut store = Store::new();
    let wanted = expected(&before, &after);
    let old = write_directory(before, &mut store).unwrap().cid;
    let new = write_directory(after, &mut store).unwrap().cid;
    let found = block_on(compare(&store, Some(&old), Some(&new), 1 << 20)).unwrap();
    assert!(found == wanted, "{} differences instead of {}", found.len(), wanted.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// On both sides of the size where a directory becomes a trie.
    #[test]
    fn all_differences_are_found(
        count in prop_oneof![0usize..40, 3300usize..3600, Just(6000)],
        removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        changed in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        added in 0usize..300,
    ) {
        let before = seeded_entries("compare", count);
        let mut after = before.clone();
        for index in changed {
            if !after.is_empty() {
                let at = index.index(after.len());
                after[at].cid = entry("", "changed").cid;
            }
        }
        for index in removed {
            if !after.is_empty() {
                after.swap_remove(index.index(after.len()));
            }
        }
        after.extend(seeded_entries("more", added));
        assert_compares(before.clone(), after.clone());
        assert_compares(after, before);
    }
}

#[test]
fn what_is_the_same_is_not_read() {
    let mut store = Store::new();
    let mut entries = seeded_entries("deep", 20000);
    let old = write_directory(entries.clone(), &mut store).unwrap().cid;
    entries[77].cid = entry("", "another").cid;
    let new = write_directory(entries.clone(), &mut store).unwrap().cid;
    store.reads();
    assert_eq!(block_on(compare(&store, Some(&old), Some(&new), 10)).unwrap().len(), 1);
    let reads = store.reads();
    assert!(reads <= 6, "{reads}");
    assert_eq!(block_on(compare(&store, Some(&new), Some(&new), 0)).unwrap(), []);
    assert_eq!(store.reads(), 0);
}

#[test]
fn nothing_is_an_empty_directory() {
    let mut store = Store::new();
    let entries = seeded_entries("all", 5);
    let root = write_directory(entries.clone(), &mut store).unwrap().cid;
    assert!(block_on(compare(&store, None, Some(&root), 5)).unwrap() == expected(&[], &entries));
    assert!(block_on(compare(&store, Some(&root), None, 5)).unwrap() == expected(&entries, &[]));
    assert_eq!(block_on(compare(&store, None, None, 5)).unwrap(), []);
    for (before, after) in [(None, Some(&root)), (Some(&root), None)] {
        let refused = block_on(compare(&store, before, after, 4));
        assert!(matches!(refused, Err(UnixfsError::TooMany { limit: 4, .. })), "{refused:?}");
    }
    let file = entry("", "a file").cid;
    assert!(matches!(
        block_on(compare(&store, Some(&root), Some(&file), 5)),
        Err(UnixfsError::NotADirectory { cid }) if cid == file
    ));
}
