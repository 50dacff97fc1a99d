//! Collection: what goes, what stays, and what others do meanwhile.

use super::rig::Rig;
use crate::{DiskStore, Options, Stage, disk::faulty::Fate};
use cidery_core::{
    Block, Blockstore, Cid, Namespace, Origin, PublicBlocks, PublishMode, RootStore, StoreError, suite::node,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
};

fn small(n: u32) -> Block {
    Block::raw(format!("block {n} ").repeat(30).into_bytes())
}

fn large(n: u32) -> Block {
    let mut data = vec![n as u8; 300 << 10];
    data[..4].copy_from_slice(&n.to_be_bytes());
    Block::raw(data)
}

fn put_all(store: &DiskStore, blocks: &[Block], origin: Origin) -> Vec<Cid> {
    let mut writer = store.writer(origin).unwrap();
    blocks.iter().for_each(|block| writer.put(block).unwrap());
    blocks.iter().map(|block| *block.cid()).collect()
}

/// Commits a root that holds these blocks and nothing of what was there.
fn commit(store: &DiskStore, children: &[Cid]) -> Cid {
    let root = node(children);
    store.put(&root, Origin::Pushed).unwrap();
    let before = store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid);
    store.commit(&Namespace::local(), before, *root.cid(), &[]).unwrap().cid
}

/// Commits so many more roots that nothing from before is kept.
fn age(store: &DiskStore, children: &[Cid]) {
    for n in 0..4 {
        let filler = *small(1_000_000 + n).cid();
        commit(store, &[children, &[filler]].concat());
    }
}

fn disk_use(rig: &Rig) -> usize {
    rig.disk.names().iter().filter(|name| name.starts_with("packs/")).count()
}

#[test]
fn what_nothing_reaches_leaves_the_disk_and_the_rest_survives_a_lost_index() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    let (few, many): (Vec<_>, Vec<_>) = ((0..40).map(large).collect(), (0..4000).map(small).collect());
    let (large_cids, small_cids) = (put_all(&store, &few, Origin::Pushed), put_all(&store, &many, Origin::Pushed));
    commit(&store, &[&large_cids[..], &small_cids[..2000]].concat());
    let stays = [&large_cids[..5], &small_cids[..500]].concat();
    age(&store, &stays);
    let packs = disk_use(&rig);
    let stages = Mutex::new(BTreeSet::new());
    let done = store.collect(&|progress| {
        stages.lock().insert(format!("{:?}", progress.stage));
    });
    let done = done.unwrap();
    // 35 large, 3,500 small, and the first roots.
    assert!((3536..3550).contains(&done.freed_blocks), "{done:?}");
    assert!(done.packs_removed >= 2 && disk_use(&rig) < packs, "{done:?}, {packs} packs");
    assert!(stages.lock().contains(&format!("{:?}", Stage::Mark)) && stages.lock().len() >= 3, "{stages:?}");
    let check = |store: &DiskStore| {
        let here = |block: &Block| store.get(block.cid()).unwrap().is_some();
        assert!(few[..5].iter().chain(&many[..500]).all(here));
        assert!(!few[5..].iter().chain(&many[500..]).any(here));
        assert_eq!((store.stats().blocks, store.damage().len()), (done.live_blocks, 0), "{:?}", store.damage());
    };
    check(&store);
    // A second one finds nothing, and what is put again is here again.
    let again = store.collect(&|_| {}).unwrap();
    assert_eq!((again.freed_blocks, again.live_blocks), (0, done.live_blocks));
    drop(store);
    let store = rig.open().unwrap();
    assert_eq!(store.damage().len(), 1, "the index was gone: {:?}", store.damage());
    put_all(&store, &[few[9].clone(), many[900].clone()], Origin::Pushed);
    assert!(store.get(few[9].cid()).unwrap().is_some() && store.get(many[900].cid()).unwrap().is_some());
}

