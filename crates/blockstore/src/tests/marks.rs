//! What peers may see, as publications come, change and go.

use super::rig::Rig;
use crate::DiskStore;
use cidery_core::{
    Block, Blockstore, Cid, Multihash, Namespace, Origin, PublicBlocks, PublishMode, RootStore, codec, suite::node,
};
use std::{
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

fn raw(text: &str) -> Block {
    Block::raw(text.as_bytes().to_vec())
}

fn put(store: &DiskStore, blocks: &[&Block]) {
    blocks.iter().for_each(|block| store.put(block, Origin::Pushed).unwrap());
}

fn sees(store: &DiskStore, block: &Block) -> bool {
    store.public_get(block.cid()).unwrap().is_some()
}

#[test]
fn nothing_is_shown_until_marking_has_ended() {
    let rig = Rig::new();
    let local = Namespace::local();
    let (mine, theirs) = (raw("mine"), raw("theirs"));
    let root = node(&[*mine.cid()]);
    let store = rig.open().unwrap();
    assert!(!store.marking());
    put(&store, &[&mine, &root]);
    store.put(&theirs, Origin::Peer).unwrap();
    store.commit(&local, None, *root.cid(), &[]).unwrap();
    store.publish(&local, PublishMode::Continuous).unwrap();
    drop(store);
    // The marking needs the clock, and waits for it.
    let held = rig.now.lock();
    let store = rig.open().unwrap();
    assert!(store.marking());
    assert!(!sees(&store, &mine) && !sees(&store, &root) && sees(&store, &theirs));
    drop(held);
    store.inner().marks.wait_ready().unwrap();
    assert!(!store.marking() && sees(&store, &mine) && sees(&store, &root));
}

#[test]
fn closing_does_not_wait_for_the_marking() {
    let rig = Rig::new();
    let local = Namespace::local();
    let root = node(&[]);
    let store = rig.open().unwrap();
    put(&store, &[&root]);
    store.commit(&local, None, *root.cid(), &[]).unwrap();
    store.publish(&local, PublishMode::Continuous).unwrap();
    drop(store);
    let store = rig.open().unwrap();
    store.inner().marks.close();
    // Whoever waits for the marks is told, whether they came up before or not.
    let _ = store.inner().marks.wait_ready();
    store.close().unwrap();
    assert!(store.publish(&local, PublishMode::Once(*root.cid())).is_err());
}

#[test]
fn predecessors_are_shown_for_two_days() {
    let rig = Rig::new();
    let local = Namespace::local();
    let store = rig.open().unwrap();
    let blocks: Vec<Block> = ["before", "first", "second", "third"].map(raw).into();
    let roots: Vec<Block> = blocks.iter().map(|block| node(&[*block.cid()])).collect();
    let commit = |n: usize| {
        put(&store, &[&blocks[n], &roots[n]]);
        let expected = n.checked_sub(1).map(|n| *roots[n].cid());
        store.commit(&local, expected, *roots[n].cid(), &[]).unwrap();
    };
    let shown = |store: &DiskStore| blocks.iter().map(|block| sees(store, block)).collect::<Vec<_>>();
    let hour = Duration::from_secs(3600);
    commit(0);
    commit(1);
    store.publish(&local, PublishMode::Continuous).unwrap();
    assert_eq!(shown(&store), [false, true, false, false], "what was replaced before was never public");
    *rig.now.lock() += 10 * hour;
    commit(2);
    *rig.now.lock() += 10 * hour;
    commit(3);
    // Said again, it changes nothing.
    store.publish(&local, PublishMode::Continuous).unwrap();
    *rig.now.lock() += 37 * hour;
    store.inner().expire_marks();
    assert_eq!(shown(&store), [false, true, true, true]);
    drop(store);
    let store = rig.open().unwrap();
    store.inner().marks.wait_ready().unwrap();
    assert_eq!(shown(&store), [false, true, true, true]);
    *rig.now.lock() += 2 * hour;
    store.inner().expire_marks();
    assert_eq!(shown(&store), [false, false, true, true]);
    *rig.now.lock() += 10 * hour;
    store.inner().expire_marks();
    assert_eq!(shown(&store), [false, false, false, true]);
}

#[test]
fn namespaces_are_withdrawn_one_by_one() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    let (one, two): (Namespace, Namespace) = ("one".parse().unwrap(), "two".parse().unwrap());
    let (shared, own) = (raw("shared"), raw("own"));
    let (first, second) = (node(&[*shared.cid(), *own.cid()]), node(&[*shared.cid()]));
    put(&store, &[&shared, &own, &first, &second]);
    store.commit(&one, None, *first.cid(), &[]).unwrap();
    store.commit(&two, None, *second.cid(), &[]).unwrap();
    store.publish(&one, PublishMode::Continuous).unwrap();
    store.publish(&two, PublishMode::Continuous).unwrap();
    assert!(sees(&store, &shared) && sees(&store, &own));
    store.unpublish(&one).unwrap();
    assert!(sees(&store, &shared) && !sees(&store, &own));
    store.unpublish(&two).unwrap();
    assert!(!sees(&store, &shared));
    store.unpublish(&two).unwrap();
    assert!(store.publish(&"never".parse().unwrap(), PublishMode::Continuous).is_err());
}

