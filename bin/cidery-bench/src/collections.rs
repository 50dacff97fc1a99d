//! What requests notice of a collection: their latency, alone and beside one after the other.

use crate::{Options, images, local, report::Report};
use anyhow::{Context, Result, ensure};
use cidery_tests::{
    Node,
    docker::noise,
    http as client,
    random::{self, Rng},
    wire::Client,
};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Connections that read without a pause, and such that push an image every now and then: so few images
/// that the node has no reason to collect by itself.
const READERS: usize = 14;
const PUSHERS: usize = 2;
const PUSH_PAUSE: Duration = Duration::from_millis(100);
/// One image in so many is there to be deleted, so that collections have something to remove.
const PASSING: usize = 100;
const LARGE_BLOBS: usize = 64;
/// Of each run, without collections and beside them.
const TIME: Duration = Duration::from_secs(8);

/// What is asked for, and how often: of a hundred requests of those who read.
const KINDS: [(&str, u32); 4] =
    [("manifest by tag", 50), ("HEAD of a blob", 30), ("GET of 1 MiB", 20), ("requests of pushes", 0)];
const PUSH: usize = KINDS.len() - 1;

/// Latencies by kind, in microseconds.
type Latencies = [Vec<f64>; KINDS.len()];

/// A store and what to ask it for.
struct Scene {
    node: Node,
    images: usize,
    large: Vec<String>,
    pushed: AtomicUsize,
}

/// The same requests without collections and beside them, in turns.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let node = Node::start(&[]);
    let images = options.blobs / images::BLOBS_PER_IMAGE;
    images::each(&node.http, 0..images, images::push_small)?;
    let large: Vec<_> = (0..LARGE_BLOBS).map(|n| local::blob(1, n)).collect();
    client::push_image(&node.http, "large", "1", &large);
    let large = large.iter().map(|blob| client::digest(blob)).collect();
    let mut scene = Scene { node, images, large, pushed: AtomicUsize::new(0) };
    let blocks = scene.node.json(&["gc"])["live_blocks"].as_u64().context("live blocks")?;

    // By beside, by quantile, by kind.
    let mut figures: [[[Vec<f64>; KINDS.len()]; 2]; 2] = Default::default();
    let mut seconds = Vec::new();
    for run in 0..=options.runs {
        // Whoever comes second finds caches as the first left them: so they take turns.
        let order = if run % 2 == 0 { [false, true] } else { [true, false] };
        for beside in order {
            let (mut latencies, took) = if beside {
                // So that there is something to remove.
                let passing = 0..scene.passing();
                images::each(&scene.node.http, passing.clone(), images::delete_small)?;
                let measured = scene.beside_collections()?;
                images::each(&scene.node.http, passing, images::push_small)?;
                measured
            } else {
                (scene.alone()?, Vec::new())
            };
            // The first run warms up.
            if run == 0 {
                continue;
            }
            seconds.extend(took);
            for (kind, latencies) in latencies.iter_mut().enumerate() {
                latencies.sort_by(f64::total_cmp);
                for (of, quantile) in figures[usize::from(beside)].iter_mut().zip([0.5, 0.99]) {
                    let at = (latencies.len() as f64 * quantile) as usize;
                    of[kind].push(*latencies.get(at).context("no requests")?);
                }
            }
        }
    }
    let [alone, beside] = figures;
    for (quantile, (alone, beside)) in ["p50", "p99"].into_iter().zip(alone.into_iter().zip(beside)) {
        for (kind, (alone, beside)) in alone.into_iter().zip(beside).enumerate() {
            let work = format!("{}, {quantile}, {blocks} blocks", KINDS[kind].0);
            report.add(&work, "cidery", "µs", beside, None);
            report.add(&work, "cidery, not collecting", "µs", alone, None);
        }
    }
    let peak = scene.node.daemon().peak_memory();
    let milliseconds = seconds.into_iter().map(|seconds| seconds * 1e3).collect();
    report.add(&format!("a collection beside requests, {blocks} blocks"), "cidery", "ms", milliseconds, Some(peak));
    Ok(())
}

