//! What is in use stays on the disk, is shown to nobody for that, and goes when the use ends.

use super::rig::Rig;
use crate::{DiskStore, Options};
use cidery_core::{Block, Blockstore, Cid, Hold, Namespace, Origin, PublicBlocks, PublishMode, RootStore, suite::node};
use std::sync::Arc;

/// A file that was published and deleted, its leaf, and a leaf that another file still has.
struct Deleted {
    file: Block,
    leaf: Block,
    shared: Block,
}

fn rig() -> Rig {
    let mut rig = Rig::with_kept_index();
    rig.options = Options { history: 1, ..rig.options };
    rig
}

fn commit(store: &DiskStore, children: &[Cid]) {
    let root = node(children);
    store.put(&root, Origin::Pushed).unwrap();
    let before = store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid);
    store.commit(&Namespace::local(), before, *root.cid(), &[]).unwrap();
}

impl Deleted {
    /// The leaf is one that came from a peer first, and so would be shown to peers if nothing withheld it.
    fn of(store: &DiskStore) -> Self {
        let (leaf, shared) = (Block::raw(&b"leaf"[..]), Block::raw(&b"shared"[..]));
        let (file, other) = (node(&[*leaf.cid(), *shared.cid()]), node(&[*shared.cid()]));
        for block in [&leaf, &shared] {
            store.put(block, Origin::Peer).unwrap();
        }
        for block in [&file, &other] {
            store.put(block, Origin::Pushed).unwrap();
        }
        commit(store, &[*file.cid(), *other.cid()]);
        store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
        commit(store, &[*other.cid()]);
        Self { file, leaf, shared }
    }

    /// The same, and somebody had begun to read it.
    fn while_read(store: &DiskStore) -> (Self, Arc<dyn Hold>) {
        let (deleted, hold) = (Self::of(store), store.hold());
        hold.keep_all(deleted.file.cid());
        store.forget(&[*deleted.file.cid()]).unwrap();
        (deleted, hold)
    }

    fn here(&self, store: &DiskStore) -> [bool; 3] {
        self.each(|block| store.get(block.cid()).unwrap().is_some())
    }

    fn shown(&self, store: &DiskStore) -> [bool; 3] {
        self.each(|block| store.public_get(block.cid()).unwrap().is_some())
    }

    fn each(&self, is: impl Fn(&Block) -> bool) -> [bool; 3] {
        [&self.file, &self.leaf, &self.shared].map(is)
    }
}

#[test]
fn what_is_read_stays_hidden_until_it_goes() {
    let rig = rig();
    let store = rig.open().unwrap();
    let (deleted, hold) = Deleted::while_read(&store);
    for _ in 0..2 {
        store.collect(&|_| {}).unwrap();
        assert_eq!((deleted.here(&store), deleted.shown(&store)), ([true; 3], [false, false, true]));
        assert!(store.is_withdrawn(deleted.leaf.cid()) && store.is_forgotten(deleted.file.cid()));
    }
    // The process stops with the reader: it stays hidden, and is collected.
    drop((store, hold));
    let store = rig.open().unwrap();
    assert!(!deleted.shown(&store)[1] && deleted.here(&store)[1]);
    store.collect(&|_| {}).unwrap();
    assert_eq!((deleted.here(&store), deleted.shown(&store)), ([false, false, true], [false, false, true]));
}

#[test]
fn it_goes_with_the_next_collection_after_the_last_reader() {
    let store = rig().open().unwrap();
    let (deleted, first) = Deleted::while_read(&store);
    let second = store.hold();
    second.keep_all(deleted.file.cid());
    drop(first);
    store.collect(&|_| {}).unwrap();
    assert_eq!(deleted.here(&store), [true; 3]);
    drop(second);
    store.collect(&|_| {}).unwrap();
    assert_eq!(deleted.here(&store), [false, false, true]);
}

#[test]
fn what_is_put_again_while_it_is_read_is_shown_again() {
    let rig = rig();
    let store = rig.open().unwrap();
    let (deleted, hold) = Deleted::while_read(&store);
    store.collect(&|_| {}).unwrap();
    for block in [&deleted.leaf, &deleted.shared, &deleted.file] {
        store.put(block, Origin::Pushed).unwrap();
    }
    commit(&store, &[*deleted.file.cid()]);
    store.collect(&|_| {}).unwrap();
    assert_eq!((deleted.here(&store), deleted.shown(&store)), ([true; 3], [true; 3]));
    drop((store, hold));
    let store = rig.open().unwrap();
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    assert!(!store.is_forgotten(deleted.file.cid()));
    assert_eq!((deleted.here(&store), deleted.shown(&store)), ([true; 3], [true; 3]));
}

#[test]
fn what_is_purged_goes_under_the_hands_of_its_readers() {
    let store = rig().open().unwrap();
    let deleted = Deleted::of(&store);
    let hold = store.hold();
    hold.keep_all(deleted.file.cid());
    store.purge(&[*deleted.file.cid()]).unwrap();
    store.collect(&|_| {}).unwrap();
    assert_eq!(deleted.here(&store), [false, false, true]);
}