#[test]
fn another_mode_replaces_what_is_shown() {
    let rig = Rig::new();
    let local = Namespace::local();
    let store = rig.open().unwrap();
    let (a, b) = (raw("a"), raw("b"));
    let (first, second) = (node(&[*a.cid()]), node(&[*b.cid()]));
    put(&store, &[&a, &b, &first, &second]);
    store.commit(&local, None, *first.cid(), &[]).unwrap();
    store.publish(&local, PublishMode::Continuous).unwrap();
    store.commit(&local, Some(*first.cid()), *second.cid(), &[]).unwrap();
    assert!(sees(&store, &a) && sees(&store, &b));
    store.publish(&local, PublishMode::Once(*first.cid())).unwrap();
    assert!(sees(&store, &a) && !sees(&store, &b) && !sees(&store, &second));
    store.publish(&local, PublishMode::Continuous).unwrap();
    assert!(!sees(&store, &a) && sees(&store, &b));
    let absent = node(&[*raw("absent").cid()]);
    assert!(store.publish(&local, PublishMode::Once(*absent.cid())).is_err());
    assert!(sees(&store, &b), "a refused publication changes nothing");
}

#[test]
fn what_arrives_later_is_reached() {
    let rig = Rig::new();
    let local = Namespace::local();
    let store = rig.open().unwrap();
    let (leaf, deep) = (raw("leaf"), raw("deep"));
    let late = node(&[*deep.cid()]);
    let root = node(&[*leaf.cid(), *late.cid()]);
    put(&store, &[&root, &deep]);
    store.commit(&local, None, *root.cid(), &[]).unwrap();
    store.publish(&local, PublishMode::Continuous).unwrap();
    assert!(sees(&store, &root) && !sees(&store, &leaf) && !sees(&store, &deep));
    put(&store, &[&leaf]);
    assert!(sees(&store, &leaf));
    put(&store, &[&late]);
    // The worker walks on from it; its turn has come when the next walk could begin.
    while !sees(&store, &deep) {
        std::thread::yield_now();
    }
    assert!(sees(&store, &late));
}

#[test]
fn nodes_that_are_inline_malformed_or_shared_with_blobs() {
    let rig = Rig::new();
    let local = Namespace::local();
    let store = rig.open().unwrap();
    let child = raw("child");
    let inline = node(&[]);
    let links_inline = Cid::new_v1(codec::DAG_PB, Multihash::wrap(0, &node_bytes(child.cid())).unwrap());
    let broken = Block::of(codec::DAG_PB, b"\xff\xff no node".to_vec());
    let root = node(&[links_inline, *broken.cid(), *inline.cid()]);
    put(&store, &[&child, &broken, &inline, &root]);
    store.commit(&local, None, *root.cid(), &[]).unwrap();
    store.publish(&local, PublishMode::Continuous).unwrap();
    assert!(sees(&store, &broken) && sees(&store, &root) && sees(&store, &child));
    assert!(store.public_get(&links_inline).unwrap().is_some(), "whoever knows it has it");
}

/// A node small enough for an identity CID: one link to a CID with a short hash would do, but 36 + 8 bytes fit too.
fn node_bytes(child: &Cid) -> Vec<u8> {
    node(&[*child]).data().to_vec()
}

