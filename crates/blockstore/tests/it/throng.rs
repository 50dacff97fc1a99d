//! Many threads at once, on the real disk.

use cidery_blockstore::{DiskStore, Options};
use cidery_core::{Block, Blockstore, Namespace, Origin, RootStore, suite::node};
use std::sync::Barrier;

#[test]
fn sixty_four_concurrent_commits_share_their_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    // The first one makes the pack.
    store.put(&Block::raw(&b"first"[..]), Origin::Pushed).unwrap();
    store.sync().unwrap();
    // How many are there at once is up to the machine's scheduler, and others may be at work: the
    // best of some throngs counts.
    let flushes = (0..8_u8).map(|throng| flushes_of_a_throng(&store, throng)).min().unwrap();
    println!("64 commits, {flushes} flushes");
    assert!(flushes <= 16, "{flushes}");
}

fn flushes_of_a_throng(store: &DiskStore, throng: u8) -> u64 {
    let before = store.stats().syncs;
    let start = Barrier::new(64);
    std::thread::scope(|scope| {
        for n in 0..64_u8 {
            let start = &start;
            scope.spawn(move || {
                let layer = Block::raw([n, throng].repeat(2500));
                let root = node(&[*layer.cid()]);
                let namespace: Namespace = format!("n{n}-{throng}").parse().unwrap();
                start.wait();
                let mut writer = store.writer(Origin::Pushed).unwrap();
                writer.put(&layer).unwrap();
                store.put(&root, Origin::Pushed).unwrap();
                store.commit(&namespace, None, *root.cid(), &[]).unwrap();
            });
        }
    });
    store.stats().syncs - before
}

#[test]
fn one_block_from_many_threads_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    let blocks: Vec<Block> = (0..200_u16).map(|n| Block::raw(n.to_be_bytes().repeat(50))).collect();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                for block in &blocks {
                    store.put(block, Origin::Pushed).unwrap();
                    assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()));
                }
            });
        }
    });
    assert_eq!((store.stats().blocks, store.stats().bytes), (200, 200 * 100));
    store.sync().unwrap();
    let pack = std::fs::metadata(dir.path().join("packs/0000000000000001.pack")).unwrap().len();
    assert_eq!(pack, 32 + 200 * (20 + 36 + 100));
}

#[test]
fn checkpoints_run_beside_readers_and_writers() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), Options { pack_size: 4 << 20, ..Options::default() }).unwrap();
    // More than a checkpoint's worth of blocks from each of two threads, read back as they go.
    let block = |thread: u32, n: u32| Block::raw([thread.to_be_bytes(), n.to_be_bytes()].concat());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20_000 {
                    store.put(&block(thread, n), Origin::Peer).unwrap();
                    if n % 7 == 0 {
                        let earlier = block(thread, n / 2);
                        assert_eq!(store.get(earlier.cid()).unwrap().as_ref(), Some(earlier.data()));
                    }
                }
            });
        }
    });
    assert_eq!(store.stats().blocks, 40_000);
    drop(store);
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    assert_eq!((store.stats().blocks, store.damage()), (40_000, Vec::new()));
    for n in (0..20_000).step_by(100) {
        assert_eq!(store.get(block(1, n).cid()).unwrap().as_ref(), Some(block(1, n).data()));
    }
}
