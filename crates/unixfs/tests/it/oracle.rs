//! Against another implementation, the crate `rust-unixfs`: under the same chunker, width and form
//! of directory both make the same blocks, and each reads what the other writes.

use crate::support::{Store, seeded_bytes, seeded_entries};
use cid::Version;
use cidery_core::{Block, Bytes, Cid};
use cidery_unixfs::{
    CHUNK, Entry, FileBuilder, Kind, THRESHOLD, WIDTH, list, lookup, resolve, stat, tree, write_directory,
};
use futures::executor::block_on;
use proptest::prelude::*;
use rust_unixfs::{
    Metadata,
    dir::{
        MaybeResolved,
        builder::{BufferingTreeBuilder, TreeOptions},
        resolve as their_resolve,
    },
    file::adder::{BalancedCollector, Chunker, FileAdder},
    symlink::symlink_block,
    walk::{ContinuedWalk, Walker},
};
use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

/// How the other one cuts and stacks.
#[derive(Debug, Clone, Copy)]
struct Layout {
    chunk: usize,
    width: usize,
    version: Version,
    raw_leaves: bool,
}

/// Ours, profile `unixfs-v1-2025`.
const OURS: Layout = Layout { chunk: CHUNK, width: WIDTH, version: Version::V1, raw_leaves: true };

/// A file that the other one writes, into `store`: its root, and its blocks in the order they came.
fn their_file(store: &Store, layout: Layout, mut bytes: &[u8]) -> (Cid, Vec<Cid>) {
    let mut adder = FileAdder::builder()
        .with_chunker(Chunker::Size(layout.chunk))
        .with_collector(BalancedCollector::with_branching_factor(layout.width))
        .with_cid_version(layout.version)
        .with_raw_leaves(layout.raw_leaves)
        .build();
    let mut cids = Vec::new();
    let mut keep = |(cid, block): (Cid, Vec<u8>)| {
        put(store, cid, block);
        cids.push(cid);
    };
    while !bytes.is_empty() {
        let (blocks, taken) = adder.push(bytes);
        blocks.for_each(&mut keep);
        bytes = &bytes[taken..];
    }
    adder.finish().for_each(&mut keep);
    (*cids.last().unwrap(), cids)
}

/// Keeps a block that the other one made; its CID is checked.
fn put(store: &Store, cid: Cid, block: impl Into<Bytes>) {
    store.put_block(&Block::new(cid, block.into()).unwrap());
}

/// A tree that the other one writes, of paths to CIDs with their sizes: its root and that one's size.
/// Directories above `threshold` bytes by its estimate (names and CIDs) are sharded.
fn their_tree<'a>(
    store: &Store,
    version: Version,
    threshold: u64,
    paths: impl IntoIterator<Item = (&'a str, Cid, u64)>,
) -> (Cid, u64) {
    let mut options = TreeOptions::default();
    options.wrap_with_directory();
    options.cid_version(version);
    options.shard_threshold(Some(threshold));
    options.block_size_limit(None);
    let mut builder = BufferingTreeBuilder::new(options);
    for (path, cid, tsize) in paths {
        builder.put_link(path, cid, tsize).unwrap();
    }
    let mut root = None;
    for node in builder.build() {
        let node = node.unwrap();
        root = Some((node.cid, node.total_size));
        put(store, node.cid, node.block.into_vec());
    }
    root.unwrap()
}

fn links(entries: &[Entry]) -> impl Iterator<Item = (&str, Cid, u64)> {
    entries.iter().map(|entry| (entry.name.as_str(), entry.cid, entry.tsize))
}

/// Every path that the other one finds below `root`: the bytes of a file, the target of a symbolic
/// link, `None` for a directory.
fn their_walk(store: &Store, root: Cid) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut walker = Walker::new(root, String::new());
    while walker.should_continue() {
        let next = *walker.pending_links().0;
        let block = store.get(&next);
        let (path, bytes) = match walker.next(&block, &mut None).unwrap() {
            ContinuedWalk::File(part, _, path, _, _) => (path, Some(part.as_ref().to_vec())),
            ContinuedWalk::Symlink(target, _, path, _) => (path, Some(target.to_vec())),
            ContinuedWalk::Directory(_, path, _) | ContinuedWalk::RootDirectory(_, path, _) => (path, None),
            ContinuedWalk::Bucket(..) => continue,
        };
        let known =
            found.entry(path.to_str().unwrap().to_owned()).or_insert_with(|| bytes.as_ref().map(|_| Vec::new()));
        if let (Some(all), Some(part)) = (known, bytes) {
            all.extend_from_slice(&part);
        }
    }
    found
}

