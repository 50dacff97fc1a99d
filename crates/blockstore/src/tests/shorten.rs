//! The journal is written anew: what it says, that it stays short, and what goes wrong meanwhile.

use super::rig::Rig;
use crate::{DiskStore, OpenError, Options, disk::faulty::Fate};
use cidery_core::{
    Block, Blockstore, Cid, Digest, Link, Namespace, Origin, PublishMode, RootStore, StoreError, TagTime, UploadRecord,
    suite::node,
};
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

fn block(n: u32) -> Block {
    Block::raw(format!("block {n} ").repeat(30).into_bytes())
}

fn upload(id: u32, len: usize) -> UploadRecord {
    UploadRecord { id: format!("u{id}"), pins: vec![*block(id).cid()], state: vec![id as u8; len] }
}

fn link(n: u32) -> Link {
    let cid = *block(n).cid();
    let digest = Digest::sha256(cid.hash().digest().try_into().unwrap());
    Link { namespace: Namespace::local(), repository: "app".parse().unwrap(), digest, cid, size: 300 }
}

fn time(tag: &str, second: u64) -> TagTime {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    TagTime::new("team/app".parse().unwrap(), tag.parse().unwrap(), at)
}

fn commit(store: &DiskStore, namespace: &Namespace, children: &[Cid], folded: &[Link]) -> Cid {
    let root = node(children);
    store.put(&root, Origin::Pushed).unwrap();
    let before = store.state(namespace).unwrap().root.map(|entry| entry.cid);
    store.commit(namespace, before, *root.cid(), folded).unwrap().cid
}

fn len(rig: &Rig) -> usize {
    let mut len = 0;
    rig.disk.damage("journal", |bytes| len = bytes.len());
    len
}

/// A store with something of everything that a journal can say.
fn eventful(rig: &Rig) -> DiskStore {
    let store = rig.open().unwrap();
    let (local, other): (Namespace, Namespace) = (Namespace::local(), "other.example".parse().unwrap());
    for n in 0..40 {
        store.put(&block(n), Origin::Pushed).unwrap();
        store.link(&link(n)).unwrap();
        *rig.now.lock() += Duration::from_secs(60);
    }
    commit(&store, &local, &[*block(0).cid(), *block(1).cid()], &[link(0), link(1)]);
    store.publish(&local, PublishMode::Continuous).unwrap();
    let root = commit(&store, &other, &[*block(2).cid()], &[]);
    store.publish(&other, PublishMode::Once(root)).unwrap();
    commit(&store, &other, &[*block(3).cid()], &[]);
    commit(&store, &local, &[*block(5).cid()], &[]);
    (4..20).for_each(|n| store.unlink(&link(n)).unwrap());
    store.forget(&[*block(0).cid(), *block(1).cid()]).unwrap();
    for n in 0..5 {
        commit(&store, &local, &[*block(20 + n).cid()], &[]);
    }
    store.collect(&|_| {}).unwrap();
    store.forget(&[*block(20).cid()]).unwrap();
    (0..6).for_each(|n| store.save_upload(&upload(n, 100)).unwrap());
    store.drop_upload("u3").unwrap();
    store.note_tags(&local, &[time("1", 5), time("2", 6), time("3", 7)]).unwrap();
    store.note_tags(&local, &[time("1", 8)]).unwrap();
    store.drop_tags(&local, &[time("2", 6), time("3", 1)]).unwrap();
    // Again, and since a forgotten one is linked, it is none any more.
    store.put(&block(0), Origin::Pushed).unwrap();
    store.link(&link(0)).unwrap();
    store
}

fn assert_replays(rig: &Rig, store: &DiskStore) {
    let (replayed, known) = store.inner().facts_on(&rig.disk.after_power_cut(Fate::Drop));
    assert_eq!(replayed, known);
}

