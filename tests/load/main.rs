//! 64 clients that push and 64 that pull, while one collection follows the other: every answer is the right one,
//! memory stays in its bounds, and the disk is given back.
//!
//! `CIDERY_TEST_LOAD_SECONDS` is how long, for long runs by hand; `CIDERY_TEST_SEED` as printed.
#![allow(missing_docs, clippy::unwrap_used)]

mod connection;
mod pullers;
mod pushers;
mod world;

use cidery_tests::{
    Node,
    disk::on_disk,
    process::memory,
    random::{self, Rng},
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use world::World;

/// Clients of each kind.
const CLIENTS: u64 = 64;
/// The memory that the node may take.
const MEMORY: u64 = 256 << 20;
/// Bytes of images that one client keeps; the disk has room for them all, and for as much that is dead.
const KEPT: usize = 40 << 20;
const MIB: u64 = 1 << 20;

#[test]
fn pushes_pulls_and_collections_at_once() {
    let (seed, seconds) = (random::seed(), random::number("CIDERY_TEST_LOAD_SECONDS", 40));
    let mut node = Node::start(&[]);
    let world = World::new(&node);
    let (collections, slowest) = (AtomicU64::new(0), AtomicU64::new(0));
    let id = node.daemon().id();
    thread::scope(|scope| {
        let (world, node) = (&world, &node);
        for n in 0..CLIENTS {
            scope.spawn(move || {
                let _ends = world.ends_if_this_fails();
                pushers::work(world, n, &mut random::choices(seed, n));
            });
            scope.spawn(move || {
                let _ends = world.ends_if_this_fails();
                pullers::work(world, &mut random::choices(seed, CLIENTS + n));
            });
        }
        let (collections, slowest) = (&collections, &slowest);
        scope.spawn(move || {
            let _ends = world.ends_if_this_fails();
            while !world.ending() {
                let done = node.json(&["gc"]);
                slowest.fetch_max((done["seconds"].as_f64().unwrap() * 1e3) as u64, Relaxed);
                collections.fetch_add(1, Relaxed);
            }
        });
        let _ends = world.ends_if_this_fails();
        let start = Instant::now();
        let mut told = 0;
        while !world.ending() && start.elapsed() < Duration::from_secs(seconds) {
            thread::sleep(Duration::from_secs(1));
            let disk = on_disk(node.data());
            assert!(disk < 2 * CLIENTS * KEPT as u64 + 512 * MIB, "{} MiB on the disk", disk / MIB);
            if start.elapsed().as_secs() / 30 > told {
                told += 1;
                let resident = memory(id, "VmRSS") / MIB;
                println!(
                    "{:?}: {resident} MiB resident, {} MiB on the disk, {}",
                    start.elapsed(),
                    disk / MIB,
                    world.counts
                );
            }
        }
        world.end();
    });
    let peak = node.daemon().peak_memory();
    let (collections, slowest) = (collections.into_inner(), Duration::from_millis(slowest.into_inner()));
    println!("{}; {collections} collections, the slowest {slowest:?}; at most {} MiB", world.counts, peak / MIB);
    check(&mut node, &world, seed);
    assert!(peak <= MEMORY, "{} MiB", peak / MIB);
    assert!(collections > 2 && world.counts.did_everything(), "the clients did not get to everything");
}

/// What has to be so when everybody is gone.
fn check(node: &mut Node, world: &World, seed: u64) {
    let owed = world.owed_bytes();
    let done = node.json(&["gc"]);
    let live = done["live_bytes"].as_u64().unwrap();
    let (packs, usage) = (on_disk(&node.data().join("packs")), node.json(&["du"]));
    println!("{} MiB owed, {} MiB live, {} MiB of packs; {usage}", owed / MIB, live / MIB, packs / MIB);
    assert!((owed..owed + owed / 20 + 64 * MIB).contains(&live), "{owed} bytes are owed, {live} live");
    assert!(packs <= live + live / 4 + 64 * MIB, "{packs} bytes of packs for {live} that live");
    assert_eq!((&usage["uploads"], &usage["dead_bytes"]), (&0.into(), &0.into()));
    pullers::check_all(world);
    let scrubbed = node.json(&["scrub", "--rate", "0"]);
    for list in ["damaged", "repaired"] {
        assert_eq!(scrubbed[list].as_array().unwrap().len(), 0, "{scrubbed}");
    }
    // It goes on as if nothing had been.
    pushers::push_one(world, &mut random::choices(seed, random::choices(seed, 0).random()));
    let log = node.daemon().log();
    let worrying: Vec<_> = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!(worrying.is_empty(), "{worrying:?}");
    node.daemon().stop();
    let ended = node.daemon().exited().unwrap();
    assert!(ended.success(), "{ended}");
}
