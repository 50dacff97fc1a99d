//! Scrubbing: what it finds, what it repairs, and what it leaves.

use super::rig::Rig;
use crate::{DiskStore, Options, ScrubOptions, Scrubbed, Stage, disk::faulty::Fate};
use cidery_core::{
    Block, Blockstore, Bytes, Cid, Namespace, Origin, PublicBlocks, PublishMode, RootStore, StoreError, suite::node,
};
use crc32c::{crc32c, crc32c_append};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

const PACK: &str = "packs/0000000000000001.pack";

fn block(n: u32) -> Block {
    Block::raw(format!("block {n} ").repeat(20).into_bytes())
}

fn put_all(store: &DiskStore, blocks: &[Block], origin: Origin) {
    blocks.iter().for_each(|block| store.put(block, origin).unwrap());
    store.sync().unwrap();
}

fn assert_all(store: &DiskStore, blocks: &[Block]) {
    for block in blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()));
    }
}

fn nothing(_: &Cid) -> Option<Bytes> {
    None
}

fn scrub(store: &DiskStore, refetch: &(dyn Fn(&Cid) -> Option<Bytes> + Sync)) -> Scrubbed {
    store.scrub(ScrubOptions { bytes_per_second: None }, &|_| {}, refetch).unwrap()
}

/// Whoever has these blocks, by hash.
fn having(blocks: &[Block]) -> impl Fn(&Cid) -> Option<Bytes> + Sync + use<> {
    let known: BTreeMap<_, _> = blocks.iter().map(|block| (*block.cid().hash(), block.data().clone())).collect();
    move |cid| known.get(cid.hash()).cloned()
}

fn place_of(pack: &[u8], data: &[u8]) -> usize {
    pack.windows(data.len()).position(|window| window == data).expect("it is in the pack")
}

/// Flips a bit of a block's bytes.
fn rot(rig: &Rig, block: &Block) {
    for name in rig.disk.names().iter().filter(|name| name.starts_with("packs/")) {
        rig.disk.damage(name, |pack| {
            if let Some(at) = pack.windows(block.data().len()).position(|window| window == block.data().as_ref()) {
                pack[at + 3] ^= 1;
            }
        });
    }
}

/// Puts other bytes in a block's place, with checksums that hold for them.
fn forge(rig: &Rig, block: &Block) {
    rig.disk.damage(PACK, |pack| {
        let at = place_of(pack, block.data());
        pack[at..at + 5].copy_from_slice(b"wrong");
        let cid_len = block.cid().to_bytes().len();
        let (record, end) = (at - cid_len - 20, at + block.data().len());
        let payload = crc32c(&pack[at..end]).to_le_bytes();
        pack[record + 12..record + 16].copy_from_slice(&payload);
        let crc = crc32c_append(crc32c(&pack[20..28]), &(record as u64).to_le_bytes());
        let crc = crc32c_append(crc, &pack[record..record + 16]);
        let crc = crc32c_append(crc, &pack[record + 20..at]);
        pack[record + 16..record + 20].copy_from_slice(&crc.to_le_bytes());
    });
}

#[test]
fn a_sound_store_is_left_as_it_is() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let blocks: Vec<Block> = (0..300).map(block).chain([Block::raw(vec![1; 300 << 10])]).collect();
    put_all(&store, &blocks, Origin::Pushed);
    let before = rig.disk.operations();
    let heard = Mutex::new(Vec::new());
    let options = ScrubOptions { bytes_per_second: None };
    let done =
        store.scrub(options, &|progress| heard.lock().push(progress), &|_| panic!("nothing is missing")).unwrap();
    let bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
    assert_eq!((done.blocks, done.bytes), (301, bytes as u64));
    assert_eq!((done.repaired.len(), done.damaged.len(), done.removed), (0, 0, 0));
    assert!(heard.lock().iter().all(|progress| progress.stage == Stage::Scrub && progress.done <= progress.total));
    assert!(!heard.lock().is_empty() && store.damage().is_empty());
    assert_eq!(rig.disk.operations(), before, "it writes nothing");
}