#[test]
fn an_index_made_anew_during_a_collection_ends_it_and_nothing_forgotten_comes_back() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let cids = put_all(&store, &(0..300).map(small).collect::<Vec<_>>(), Origin::Peer);
    commit(&store, &cids);
    age(&store, &[]);
    store.forget(&cids[..1]).unwrap();
    let once = AtomicBool::new(false);
    let ended = store.collect(&|progress| {
        if progress.stage == Stage::Sweep && !once.swap(true, SeqCst) {
            rig.home.fail("a test");
        }
    });
    assert!(matches!(ended, Err(StoreError::Index(_))), "{ended:?}");
    assert!(store.is_withdrawn(&cids[0]) && store.public_get(&cids[0]).unwrap().is_none());
    store.collect(&|_| {}).unwrap();
    assert!(store.get(&cids[0]).unwrap().is_none() && store.public_get(&cids[1]).unwrap().is_some());
}

/// sled may keep what was said of blocks and lose the checkpoints that came after it.
#[test]
fn a_compaction_that_stops_anywhere_leaves_an_index_that_adds_up() {
    for operation in 1.. {
        let rig = Rig::with_kept_index();
        let store = rig.open().unwrap();
        let cids = put_all(&store, &(0..300).map(small).collect::<Vec<_>>(), Origin::Pushed);
        age(&store, &cids[..60]);
        store.inner().checkpoint().unwrap();
        rig.home.lose_checkpoints();
        rig.disk.stop_before(operation);
        let done = store.collect(&|_| {}).is_ok();
        let again = rig.after_power_cut(Fate::Drop);
        drop(store);
        let store = again.open().unwrap();
        assert_eq!(store.damage(), [""; 0], "stopped before operation {operation}");
        assert!(cids[..60].iter().all(|cid| store.get(cid).unwrap().is_some()));
        if done {
            assert!(operation > 10, "{operation}");
            return;
        }
    }
}

#[test]
fn history_is_kept_as_far_as_it_should_be() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let cids = put_all(&store, &(0..10).map(small).collect::<Vec<_>>(), Origin::Pushed);
    // Of ten roots the newest three are kept; the fourth newest is the last that was public.
    for cid in &cids[..7] {
        commit(&store, &[*cid]);
    }
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    for cid in &cids[7..] {
        commit(&store, &[*cid]);
    }
    store.collect(&|_| {}).unwrap();
    let here: Vec<bool> = cids.iter().map(|cid| store.size(cid).unwrap().is_some()).collect();
    assert_eq!(here, [[false; 6].as_slice(), &[true; 4]].concat(), "public predecessors are kept");
    *rig.now.lock() += std::time::Duration::from_secs(49 * 3600);
    store.collect(&|_| {}).unwrap();
    assert_eq!(cids.iter().filter(|cid| store.size(cid).unwrap().is_some()).count(), 3);
}

#[test]
fn what_is_forgotten_goes_although_history_has_it_and_comes_back_when_it_is_put_again() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let leaf = large(1);
    let (shared, own, config) = (*leaf.cid(), large(2), small(3));
    put_all(&store, &[leaf.clone(), own.clone(), config.clone()], Origin::Pushed);
    let file = node(&[shared, *own.cid()]);
    put_all(&store, std::slice::from_ref(&file), Origin::Pushed);
    let first = commit(&store, &[*file.cid(), shared, *config.cid()]);
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    let sees = |cid: &Cid| store.public_get(cid).unwrap().is_some();
    assert!(sees(file.cid()) && sees(own.cid()));
    commit(&store, &[shared, *config.cid()]);
    store.forget(&[*file.cid()]).unwrap();
    assert!(!sees(file.cid()) && !sees(own.cid()) && sees(config.cid()) && store.is_withdrawn(own.cid()));
    assert!(store.get(&shared).unwrap().is_some(), "who reads below the current root has it");
    let done = store.collect(&|_| {}).unwrap();
    assert_eq!(done.freed_blocks, 2, "{done:?}");
    assert!(sees(&shared) && !store.is_withdrawn(&shared), "what is reached otherwise is shown again");
    assert!(store.size(&first).unwrap().is_some() && store.size(own.cid()).unwrap().is_none());
    assert!(store.is_forgotten(file.cid()), "as long as a root is kept that has it");
    // The same content again, and the same root as at first.
    put_all(&store, &[leaf, own.clone(), file.clone()], Origin::Pushed);
    commit(&store, &[*file.cid(), shared, *config.cid()]);
    assert!(!store.is_forgotten(file.cid()) && sees(file.cid()) && sees(own.cid()));
    store.collect(&|_| {}).unwrap();
    let store = {
        drop(store);
        rig.open().unwrap()
    };
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    assert!(store.public_get(own.cid()).unwrap().is_some() && !store.is_forgotten(file.cid()));
}

