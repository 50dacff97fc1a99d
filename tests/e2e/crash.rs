//! kill -9 at any moment, again and again, while clients push, delete, publish and pull: what was
//! acknowledged holds afterwards, byte for byte, and so does what was deleted.
//!
//! `CIDERY_TEST_KILLS` is the number of kills, for long runs by hand; `CIDERY_TEST_SEED` as printed.

mod clients;
mod world;

use cidery_tests::{
    Node, http,
    process::{Daemon, wait_for},
    random::{self, Rng, StdRng},
};
use clients::CLIENTS;
use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};
use world::World;

/// How many things from earlier rounds are looked at after each start.
const SAMPLE: usize = 25;

#[test]
fn nothing_acknowledged_is_lost() {
    let (seed, wanted) = (random::seed(), random::number("CIDERY_TEST_KILLS", 200));
    let mut random = random::choices(seed, u64::MAX);
    let mut node = Node::start(&[]);
    // Something to publish.
    http::push_image(&node.http, "first", "1", &[vec![1]]);
    let world = World::new(&node);
    let (mut kills, mut slowest) = (0, Duration::ZERO);
    for round in 0.. {
        if kills >= wanted {
            break;
        }
        world.begin(&node);
        let before = world.ledger.now();
        work_until_killed(&mut node, &world, seed ^ (round << 16), &mut random);
        kills += 1;
        // Now and then it does not get far before the next one.
        while random.random_ratio(1, 8) {
            let mut daemon = Daemon::start(&mut Node::serve(node.data(), &[] as &[&str]));
            thread::sleep(Duration::from_millis(random.random_range(0..150)));
            daemon.kill();
            kills += 1;
        }
        let start = Instant::now();
        node.restart();
        slowest = slowest.max(start.elapsed());
        no_damage(&mut node);
        world.begin(&node);
        world.ledger.settle(|path| world.read(path));
        world.check(&world.ledger.since(before));
        world.check((0..SAMPLE).filter_map(|_| world.ledger.any(&mut random)).collect::<Vec<_>>().iter());
    }
    check_all(&node, &world);
    let facts = world.ledger.under("");
    let deleted = facts.iter().filter(|fact| fact.owed.is_none()).count();
    let (all, large) = (facts.len(), world.ledger.under("chunked/").len());
    println!(
        "{kills} kills, {} changes acknowledged, {all} things owed, of them {large} large and {deleted} deleted; \
         slowest start {slowest:?}",
        world.acknowledged()
    );
    assert!(large as u64 > wanted / 20 && deleted as u64 > wanted / 20, "the clients did not get to everything");
    // What was deleted does not come back with an index that is made anew from packs and journal either.
    node.daemon().stop();
    fs::remove_dir_all(node.data().join("index")).unwrap();
    node.restart();
    world.begin(&node);
    check_all(&node, &world);
}

/// One round: everybody works, and soon after a few more acknowledgements the node is killed.
fn work_until_killed(node: &mut Node, world: &World, seed: u64, random: &mut StdRng) {
    thread::scope(|scope| {
        for (n, (name, work)) in CLIENTS.iter().enumerate() {
            let mut random = random::choices(seed, n as u64);
            scope.spawn(move || {
                while !world.ending() {
                    work(world, name, &mut random);
                }
            });
        }
        let goal = world.acknowledged() + random.random_range(1..20);
        wait_for("acknowledgements", || (world.acknowledged() >= goal).then_some(()));
        // Now and then long enough for what takes long.
        let most = if random.random_ratio(1, 6) { 500_000 } else { 30_000 };
        thread::sleep(Duration::from_micros(random.random_range(0..most)));
        world.end();
        node.daemon().kill();
    });
}

/// A kill tears at most the last batch of the journal: nothing else is anything to warn of.
fn no_damage(node: &mut Node) {
    let log = node.daemon().log();
    let worrying = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let lines: Vec<&str> = log.lines().filter(worrying).filter(|line| !line.contains("unfinished batch")).collect();
    assert!(lines.is_empty(), "{lines:?}");
}

/// Everything that is owed, and nothing more in the lists.
fn check_all(node: &Node, world: &World) {
    world.check(&world.ledger.under(""));
    let images = node.json(&["images"]);
    let images: BTreeSet<_> = images.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    let mut owed = BTreeSet::from(["first:1".to_owned()]);
    for fact in world.ledger.under("").into_iter().filter(|fact| fact.owed.is_some()) {
        if let Some((repository, reference)) = fact.path.split_once("/manifests/")
            && !reference.starts_with("sha256:")
        {
            owed.insert(format!("{repository}:{reference}"));
        }
    }
    assert_eq!(images, owed.iter().map(String::as_str).collect());
}