#[test]
fn every_flipped_bit_is_found_and_repaired_for_good() {
    let blocks: Vec<Block> = (0..4).map(block).collect();
    let mut len = 0;
    {
        let rig = Rig::new();
        put_all(&rig.open().unwrap(), &blocks, Origin::Imported);
        rig.disk.damage(PACK, |bytes| len = bytes.len());
    }
    let (mut by_itself, mut fetched) = (0, 0);
    for at in 32..len {
        let rig = Rig::with_kept_index();
        let store = rig.open().unwrap();
        put_all(&store, &blocks, Origin::Imported);
        rig.disk.damage(PACK, |bytes| bytes[at] ^= 1 << (at % 8));
        // First nobody has it.
        let alone = scrub(&store, &nothing);
        assert_eq!((alone.blocks, alone.repaired.len() + alone.damaged.len()), (4, 1), "byte {at}: {alone:?}");
        by_itself += alone.repaired.len();
        for cid in &alone.damaged {
            let read = store.get(cid);
            assert!(matches!(read, Err(StoreError::Corrupt { .. })), "byte {at}: {read:?}");
        }
        // Then somebody lies, and then somebody has it.
        let lied = scrub(&store, &|_| Some(Bytes::from_static(b"something else")));
        assert_eq!((&lied.damaged, lied.repaired.len()), (&alone.damaged, 0), "byte {at}");
        let done = scrub(&store, &having(&blocks));
        assert_eq!((&done.repaired, done.damaged.len()), (&alone.damaged, 0), "byte {at}");
        fetched += done.repaired.len();
        let clean = scrub(&store, &|_| panic!("byte {at}"));
        assert_eq!((clean.blocks, clean.repaired.len()), (4, 0));
        // What was repaired is on the disk, with or without the index.
        for home in [rig.home.after_power_cut(), Default::default()] {
            let again = Rig { home, ..rig.after_power_cut(Fate::Drop) };
            let store = again.open().unwrap();
            assert_all(&store, &blocks);
            assert_eq!(store.stats().blocks, 4);
            assert!(blocks.iter().all(|block| store.public_get(block.cid()).unwrap().is_none()), "its origin stays");
        }
    }
    // Headers do not need anybody.
    assert!(by_itself >= 4 * 56 && fetched >= 4 * 150, "{by_itself} {fetched}");
}

#[test]
fn wrong_bytes_with_right_checksums_are_an_error_from_then_on() {
    for repaired in [false, true] {
        let blocks: Vec<Block> = (0..4).map(block).collect();
        let rig = Rig::with_kept_index();
        let store = rig.open().unwrap();
        put_all(&store, &blocks, Origin::Pushed);
        store.inner().checkpoint().unwrap();
        forge(&rig, &blocks[2]);
        let cid = *blocks[2].cid();
        let unseen = store.get(&cid).unwrap().unwrap();
        assert!(unseen.starts_with(b"wrong"), "checksums alone do not show it");
        let done = if repaired { scrub(&store, &having(&blocks)) } else { scrub(&store, &nothing) };
        let (good, bad) = if repaired { (vec![cid], vec![]) } else { (vec![], vec![cid]) };
        assert_eq!((&done.repaired, &done.damaged), (&good, &bad));
        let check = |store: &DiskStore| match store.get(&cid) {
            Ok(Some(bytes)) => assert!(repaired && bytes == blocks[2].data()),
            other => assert!(!repaired && matches!(other, Err(StoreError::Corrupt { .. })), "{other:?}"),
        };
        check(&store);
        for home in [rig.home.after_power_cut(), Default::default()] {
            let again = Rig { home, ..rig.after_power_cut(Fate::Drop) };
            let store = again.open().unwrap();
            check(&store);
            // Whoever has it can still repair it.
            let _ = store.get(&cid);
            put_all(&store, &blocks, Origin::Pushed);
            assert_all(&store, &blocks);
        }
    }
}