impl Scene {
    /// So many images are deleted before each run beside collections, and pushed again after it.
    fn passing(&self) -> usize {
        self.images / PASSING
    }

    fn collections(&mut self) -> usize {
        self.node.daemon().log().matches(" collected ").count()
    }

    fn alone(&mut self) -> Result<Latencies> {
        let before = self.collections();
        let latencies = self.requests(&AtomicBool::new(false), || thread::sleep(TIME))?;
        ensure!(self.collections() == before, "the node collected by itself meanwhile");
        Ok(latencies)
    }

    /// Also how long the collections took.
    fn beside_collections(&self) -> Result<(Latencies, Vec<f64>)> {
        let (end, mut took, mut failed) = (AtomicBool::new(false), Vec::new(), false);
        let latencies = self.requests(&end, || {
            let start = Instant::now();
            while start.elapsed() < TIME {
                match self.node.json(&["gc"])["seconds"].as_f64() {
                    Some(seconds) => took.push(seconds),
                    None => failed = true,
                }
            }
        })?;
        ensure!(!failed, "a collection failed");
        Ok((latencies, took))
    }

    /// Everybody asks until `meanwhile` is done.
    fn requests(&self, end: &AtomicBool, meanwhile: impl FnOnce()) -> Result<Latencies> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..READERS + PUSHERS)
                .map(|n| scope.spawn(move || if n < READERS { self.read(n, end) } else { self.push(end) }))
                .collect();
            meanwhile();
            end.store(true, Relaxed);
            let mut all = Latencies::default();
            for worker in workers {
                let latencies = worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked"))?;
                all.iter_mut().zip(latencies).for_each(|(all, some)| all.extend(some));
            }
            Ok(all)
        })
    }

    fn read(&self, worker: usize, end: &AtomicBool) -> Result<Latencies> {
        let mut random = random::choices(self.pushed.load(Relaxed) as u64, worker as u64);
        let (mut http, mut latencies) = (Client::connect(&self.node.http)?, Latencies::default());
        // What to ask for is made up before the time counts.
        while !end.load(Relaxed) {
            let image = random.random_range(self.passing()..self.images);
            let mut dice = random.random_range(0..100);
            let kind = KINDS.iter().position(|(_, share)| {
                let hit = dice < *share;
                dice = dice.saturating_sub(*share);
                hit
            });
            let kind = kind.context("shares make a hundred")?;
            let target = match kind {
                0 => format!("/v2/{}/manifests/v{image}", images::repository(image)),
                1 => {
                    let blob = images::small_blob(image, random.random_range(0..images::BLOBS_PER_IMAGE));
                    format!("/v2/{}/blobs/{}", images::repository(image), client::digest(&blob))
                }
                _ => format!("/v2/large/blobs/{}", self.large[random.random_range(0..self.large.len())]),
            };
            let start = Instant::now();
            if kind == 1 {
                let head = http.request("HEAD", &target, "", &[])?;
                ensure!(head.status == 200, "{target}: {head:?}");
            } else {
                http.get(&target, None)?;
            }
            latencies[kind].push(micros(start.elapsed()));
        }
        Ok(latencies)
    }

    fn push(&self, end: &AtomicBool) -> Result<Latencies> {
        let (mut http, mut latencies) = (Client::connect(&self.node.http)?, Latencies::default());
        http.times = Some(Vec::new());
        while !end.load(Relaxed) {
            let image = self.pushed.fetch_add(1, Relaxed);
            let blobs: Vec<_> = [200, 2_000, 40_000].into_iter().map(|size| noise("beside", image, size)).collect();
            images::push(&mut http, &format!("beside/{}", image % 8), &format!("v{}", image % 64), blobs)?;
            thread::sleep(PUSH_PAUSE);
        }
        latencies[PUSH].extend(http.times.into_iter().flatten().map(micros));
        Ok(latencies)
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
