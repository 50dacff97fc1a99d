//! Backups: what is in them, what they cost, where they may go, and what a stop leaves.

use super::rig::Rig;
use crate::{
    BackedUp, DiskStore, OpenError, Options, Stage,
    disk::faulty::{Fate, FaultyDisk},
};
use cidery_core::{
    Block, Blockstore, Bytes, Cid, Namespace, Origin, PublicBlocks, PublishMode, RootStore, StoreError, UploadRecord,
    suite::node,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

fn small(n: u32) -> Block {
    Block::raw(format!("block {n} ").repeat(30).into_bytes())
}

fn large(n: u32) -> Block {
    let mut data = vec![n as u8; 300 << 10];
    data[..4].copy_from_slice(&n.to_be_bytes());
    Block::raw(data)
}

fn put_all(store: &DiskStore, blocks: impl IntoIterator<Item = Block>, origin: Origin) -> Vec<Cid> {
    let mut writer = store.writer(origin).unwrap();
    let put = |block: Block| {
        writer.put(&block).unwrap();
        *block.cid()
    };
    blocks.into_iter().map(put).collect()
}

fn commit(store: &DiskStore, children: &[Cid]) -> Cid {
    let root = node(children);
    store.put(&root, Origin::Pushed).unwrap();
    let before = store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid);
    store.commit(&Namespace::local(), before, *root.cid(), &[]).unwrap().cid
}

/// What the journal says, without its sequence.
fn facts(store: &DiskStore) -> Vec<String> {
    let mut facts = store.inner().state.read().facts();
    facts.pop();
    facts
}

/// Whatever the store has of these, and whether peers see it.
fn contents(store: &DiskStore, cids: &[Cid]) -> BTreeMap<Cid, (Bytes, bool)> {
    store.inner().marks.wait_ready().unwrap();
    let read = |cid: &Cid| {
        let bytes = store.get(cid).unwrap()?;
        Some((*cid, (bytes, store.public_get(cid).unwrap().is_some())))
    };
    cids.iter().filter_map(read).collect()
}

fn rig_on(disk: FaultyDisk) -> Rig {
    Rig { disk, ..Rig::new() }
}

/// A store, and what happens to it later: more blocks, more roots, and a collection.
struct Story {
    rig: Rig,
    store: DiskStore,
    cids: Vec<Cid>,
}

impl Story {
    fn begin() -> Self {
        let rig = Rig::with_kept_index();
        let store = rig.open().unwrap();
        let mut cids = put_all(&store, (0..1500).map(small), Origin::Pushed);
        cids.extend(put_all(&store, (0..7).map(large), Origin::Pushed));
        cids.extend(put_all(&store, (2000..2003).map(small), Origin::Peer));
        let root = commit(&store, &cids[..1507]);
        cids.push(root);
        store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
        store.save_upload(&UploadRecord { id: "u".into(), pins: vec![cids[0]], state: vec![1, 2, 3] }).unwrap();
        Self { rig, store, cids }
    }

    fn go_on(&mut self) {
        let (store, cids) = (&self.store, &mut self.cids);
        cids.extend(put_all(store, (1500..1600).map(small), Origin::Pushed));
        cids.extend(put_all(store, (10..13).map(large), Origin::Pushed));
        let stays: Vec<Cid> = [&cids[..100], &cids[1501..1503], &cids[cids.len() - 3..]].concat();
        store.unpublish(&Namespace::local()).unwrap();
        for n in 0..4 {
            cids.push(commit(store, &[&stays[..], &[*small(n).cid()]].concat()));
        }
        store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
        store.drop_upload("u").unwrap();
        let done = store.collect(&|_| {}).unwrap();
        assert!(done.packs_removed > 0 && done.freed_blocks > 1000, "{done:?}");
        cids.extend(put_all(store, (3000..3010).map(small), Origin::Pushed));
    }

    /// Whether the copy on a disk is the store as it was at some moment.
    fn is_on(&self, disk: &FaultyDisk, moment: &Moment) -> bool {
        let copy = rig_on(disk.after_power_cut(Fate::Keep)).open().unwrap();
        if facts(&copy) != moment.facts {
            return false;
        }
        let there = contents(&copy, &self.cids);
        let equal = |cid: &Cid| there.get(cid) == moment.contents.get(cid);
        assert!(moment.contents.keys().all(equal), "a block is missing or different");
        // A pack of the new copy may be torn in the earlier one, which does not know it.
        let expected = ["index was made anew", "the journal does not know it"];
        let is_expected = |note: &String| expected.iter().any(|text| note.contains(text));
        assert!(copy.damage().iter().all(is_expected), "{:?}", copy.damage());
        true
    }