#[test]
fn a_shorter_journal_says_the_same_and_goes_on() {
    let rig = Rig::with_kept_index();
    let store = eventful(&rig);
    assert_replays(&rig, &store);
    let history = |store: &DiskStore| store.history(&Namespace::local(), 100).unwrap();
    let stale = |store: &DiskStore| store.stale_links(&Namespace::local(), Duration::from_secs(15 * 60)).unwrap();
    let (before, roots, links, old) = (len(&rig), history(&store), stale(&store), store.inner().state.read().facts());
    assert!(!links.is_empty() && links.len() < store.links(&Namespace::local()).unwrap().len());
    store.inner().shorten_journal_now().unwrap();
    assert!(len(&rig) < before, "{before} before, {} now", len(&rig));
    let mut base = 0;
    rig.disk.damage("journal", |bytes| base = u64::from_le_bytes(bytes[20..28].try_into().unwrap()));
    assert!(base > 1 && base < roots.iter().map(|root| root.sequence).min().unwrap(), "{base}");
    assert_replays(&rig, &store);
    let new = store.inner().state.read().facts();
    assert_eq!(old[..old.len() - 1], new[..new.len() - 1], "all but the sequence");
    assert_eq!((history(&store), stale(&store)), (roots.clone(), links.clone()));
    // Twice, from one that was short already, and after a restart.
    store.inner().shorten_journal_now().unwrap();
    store.save_upload(&upload(77, 10)).unwrap();
    assert_replays(&rig, &store);
    drop(store);
    let store = rig.open().unwrap();
    assert!(store.damage().is_empty(), "{:?}", store.damage());
    assert_eq!((history(&store), stale(&store)), (roots.clone(), links));
    let root = commit(&store, &Namespace::local(), &[], &[]);
    assert!(history(&store)[0].sequence > roots[0].sequence && history(&store)[0].cid == root);
    assert_replays(&rig, &store);
}

#[test]
fn the_journal_stays_bounded_whatever_is_written() {
    let mut rig = Rig::with_kept_index();
    rig.options.journal_size = 16 << 10;
    let store = rig.open().unwrap();
    (0..10).for_each(|n| store.save_upload(&upload(n, 50)).unwrap());
    let (mut written, mut longest) = (0, 0);
    for n in 0..6_000 {
        store.save_upload(&upload(n % 10, 200)).unwrap();
        written += 300;
        if n % 64 == 0 {
            longest = longest.max(len(&rig));
        }
    }
    // Six thousand states, of which ten count.
    assert!(longest < 32 << 10, "{longest} bytes of {written}");
    assert_replays(&rig, &store);
    // What is needed may be more than the limit: then it is not written anew all the time.
    for n in 0..200 {
        store.save_upload(&upload(1_000 + n, 400)).unwrap();
    }
    let needed = len(&rig);
    assert!(needed > 64 << 10);
    let mut before = needed;
    let mut shortened = 0;
    for n in 0..4_000 {
        store.save_upload(&upload(1_000 + n % 200, 400)).unwrap();
        shortened += u32::from(len(&rig) < before);
        before = len(&rig);
        assert!(before < 6 * needed);
    }
    assert!((1..=8).contains(&shortened), "{shortened}");
    drop(store);
    assert_eq!(rig.open().unwrap().uploads().unwrap().len(), 210);
}

#[test]
fn ids_of_removed_packs_stay_taken() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let local = Namespace::local();
    let packs =
        || -> BTreeSet<String> { rig.disk.names().into_iter().filter(|name| name.starts_with("packs/")).collect() };
    let number = |name: &String| u64::from_str_radix(&name[6..22], 16).unwrap();
    // The first pack lives on, so that the packs that are removed have the highest ids.
    let stays: Vec<Cid> = (0..60).map(|n| *block(n).cid()).collect();
    (0..60).for_each(|n| store.put(&block(n), Origin::Pushed).unwrap());
    commit(&store, &local, &stays, &[]);
    drop(store);
    let mut highest = packs().iter().map(number).max().unwrap();
    for round in 0..4_u8 {
        let store = rig.open().unwrap();
        let before = packs();
        let mut writer = store.writer(Origin::Pushed).unwrap();
        (0..8).for_each(|n| writer.put(&Block::raw(vec![10 * round + n; 300 << 10])).unwrap());
        drop(writer);
        let new: Vec<u64> = packs().difference(&before).map(number).collect();
        assert!(new.len() >= 4 && new.iter().all(|id| *id > highest), "{new:?} after {highest}");
        highest = new.into_iter().max().unwrap();
        assert!(store.collect(&|_| {}).unwrap().packs_removed >= 4);
        assert!(packs().iter().all(|name| number(name) < highest), "{:?}", packs());
        store.inner().shorten_journal_now().unwrap();
    }
}

/// A journal that was written anew and has several batches; where its last one, which is empty, begins.
fn in_batches() -> (Rig, usize) {
    let rig = Rig::with_kept_index();
    let store = eventful(&rig);
    (0..4).for_each(|n| store.save_upload(&upload(100 + n, 500_000)).unwrap());
    store.inner().shorten_journal_now().unwrap();
    drop(store);
    let last = len(&rig) - 36;
    (rig, last)
}

#[test]
fn damage_to_any_part_of_it_stops_the_start() {
    let (rig, last) = in_batches();
    let mut batches = 0;
    rig.disk.damage("journal", |bytes| batches = bytes.windows(4).filter(|w| *w == [0xba, 0x7c, 0x4e, 0xd1]).count());
    assert!(batches >= 3, "{batches}");
    for at in (0..70).chain((70..last).step_by(20_011)).chain(last - 40..last) {
        let copy = rig.after_power_cut(Fate::Keep);
        copy.disk.damage("journal", |bytes| bytes[at] ^= 0x10);
        assert!(matches!(copy.open().map(drop), Err(OpenError::Damaged { .. })), "byte {at}");
    }
}

