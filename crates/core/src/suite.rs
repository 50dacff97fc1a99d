//! Behaviour suites: what every implementation of a port must do, run over all of them.
//!
//! They panic on the first difference, like any test. A durable implementation passes a `reopen`
//! that closes and opens it again; for the others it is the identity.

use crate::{
    Block, Blockstore, Cid, CommitError, Digest, Link, Multihash, Namespace, Origin, Pin, PinError, PublicBlocks,
    PublishMode, RootStore, TagTime, UploadRecord, codec,
};
use std::time::{Duration, UNIX_EPOCH};

mod digests;

pub use digests::{Answering, digests};

/// A store under test: all three ports over the same data.
pub trait Store: Blockstore + RootStore + PublicBlocks {}
impl<T: Blockstore + RootStore + PublicBlocks> Store for T {}

const OK: &str = "the store works";

fn raw(text: &str) -> Block {
    Block::raw(text.as_bytes().to_vec())
}

/// A dag-pb node without data that links to `children` (PBLink: hash, empty name, no size).
pub fn node(children: &[Cid]) -> Block {
    let mut bytes = Vec::new();
    for child in children {
        let cid = child.to_bytes();
        bytes.extend([0x12, cid.len() as u8 + 4, 0x0a, cid.len() as u8]);
        bytes.extend(cid);
        bytes.extend([0x12, 0x00]);
    }
    Block::of(codec::DAG_PB, bytes)
}

fn link(repository: &str, block: &Block) -> Link {
    Link {
        namespace: Namespace::local(),
        repository: repository.parse().expect("valid"),
        digest: Digest::sha256(block.cid().hash().digest().try_into().expect("32 bytes")),
        cid: *block.cid(),
        size: block.data().len() as u64,
    }
}

/// Runs all of it. `reopen` takes the store and gives it back as it would come up again.
pub fn store<S: Store>(mut make: impl FnMut() -> S, mut reopen: impl FnMut(S) -> S) {
    blocks(make(), &mut reopen);
    writers(make(), &mut reopen);
    roots(make(), &mut reopen);
    links(make(), &mut reopen);
    tag_times(make(), &mut reopen);
    uploads(make(), &mut reopen);
    privacy(make(), &mut reopen);
    privacy_by_codec(make());
    forgetting(make(), &mut reopen);
    pins(make(), &mut reopen);
}

fn blocks<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let (a, b) = (raw("a"), raw("b"));
    assert_eq!(store.get(a.cid()).expect(OK), None);
    assert_eq!(store.size(a.cid()).expect(OK), None);
    store.put(&a, Origin::Pushed).expect(OK);
    store.put(&a, Origin::Pushed).expect(OK);
    assert_eq!(store.get(a.cid()).expect(OK).as_ref(), Some(a.data()));
    assert_eq!(store.size(a.cid()).expect(OK), Some(1));
    assert_eq!((store.stats().blocks, store.stats().bytes), (1, 1));
    // By multihash: another codec finds the same bytes.
    let other = Cid::new_v1(codec::DAG_PB, *a.cid().hash());
    assert_eq!(store.get(&other).expect(OK).as_ref(), Some(a.data()));
    // Identity CIDs are answered, and never stored.
    let inline = Cid::new_v1(codec::RAW, Multihash::wrap(0, b"inline").expect("short"));
    assert_eq!(store.get(&inline).expect(OK).as_deref(), Some(&b"inline"[..]));
    let empty = raw("");
    store.put(&empty, Origin::Pushed).expect(OK);
    assert_eq!(store.size(empty.cid()).expect(OK), Some(0));
    store.put(&b, Origin::Peer).expect(OK);
    store.sync().expect(OK);
    let store = reopen(store);
    for block in [&a, &b, &empty] {
        assert_eq!(store.get(block.cid()).expect(OK).as_ref(), Some(block.data()));
    }
    assert_eq!(store.stats().blocks, 3);
}

fn writers<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let chunk = |file: u8, n: u32| {
        let mut data = vec![file; 70_000];
        data[..4].copy_from_slice(&n.to_be_bytes());
        Block::raw(data)
    };
    std::thread::scope(|scope| {
        for file in 0..8 {
            let store = &store;
            scope.spawn(move || {
                let mut writer = store.writer(Origin::Pushed).expect(OK);
                for n in 0..40 {
                    let block = chunk(file, n);
                    writer.put(&block).expect(OK);
                    assert_eq!(store.get(block.cid()).expect(OK).as_ref(), Some(block.data()));
                }
            });
        }
    });
    store.sync().expect(OK);
    let store = reopen(store);
    for (file, n) in (0..8).flat_map(|file| (0..40).map(move |n| (file, n))) {
        let block = chunk(file, n);
        assert_eq!(store.get(block.cid()).expect(OK).as_ref(), Some(block.data()));
    }
}