    fn now(&self) -> Moment {
        self.store.sync().unwrap();
        Moment { facts: facts(&self.store), contents: contents(&self.store, &self.cids) }
    }
}

struct Moment {
    facts: Vec<String>,
    contents: BTreeMap<Cid, (Bytes, bool)>,
}

fn packs_on(disk: &FaultyDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.starts_with("packs/")).collect()
}

#[test]
fn a_copy_is_the_store_and_the_next_one_copies_what_came_since() {
    let mut story = Story::begin();
    let copy = FaultyDisk::default();
    let first = story.store.inner().back_up_to(&copy).unwrap();
    assert_eq!((first.copied_bytes, first.packs), (first.bytes, packs_on(&copy).len() as u64), "{first:?}");
    assert!(story.is_on(&copy, &story.now()));
    let again = story.store.inner().back_up_to(&copy).unwrap();
    assert_eq!((again.copied_bytes, again.bytes), (0, first.bytes));
    put_all(&story.store, [small(5000)], Origin::Pushed);
    let more = story.store.inner().back_up_to(&copy).unwrap();
    assert_eq!(more.copied_bytes, more.bytes - first.bytes);
    assert!((300..600).contains(&more.copied_bytes), "{more:?}");
    story.go_on();
    let later = story.store.inner().back_up_to(&copy).unwrap();
    assert!(later.packs_removed > 0 && later.copied_bytes < later.bytes / 2 + (1 << 20), "{later:?}");
    assert_eq!(packs_on(&copy), packs_on(&story.rig.disk));
    assert!(story.is_on(&copy, &story.now()));
    // A copy that went on as a store does the same with what it has.
    let store = rig_on(copy.after_power_cut(Fate::Keep)).open().unwrap();
    let next = store.collect(&|_| {}).unwrap();
    let here = story.store.collect(&|_| {}).unwrap();
    assert_eq!((next.live_blocks, next.live_bytes), (here.live_blocks, here.live_bytes));
}

#[test]
fn a_stop_at_any_moment_leaves_the_earlier_copy_or_the_new_one() {
    let mut story = Story::begin();
    let copy = FaultyDisk::default();
    story.store.inner().back_up_to(&copy).unwrap();
    let earlier = story.now();
    story.go_on();
    let now = story.now();
    let undisturbed = copy.after_power_cut(Fate::Keep);
    story.store.inner().back_up_to(&undisturbed).unwrap();
    let operations = undisturbed.operations();
    assert!(operations > 25, "{operations}");
    let (mut old, mut new) = (0, 0);
    for operation in 1..=operations {
        for fate in [Fate::Drop, Fate::Keep, Fate::Tear(operation)] {
            let disk = copy.after_power_cut(Fate::Keep);
            disk.stop_before(operation);
            assert!(story.store.inner().back_up_to(&disk).is_err(), "operation {operation}");
            let disk = disk.after_power_cut(fate);
            if story.is_on(&disk, &now) {
                new += 1;
            } else {
                assert!(story.is_on(&disk, &earlier), "operation {operation}, {fate:?}");
                old += 1;
            }
            story.store.inner().back_up_to(&disk).unwrap();
            assert!(story.is_on(&disk, &now), "operation {operation}, {fate:?}");
        }
    }
    assert!(old > 20 && new > 5, "{old} {new}");
}

#[test]
fn the_first_one_is_no_store_until_it_is_complete() {
    let story = Story::begin();
    let now = story.now();
    let undisturbed = FaultyDisk::default();
    let whole = story.store.inner().back_up_to(&undisturbed).unwrap();
    let mut resumed = u64::MAX;
    for operation in 1..=undisturbed.operations() {
        for fate in [Fate::Drop, Fate::Keep, Fate::Tear(operation)] {
            let disk = FaultyDisk::default();
            disk.stop_before(operation);
            assert!(story.store.inner().back_up_to(&disk).is_err());
            let disk = disk.after_power_cut(fate);
            let names = disk.names();
            if names.contains(&"journal".to_owned()) {
                assert!(story.is_on(&disk, &now));
            } else if names.contains(&"backup".to_owned()) {
                let opened = rig_on(disk.after_power_cut(Fate::Keep)).open().map(drop);
                assert!(matches!(opened, Err(OpenError::Damaged { .. })), "operation {operation}");
            }
            let done = story.store.inner().back_up_to(&disk).unwrap();
            resumed = resumed.min(done.copied_bytes);
            assert!(story.is_on(&disk, &now), "operation {operation}, {fate:?}");
        }
    }
    assert!(resumed < whole.copied_bytes / 10, "what is there is not written again: {resumed}");
}

