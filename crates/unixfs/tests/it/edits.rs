//! Edits: the same tree as one written afresh, at the cost of what changes.

use crate::support::{Store, entry, pb, seeded_entries};
use cidery_core::Cid;
use cidery_unixfs::{Change, Entry, Sizes, THRESHOLD, UnixfsError, edit, edit_again, list, resolve, write_directory};
use futures::executor::block_on;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Changes = Vec<(Vec<String>, Change)>;

fn path(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

fn put(at: &str, content: &str) -> (Vec<String>, Change) {
    let entry = entry("", content);
    (path(at), Change::Put { cid: entry.cid, tsize: entry.tsize })
}

fn remove(at: &str) -> (Vec<String>, Change) {
    (path(at), Change::Remove)
}

fn apply(store: &Store, root: Option<Cid>, changes: Changes) -> Result<Entry, UnixfsError> {
    block_on(edit(store, root.as_ref(), changes, &mut store.clone()))
}

fn apply_again(store: &Store, root: Cid, changes: Changes, sizes: &Sizes) -> Result<Entry, UnixfsError> {
    block_on(edit_again(store, Some(&root), changes, sizes, &mut store.clone()))
}

#[test]
fn a_tree_grows_and_shrinks() {
    let store = Store::new();
    let empty = apply(&store, None, vec![]).unwrap();
    assert_eq!(empty, write_directory([], &mut store.clone()).unwrap());
    let one = apply(&store, Some(empty.cid), vec![put("a/b/c", "1"), put("d", "2")]).unwrap();
    let at = |root: &Entry, path: &[&str]| block_on(resolve(&store, &root.cid, path)).unwrap().map(|e| e.cid);
    assert_eq!(at(&one, &["a", "b", "c"]), Some(entry("", "1").cid));
    // Directories that become empty vanish, up to the root.
    let two = apply(&store, Some(one.cid), vec![remove("a/b/c")]).unwrap();
    assert_eq!((at(&two, &["a"]), at(&two, &["d"])), (None, Some(entry("", "2").cid)));
    assert_eq!(apply(&store, Some(two.cid), vec![remove("d")]).unwrap(), empty);
    // A move, whole trees included, is a put and a remove.
    let a = block_on(resolve(&store, &one.cid, &["a"])).unwrap().unwrap();
    let moved = vec![(path("x/y"), Change::Put { cid: a.cid, tsize: a.tsize }), remove("a")];
    let moved = apply(&store, Some(one.cid), moved).unwrap();
    assert_eq!(at(&moved, &["x", "y", "b", "c"]), Some(entry("", "1").cid));
    assert_eq!(at(&moved, &["a"]), None);
}

#[test]
fn changes_count_in_their_order() {
    let store = Store::new();
    let root =
        apply(&store, None, vec![put("a", "1"), remove("a"), put("a", "2"), put("b", "3"), remove("b")]).unwrap();
    assert_eq!(root, apply(&store, None, vec![put("a", "2")]).unwrap());
    let replaced = vec![remove("a"), put("a/deep/er", "4")];
    let replaced = apply(&store, Some(root.cid), replaced).unwrap();
    assert_eq!(replaced, apply(&store, None, vec![put("a/deep/er", "4")]).unwrap());
    let again = vec![put("a/deep/x", "5"), put("a", "2")];
    assert_eq!(apply(&store, Some(replaced.cid), again).unwrap(), root, "what is put last hides what was put below");
    let below = vec![(path("t"), Change::Put { cid: replaced.cid, tsize: replaced.tsize }), put("t/b", "6")];
    let below = apply(&store, None, below).unwrap();
    assert_eq!(below, apply(&store, None, vec![put("t/a/deep/er", "4"), put("t/b", "6")]).unwrap());
}

#[test]
fn no_difference_writes_nothing() {
    let store = Store::new();
    let root = apply(&store, None, vec![put("a/b", "1"), put("c", "2")]).unwrap();
    let quiet = store.again();
    let same = vec![put("a/b", "1"), remove("nothing"), remove("a/x"), remove("x/y/z"), remove("c/below/a/file")];
    assert_eq!(apply(&quiet, Some(root.cid), same).unwrap(), root);
    assert_eq!(quiet.writes(), 0);
    // An empty directory that was there stays, as long as nothing is taken from it.
    let empty = write_directory([], &mut store.clone()).unwrap();
    let with_empty =
        apply(&store, None, vec![(path("e"), Change::Put { cid: empty.cid, tsize: 4 }), put("f", "1")]).unwrap();
    assert_eq!(apply(&store, Some(with_empty.cid), vec![remove("e/x")]).unwrap(), with_empty);
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let store = Store::new();
    let root = apply(&store, None, vec![put("file", "1")]).unwrap().cid;
    store.raw("1".as_bytes().to_vec());
    let refused = |changes| apply(&store, Some(root), changes);
    assert!(matches!(refused(vec![put("file/x", "2")]), Err(UnixfsError::NotADirectory { .. })));
    assert!(matches!(refused(vec![remove("file/x"), put("file/y", "2")]), Err(UnixfsError::NotADirectory { .. })));
    assert!(matches!(refused(vec![put("a/../b", "2")]), Err(UnixfsError::Name { .. })));
    assert!(matches!(refused(vec![(vec![], Change::Remove)]), Err(UnixfsError::Name { .. })));
    assert!(matches!(refused(vec![(vec!["x".into(); 129], Change::Remove)]), Err(UnixfsError::Depth { .. })));
    let file = entry("", "1").cid;
    assert!(matches!(apply(&store, Some(file), vec![put("x", "2")]), Err(UnixfsError::NotADirectory { .. })));
    let gone = entry("", "gone").cid;
    assert!(matches!(
        apply(&store, Some(gone), vec![put("x", "2")]),
        Err(UnixfsError::Fetch(_) | UnixfsError::NotADirectory { .. })
    ));
}

#[test]
fn a_change_in_a_large_directory_touches_its_shards_only() {
    let mut store = Store::new();
    let entries = seeded_entries("deep", 20000);
    let root = write_directory(entries.clone(), &mut store).unwrap();
    let quiet = store.again();
    let added = apply(&quiet, Some(root.cid), vec![put("new", "x")]).unwrap();
    assert!(quiet.writes() <= 3 && quiet.reads() <= 3);
    // Taking something away asks whether the rest is small. Some shards tell.
    assert_eq!(apply(&quiet, Some(added.cid), vec![remove("new")]).unwrap(), root);
    assert!(quiet.writes() <= 3);
    let reads = quiet.reads();
    assert!(reads <= 160, "{reads}");
}

#[test]
fn of_a_directory_that_was_changed_before_no_more_is_read_to_know_its_form() {
    let mut store = Store::new();
    let mut entries = seeded_entries("deep", 20000);
    let mut root = write_directory(entries.clone(), &mut store).unwrap();
    let (quiet, sizes) = (store.again(), Sizes::default());
    let mut reads = Vec::new();
    while entries.len() > 19_900 {
        let gone = entries.pop().unwrap();
        root = apply_again(&quiet, root.cid, vec![remove(&gone.name)], &sizes).unwrap();
        reads.push(quiet.reads());
    }
    assert_eq!(root, write_directory(entries, &mut store).unwrap());
    assert!(reads[0] > 100, "the first of them finds out: {reads:?}");
    assert!(reads[1..].iter().all(|reads| *reads <= 3), "{reads:?}");
}

#[test]
fn directories_of_another_form_are_written_in_ours() {
    let mut store = Store::new();
    // Unsorted, and CIDv0 links inside: the form of a basic directory does not depend on it.
    let (a, b) = (entry("a", "1"), entry("b", "2"));
    let unsorted = store.pb(pb::directory(&[("b", b.cid), ("a", a.cid)]));
    let changed = apply(&store, Some(unsorted), vec![put("c", "3")]).unwrap();
    assert_eq!(changed, write_directory([a, b, entry("c", "3")], &mut store).unwrap());
    // Shards of another width than ours are read whole once something changes.
    for fixture in ["hamt-16", "hamt-1024", "hamt-v0"] {
        let (foreign, store) = crate::others::load(fixture);
        let mut entries = block_on(list(&store, &foreign)).unwrap();
        assert!(entries.len() >= 60);
        let changed = apply(&store, Some(foreign), vec![put("new", "x")]).unwrap();
        entries.push(entry("new", "x"));
        assert_eq!(changed, write_directory(entries, &mut store.clone()).unwrap(), "{fixture}");
        assert_eq!(apply(&store, Some(foreign), vec![remove("not there")]).unwrap().cid, foreign);
    }
}

/// Crossing the threshold in both directions, and around it.
#[test]
fn a_directory_over_the_threshold_and_back() {
    let mut store = Store::new();
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut root = write_directory([], &mut store).unwrap();
    let (mut sharded, sizes) = (0, Sizes::default());
    let names: Vec<_> = (0..6000).map(|number| format!("{number:064}")).collect();
    let mut step = |entries: &mut BTreeMap<String, Entry>, changes: Changes| {
        for (at, change) in &changes {
            match change {
                Change::Put { cid, tsize } => {
                    entries.insert(at[0].clone(), Entry { name: at[0].clone(), cid: *cid, tsize: *tsize });
                }
                Change::Remove => drop(entries.remove(&at[0])),
            }
        }
        root = apply_again(&store, root.cid, changes, &sizes).unwrap();
        assert_eq!(root, write_directory(entries.values().cloned(), &mut store).unwrap());
        sharded += usize::from(store.get(&root.cid).len() < 30_000);
    };
    for batch in names.chunks(1500) {
        step(&mut entries, batch.iter().map(|name| put(name, "x")).collect());
    }
    // 64 letters and 1 byte make 108 bytes: 2,427 entries fit.
    step(&mut entries, names[..3572].iter().map(|name| remove(name)).collect());
    step(&mut entries, vec![remove(&names[3572])]);
    step(&mut entries, vec![put(&names[3572], "x")]);
    step(&mut entries, vec![put(&names[3573], &"a longer content".repeat(20))]);
    step(&mut entries, vec![remove(&names[3572]), put("short", "x")]);
    step(&mut entries, names.iter().map(|name| remove(name)).collect());
    assert!(sharded >= 5);
}

fn name_strategy() -> impl Strategy<Value = usize> {
    0usize..1400
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random adds and removes around the threshold equal a fresh build, every time.
    #[test]
    fn edits_equal_a_fresh_build(
        start in 900usize..1200,
        batches in proptest::collection::vec(
            proptest::collection::vec((name_strategy(), proptest::option::of(0u8..3)), 1..250), 1..8),
    ) {
        // 250 bytes an entry: about 1,048 of them are the threshold.
        let name = |number: usize| format!("{number:0>206}");
        let mut store = Store::new();
        let mut entries: BTreeMap<String, Entry> =
            (0..start).map(|number| (name(number), entry(&name(number), "x"))).collect();
        let (mut root, sizes) = (write_directory(entries.values().cloned(), &mut store).unwrap(), Sizes::default());
        for batch in batches {
            let mut changes = Vec::new();
            for (number, content) in batch {
                match content {
                    Some(content) => {
                        let content = "x".repeat(1 + usize::from(content) * 100);
                        entries.insert(name(number), entry(&name(number), &content));
                        changes.push(put(&name(number), &content));
                    }
                    None => {
                        entries.remove(&name(number));
                        changes.push(remove(&name(number)));
                    }
                }
            }
            root = apply_again(&store, root.cid, changes, &sizes).unwrap();
            prop_assert_eq!(&root, &write_directory(entries.values().cloned(), &mut store).unwrap());
            let small = 4 + entries.iter().map(|(name, e)| 46 + name.len() + usize::from(e.tsize > 127)).sum::<usize>();
            let node = store.get(&root.cid);
            prop_assert_eq!(node.len() == small, small <= THRESHOLD);
            let listed = block_on(list(&store, &root.cid)).unwrap();
            prop_assert!(listed.iter().eq(entries.values()));
        }
    }

    /// Random changes of a nested tree equal the tree of the files that remain.
    #[test]
    fn nested_edits_equal_a_fresh_build(
        batches in proptest::collection::vec(
            proptest::collection::vec((proptest::collection::vec(0u8..3, 0..3), 0u8..3, proptest::option::of(0u8..3)), 1..12), 1..6),
    ) {
        let store = Store::new();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut root = apply(&store, None, vec![]).unwrap();
        for batch in batches {
            let mut changes = Vec::new();
            for (directories, file, content) in batch {
                let parent: String = directories.iter().map(|number| format!("d{number}/")).collect();
                match content {
                    Some(content) => {
                        let at = format!("{parent}f{file}");
                        changes.push(put(&at, &content.to_string()));
                        files.insert(at, content.to_string());
                    }
                    // Half the time a whole directory goes.
                    None if file == 0 && !directories.is_empty() => {
                        changes.push(remove(parent.trim_end_matches('/')));
                        files.retain(|at, _| !at.starts_with(&parent));
                    }
                    None => {
                        let at = format!("{parent}f{file}");
                        changes.push(remove(&at));
                        files.remove(&at);
                    }
                }
            }
            root = apply(&store, Some(root.cid), changes).unwrap();
            let fresh = files.iter().map(|(at, content)| put(at, content)).collect();
            prop_assert_eq!(&root, &apply(&store, None, fresh).unwrap());
        }
    }
}
