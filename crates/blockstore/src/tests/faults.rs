//! Full disks, failing flushes, flipped bits, missing files, an index that fails or lies.

use super::rig::Rig;
use crate::{DiskStore, OpenError, disk::faulty::Fate};
use cidery_core::{
    Block, Blockstore, CommitError, Namespace, Origin, RootStore, StoreError, UploadRecord, suite::node,
};

fn block(n: u32) -> Block {
    Block::raw(format!("block {n}").repeat(20).into_bytes())
}

fn upload(id: &str) -> UploadRecord {
    UploadRecord { id: id.into(), pins: Vec::new(), state: vec![1; 100] }
}

fn put_all(store: &DiskStore, blocks: &[Block]) {
    blocks.iter().for_each(|block| store.put(block, Origin::Pushed).unwrap());
    store.sync().unwrap();
}

fn assert_all(store: &DiskStore, blocks: &[Block]) {
    for block in blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()));
    }
}

const PACK: &str = "packs/0000000000000001.pack";

#[test]
fn a_full_disk_refuses_puts_and_takes_them_again_when_there_is_room() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    let blocks: Vec<Block> = (0..20).map(block).collect();
    put_all(&store, &blocks[..5]);
    for room in [0, 1, 30, 100, 190] {
        rig.disk.leave_room(Some(room));
        let full = store.put(&blocks[5], Origin::Pushed);
        assert!(matches!(full, Err(StoreError::Full { .. })), "{room}: {full:?}");
        assert_eq!(store.get(blocks[5].cid()).unwrap(), None);
        assert_all(&store, &blocks[..5]);
    }
    let large = Block::raw(vec![1; 300 << 10]);
    assert!(matches!(store.put(&large, Origin::Pushed), Err(StoreError::Full { .. })), "no room for a new pack");
    rig.disk.leave_room(None);
    put_all(&store, &blocks[5..10]);
    assert_eq!(store.stats().blocks, 10);

    // The journal too.
    rig.disk.leave_room(Some(20));
    let full = store.save_upload(&upload("a"));
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    let root = node(&[]);
    let full = store.commit(&Namespace::local(), None, *root.cid(), &[]);
    assert!(matches!(full, Err(CommitError::Store(StoreError::Full { .. }))), "{full:?}");
    assert_eq!((store.uploads().unwrap().len(), store.namespaces().unwrap().len()), (0, 0));
    rig.disk.leave_room(None);
    store.save_upload(&upload("b")).unwrap();
    put_all(&store, &blocks[10..]);

    let again = rig.after_power_cut(Fate::Drop);
    drop(store);
    let store = again.open().unwrap();
    assert_all(&store, &blocks);
    assert_eq!(store.uploads().unwrap(), [upload("b")]);
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_and_reads_go_on() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    put_all(&store, &[block(1)]);
    store.put(&block(2), Origin::Pushed).unwrap();
    rig.disk.fail_flushes(1);
    assert!(matches!(store.sync(), Err(StoreError::Io { .. })));
    assert!(matches!(store.sync(), Err(StoreError::Poisoned(_))));
    assert!(matches!(store.put(&block(3), Origin::Pushed), Err(StoreError::Poisoned(_))));
    assert!(matches!(store.save_upload(&upload("a")), Err(StoreError::Poisoned(_))));
    assert!(store.writer(Origin::Pushed).is_err() || store.writer(Origin::Pushed).unwrap().put(&block(3)).is_err());
    assert_all(&store, &[block(1), block(2)]);
    assert!(matches!(store.close(), Err(StoreError::Poisoned(_))));
}

