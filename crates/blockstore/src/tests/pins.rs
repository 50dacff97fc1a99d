//! What is pinned: kept from collections and from the limit of the cache, and shown to nobody for that.

use super::rig::Rig;
use crate::{DiskStore, Options};
use cidery_core::{Block, Blockstore, Cid, Namespace, Origin, Pin, PublicBlocks, PublishMode, RootStore, suite::node};

fn leaf(n: u8) -> Block {
    Block::raw(vec![n; 100_000])
}

fn here(store: &DiskStore, block: &Block) -> bool {
    store.get(block.cid()).unwrap().is_some()
}

fn pin(name: &str, roots: &[&Block], blocks: &[&Block]) -> Pin {
    let cids = |blocks: &[&Block]| blocks.iter().map(|block| *block.cid()).collect::<Vec<Cid>>();
    Pin { name: name.into(), root: *roots[0].cid(), roots: cids(roots), blocks: cids(blocks), bytes: 0 }
}

fn put(store: &DiskStore, blocks: &[&Block], origin: Origin) {
    blocks.iter().for_each(|block| store.put(block, origin).unwrap());
}

fn commit(store: &DiskStore, children: &[&Block]) {
    let root = node(&children.iter().map(|block| *block.cid()).collect::<Vec<_>>());
    store.put(&root, Origin::Pushed).unwrap();
    let before = store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid);
    store.commit(&Namespace::local(), before, *root.cid(), &[]).unwrap();
}

#[test]
fn the_cache_gives_way_around_what_is_pinned() {
    let mut rig = Rig::new();
    rig.options = Options { cache_limit: Some(300_000), ..rig.options };
    let store = rig.open().unwrap();
    let leaves: Vec<Block> = (0..20).map(leaf).collect();
    let (file, directory) = (node(&[*leaves[0].cid(), *leaves[1].cid(), *leaves[2].cid()]), node(&[*leaves[9].cid()]));
    put(&store, &[&file, &directory], Origin::Peer);
    leaves.iter().for_each(|leaf| store.put(leaf, Origin::Peer).unwrap());
    // The way to it by itself: what else is below goes.
    store.pin(&pin("example.com/app:1", &[&file], &[&directory])).unwrap();
    let done = store.collect(&|_| {}).unwrap();
    assert!(done.cached_bytes <= 300_000 && done.live_blocks == 5, "{done:?}");
    let check = |store: &DiskStore| {
        assert!([&file, &directory, &leaves[0], &leaves[1], &leaves[2]].into_iter().all(|block| here(store, block)));
    };
    check(&store);
    let usage = store.usage(&|_| {}).unwrap();
    assert_eq!((usage.pins, usage.pinned.blocks, usage.live.blocks, usage.history.blocks), (1, 5, 5, 0));
    assert!(usage.pinned.bytes > 300_000 && usage.cached.bytes <= 300_000);
    // Also after a restart without an index, and by a shorter journal.
    store.inner().shorten_journal_now().unwrap();
    drop(store);
    let store = rig.open().unwrap();
    (20..24).for_each(|n| store.put(&leaf(n), Origin::Peer).unwrap());
    store.collect(&|_| {}).unwrap();
    check(&store);
    // Taken back, it is a cache again, and goes like one.
    assert!(store.unpin("example.com/app:1").unwrap());
    let done = store.collect(&|_| {}).unwrap();
    assert!(done.live_blocks == 0 && done.cached_bytes <= 300_000, "{done:?}");
}

#[test]
fn what_is_deleted_stays_while_it_is_pinned_and_is_shown_to_nobody() {
    let mut rig = Rig::with_kept_index();
    rig.options = Options { history: 1, ..rig.options };
    let store = rig.open().unwrap();
    let (one, two) = (leaf(1), leaf(2));
    let file = node(&[*one.cid(), *two.cid()]);
    // As a blob of which a leaf was in the cache before: peers saw that one.
    put(&store, &[&one], Origin::Peer);
    put(&store, &[&two, &file], Origin::Pushed);
    commit(&store, &[&file]);
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    store.pin(&pin("app:1", &[&file], &[])).unwrap();
    commit(&store, &[]);
    store.forget(&[*file.cid()]).unwrap();
    let seen = |store: &DiskStore, block: &Block| store.public_get(block.cid()).unwrap().is_some();
    let mut store = store;
    for _ in 0..2 {
        store.collect(&|_| {}).unwrap();
        for block in [&one, &two, &file] {
            assert!(here(&store, block) && !seen(&store, block));
        }
        drop(store);
        store = rig.open().unwrap();
    }
    store.unpin("app:1").unwrap();
    store.collect(&|_| {}).unwrap();
    assert!(![&one, &two, &file].into_iter().any(|block| here(&store, block)));
}

#[test]
fn a_purge_takes_what_it_names_and_leaves_the_rest_of_the_pin() {
    let mut rig = Rig::with_kept_index();
    rig.options = Options { history: 1, ..rig.options };
    let store = rig.open().unwrap();
    let leaves: Vec<Block> = (0..4).map(leaf).collect();
    let (secret, rest) = (node(&[*leaves[0].cid(), *leaves[1].cid()]), node(&[*leaves[1].cid(), *leaves[2].cid()]));
    let directory = node(&[*secret.cid(), *rest.cid()]);
    put(&store, &[&secret, &rest, &directory], Origin::Pushed);
    put(&store, &leaves.iter().collect::<Vec<_>>(), Origin::Pushed);
    store.pin(&pin("whole", &[&directory], &[])).unwrap();
    store.pin(&pin("way", &[&rest], &[&directory, &secret, &leaves[0], &leaves[3]])).unwrap();
    store.pin(&pin("other", &[&rest], &[])).unwrap();
    assert_eq!(store.purge(&[*secret.cid()]).unwrap(), ["way", "whole"]);
    let check = |store: &DiskStore| {
        store.collect(&|_| {}).unwrap();
        assert!(!here(store, &secret) && !here(store, &leaves[0]));
        assert!([&directory, &rest, &leaves[1], &leaves[2], &leaves[3]].into_iter().all(|block| here(store, block)));
    };
    check(&store);
    drop(store);
    let store = rig.open().unwrap();
    check(&store);
    assert!(store.pins().unwrap().iter().all(|pinned| pinned.purged.len() == usize::from(pinned.pin.name != "other")));
}