fn roots<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let local = Namespace::local();
    let (first, second) = (node(&[]), node(&[*raw("x").cid()]));
    assert_eq!(store.state(&local).expect(OK), Default::default());
    assert!(store.namespaces().expect(OK).is_empty());
    store.put(&first, Origin::Pushed).expect(OK);
    let entry = store.commit(&local, None, *first.cid(), &[]).expect(OK);
    assert_eq!(store.state(&local).expect(OK).root, Some(entry.clone()));
    // Compare and swap.
    store.put(&second, Origin::Pushed).expect(OK);
    let conflict = store.commit(&local, None, *second.cid(), &[]);
    assert!(matches!(conflict, Err(CommitError::Conflict { current: Some(cid), .. }) if cid == *first.cid()));
    let next = store.commit(&local, Some(*first.cid()), *second.cid(), &[]).expect(OK);
    assert!(next.sequence > entry.sequence);
    let store = reopen(store);
    assert_eq!(store.namespaces().expect(OK), std::slice::from_ref(&local));
    let cids = |n| store.history(&local, n).expect(OK).iter().map(|e| e.cid).collect::<Vec<_>>();
    assert_eq!(cids(10), [*second.cid(), *first.cid()]);
    assert_eq!(cids(1), [*second.cid()]);
    assert_eq!(store.get(second.cid()).expect(OK).as_ref(), Some(second.data()));
}

fn links<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let local = Namespace::local();
    let (a, b, root) = (raw("layer a"), raw("layer b"), node(&[]));
    for (repository, block) in [("app", &a), ("app", &b), ("web", &a)] {
        store.put(block, Origin::Pushed).expect(OK);
        store.link(&link(repository, block)).expect(OK);
    }
    store.link(&link("app", &a)).expect(OK);
    let store = reopen(store);
    assert_eq!(store.links(&local).expect(OK).len(), 3);
    let stale = |age| store.stale_links(&local, Duration::from_secs(age)).expect(OK).len();
    assert_eq!((stale(0), stale(3600)), (3, 0));
    assert_eq!(store.get(a.cid()).expect(OK).as_ref(), Some(a.data()), "a link is durable with its block");
    store.put(&root, Origin::Pushed).expect(OK);
    store.commit(&local, None, *root.cid(), &[link("app", &a)]).expect(OK);
    store.unlink(&link("app", &b)).expect(OK);
    let store = reopen(store);
    assert_eq!(store.links(&local).expect(OK), [link("web", &a)]);
}

/// When tags were pushed is known after a restart: the latest that was said, until it is dropped by just that.
fn tag_times<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let (local, other): (Namespace, Namespace) = (Namespace::local(), "other.example".parse().expect("valid"));
    let time = |tag: &str, second| {
        let at = UNIX_EPOCH + Duration::from_secs(second);
        TagTime::new("team/app".parse().expect("valid"), tag.parse().expect("valid"), at)
    };
    let known = |store: &S, namespace: &Namespace| {
        let found = store.tag_times(namespace, &"team/app".parse().expect("valid")).expect(OK).into_iter();
        found.map(|(tag, at)| TagTime::new("team/app".parse().expect("valid"), tag, at)).collect::<Vec<_>>()
    };
    assert!(known(&store, &local).is_empty() && store.timed_repositories(&local).expect(OK).is_empty());
    let (first, second) = (node(&[]), node(&[*raw("x").cid()]));
    store.put(&first, Origin::Pushed).expect(OK);
    store.commit_tags(&local, None, *first.cid(), &[], &[time("1", 10), time("2", 20)]).expect(OK);
    store.put(&second, Origin::Pushed).expect(OK);
    let refused = store.commit_tags(&local, None, *second.cid(), &[], &[time("3", 30)]);
    assert!(matches!(refused, Err(CommitError::Conflict { .. })));
    store.note_tags(&other, &[time("1", 99)]).expect(OK);
    let store = reopen(store);
    assert_eq!(known(&store, &local), [time("1", 10), time("2", 20)]);
    // An earlier time is no news.
    store.note_tags(&local, &[time("1", 5), time("2", 40), time("4", 50)]).expect(OK);
    assert_eq!(known(&store, &local), [time("1", 10), time("2", 40), time("4", 50)]);
    store.drop_tags(&local, &[time("1", 10), time("2", 20), time("9", 9)]).expect(OK);
    let store = reopen(store);
    assert_eq!(known(&store, &local), [time("2", 40), time("4", 50)]);
    assert_eq!(store.timed_repositories(&local).expect(OK), ["team/app".parse().expect("valid")]);
    store.drop_tags(&local, &known(&store, &local)).expect(OK);
    let store = reopen(store);
    assert!(known(&store, &local).is_empty() && store.timed_repositories(&local).expect(OK).is_empty());
    assert_eq!(known(&store, &other), [time("1", 99)]);
}