#[test]
fn a_node_that_stopped_collections_is_repaired_and_they_go_on() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let (leaf, stray) = (block(1), block(2));
    put_all(&store, &[leaf.clone(), stray.clone()], Origin::Pushed);
    let root = node(&[*leaf.cid()]);
    put_all(&store, std::slice::from_ref(&root), Origin::Pushed);
    store.commit(&Namespace::local(), None, *root.cid(), &[]).unwrap();
    rot(&rig, &root);
    assert!(store.collect(&|_| {}).is_err());
    assert_eq!(scrub(&store, &nothing).damaged, [*root.cid()]);
    assert!(store.collect(&|_| {}).is_err() && store.size(stray.cid()).unwrap().is_some());
    assert_eq!(scrub(&store, &having(&[root])).repaired.len(), 1);
    assert_eq!(store.collect(&|_| {}).unwrap().freed_blocks, 1);
    assert!(store.size(stray.cid()).unwrap().is_none());
    assert_all(&store, &[leaf]);
}

#[test]
fn cached_blocks_that_nobody_has_are_removed_unless_others_hang_on_them() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let (leaf, own) = (block(1), block(2));
    let (stray, reached) = (node(&[*leaf.cid()]), node(&[*own.cid()]));
    put_all(&store, &[leaf.clone(), stray.clone(), reached.clone(), block(3)], Origin::Peer);
    put_all(&store, std::slice::from_ref(&own), Origin::Pushed);
    let commit = |children: &[Cid]| {
        let root = node(children);
        store.put(&root, Origin::Pushed).unwrap();
        let before = store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid);
        store.commit(&Namespace::local(), before, *root.cid(), &[]).unwrap();
    };
    commit(&[*reached.cid()]);
    rot(&rig, &leaf);
    rot(&rig, &reached);
    rot(&rig, &stray);
    let done = scrub(&store, &nothing);
    // Nobody knows what the damaged node that is reached reaches: no node goes, only the leaf.
    assert_eq!((done.removed, done.damaged.len()), (1, 2), "{done:?}");
    assert_eq!((store.get(leaf.cid()).unwrap(), store.stats().blocks), (None, 5));
    put_all(&store, std::slice::from_ref(&leaf), Origin::Peer);
    assert_all(&store, &[leaf, own.clone(), block(3)]);
    // Once that one is repaired it is known that nothing reaches the other.
    let done = scrub(&store, &having(std::slice::from_ref(&reached)));
    assert_eq!((done.repaired.as_slice(), done.removed, done.damaged.len()), (&[*reached.cid()][..], 1, 0), "{done:?}");
    assert_eq!(store.get(stray.cid()).unwrap(), None);
    assert_all(&store, &[reached, own]);
    drop(store);
    let store = rig.open().unwrap();
    assert!(store.damage().is_empty() && store.get(stray.cid()).unwrap().is_none(), "{:?}", store.damage());
}

#[test]
fn bad_sectors_do_not_stop_it_and_a_failing_disk_does() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let blocks: Vec<Block> = (0..40).map(block).collect();
    put_all(&store, &blocks, Origin::Peer);
    store.inner().checkpoint().unwrap();
    let mut at = 0;
    rig.disk.damage(PACK, |pack| at = place_of(pack, blocks[20].data()) as u64);
    rig.disk.fail_reads_of(PACK, at + 10..at + 20);
    let done = scrub(&store, &nothing);
    assert_eq!((done.blocks, done.damaged.as_slice(), done.removed), (40, &[*blocks[20].cid()][..], 0));
    let done = scrub(&store, &having(&blocks));
    assert_eq!((done.repaired.as_slice(), done.damaged.len()), (&[*blocks[20].cid()][..], 0));
    assert_all(&store, &blocks);
    rig.disk.fail_reads(true);
    let failed = store.scrub(ScrubOptions::default(), &|_| {}, &nothing);
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    rig.disk.fail_reads(false);
    assert_all(&store, &blocks);
    assert_eq!(store.stats().blocks, 40);
}