#[test]
fn a_torn_tail_behind_it_is_cut_and_nothing_else() {
    let (rig, last) = in_batches();
    let facts = |store: &DiskStore| store.inner().state.read().facts();
    let known = facts(&rig.open().unwrap());
    // The last one says nothing but that those before it were there.
    for damage in 0..36 {
        for cut in [false, true] {
            let copy = rig.after_power_cut(Fate::Keep);
            copy.disk.damage(
                "journal",
                |bytes| {
                    if cut { bytes.truncate(last + damage) } else { bytes[last + damage] ^= 1 }
                },
            );
            assert_eq!(facts(&copy.open().unwrap()), known);
        }
    }
    let store = rig.open().unwrap();
    store.save_upload(&upload(500, 50)).unwrap();
    let whole = len(&rig);
    store.save_upload(&upload(501, 50)).unwrap();
    drop(store);
    for cut in whole..len(&rig) {
        let copy = rig.after_power_cut(Fate::Keep);
        copy.disk.damage("journal", |bytes| bytes.truncate(cut));
        let store = copy.open().unwrap();
        let has = |id: &str| store.uploads().unwrap().iter().any(|upload| upload.id == id);
        assert!(has("u500") && !has("u501"));
    }
    rig.disk.damage("journal", |bytes| bytes[whole - 5] ^= 1);
    assert!(matches!(rig.open().map(drop), Err(OpenError::Damaged { .. })), "it was acknowledged");
}

#[test]
fn a_disk_that_cannot_take_another_journal_keeps_the_old_one() {
    let rig = Rig::with_kept_index();
    let store = eventful(&rig);
    let before = len(&rig);
    rig.disk.leave_room(Some(600));
    store.inner().shorten_journal_now().unwrap();
    assert_eq!(len(&rig), before);
    assert!(!rig.disk.names().contains(&"journal.new".to_owned()), "its room is given back");
    rig.disk.leave_room(None);
    rig.disk.fail_flushes(1);
    store.inner().shorten_journal_now().unwrap();
    store.save_upload(&upload(9, 9)).unwrap();
    assert!(len(&rig) > before);
    assert_replays(&rig, &store);
    store.inner().shorten_journal_now().unwrap();
    assert!(len(&rig) < before);
    assert_replays(&rig, &store);
    // If nobody knows which one is there, nothing more is acknowledged: remove, create, write, flush, rename.
    rig.disk.stop_before(6);
    store.inner().shorten_journal_now().unwrap();
    let refused = store.save_upload(&upload(10, 9));
    assert!(matches!(refused, Err(StoreError::Poisoned(_))), "{refused:?}");
}

#[test]
fn on_a_real_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { journal_size: 8 << 10, ..Options::default() };
    let store = DiskStore::open(dir.path(), options.clone()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..200 {
                    let mut upload = upload(thread, 150);
                    upload.state[0] = n;
                    store.save_upload(&upload).unwrap();
                }
            });
        }
    });
    let journal = dir.path().join("journal");
    assert!(std::fs::metadata(&journal).unwrap().len() < 16 << 10);
    drop(store);
    std::fs::write(dir.path().join("journal.new"), b"left by a stop").unwrap();
    let store = DiskStore::open(dir.path(), options).unwrap();
    let uploads = store.uploads().unwrap();
    assert!(uploads.len() == 4 && uploads.iter().all(|upload| upload.state[0] == 199));
    assert!(!dir.path().join("journal.new").exists());
}

/// More tags than one record holds come back, each with its time.
#[test]
fn times_of_many_tags_are_said_in_several_records() {
    let rig = Rig::with_kept_index();
    let store = rig.open().unwrap();
    let long = "x".repeat(100);
    let many: Vec<TagTime> = (0..60_000).map(|n| time(&format!("{long}{n}"), n)).collect();
    store.note_tags(&Namespace::local(), &many).unwrap();
    assert_replays(&rig, &store);
    store.inner().shorten_journal_now().unwrap();
    assert_replays(&rig, &store);
    store.drop_tags(&Namespace::local(), &many[1..]).unwrap();
    drop(store);
    let store = rig.open().unwrap();
    let times = store.tag_times(&Namespace::local(), &"team/app".parse().unwrap()).unwrap();
    assert_eq!(times.into_iter().collect::<Vec<_>>(), [(many[0].tag.clone(), many[0].at)]);
}
