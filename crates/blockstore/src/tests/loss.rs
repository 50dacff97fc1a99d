//! Damage to what was acknowledged is never taken for something that nobody was promised.

use super::rig::Rig;
use crate::{DiskStore, disk::faulty::Fate};
use cidery_core::{Block, Blockstore, Origin, StoreError};

const PACK: &str = "packs/0000000000000001.pack";

fn blocks(n: u32) -> Vec<Block> {
    (0..n).map(|n| Block::raw(format!("block {n}").repeat(20).into_bytes())).collect()
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

/// Acknowledged blocks, and the power goes before any checkpoint.
fn acknowledged(blocks: &[Block]) -> Rig {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    put_all(&store, blocks);
    rig.after_power_cut(Fate::Drop)
}

#[test]
fn a_pack_with_a_damaged_header_is_read_by_what_the_journal_knows() {
    let blocks = blocks(250);
    let rig = acknowledged(&blocks);
    rig.disk.damage(PACK, |bytes| bytes[20] ^= 1);
    let store = rig.open().unwrap();
    assert_all(&store, &blocks);
    assert!(store.damage().iter().any(|note| note.contains("header")), "{:?}", store.damage());
    // Nothing is added to it.
    put_all(&store, &[Block::raw(&b"more"[..])]);
    assert!(rig.disk.names().iter().any(|name| name == "packs/0000000000000002.pack"));
}

#[test]
fn damage_to_acknowledged_blocks_is_noted_without_any_checkpoint() {
    let blocks = blocks(250);
    let rig = acknowledged(&blocks);
    rig.disk.damage(PACK, |bytes| bytes[300..].fill(0xee));
    let store = rig.open().unwrap();
    assert_all(&store, &blocks[..1]);
    assert!(store.damage().iter().any(|note| note.contains("what was there is lost")), "{:?}", store.damage());
}

#[test]
fn what_nobody_was_promised_is_cut_without_a_note() {
    let blocks = blocks(20);
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    put_all(&store, &blocks[..10]);
    blocks[10..].iter().for_each(|block| store.put(block, Origin::Pushed).unwrap());
    let again = rig.after_power_cut(Fate::Keep);
    again.disk.damage(PACK, |bytes| {
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
    });
    let store = again.open().unwrap();
    assert_all(&store, &blocks[..19]);
    assert_eq!((store.damage(), store.stats().blocks), (Vec::new(), 19));
}

#[test]
fn a_pack_that_nothing_is_known_of_is_set_aside_and_its_name_not_used_again() {
    let blocks = blocks(10);
    let rig = acknowledged(&blocks);
    let mut bytes_before = Vec::new();
    rig.disk.damage(PACK, |bytes| {
        bytes[20] ^= 1;
        bytes_before = bytes.clone();
    });
    // The journal lost its end, and with it whatever it said of the pack.
    rig.disk.damage("journal", |bytes| bytes.truncate(32));
    for _ in 0..2 {
        let store = rig.open().unwrap();
        assert_eq!(store.get(blocks[0].cid()).unwrap(), None);
        drop(store);
    }
    let aside = format!("{PACK}.damaged");
    rig.disk.damage(&aside, |bytes| assert!(*bytes == bytes_before, "it was changed"));
    let again = acknowledged(&blocks);
    again.disk.damage(PACK, |bytes| bytes[20] ^= 1);
    again.disk.damage("journal", |bytes| bytes.truncate(32));
    let store = again.open().unwrap();
    assert!(store.damage().iter().any(|note| note.contains(&aside)), "{:?}", store.damage());
    drop(store);
    let store = again.open().unwrap();
    put_all(&store, &blocks);
    let names = again.disk.names();
    assert!(!names.iter().any(|name| name == PACK) && names.contains(&aside), "{names:?}");
    drop(store);
    assert_all(&again.open().unwrap(), &blocks);
}

#[test]
fn blocks_that_the_journal_cannot_vouch_for_are_not_acknowledged() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    let block = &blocks(1)[0];
    store.put(block, Origin::Pushed).unwrap();
    rig.disk.leave_room(Some(0));
    for _ in 0..2 {
        assert!(matches!(store.sync(), Err(StoreError::Full { .. })));
    }
    rig.disk.leave_room(None);
    store.sync().unwrap();
    let again = rig.after_power_cut(Fate::Drop);
    again.disk.damage(PACK, |bytes| bytes[20] ^= 1);
    assert_all(&again.open().unwrap(), std::slice::from_ref(block));
}
