//! What is said to take the disk is what a collection then finds.

use super::rig::Rig;
use crate::{Amount, DiskUsage, Obstacle};
use cidery_core::{Block, Blockstore, Cid, Link, Namespace, Origin, RootStore, StoreError, UploadRecord, suite::node};

fn large(n: u8) -> Block {
    Block::raw(vec![n; 300 << 10])
}

#[test]
fn what_takes_the_disk_is_what_a_collection_finds() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    assert_eq!(store.usage(&|_| {}).unwrap().live, Amount::default());
    let own: Vec<Cid> = (0..10).map(|n| *large(n).cid()).collect();
    (0..10).for_each(|n| store.put(&large(n), Origin::Pushed).unwrap());
    (10..12).for_each(|n| store.put(&large(n), Origin::Peer).unwrap());
    let commit = |namespace: &str, children: &[Cid]| {
        let (namespace, root) = (namespace.parse::<Namespace>().unwrap(), node(children));
        store.put(&root, Origin::Pushed).unwrap();
        let before = store.state(&namespace).unwrap().root.map(|entry| entry.cid);
        store.commit(&namespace, before, *root.cid(), &[]).unwrap().cid
    };
    commit("local", &own[..5]);
    let local = commit("local", &own[..3]);
    let other = commit("example.com", &own[2..4]);
    let link = Link {
        namespace: Namespace::local(),
        repository: "app".parse().unwrap(),
        digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000".parse().unwrap(),
        cid: own[6],
        size: 300 << 10,
    };
    store.link(&link).unwrap();
    store.save_upload(&UploadRecord { id: "u".into(), pins: vec![own[7]], state: Vec::new() }).unwrap();
    let hold = store.hold();
    hold.keep(&own[8]);

    let usage = store.usage(&|_| {}).unwrap();
    let blocks = |amount: &Amount| amount.blocks;
    assert_eq!((usage.history_roots, usage.open_uploads), (1, 1));
    // The earlier root itself, and the fifth block: the fourth is in the other namespace.
    assert_eq!((blocks(&usage.history), usage.uploads), (2, Amount { blocks: 1, bytes: 300 << 10 }));
    assert_eq!(usage.cached, Amount { blocks: 2, bytes: 600 << 10 });
    // The sixth and the tenth.
    assert_eq!(usage.dead, Amount { blocks: 2, bytes: 600 << 10 });
    assert_eq!(blocks(&usage.live), 8 + 3);
    let spaces: Vec<_> =
        usage.namespaces.iter().map(|(name, root, amount)| (name.as_str(), *root, amount.blocks)).collect();
    assert_eq!(spaces, [("example.com", other, 3), ("local", local, 4)]);
    let in_blocks = usage.live.bytes + usage.cached.bytes + usage.dead.bytes;
    assert!(usage.packs > 1 && usage.packs_bytes > in_blocks && usage.journal_bytes > 0, "{usage:?}");

    let done = store.collect(&|_| {}).unwrap();
    assert_eq!((done.freed_blocks, done.freed_bytes), (usage.dead.blocks, usage.dead.bytes));
    assert_eq!((done.cached_blocks, done.cached_bytes), (usage.cached.blocks, usage.cached.bytes));
    let after = store.usage(&|_| {}).unwrap();
    assert_eq!(after.dead, Amount::default());
    let in_blocks = |usage: DiskUsage| DiskUsage {
        dead: Amount::default(),
        packs: 0,
        packs_bytes: 0,
        journal_bytes: 0,
        index_bytes: 0,
        ..usage
    };
    assert_eq!(in_blocks(after), in_blocks(usage));
}

#[test]
fn what_is_measured_moves_and_what_stops_writes_is_named() {
    let mut rig = Rig::with_kept_index();
    rig.options.reserve = 1000;
    let store = rig.open().unwrap();
    assert_eq!(store.obstacles(), []);
    let before = store.measures().unwrap();
    assert_eq!((before.blocks, before.collections.count, before.last_collection), (0, 0, None));
    store.put(&large(1), Origin::Peer).unwrap();
    store.put(&large(2), Origin::Pushed).unwrap();
    store.sync().unwrap();
    let full = store.measures().unwrap();
    assert_eq!((full.blocks, full.bytes, full.reserve_bytes), (2, 600 << 10, 1000));
    assert!(full.packs > 0 && full.packs_bytes >= 600 << 10 && full.cached_bytes == 300 << 10, "{full:?}");
    assert!(full.syncs > before.syncs, "{full:?}");

    let done = store.collect(&|_| {}).unwrap();
    let after = store.measures().unwrap();
    assert_eq!((after.collections.count, after.collections.freed_bytes), (1, 300 << 10));
    assert_eq!(after.last_collection, Some((*rig.now.lock(), done)));
    assert_eq!(after.blocks, 1);

    rig.disk.leave_room(Some(400));
    std::thread::sleep(std::time::Duration::from_millis(250));
    assert_eq!(store.obstacles(), [Obstacle::NoRoom(600)]);
    assert_eq!(store.measures().unwrap().free_bytes, Some(400));
    rig.disk.leave_room(None);
    rig.disk.fail_flushes(1);
    store.put(&large(3), Origin::Pushed).unwrap();
    assert!(store.sync().is_err());
    assert!(matches!(&store.obstacles()[..], [Obstacle::Unsound(_), ..]), "{:?}", store.obstacles());
}

#[test]
fn damage_on_the_way_is_an_error_not_a_wrong_sum() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let (leaf, root) = (large(1), node(&[*large(1).cid()]));
    store.put(&leaf, Origin::Pushed).unwrap();
    store.put(&root, Origin::Pushed).unwrap();
    store.commit(&Namespace::local(), None, *root.cid(), &[]).unwrap();
    let packs = rig.disk.names().into_iter().filter(|name| name.starts_with("packs/"));
    packs.for_each(|name| {
        rig.disk.damage(&name, |pack| {
            let needle = root.data();
            if let Some(at) = pack.windows(needle.len()).position(|window| window == needle.as_ref()) {
                pack[at + 3] ^= 1;
            }
        });
    });
    let usage = store.usage(&|_| {});
    assert!(matches!(&usage, Err(StoreError::Corrupt { cid, .. }) if cid == root.cid()), "{usage:?}");
}