#[test]
fn what_is_repaired_stays_hidden() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let (secret, root) = (block(1), node(&[*block(1).cid()]));
    put_all(&store, &[secret.clone(), root.clone()], Origin::Pushed);
    store.commit(&Namespace::local(), None, *root.cid(), &[]).unwrap();
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    let next = node(&[]);
    put_all(&store, std::slice::from_ref(&next), Origin::Pushed);
    store.commit(&Namespace::local(), Some(*root.cid()), *next.cid(), &[]).unwrap();
    store.forget(&[*secret.cid()]).unwrap();
    rot(&rig, &secret);
    assert_eq!(scrub(&store, &having(std::slice::from_ref(&secret))).repaired.len(), 1);
    assert!(store.is_withdrawn(secret.cid()) && store.is_forgotten(secret.cid()));
    assert!(store.public_get(secret.cid()).unwrap().is_none());
}

#[test]
fn it_keeps_to_its_rate_and_ends_with_the_store() {
    let store = Rig::new().open().unwrap();
    put_all(&store, &(0..10).map(|n| Block::raw(vec![n; 100_000])).collect::<Vec<_>>(), Origin::Pushed);
    let started = Instant::now();
    store.scrub(ScrubOptions { bytes_per_second: Some(2_000_000) }, &|_| {}, &nothing).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(480), "{:?}", started.elapsed());
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| store.scrub(ScrubOptions { bytes_per_second: Some(1) }, &|_| {}, &nothing));
        std::thread::sleep(Duration::from_millis(50));
        store.close().unwrap();
        assert!(slow.join().unwrap().is_err());
    });
    assert!(store.scrub(ScrubOptions::default(), &|_| {}, &nothing).is_err());
}

/// Writers, collections and scrubs at once, on a real disk: nothing is found damaged that is not.
#[test]
fn writers_and_collections_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { pack_size: 1 << 20, history: 1, collect_after: None, ..Options::default() };
    let store = DiskStore::open(dir.path(), options).unwrap();
    let stop = AtomicBool::new(false);
    let scrubbed = std::thread::scope(|scope| {
        for writer in 0..2_u32 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let namespace: Namespace = format!("w{writer}.example").parse().unwrap();
                let (mut before, mut round) = (None, 0_u32);
                while !stop.load(SeqCst) {
                    let hold = store.hold();
                    let blocks = [
                        block(round % 50),
                        Block::raw(vec![(round % 7) as u8; 300 << 10]),
                        block(1000 * (writer + 1) + round),
                    ];
                    for block in &blocks {
                        hold.keep(block.cid());
                        store.put(block, Origin::Pushed).unwrap();
                    }
                    let root = node(&blocks.each_ref().map(|block| *block.cid()));
                    hold.keep(root.cid());
                    store.put(&root, Origin::Pushed).unwrap();
                    store.commit(&namespace, before, *root.cid(), &[]).unwrap();
                    before = Some(*root.cid());
                    round += 1;
                }
            });
        }
        let collector = scope.spawn(|| {
            while !stop.load(SeqCst) {
                store.collect(&|_| {}).unwrap();
            }
        });
        let mut scrubbed = 0;
        for _ in 0..12 {
            let done = scrub(&store, &|cid| panic!("{cid} is not damaged"));
            assert_eq!((done.repaired.len(), done.damaged.len()), (0, 0));
            scrubbed += done.blocks;
        }
        stop.store(true, SeqCst);
        collector.join().unwrap();
        scrubbed
    });
    assert!(scrubbed > 0 && store.damage().is_empty(), "{:?}", store.damage());
}
