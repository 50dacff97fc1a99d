//! Trees onto a disk and back.

use crate::{
    others,
    support::{Sink, Store, cid, entry, pb, seeded_bytes, seeded_entries},
};
use cidery_core::Cid;
use cidery_unixfs::{CHUNK, Change, Kind, Progress, UnixfsError, edit, resolve, stat, tree, write_directory};
use futures::executor::block_on;
use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};
use tempfile::tempdir;

fn export(store: &Store, root: Cid, to: &Path) -> Result<Progress, UnixfsError> {
    block_on(tree::export(store.fetcher(), &root, to, &mut |_| ()))
}

fn import(store: &Store, from: &Path) -> Result<Cid, UnixfsError> {
    tree::import(from, &mut store.clone(), &mut |_| ()).map(|entry| entry.cid)
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let at = tempdir().unwrap();
    let from = at.path().join("from");
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::create_dir(from.join("empty")).unwrap();
    fs::write(from.join("a/b/c"), "deep").unwrap();
    fs::write(from.join(".hidden"), "h").unwrap();
    fs::write(from.join("none"), "").unwrap();
    symlink("../a/b/c", from.join("a/up")).unwrap();
    symlink("a/b", from.join("link")).unwrap();
    let store = Store::new();
    let root = import(&store, &from).unwrap();
    // What `ipfs add -r -H` of Kubo 0.43 says of the same tree.
    assert_eq!(root, cid("bafybeibbxp5avcgigtwuddo2obqsxwzdrq3e4ef2wcok64ht3epgsn255u"));
    let link = block_on(resolve(&store, &root, &["a", "up"])).unwrap().unwrap();
    assert_eq!(block_on(stat(&store, &link.cid)).unwrap(), Kind::Symlink("../a/b/c".into()));

    let to = at.path().join("to");
    let done = export(&store, root, &to).unwrap();
    assert_eq!((done.items, done.bytes), (9, 5));
    assert_eq!(fs::read(to.join("a/up")).unwrap(), b"deep");
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a/b"));
    assert_eq!(import(&store, &to).unwrap(), root);
    assert_eq!(export(&store.cold(), root, &at.path().join("again")).unwrap(), done);
}

#[test]
fn files_and_directories_of_any_size() {
    let at = tempdir().unwrap();
    let (file, large) = (at.path().join("file"), at.path().join("large"));
    fs::write(&file, seeded_bytes("f3", 3 * CHUNK + 17)).unwrap();
    let store = Store::new();
    let mut told = Progress::default();
    let entry = tree::import(&file, &mut store.clone(), &mut |progress| told = progress).unwrap();
    assert_eq!(entry.cid, cid("bafybeidbqdky3lvyrbuz4ze5vi3ogmjvhynwoks4wiahekb5mpk3ekpfc4"));
    assert_eq!((told.items, told.bytes), (1, 3 * CHUNK as u64 + 17));
    // A sharded directory, with the large file in it.
    fs::create_dir(&large).unwrap();
    for entry in seeded_entries("over", 3500) {
        fs::write(large.join(&entry.name), &entry.name).unwrap();
    }
    let root = import(&store, &large).unwrap();
    assert_eq!(root, cid("bafybeifol65jrwbdm2ymvqeiwjj2kjfw2o33ti5wxod6pki6sk4yekinu4"));
    let put = vec![(vec!["file".to_owned()], Change::Put { cid: entry.cid, tsize: entry.tsize })];
    let root = block_on(edit(&store, Some(&root), put, &mut store.clone())).unwrap().cid;
    let to = at.path().join("to");
    export(&store.cold(), root, &to).unwrap();
    assert_eq!(import(&store, &to).unwrap(), root);
}

#[test]
fn nothing_is_overwritten() {
    let at = tempdir().unwrap();
    let store = Store::new();
    let root = write_directory([entry("a", "a")], &mut store.clone()).unwrap().cid;
    store.raw("a");
    fs::write(at.path().join("mine"), "mine").unwrap();
    assert!(matches!(export(&store, root, at.path()), Err(UnixfsError::Io { .. })));
    assert!(matches!(export(&store, root, &at.path().join("mine")), Err(UnixfsError::Io { .. })));
    assert_eq!(fs::read(at.path().join("mine")).unwrap(), b"mine");
    // A file is not a tree, and an empty directory may be there before.
    let empty = at.path().join("empty");
    assert!(matches!(export(&store, entry("a", "a").cid, &empty), Err(UnixfsError::NotADirectory { .. })));
    assert!(!empty.exists());
    fs::create_dir(&empty).unwrap();
    export(&store, root, &empty).unwrap();
}

#[test]
fn hostile_trees_stay_inside() {
    let at = tempdir().unwrap();
    fs::create_dir(at.path().join("outside")).unwrap();
    let store = Store::new();
    let file = store.raw("evil");
    let target = |text: &str| store.pb(pb::node(&[], &[pb::number(1, 4), pb::bytes(2, text.as_bytes())].concat()));
    let below = store.pb(pb::directory(&[("passwd", file)]));
    let cases: &[&[(&str, Cid)]] = &[
        &[("..", below)],
        &[("../evil", file)],
        &[("/evil", file)],
        &[(".", file)],
        &[("", file)],
        &[("nul\0", file)],
        &[("up", target("../outside"))],
        &[("up", target("/etc"))],
        &[("a", target("b/../../outside"))],
        // A link and a directory of one name: the directory's file would land where the link leads.
        &[("x", target("y")), ("x", below)],
        &[("x", below), ("x", target("y"))],
        &[("x", file), ("x", file)],
    ];
    for (number, links) in cases.iter().enumerate() {
        let root = store.pb(pb::directory(links));
        let to = at.path().join(format!("case{number}/to"));
        fs::create_dir(to.parent().unwrap()).unwrap();
        assert!(export(&store, root, &to).is_err(), "{number}");
        assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1, "{number}");
    }
    assert_eq!(fs::read_dir(at.path().join("outside")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(at.path()).unwrap().count(), 1 + cases.len());
    // Deeper than any path.
    let mut deep = below;
    for _ in 0..200 {
        deep = store.pb(pb::directory(&[("d", deep)]));
    }
    assert!(matches!(export(&store, deep, &at.path().join("deep")), Err(UnixfsError::Depth { .. })));
}

#[test]
fn what_cannot_be_imported() {
    let at = tempdir().unwrap();
    assert!(matches!(import(&Store::new(), &at.path().join("gone")), Err(UnixfsError::Io { .. })));
    let pipe = at.path().join("d");
    fs::create_dir(&pipe).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(pipe.join("socket")).unwrap();
    assert!(tree::import(&pipe, &mut Sink, &mut |_| ()).is_err());
    let odd = at.path().join("odd");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    assert!(matches!(tree::import(&odd, &mut Sink, &mut |_| ()), Err(UnixfsError::Name { .. })));
}

#[test]
fn foreign_trees_are_exported() {
    let at = tempdir().unwrap();
    let (root, store) = others::load("hamt-16");
    export(&store, root, &at.path().join("hamt")).unwrap();
    for entry in seeded_entries("hamt-16", 100) {
        assert_eq!(fs::read(at.path().join("hamt").join(&entry.name)).unwrap(), entry.name.as_bytes());
    }
    // Its symbolic link climbs after a name, where another link could stand: refused.
    let (root, store) = others::load("metadata");
    assert!(matches!(export(&store, root, &at.path().join("metadata")), Err(UnixfsError::Name { .. })));
}