#[test]
fn a_failed_flush_cannot_hide_behind_a_restart() {
    // The pages of the failed flush are forgotten, but still read as if they were written.
    let rig = Rig::new();
    let store = rig.open().unwrap();
    put_all(&store, &[block(1)]);
    store.put(&block(2), Origin::Pushed).unwrap();
    rig.disk.fail_flushes(1);
    assert!(store.sync().is_err());
    drop(store);
    let store = rig.open().unwrap();
    put_all(&store, &[block(2)]);
    let again = rig.after_power_cut(Fate::Drop);
    drop(store);
    assert_all(&again.open().unwrap(), &[block(1), block(2)]);

    // The same for the journal: a batch that is seen after the restart stays.
    let store = again.open().unwrap();
    rig_journal_only(&again);
    assert!(store.save_upload(&upload("a")).is_err());
    drop(store);
    let store = again.open().unwrap();
    let seen = store.uploads().unwrap();
    let last = again.after_power_cut(Fate::Drop);
    drop(store);
    assert_eq!(last.open().unwrap().uploads().unwrap(), seen);
}

/// Nothing waits in a pack, so the next flush is the journal's.
fn rig_journal_only(rig: &Rig) {
    rig.disk.fail_flushes(1);
}

#[test]
fn flipped_bits_are_errors_and_never_wrong_bytes() {
    let blocks: Vec<Block> = (0..6).map(block).collect();
    let len = {
        let rig = Rig::new();
        put_all(&rig.open().unwrap(), &blocks);
        let mut len = 0;
        rig.disk.damage(PACK, |bytes| len = bytes.len());
        len
    };
    for at in (0..len).step_by(3) {
        let rig = Rig::with_kept_index();
        let store = rig.open().unwrap();
        put_all(&store, &blocks);
        rig.disk.damage(PACK, |bytes| bytes[at] ^= 1 << (at % 8));
        let mut hit = 0;
        for block in &blocks {
            match store.get(block.cid()) {
                Ok(found) => assert_eq!(found.as_ref(), Some(block.data())),
                Err(error) => {
                    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
                    hit += 1;
                }
            }
        }
        assert_eq!(hit, usize::from(at >= 32), "byte {at}");
        // Whoever has the block can put it right, for good.
        put_all(&store, &blocks);
        assert_all(&store, &blocks);
        assert_eq!(store.stats().blocks, 6);
        drop(store);
        assert_all(&rig.open().unwrap(), &blocks);
        // Also without the index.
        let without = Rig { home: Default::default(), ..rig.clone() };
        let store = without.open().unwrap();
        assert_all(&store, &blocks);
        assert_eq!((store.stats().blocks, store.damage().is_empty()), (6, false));
    }
}

#[test]
fn flipped_bits_while_closed_are_found_without_an_index_too() {
    let blocks: Vec<Block> = (0..6).map(block).collect();
    for at in (0..1200).step_by(7) {
        let rig = Rig::new();
        put_all(&rig.open().unwrap(), &blocks);
        rig.disk.damage(PACK, |bytes| {
            let at = at % bytes.len();
            bytes[at] ^= 1 << (at % 8);
        });
        let store = rig.open().unwrap();
        for block in &blocks {
            match store.get(block.cid()) {
                Ok(Some(found)) => assert_eq!(&found, block.data()),
                // Its header does not say any more that it was there; the damage is noted.
                Ok(None) => assert!(store.damage().iter().any(|note| note.contains("damaged")), "{at}"),
                Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error}"),
            }
        }
        put_all(&store, &blocks);
        assert_all(&store, &blocks);
    }
}

#[test]
fn lost_pack_bytes_are_noted_and_the_rest_is_read() {
    let blocks: Vec<Block> = (0..6).map(block).collect();
    for kept in [false, true] {
        let rig = if kept { Rig::with_kept_index() } else { Rig::new() };
        put_all(&rig.open().unwrap(), &blocks);
        rig.disk.damage(PACK, |bytes| bytes.truncate(bytes.len() - 10));
        let store = rig.open().unwrap();
        assert!(store.damage().iter().any(|note| note.contains("blocks are lost")), "{:?}", store.damage());
        assert_all(&store, &blocks[..5]);
        assert_eq!(store.get(blocks[5].cid()).unwrap(), None);
        put_all(&store, &blocks);
        drop(store);
        assert_all(&rig.open().unwrap(), &blocks);
    }
}