#[test]
fn what_was_forgotten_and_stayed_linked_is_shown_again_by_the_commit_that_folds_it() {
    let store = Rig::new().open().unwrap();
    let block = small(1);
    put_all(&store, std::slice::from_ref(&block), Origin::Pushed);
    commit(&store, &[*block.cid()]);
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    let link = cidery_core::Link {
        namespace: Namespace::local(),
        repository: "app".parse().unwrap(),
        digest: cidery_core::Digest::sha256(block.cid().hash().digest().try_into().unwrap()),
        cid: *block.cid(),
        size: block.data().len() as u64,
    };
    store.link(&link).unwrap();
    let before = commit(&store, &[]);
    store.forget(&[*block.cid()]).unwrap();
    store.collect(&|_| {}).unwrap();
    assert!(store.get(block.cid()).unwrap().is_some() && store.public_get(block.cid()).unwrap().is_none());
    let root = node(&[*block.cid()]);
    store.put(&root, Origin::Pushed).unwrap();
    store.commit(&Namespace::local(), Some(before), *root.cid(), &[link]).unwrap();
    assert!(store.public_get(block.cid()).unwrap().is_some() && !store.is_forgotten(block.cid()));
}

#[test]
fn what_was_forgotten_is_not_shown_after_a_restart_either() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let block = small(1);
    put_all(&store, std::slice::from_ref(&block), Origin::Pushed);
    commit(&store, &[*block.cid()]);
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    commit(&store, &[]);
    store.forget(&[*block.cid()]).unwrap();
    drop(store);
    let store = rig.open().unwrap();
    store.inner().marks.wait_ready().unwrap();
    assert!(store.is_withdrawn(block.cid()) && store.public_get(block.cid()).unwrap().is_none());
}

#[test]
fn the_least_recently_used_of_the_cache_goes_first() {
    let mut rig = Rig::with_kept_index();
    rig.options.cache_limit = Some(40 * (300 << 10));
    let store = rig.open().unwrap();
    let cached: Vec<Block> = (0..100).map(large).collect();
    put_all(&store, &cached[..60], Origin::Peer);
    let own = put_all(&store, &[large(500)], Origin::Pushed);
    commit(&store, &[&own[..], &[*cached[0].cid()]].concat());
    // The first ones are used again; the last ones come after.
    cached[1..21].iter().for_each(|block| drop(store.get(block.cid()).unwrap()));
    put_all(&store, &cached[60..], Origin::Peer);
    let done = store.collect(&|_| {}).unwrap();
    assert!(done.cached_bytes <= 40 * (300 << 10) && done.cached_bytes > 30 * (300 << 10), "{done:?}");
    let here = |block: &Block| store.size(block.cid()).unwrap().is_some();
    assert!(here(&cached[0]) && store.size(&own[0]).unwrap().is_some(), "what an own root reaches is no cache");
    assert_eq!(cached[21..60].iter().filter(|block| here(block)).count(), 0);
    // Uses are told apart by sixteens.
    assert!(cached[61..].iter().filter(|block| here(block)).count() as u64 + 16 >= done.cached_blocks.min(39));
    // What is of no use goes, whatever the limit.
    let useless: Vec<_> = cached.iter().skip(1).filter(|block| here(block)).take(3).collect();
    useless.iter().for_each(|block| store.discard(block.cid()));
    store.discard(cached[0].cid());
    store.collect(&|_| {}).unwrap();
    assert!(!useless.iter().any(|block| here(block)) && here(&cached[0]));
}

#[test]
fn a_hold_keeps_what_is_not_in_a_root_yet() {
    let store = Rig::new().open().unwrap();
    let hold = store.hold();
    let (old, new) = (small(1), small(2));
    let file = node(&[*small(3).cid()]);
    put_all(&store, &[old.clone(), small(3), file.clone()], Origin::Pushed);
    hold.keep(old.cid());
    hold.keep_all(file.cid());
    hold.keep(new.cid());
    store.put(&new, Origin::Pushed).unwrap();
    store.collect(&|_| {}).unwrap();
    let here = |block: &Block| store.size(block.cid()).unwrap().is_some();
    assert!(here(&old) && here(&new) && here(&file) && here(&small(3)));
    drop(hold);
    store.collect(&|_| {}).unwrap();
    assert!(!here(&old) && !here(&new) && !here(&file) && !here(&small(3)));
}