#[test]
fn what_the_source_lost_stays_in_the_copy_and_bad_sectors_are_left_out() {
    let story = Story::begin();
    let copy = FaultyDisk::default();
    story.store.inner().back_up_to(&copy).unwrap();
    let Story { rig, store, cids } = story;
    let before = contents(&store, &cids);
    drop(store);
    // A pack lost its end, and another one is gone.
    let packs = packs_on(&rig.disk);
    rig.disk.damage(&packs[1], |bytes| bytes.truncate(bytes.len() / 2));
    crate::disk::Disk::remove(&rig.disk, &packs[2]).unwrap();
    let store = rig.open().unwrap();
    assert!(contents(&store, &cids).len() < before.len());
    put_all(&store, [small(7000)], Origin::Pushed);
    store.inner().back_up_to(&copy).unwrap();
    let restored = rig_on(copy.after_power_cut(Fate::Keep)).open().unwrap();
    assert_eq!(contents(&restored, &cids), before);
    assert!(restored.get(small(7000).cid()).unwrap().is_some());
    // Another store, whose disk can't read all of it.
    let story = Story::begin();
    let name = &packs_on(&story.rig.disk)[2];
    story.rig.disk.fail_reads_of(name, 100_000..100_100);
    let copy = FaultyDisk::default();
    let done = story.store.inner().back_up_to(&copy).unwrap();
    assert_eq!(done.unreadable_bytes, 4096, "{done:?}");
    let restored = rig_on(copy.after_power_cut(Fate::Keep)).open().unwrap();
    let damaged: Vec<_> = story.cids.iter().filter(|cid| restored.get(cid).is_err()).collect();
    assert_eq!(damaged.len(), 1, "the leaf there");
    assert!(matches!(restored.get(damaged[0]), Err(StoreError::Corrupt { .. })));
}

/// On the real disk, with the directory's own checks.
fn backup(store: &DiskStore, to: &Path) -> Result<BackedUp, StoreError> {
    store.backup(to, &|_| {})
}

fn options() -> Options {
    Options { pack_size: 2 << 20, history: 1, collect_after: None, ..Options::default() }
}

fn says(result: Result<BackedUp, StoreError>, what: &str) {
    let StoreError::Io { source, .. } = result.unwrap_err() else { panic!("another error") };
    assert!(source.to_string().contains(what), "{source}");
}

#[test]
fn it_goes_nowhere_where_it_could_harm() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = DiskStore::open(&at("store"), options()).unwrap();
    put_all(&store, (0..10).map(small), Origin::Pushed);
    commit(&store, &[]);
    says(backup(&store, &at("store")), "a store that is no backup");
    says(backup(&store, &at("store/copy")), "inside the store itself");
    assert!(!at("store/copy").exists());
    fs::create_dir(at("photos")).unwrap();
    fs::write(at("photos/cat.jpg"), b"cat").unwrap();
    says(backup(&store, &at("photos")), "cat.jpg");
    assert_eq!(fs::read_dir(at("photos")).unwrap().count(), 1, "nothing was added");
    fs::write(at("file"), b"no directory").unwrap();
    assert!(backup(&store, &at("file")).is_err());
    let other = DiskStore::open(&at("other"), options()).unwrap();
    says(backup(&store, &at("other")), "a store that is no backup");
    backup(&other, &at("copy of other")).unwrap();
    says(backup(&store, &at("copy of other")), "a backup of another store");
    // An empty directory, then again, also when somebody has looked into it, but not while he does.
    fs::create_dir(at("copy")).unwrap();
    backup(&store, &at("copy")).unwrap();
    let looking = DiskStore::open(&at("copy"), options()).unwrap();
    assert_eq!(looking.stats().blocks, 11);
    says(backup(&store, &at("copy")), "in use by");
    looking.close().unwrap();
    drop(looking);
    put_all(&store, (10..20).map(small), Origin::Pushed);
    backup(&store, &at("copy")).unwrap();
    assert!(!at("copy/index").exists());
    let used = DiskStore::open(&at("copy"), options()).unwrap();
    assert_eq!((used.stats().blocks, used.damage().len()), (21, 1), "{:?}", used.damage());
    // Somebody goes on with it: it is a store now, and the way back is not a backup either.
    commit(&used, &[*small(1).cid()]);
    says(backup(&used, &at("store")), "a store that is no backup");
    drop(used);
    says(backup(&store, &at("copy")), "used as a store since");
    backup(&store, &at("copy 2")).unwrap();
    let used = DiskStore::open(&at("copy"), options()).unwrap();
    backup(&used, &at("copy of copy")).unwrap();
    says(backup(&store, &at("copy of copy")), "never had");
}