#[test]
fn an_index_that_fails_is_made_anew() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let blocks: Vec<Block> = (0..9).map(block).collect();
    put_all(&store, &blocks[..3]);
    store.inner().checkpoint().unwrap();
    // Opening it again is enough here.
    rig.home.fail("a page is damaged");
    assert_all(&store, &blocks[..3]);
    assert_eq!(store.damage(), [""; 0]);
    // A checkpoint that meets it leaves nothing behind either.
    put_all(&store, &blocks[3..6]);
    rig.home.fail("a page is damaged");
    assert!(store.inner().checkpoint().is_err());
    store.inner().checkpoint().unwrap();
    put_all(&store, &blocks[6..]);
    assert_all(&store, &blocks);
    drop(store);
    let store = rig.open().unwrap();
    assert_eq!(store.damage(), [""; 0]);
    assert_all(&store, &blocks);
    assert_eq!(store.stats().blocks, 9);
}

#[test]
fn an_index_that_lies_is_made_anew() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let blocks: Vec<Block> = (0..4).map(block).collect();
    put_all(&store, &blocks);
    store.inner().checkpoint().unwrap();
    rig.home.confuse(blocks[0].cid().hash(), blocks[1].cid().hash());
    assert_all(&store, &blocks);
    assert!(store.damage()[0].contains("where another block is"), "{:?}", store.damage());
    drop(store);
    // And one that forgot something, at the start.
    rig.home.remove(blocks[2].cid().hash());
    let store = rig.open().unwrap();
    assert_all(&store, &blocks);
    assert!(store.damage()[0].contains("should hold 4"), "{:?}", store.damage());
}

#[test]
fn an_index_of_another_store_is_not_believed() {
    let (one, two) = (Rig::with_kept_index(), Rig::with_kept_index());
    put_all(&one.open().unwrap(), &[block(1)]);
    put_all(&two.open().unwrap(), &[block(2)]);
    let mixed = Rig { home: two.home.clone(), ..one };
    let store = mixed.open().unwrap();
    assert!(store.damage()[0].contains("belongs to store"), "{:?}", store.damage());
    assert_all(&store, &[block(1)]);
    assert_eq!(store.get(block(2).cid()).unwrap(), None);
}

#[test]
fn a_read_error_is_not_absence() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    put_all(&store, &[block(1)]);
    rig.disk.fail_reads(true);
    assert!(matches!(store.get(block(1).cid()), Err(StoreError::Io { .. })));
    rig.disk.fail_reads(false);
    assert_all(&store, &[block(1)]);
}

/// A closed store with three batches in its journal; where they begin.
fn three_batches() -> (Rig, Vec<usize>) {
    let rig = Rig::new();
    let mut ends = Vec::new();
    let store = rig.open().unwrap();
    for id in ["a", "b", "c"] {
        rig.disk.damage("journal", |bytes| ends.push(bytes.len()));
        store.save_upload(&upload(id)).unwrap();
    }
    drop(store);
    (rig, ends)
}

#[test]
fn a_damaged_batch_with_another_behind_it_stops_the_start() {
    let (rig, begins) = three_batches();
    for at in begins[0]..begins[2] {
        let copy = rig.after_power_cut(Fate::Keep);
        copy.disk.damage("journal", |bytes| bytes[at] ^= 0x10);
        let Err(OpenError::Damaged { what, detail }) = copy.open().map(drop) else { panic!("byte {at}") };
        assert_eq!(what, "the journal", "{detail}");
    }
}