/// Writers put the same few blocks again and again, commit them, and take them away, while collections run
/// without end: whatever is committed is there.
#[test]
fn writers_and_collections_do_not_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { pack_size: 1 << 20, history: 1, collect_after: None, ..Options::default() };
    let store = DiskStore::open(dir.path(), options).unwrap();
    let (stop, collections) = (AtomicBool::new(false), Arc::new(AtomicU32::new(0)));
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while !stop.load(SeqCst) {
                store.collect(&|_| {}).unwrap();
                collections.fetch_add(1, SeqCst);
            }
        });
        let writers: Vec<_> = (0..3_u32)
            .map(|writer| {
                let (store, collections) = (&store, collections.clone());
                scope.spawn(move || {
                    let namespace: Namespace = format!("w{writer}.example").parse().unwrap();
                    let mut before = None;
                    let mut round = 0_u32;
                    while round < 60 || collections.load(SeqCst) < 10 {
                        let hold = store.hold();
                        let blocks = [small(round % 5), large(round % 3), small(round + 1000 * writer)];
                        for block in &blocks {
                            hold.keep(block.cid());
                            store.put(block, Origin::Pushed).unwrap();
                        }
                        let root = node(&blocks.each_ref().map(|block| *block.cid()));
                        hold.keep(root.cid());
                        store.put(&root, Origin::Pushed).unwrap();
                        store.commit(&namespace, before, *root.cid(), &[]).unwrap();
                        before = Some(*root.cid());
                        drop(hold);
                        for block in blocks.iter().chain([&root]) {
                            assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()), "round {round}");
                        }
                        round += 1;
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, SeqCst);
        collector.join().unwrap();
    });
    store.collect(&|_| {}).unwrap();
    assert!(store.damage().is_empty(), "{:?}", store.damage());
    assert!(store.stats().blocks <= 12, "{:?}", store.stats());
}

#[test]
fn a_damaged_node_that_is_reached_stops_the_collection() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let (leaf, stray) = (small(1), small(2));
    put_all(&store, &[leaf.clone(), stray.clone()], Origin::Pushed);
    let root = commit(&store, &[*leaf.cid()]);
    let bytes = node(&[*leaf.cid()]);
    assert_eq!(*bytes.cid(), root);
    let name = rig.disk.names().into_iter().find(|name| name.starts_with("packs/")).unwrap();
    rig.disk.damage(&name, |pack| {
        let needle = bytes.data();
        let at = pack.windows(needle.len()).position(|window| window == needle.as_ref()).unwrap();
        pack[at + 3] ^= 1;
    });
    assert!(store.collect(&|_| {}).is_err());
    assert!(store.size(leaf.cid()).unwrap().is_some() && store.size(stray.cid()).unwrap().is_some());
}

#[test]
fn pushes_are_refused_where_there_is_no_room_and_the_cache_gives_way() {
    let mut rig = Rig::with_kept_index();
    (rig.options.store_limit, rig.options.reserve) = (Some(5 << 20), 1 << 20);
    let store = rig.open().unwrap();
    put_all(&store, &(0..17).map(large).collect::<Vec<_>>(), Origin::Peer);
    let mut refused = 0;
    for n in 20..24 {
        refused += u32::from(store.put(&large(n), Origin::Pushed).is_err());
    }
    assert!(refused > 0, "the limit holds");
    store.collect(&|_| {}).unwrap();
    store.put(&large(30), Origin::Pushed).unwrap();
    // The disk's own room.
    rig.disk.leave_room(Some(1 << 20));
    std::thread::sleep(std::time::Duration::from_millis(250));
    let full = store.put(&large(31), Origin::Pushed);
    assert!(matches!(full, Err(cidery_core::StoreError::Full { .. })), "{full:?}");
    // What gives room back begins with a root.
    commit(&store, &[]);
    assert!(store.get(large(30).cid()).unwrap().is_some());
}