#[test]
fn what_is_dead_takes_no_room_in_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(&dir.path().join("store"), Options { pack_size: 64 << 20, ..options() }).unwrap();
    let leaves = put_all(&store, (0..20).map(large), Origin::Pushed);
    commit(&store, &leaves);
    let copies = [dir.path().join("before"), dir.path().join("after")];
    let full = backup(&store, &copies[0]).unwrap();
    assert!(full.disk_bytes >= 20 * (300 << 10), "{full:?}");
    commit(&store, &[&leaves[..2], &leaves[18..]].concat());
    assert_eq!(store.collect(&|_| {}).unwrap().freed_blocks, 17);
    let heard = Mutex::new(Vec::new());
    for copy in &copies {
        let done = store.backup(copy, &|progress| heard.lock().push(progress)).unwrap();
        assert!(done.bytes > 20 * (300 << 10), "{done:?}");
        assert!(done.disk_bytes < 6 * (300 << 10), "{copy:?}: {done:?}");
        assert!(done.copied_bytes < 6 * (300 << 10), "{copy:?}: {done:?}");
        let copy = DiskStore::open(copy, options()).unwrap();
        let there = leaves.iter().filter(|leaf| copy.get(leaf).unwrap().is_some()).count();
        assert_eq!((there, copy.stats().blocks), (4, store.stats().blocks));
    }
    assert!(heard.lock().iter().all(|progress| progress.stage == Stage::Backup && progress.done <= progress.total));
    assert!(!heard.lock().is_empty());
}

/// Writers and collections do not wait for backups; each backup has what was acknowledged before it.
#[test]
fn others_go_on_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(&dir.path().join("store"), options()).unwrap();
    let copy = dir.path().join("copy");
    let stop = AtomicBool::new(false);
    let acknowledged: Mutex<BTreeMap<Namespace, u64>> = Mutex::default();
    std::thread::scope(|scope| {
        for writer in 0..3_u32 {
            let (store, stop, acknowledged) = (&store, &stop, &acknowledged);
            scope.spawn(move || {
                let namespace: Namespace = format!("w{writer}.example").parse().unwrap();
                let (mut before, mut round) = (None, 0_u32);
                while !stop.load(SeqCst) {
                    let hold = store.hold();
                    let blocks = [small(round % 50), large(round % 9), small(10_000 * (writer + 1) + round)];
                    for block in &blocks {
                        hold.keep(block.cid());
                        store.put(block, Origin::Pushed).unwrap();
                    }
                    let root = node(&blocks.each_ref().map(|block| *block.cid()));
                    hold.keep(root.cid());
                    store.put(&root, Origin::Pushed).unwrap();
                    let entry = store.commit(&namespace, before, *root.cid(), &[]).unwrap();
                    acknowledged.lock().insert(namespace.clone(), entry.sequence);
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
        for round in 0..8 {
            let known = acknowledged.lock().clone();
            backup(&store, &copy).unwrap();
            let looking = DiskStore::open(&copy, options()).unwrap();
            for (namespace, sequence) in known {
                let root = looking.state(&namespace).unwrap().root.unwrap();
                assert!(root.sequence >= sequence, "round {round}");
                let bytes = looking.get(&root.cid).unwrap().unwrap();
                let links = cidery_core::dag::links(&root.cid, &bytes).unwrap();
                assert!(links.len() == 3 && links.iter().all(|cid| looking.get(cid).unwrap().is_some()), "{round}");
            }
            assert!(looking.damage().iter().all(|note| note.contains("index was made anew")), "{:?}", looking.damage());
        }
        stop.store(true, SeqCst);
        collector.join().unwrap();
    });
    assert!(store.damage().is_empty(), "{:?}", store.damage());
}