#[test]
fn a_journal_cut_anywhere_opens_with_what_is_whole() {
    let (rig, begins) = three_batches();
    let mut len = 0;
    rig.disk.damage("journal", |bytes| len = bytes.len());
    for cut in 0..len {
        let copy = rig.after_power_cut(Fate::Keep);
        copy.disk.damage("journal", |bytes| bytes.truncate(cut));
        match copy.open() {
            Ok(store) => {
                let whole = begins.iter().skip(1).chain([&len]).filter(|end| **end <= cut).count();
                assert_eq!(store.uploads().unwrap().len(), whole, "cut at {cut}");
                let clean = cut == begins[0] || cut == begins[1] || cut == begins[2];
                assert_eq!(store.damage().is_empty(), clean, "cut at {cut}");
                store.save_upload(&upload("d")).unwrap();
                drop(store);
                assert_eq!(copy.open().unwrap().uploads().unwrap().len(), whole + 1);
            }
            Err(error) => assert!(cut < 32 && matches!(error, OpenError::Damaged { .. }), "cut at {cut}: {error}"),
        }
    }
}

#[test]
fn what_holds_acknowledged_state_must_be_there() {
    let fresh = || {
        let rig = Rig::new();
        put_all(&rig.open().unwrap(), &[block(1)]);
        rig
    };
    use crate::disk::Disk;
    for (missing, says) in [("journal", "it is missing although there are 1 packs"), ("format", "is missing")] {
        let rig = fresh();
        rig.disk.remove(missing).unwrap();
        let error = rig.open().map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }) && error.to_string().contains(says), "{error}");
    }
    let rig = fresh();
    rig.disk.damage("format", |bytes| *bytes = b"something else".to_vec());
    assert!(matches!(rig.open(), Err(OpenError::Damaged { .. })));
    // A journal of another store.
    let (rig, other) = (fresh(), fresh());
    let mut foreign = Vec::new();
    other.disk.damage("journal", |bytes| foreign = bytes.clone());
    rig.disk.damage("journal", |bytes| *bytes = foreign);
    let error = rig.open().map(drop).unwrap_err();
    assert!(error.to_string().contains("belongs to store"), "{error}");
    // A pack that is gone is noted; the rest works.
    let rig = fresh();
    rig.disk.remove(PACK).unwrap();
    let store = rig.open().unwrap();
    assert!(store.damage().iter().any(|note| note.contains("is missing")), "{:?}", store.damage());
    put_all(&store, &[block(1)]);
}

#[test]
fn newer_formats_stop_the_start() {
    let (rig, _) = three_batches();
    put_all(&rig.open().unwrap(), &[block(1)]);
    let newer = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let copy = rig.after_power_cut(Fate::Keep);
        copy.disk.damage(file, |bytes| change(bytes));
        match copy.open().map(drop) {
            Err(OpenError::Newer { what, found, supported }) => (what, found, supported),
            other => panic!("{file}: {other:?}"),
        }
    };
    let reseal = |bytes: &mut Vec<u8>| {
        bytes[8] = 7;
        let crc = crc32c::crc32c(&bytes[..28]).to_le_bytes();
        bytes[28..32].copy_from_slice(&crc);
    };
    assert_eq!(newer("journal", &reseal), ("the journal".into(), 7, 1));
    assert_eq!(newer(PACK, &reseal), (PACK.into(), 7, 1));
    let format = |bytes: &mut Vec<u8>| *bytes = b"cidery-store 2 0123456789abcdef\n".to_vec();
    assert_eq!(newer("format", &format), ("the data directory".into(), 2, 1));
}

#[test]
fn every_pack_is_full_before_the_next_and_all_are_found_again() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let leaves: Vec<Block> = (0..12_u8).map(|n| Block::raw(vec![n; 256 << 10])).collect();
    let mut writer = store.writer(Origin::Pushed).unwrap();
    leaves.iter().for_each(|leaf| writer.put(leaf).unwrap());
    drop(writer);
    store.sync().unwrap();
    let packs = || rig.disk.names().iter().filter(|name| name.ends_with(".pack")).count();
    // One leaf in the shared pack, then two in each.
    assert_eq!(packs(), 7);
    assert_all(&store, &leaves);
    drop(store);
    let store = rig.open().unwrap();
    assert_all(&store, &leaves);
    let more = Block::raw(vec![99; 256 << 10]);
    put_all(&store, std::slice::from_ref(&more));
    assert_eq!(packs(), 7, "packs with room are used again after a restart");
}