fn uploads<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let upload = |id: &str, n| UploadRecord { id: id.into(), pins: vec![*raw("p").cid()], state: vec![n; 1000] };
    store.save_upload(&upload("u1", 1)).expect(OK);
    store.save_upload(&upload("u2", 2)).expect(OK);
    store.save_upload(&upload("u1", 3)).expect(OK);
    store.drop_upload("u2").expect(OK);
    store.drop_upload("never").expect(OK);
    let store = reopen(store);
    assert_eq!(store.uploads().expect(OK), [upload("u1", 3)]);
}

fn privacy<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let local = Namespace::local();
    let sees = |store: &S, block: &Block| {
        let bytes = store.public_get(block.cid()).expect(OK);
        assert_eq!(bytes.is_some(), store.public_size(block.cid()).expect(OK).is_some());
        bytes.as_ref() == Some(block.data())
    };
    let (mine, theirs, later) = (raw("mine"), raw("theirs"), raw("later"));
    let first = node(&[*mine.cid()]);
    let second = node(&[*first.cid(), *later.cid()]);
    for (block, origin) in [(&mine, Origin::Pushed), (&theirs, Origin::Peer), (&first, Origin::Pushed)] {
        store.put(block, origin).expect(OK);
    }
    assert!(store.publish(&Namespace::local(), PublishMode::Continuous).is_err(), "there is no root yet");
    store.commit(&local, None, *first.cid(), &[]).expect(OK);
    assert!(sees(&store, &theirs) && !sees(&store, &mine) && !sees(&store, &first));
    // A block that is here already keeps its origin: offering it as a peer's does not publish it.
    store.put(&mine, Origin::Peer).expect(OK);
    assert!(!sees(&store, &mine));

    store.publish(&local, PublishMode::Continuous).expect(OK);
    assert!(sees(&store, &mine) && sees(&store, &first));
    for block in [&later, &second] {
        store.put(block, Origin::Pushed).expect(OK);
    }
    assert!(!sees(&store, &later));
    store.commit(&local, Some(*first.cid()), *second.cid(), &[]).expect(OK);
    assert!(sees(&store, &later) && sees(&store, &mine), "publishing is continuous");
    assert_eq!(store.state(&local).expect(OK).published.map(|p| p.root), Some(*second.cid()));

    let store = reopen(store);
    // After a reopen nothing is served until marking ends; publishing again waits for that.
    store.publish(&local, PublishMode::Continuous).expect(OK);
    assert!(sees(&store, &later) && sees(&store, &mine));
    store.unpublish(&local).expect(OK);
    assert!(!sees(&store, &mine) && !sees(&store, &second) && sees(&store, &theirs));
    let store = reopen(store);
    assert!(!sees(&store, &mine) && !sees(&store, &second));

    store.publish(&local, PublishMode::Once(*first.cid())).expect(OK);
    assert!(sees(&store, &mine) && !sees(&store, &later));
    let third = node(&[*second.cid()]);
    store.put(&third, Origin::Pushed).expect(OK);
    store.commit(&local, Some(*second.cid()), *third.cid(), &[]).expect(OK);
    assert!(sees(&store, &mine) && !sees(&store, &third), "once means this root only");
}

/// A blob whose bytes are those of a directory node must not hide that node's children.
fn privacy_by_codec<S: Store>(store: S) {
    let local = Namespace::local();
    let child = raw("child");
    let directory = node(&[*child.cid()]);
    let blob = Cid::new_v1(codec::RAW, *directory.cid().hash());
    let root = node(&[blob, *directory.cid()]);
    for block in [&child, &directory, &root] {
        store.put(block, Origin::Pushed).expect(OK);
    }
    store.commit(&local, None, *root.cid(), &[]).expect(OK);
    store.publish(&local, PublishMode::Continuous).expect(OK);
    assert!(store.public_get(child.cid()).expect(OK).is_some());
}

