//! Concurrent commits share their flushes.

use super::rig::Rig;
use cidery_core::{Block, Blockstore, CommitError, Link, Namespace, Origin, RootStore, suite::node};
use parking_lot::{Condvar, Mutex};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    reached: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        self.reached.store(true, SeqCst);
        let mut open = self.open.lock();
        while !*open {
            self.changed.wait(&mut open);
        }
    }
}

#[test]
fn sixty_four_concurrent_commits_cost_two_rounds_of_flushes() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    let before = store.stats().syncs;
    let gate = Arc::new(Gate::default());
    rig.disk.on_flush({
        let gate = gate.clone();
        move || gate.pass()
    });
    std::thread::scope(|scope| {
        let commit = |n: u8| {
            let store = &store;
            move || {
                let namespace: Namespace = format!("n{n}").parse().unwrap();
                let (layer, root) = (Block::raw(vec![n; 100]), node(&[*Block::raw(vec![n; 100]).cid()]));
                store.put(&layer, Origin::Pushed).unwrap();
                store.put(&root, Origin::Pushed).unwrap();
                store.commit(&namespace, None, *root.cid(), &[]).unwrap();
            }
        };
        scope.spawn(commit(0));
        while !gate.reached.load(SeqCst) {
            std::thread::yield_now();
        }
        for n in 1..64 {
            scope.spawn(commit(n));
        }
        while store.inner().waiting() < 63 {
            std::thread::yield_now();
        }
        *gate.open.lock() = true;
        gate.changed.notify_all();
    });
    let flushes = store.stats().syncs - before;
    // Each round: the shared pack and the journal; once the directory, for the new pack.
    assert!(flushes <= 5, "{flushes}");
    assert_eq!(store.namespaces().unwrap().len(), 64);
}

#[test]
fn members_of_one_group_see_each_other_and_fail_alone() {
    let rig = Rig::new();
    let store = rig.open().unwrap();
    let local = Namespace::local();
    let gate = Arc::new(Gate::default());
    let roots: Vec<Block> = (0..8).map(|n| node(&[*Block::raw(vec![n]).cid()])).collect();
    for root in &roots {
        store.put(root, Origin::Pushed).unwrap();
    }
    rig.disk.on_flush({
        let gate = gate.clone();
        move || gate.pass()
    });
    let results = std::thread::scope(|scope| {
        // Holds the first round up, so that all commits are in the second.
        scope.spawn(|| store.sync().unwrap());
        while !gate.reached.load(SeqCst) {
            std::thread::yield_now();
        }
        let commits: Vec<_> = roots
            .iter()
            .map(|root| {
                let (store, local) = (&store, &local);
                scope.spawn(move || store.commit(local, None, *root.cid(), &[]))
            })
            .collect();
        let links = scope.spawn(|| {
            store.link(&Link {
                namespace: local.clone(),
                repository: "app".parse().unwrap(),
                digest: cidery_core::Digest::sha256(&[1; 32]),
                cid: *roots[0].cid(),
                size: 1,
            })
        });
        while store.inner().waiting() < 9 {
            std::thread::yield_now();
        }
        *gate.open.lock() = true;
        gate.changed.notify_all();
        links.join().unwrap().unwrap();
        commits.into_iter().map(|commit| commit.join().unwrap()).collect::<Vec<_>>()
    });
    let winners: Vec<_> = results.iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    let won = winners[0].cid;
    for result in &results {
        assert!(match result {
            Ok(entry) => entry.cid == won,
            Err(CommitError::Conflict { current, .. }) => *current == Some(won),
            Err(CommitError::Store(_)) => false,
        });
    }
    assert_eq!(store.links(&local).unwrap().len(), 1);
}