#[test]
fn predecessors_expire_together_and_at_most_once_an_hour() {
    let rig = Rig::new();
    let local = Namespace::local();
    let store = rig.open().unwrap();
    let minutes = |n: u64| *rig.now.lock() += Duration::from_secs(60 * n);
    let blocks: Vec<Block> = ["one", "two", "three", "four", "five"].map(raw).into();
    let roots: Vec<Block> = blocks.iter().map(|block| node(&[*block.cid()])).collect();
    let commit = |n: usize| {
        put(&store, &[&blocks[n], &roots[n]]);
        store.commit(&local, n.checked_sub(1).map(|n| *roots[n].cid()), *roots[n].cid(), &[]).unwrap();
    };
    let shown = || {
        store.inner().expire_marks();
        blocks.iter().map(|block| sees(&store, block)).collect::<Vec<_>>()
    };
    commit(0);
    store.publish(&local, PublishMode::Continuous).unwrap();
    for n in 1..4 {
        minutes(10);
        commit(n);
    }
    // The first one is due.
    minutes(48 * 60 - 20);
    assert_eq!(shown(), [false, true, true, true, false]);
    minutes(25);
    assert_eq!(shown(), [false, true, true, true, false], "the others wait for the hour");
    // A commit does not let what is overdue be forgotten.
    commit(4);
    minutes(34);
    assert_eq!(shown(), [false, true, true, true, true]);
    minutes(1);
    assert_eq!(shown(), [false, false, false, true, true]);
}

#[test]
fn commits_do_not_wait_for_a_walk_and_are_in_what_it_makes() {
    let rig = Rig::new();
    let local = Namespace::local();
    let store = rig.open().unwrap();
    let blocks: Vec<Block> = ["one", "two", "three"].map(raw).into();
    let roots: Vec<Block> = blocks.iter().map(|block| node(&[*block.cid()])).collect();
    for (block, root) in blocks.iter().zip(&roots) {
        put(&store, &[block, root]);
    }
    store.commit(&local, None, *roots[0].cid(), &[]).unwrap();
    store.publish(&local, PublishMode::Continuous).unwrap();
    store.commit(&local, Some(*roots[0].cid()), *roots[1].cid(), &[]).unwrap();
    // The walk that lets the first root go is held up at its first read.
    let ((reached, is_reached), (go, may_go)) = (mpsc::channel(), mpsc::channel::<()>());
    let (held, may_go) = (AtomicBool::new(false), parking_lot::Mutex::new(may_go));
    rig.disk.on_read(move || {
        if !held.swap(true, SeqCst) {
            reached.send(()).unwrap();
            may_go.lock().recv().unwrap();
        }
    });
    std::thread::scope(|scope| {
        let walk = scope.spawn(|| {
            *rig.now.lock() += Duration::from_secs(49 * 3600);
            store.inner().expire_marks();
        });
        is_reached.recv().unwrap();
        let (done, is_done) = mpsc::channel();
        let commit = scope.spawn({
            let (store, local, roots) = (&store, &local, &roots);
            move || {
                store.commit(local, Some(*roots[1].cid()), *roots[2].cid(), &[]).unwrap();
                done.send(()).unwrap();
            }
        });
        let in_time = is_done.recv_timeout(Duration::from_secs(20));
        let seen = sees(&store, &blocks[2]);
        go.send(()).unwrap();
        commit.join().unwrap();
        walk.join().unwrap();
        assert!(in_time.is_ok() && seen, "the commit waited for the walk");
    });
    let shown: Vec<bool> = blocks.iter().map(|block| sees(&store, block)).collect();
    assert_eq!(shown, [false, true, true]);
}

#[test]
fn a_late_withdrawal_leaves_the_next_publication_alone() {
    let rig = Rig::new();
    let local = Namespace::local();
    let store = rig.open().unwrap();
    let mine = raw("mine");
    let root = node(&[*mine.cid()]);
    put(&store, &[&mine, &root]);
    store.commit(&local, None, *root.cid(), &[]).unwrap();
    store.publish(&local, PublishMode::Continuous).unwrap();
    // The last step of an unpublish whose record came before that of the publication.
    store.inner().withdraw_marks(&local);
    assert!(sees(&store, &mine));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    store.unpublish(&local).unwrap();
                    store.publish(&local, PublishMode::Continuous).unwrap();
                }
            });
        }
    });
    let published = store.state(&local).unwrap().published.is_some();
    assert_eq!(sees(&store, &mine), published);
    store.unpublish(&local).unwrap();
    assert!(!sees(&store, &mine));
}