/// What was withdrawn is known to be so after a restart, and until it is put or linked again.
fn forgetting<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let local = Namespace::local();
    let (gone, kept, relinked) = (raw("gone"), raw("kept"), raw("relinked"));
    let first = node(&[*gone.cid(), *kept.cid(), *relinked.cid()]);
    let second = node(&[*kept.cid()]);
    for block in [&gone, &kept, &relinked, &first, &second] {
        store.put(block, Origin::Pushed).expect(OK);
    }
    store.commit(&local, None, *first.cid(), &[]).expect(OK);
    store.publish(&local, PublishMode::Continuous).expect(OK);
    store.commit(&local, Some(*first.cid()), *second.cid(), &[]).expect(OK);
    let hold = store.hold();
    hold.keep(gone.cid());
    hold.keep_all(first.cid());
    store.forget(&[*gone.cid(), *relinked.cid()]).expect(OK);
    store.discard(gone.cid());
    let sees = |store: &S, block: &Block| store.public_get(block.cid()).expect(OK).is_some();
    assert!(!sees(&store, &gone) && !sees(&store, &relinked) && sees(&store, &kept), "earlier roots show them no more");
    store.link(&link("app", &relinked)).expect(OK);
    let forgotten = |store: &S| [&gone, &kept, &relinked].map(|block| store.is_forgotten(block.cid()));
    assert_eq!(forgotten(&store), [true, false, false]);
    drop(hold);
    let store = reopen(store);
    assert_eq!(forgotten(&store)[1..], [false, false]);
    // After a reopen nothing is served until marking ends; publishing again waits for that.
    store.publish(&local, PublishMode::Continuous).expect(OK);
    assert!(!sees(&store, &gone) && sees(&store, &kept));
    store.put(&gone, Origin::Pushed).expect(OK);
    assert!(!store.is_forgotten(gone.cid()) && store.get(gone.cid()).expect(OK).is_some());
    let fourth = node(&[]);
    store.put(&fourth, Origin::Pushed).expect(OK);
    store.commit(&local, Some(*second.cid()), *fourth.cid(), &[]).expect(OK);
    store.purge(&[*kept.cid()]).expect(OK);
    let store = reopen(store);
    assert!(store.is_forgotten(kept.cid()) && !sees(&store, &kept));
}

/// Pins are known by their names, keep only what is here and not withdrawn, and show nothing to anybody.
fn pins<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let (leaf, lost, alone, gone) = (raw("leaf"), raw("lost"), raw("alone"), raw("gone"));
    let file = node(&[*leaf.cid(), *lost.cid()]);
    let pin = |name: &str, roots: &[&Block], blocks: &[&Block]| {
        let cids = |blocks: &[&Block]| blocks.iter().map(|block| *block.cid()).collect();
        Pin { name: name.into(), root: *file.cid(), roots: cids(roots), blocks: cids(blocks), bytes: 7 }
    };
    let whole = pin("app:1", &[&file], &[&alone]);
    for block in [&file, &leaf, &gone] {
        store.put(block, Origin::Pushed).expect(OK);
    }
    let missing = |store: &S, pin: &Pin| match store.pin(pin) {
        Err(PinError::Missing(cid)) => cid,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&store, &whole), *lost.cid());
    store.put(&lost, Origin::Pushed).expect(OK);
    assert_eq!(missing(&store, &whole), *alone.cid());
    assert!(store.pins().expect(OK).is_empty());
    store.put(&alone, Origin::Pushed).expect(OK);
    store.pin(&whole).expect("it is all here");
    store.pin(&pin("b", &[], &[&leaf])).expect("it is here");
    store.forget(&[*gone.cid()]).expect(OK);
    let withdrawn = store.pin(&pin("gone", &[&gone], &[]));
    assert!(matches!(&withdrawn, Err(PinError::Withdrawn(cid)) if cid == gone.cid()), "{withdrawn:?}");
    let store = reopen(store);
    let names = |store: &S| store.pins().expect(OK).into_iter().map(|pinned| pinned.pin.name).collect::<Vec<_>>();
    assert_eq!(names(&store), ["app:1", "b"]);
    assert_eq!(store.pins().expect(OK)[0].pin, whole);
    for block in [&file, &leaf, &alone] {
        assert_eq!(store.public_get(block.cid()).expect(OK), None);
    }
    // Again replaces; a purge takes what it takes, and nothing but that.
    store.pin(&pin("b", &[&file], &[])).expect("it is all here");
    assert_eq!(store.purge(&[*alone.cid()]).expect(OK), ["app:1"]);
    assert_eq!(store.purge(&[*lost.cid(), *alone.cid()]).expect(OK), ["app:1", "b"]);
    let store = reopen(store);
    let pins = store.pins().expect(OK);
    assert_eq!((pins[0].pin.blocks.len(), pins[0].purged.len(), pins[1].purged.len()), (0, 2, 1));
    assert!(store.unpin("app:1").expect(OK) && !store.unpin("app:1").expect(OK));
    let store = reopen(store);
    assert_eq!(names(&store), ["b"]);
}

#[cfg(test)]
#[test]
fn memory_passes() {
    store(crate::memory::MemoryStore::new, |store| store);
}