#[test]
fn files_are_the_same_blocks() {
    let bytes = seeded_bytes("oracle", 5 * CHUNK + 4321);
    for len in [0, 1, 31, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 1, 5 * CHUNK, bytes.len()] {
        let (ours, theirs) = (Store::new(), Store::new());
        let file = ours.file(&bytes[..len]);
        let (root, cids) = their_file(&theirs, OURS, &bytes[..len]);
        assert_eq!((file.cid, file.size), (root, len as u64));
        assert_eq!(ours.log.lock().unwrap().written, cids, "{len}");
        // Each reads the other's.
        assert_eq!(theirs.read_all(root).unwrap(), bytes[..len], "{len}");
        assert_eq!(their_walk(&ours, root)[""].as_deref(), Some(&bytes[..len]), "{len}");
    }
}

#[test]
fn trees_wider_than_two_nodes_are_the_same() {
    // Two full nodes, and a third over one leaf. The same leaf again and again: only nodes are kept.
    let piece = vec![7; CHUNK];
    let (ours, theirs) = (Store::new(), Store::new());
    let mut builder = FileBuilder::new();
    let mut adder = FileAdder::builder()
        .with_chunker(Chunker::Size(CHUNK))
        .with_collector(BalancedCollector::with_branching_factor(WIDTH))
        .build();
    for _ in 0..2 * WIDTH + 1 {
        builder.write(&piece, &mut ours.clone()).unwrap();
        let (blocks, taken) = adder.push(&piece);
        assert_eq!(taken, CHUNK);
        blocks.for_each(|(cid, block)| put(&theirs, cid, block));
    }
    let file = builder.finish(&mut ours.clone()).unwrap();
    let root = adder.finish().map(|(cid, block)| (put(&theirs, cid, block), cid).1).last();
    assert_eq!(Some(file.cid), root);
    let (from, to) = ((WIDTH * CHUNK) as u64 - 5, (2 * WIDTH * CHUNK) as u64 - 5);
    for store in [ours, theirs] {
        assert_eq!(store.read(file.cid, from..from + 9, 0).unwrap(), [7; 9]);
        assert_eq!(store.read(file.cid, to..u64::MAX, 0).unwrap(), vec![7; CHUNK + 5]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_the_other_writes_is_read(
        len in 0usize..20_000,
        chunk in 1usize..700,
        width in 2usize..9,
        v0 in any::<bool>(),
        raw_leaves in any::<bool>(),
        (from, to) in (0u64..21_000, 0u64..21_000),
    ) {
        let bytes = seeded_bytes("any", len);
        let version = if v0 { Version::V0 } else { Version::V1 };
        let store = Store::new();
        let (root, _) = their_file(&store, Layout { chunk, width, version, raw_leaves }, &bytes);
        let kind = block_on(stat(&store, &root)).unwrap();
        prop_assert_eq!(kind, Kind::File { size: len as u64 });
        let part = from.min(to)..from.max(to);
        let clamp = |at: u64| at.min(len as u64) as usize;
        for store in [store.clone(), store.cold()] {
            prop_assert!(store.read_all(root).unwrap() == bytes);
            let expected = &bytes[clamp(part.start)..clamp(part.end)];
            prop_assert!(store.read(root, part.clone(), 3000).unwrap() == expected);
        }
    }
}

#[test]
fn its_defaults_are_read() {
    // 256 KiB, 174 wide: CIDv1 with raw leaves, and as CIDv0 with dag-pb leaves. Two levels of nodes.
    let bytes = seeded_bytes("defaults", 175 * (256 << 10) + 99);
    for (version, raw_leaves) in [(Version::V1, true), (Version::V0, false)] {
        let layout = Layout { chunk: 256 << 10, width: 174, version, raw_leaves };
        let store = Store::new();
        let (root, _) = their_file(&store, layout, &bytes);
        assert_eq!(root.version(), version);
        for store in [store.clone(), store.cold()] {
            assert!(store.read(root, 0..u64::MAX, 1 << 20).unwrap() == bytes);
        }
    }
}

#[test]
fn directories_are_the_same_blocks() {
    for (seed, count) in [("none", 0), ("one", 1), ("plain", 10), ("under", 3300), ("over", 3500), ("deep", 20000)] {
        let (mut ours, theirs) = (Store::new(), Store::new());
        let entries = seeded_entries(seed, count);
        let written = write_directory(entries.clone(), &mut ours).unwrap();
        // Its threshold estimates, that of the profile counts the block's bytes: tell it the form.
        let sharded = ours.log.lock().unwrap().written.len() > 1;
        let threshold = if sharded { 0 } else { u64::MAX };
        let (root, tsize) = their_tree(&theirs, Version::V1, threshold, links(&entries));
        assert_eq!((written.cid, written.tsize), (root, tsize), "{seed}");
        assert_eq!(sharded, count > 3400, "{seed}");
        let mut cids = std::mem::take(&mut ours.log.lock().unwrap().written);
        cids.sort();
        cids.dedup();
        assert!(cids.iter().all(|cid| theirs.get(cid) == ours.get(cid)), "{seed}");

        // Each finds in the other's what is there, and nothing else.
        assert!(block_on(list(&theirs.cold(), &root)).unwrap() == entries, "{seed}");
        for wanted in entries.iter().step_by(1 + count / 50) {
            assert_eq!(block_on(lookup(&theirs, &root, &wanted.name)).unwrap().as_ref(), Some(wanted));
            assert_eq!(their_lookup(&ours, root, &wanted.name), Some(wanted.cid));
        }
        assert_eq!(their_lookup(&ours, root, "not there"), None);
    }
}

fn their_lookup(store: &Store, root: Cid, name: &str) -> Option<Cid> {
    let mut step = their_resolve(&store.get(&root), name, &mut None).unwrap();
    loop {
        step = match step {
            MaybeResolved::Found(cid) => return Some(cid),
            MaybeResolved::NotFound => return None,
            MaybeResolved::NeedToLoadMore(lookup) => {
                let next = *lookup.pending_links().0;
                lookup.continue_walk(&store.get(&next), &mut None).unwrap()
            }
        }
    }
}

#[test]
fn small_directories_in_its_other_forms_are_read() {
    // CIDv0, and shards far below the threshold.
    for (version, threshold) in [(Version::V0, u64::MAX), (Version::V0, 0), (Version::V1, 0)] {
        for count in [1, 30, 300] {
            let (store, entries) = (Store::new(), seeded_entries("small", count));
            let (root, _) = their_tree(&store, version, threshold, links(&entries));
            assert_eq!(root.version(), version);
            assert_eq!(block_on(stat(&store, &root)).unwrap(), Kind::Directory);
            for store in [store.clone(), store.cold()] {
                assert_eq!(block_on(list(&store, &root)).unwrap(), entries);
                for wanted in &entries {
                    assert_eq!(block_on(lookup(&store, &root, &wanted.name)).unwrap().as_ref(), Some(wanted));
                }
                assert_eq!(block_on(lookup(&store, &root, "not there")).unwrap(), None);
            }
        }
    }
}

#[test]
fn trees_of_files_directories_and_symbolic_links_are_the_same() {
    let at = tempfile::tempdir().unwrap();
    let from = at.path().join("from");
    let files: Vec<(String, Vec<u8>)> = (0..40)
        .map(|n| (format!("d{}/e{}/{n}", n % 3, n % 5), seeded_bytes(&format!("tree-{n}"), n * 777)))
        .chain([("large".to_owned(), seeded_bytes("tree", CHUNK + 5)), ("none".to_owned(), Vec::new())])
        .collect();
    for (path, bytes) in &files {
        fs::create_dir_all(from.join(path).parent().unwrap()).unwrap();
        fs::write(from.join(path), bytes).unwrap();
    }
    symlink("../large", from.join("d1/up")).unwrap();
    let ours = Store::new();
    let imported = tree::import(&from, &mut ours.clone(), &mut |_| ()).unwrap();

    let theirs = Store::new();
    let mut paths: Vec<_> = files
        .iter()
        .map(|(path, bytes)| {
            let (cid, cids) = their_file(&theirs, OURS, bytes);
            (path.as_str(), cid, cids.iter().map(|cid| theirs.get(cid).len() as u64).sum())
        })
        .collect();
    let (cid, block) =
        symlink_block("../large", &Metadata::default(), Version::V1, multihash_codetable::Code::Sha2_256);
    paths.push(("d1/up", cid, block.len() as u64));
    put(&theirs, cid, block);
    let (root, tsize) = their_tree(&theirs, Version::V1, THRESHOLD as u64, paths);
    assert_eq!((imported.cid, imported.tsize), (root, tsize));

    let walked = their_walk(&ours, root);
    for (path, bytes) in &files {
        assert_eq!(walked[path].as_ref(), Some(bytes), "{path}");
        let parts: Vec<&str> = path.split('/').collect();
        let found = block_on(resolve(&theirs, &root, &parts)).unwrap().unwrap();
        assert_eq!(theirs.read_all(found.cid).unwrap(), *bytes, "{path}");
    }
    assert_eq!(walked["d1/up"].as_deref(), Some(&b"../large"[..]));
    // And onto the disk again.
    let to = at.path().join("to");
    block_on(tree::export(theirs.fetcher(), &root, &to, &mut |_| ())).unwrap();
    assert_eq!(fs::read_link(to.join("d1/up")).unwrap().to_str(), Some("../large"));
    assert_eq!(fs::read(to.join("large")).unwrap(), files[40].1);
}
