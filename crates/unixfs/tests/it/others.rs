//! What other writers make, read back.
//!
//! The fixtures are CARs exported from Kubo 0.43 after `ipfs add` with the options that are named
//! with each; their content comes from hashes of their own names (see `support`).

use crate::support::{Store, seeded_bytes, seeded_entries};
use cidery_core::{Bytes, Cid, Multihash, codec};
use cidery_unixfs::{Kind, car, list, lookup, stat};
use futures::executor::block_on;

/// A fixture's root, and a store that holds its blocks.
pub fn load(fixture: &str) -> (Cid, Store) {
    let path = format!("{}/tests/it/fixtures/{fixture}.car", env!("CARGO_MANIFEST_DIR"));
    let reader = car::Reader::new(std::fs::File::open(path).unwrap()).unwrap();
    let root = reader.roots()[0];
    let store = Store::new();
    reader.for_each(|block| store.put_block(&block.unwrap()));
    (root, store)
}

fn check_file(fixture: &str, len: usize) {
    let (root, store) = load(fixture);
    let expected = seeded_bytes(fixture, len);
    assert_eq!(block_on(stat(&store, &root)).unwrap(), Kind::File { size: len as u64 }, "{fixture}");
    for store in [store.clone(), store.cold()] {
        for window in [0, 1, 250, 1 << 20] {
            assert_eq!(store.read(root, 0..u64::MAX, window).unwrap(), expected, "{fixture}, window {window}");
            for (from, to) in [(0, 1), (99, 101), (len / 2, len), (7, len - 7), (len - 1, len), (len, len), (350, 850)]
            {
                let (from, to) = (from.min(len), to.min(len));
                let part = store.read(root, from as u64..to as u64, window).unwrap();
                assert_eq!(part, expected[from..to.max(from)], "{fixture}, {from}..{to}, window {window}");
            }
        }
    }
}

#[test]
fn balanced_with_dag_pb_leaves() {
    // --cid-version=0 -s size-100 --max-file-links=4
    check_file("balanced-v0", 3000);
}

#[test]
fn balanced_with_raw_leaves() {
    // --cid-version=1 -s size-100 --max-file-links=4
    check_file("balanced-raw", 3000);
}

#[test]
fn trickle() {
    // --trickle -s size-100 --max-file-links=4, CIDv0 with dag-pb leaves, and CIDv1 with raw ones
    check_file("trickle-v0", 3000);
    check_file("trickle-raw", 3000);
}

#[test]
fn one_dag_pb_leaf() {
    check_file("single-v0", 500);
}

#[test]
fn chunks_of_varying_size_under_blake3() {
    // --hash=blake3 --cid-version=1 -s rabin-64-128-256
    check_file("rabin-blake3", 6000);
}

#[test]
fn identity_cids() {
    // --inline --inline-limit=64 --cid-version=1 -s size-30, with --raw-leaves=false and =true
    for fixture in ["inline", "inline-raw"] {
        check_file(fixture, 300);
        let (root, store) = load(fixture);
        let links = cidery_core::dag::links(&root, &store.get(&root)).unwrap();
        assert!(links.iter().all(|leaf| cidery_core::identity_bytes(leaf).is_some()) && links.len() == 10);
    }
}

#[test]
fn directories() {
    for (fixture, count) in [("directory-v0", 30), ("hamt-16", 100), ("hamt-v0", 60), ("hamt-1024", 60)] {
        let (root, store) = load(fixture);
        let expected = seeded_entries(fixture, count);
        for store in [store.clone(), store.cold()] {
            let listed = block_on(list(&store, &root)).unwrap();
            assert!(listed.iter().map(|e| &e.name).eq(expected.iter().map(|e| &e.name)), "{fixture}");
            for entry in listed {
                let found = block_on(lookup(&store, &root, &entry.name)).unwrap();
                assert_eq!(found.as_ref(), Some(&entry), "{fixture}");
                assert_eq!(store.read_all(entry.cid).unwrap(), entry.name.as_bytes(), "{fixture}");
            }
            assert_eq!(block_on(lookup(&store, &root, "not there")).unwrap(), None);
            assert_eq!(block_on(stat(&store, &root)).unwrap(), Kind::Directory);
        }
    }
}

#[test]
fn modes_times_and_symbolic_links() {
    // --preserve-mode --preserve-mtime
    let (root, store) = load("metadata");
    let entries = block_on(list(&store, &root)).unwrap();
    let kinds: Vec<_> = entries.iter().map(|e| (e.name.as_str(), block_on(stat(&store, &e.cid)).unwrap())).collect();
    let link = Kind::Symlink("sub/../file".into());
    assert_eq!(kinds, [("file", Kind::File { size: 11 }), ("link", link), ("sub", Kind::Directory)]);
    assert_eq!(store.read_all(entries[0].cid).unwrap(), b"with a mode");
}

#[test]
fn type_raw_and_bytes_in_inner_nodes() {
    // Nobody writes these today; old trees and the specification have them.
    let store = Store::new();
    let number = crate::support::pb::number;
    let raw = store.pb(crate::support::pb::node(
        &[],
        &[number(1, 0), crate::support::pb::bytes(2, b"raw type"), number(3, 8)].concat(),
    ));
    assert_eq!(store.read_all(raw).unwrap(), b"raw type");
    let inner = store.pb(crate::support::pb::file(b"own ", 12, &[(raw, 8)]));
    let outer = store.pb(crate::support::pb::file(b"", 24, &[(inner, 12), (inner, 12)]));
    assert_eq!(store.read_all(outer).unwrap(), b"own raw typeown raw type");
    assert_eq!(store.read(outer, 2..20, 0).unwrap(), b"n raw typeown raw ");
    // An empty file as one dag-pb node, as v0 writers make it.
    let empty = store.pb(Bytes::from_static(&[0x0a, 0x04, 0x08, 0x02, 0x18, 0x00]));
    assert_eq!(store.read_all(empty).unwrap(), b"");
    // A file that is nothing but its CID.
    let identity = Cid::new_v1(codec::RAW, Multihash::wrap(0, b"all of it").unwrap());
    assert_eq!(store.read_all(identity).unwrap(), b"all of it");
}
