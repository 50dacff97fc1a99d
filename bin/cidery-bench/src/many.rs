//! A store with very many blobs and tags: what a commit takes in it, beside one in an empty store, and
//! what a collection takes.

use crate::{Options, images, report::Report};
use anyhow::{Result, ensure};
use cidery_tests::{Node, docker::noise, process::memory, wire::Client};
use std::{thread, time::Instant};

/// Commits in one figure, one after the other: in all runs together fewer than the 512 after which a node
/// collects by itself.
const COMMITS: usize = 30;
/// The repository with all the tags.
const TAGS: &str = "many/tags";
/// One whose directory of tags is a single block just under the 256 KiB at which it would become a HAMT.
const BRINK: &str = "many/brink";
/// A tag's link in that count: six characters and a CID.
const LINK: usize = 42;

/// Pushes images of two small blobs to one repository; the median of what their manifests took, in
/// milliseconds. The blobs are pushed before.
fn commits(http: &mut Client, repository: &str, first: usize) -> Result<f64> {
    let mut took = Vec::new();
    for n in first..first + COMMITS {
        let blobs = [noise(repository, 2 * n, 200), noise(repository, 2 * n + 1, 200)];
        let manifest = images::push_blobs(http, repository, blobs)?;
        let start = Instant::now();
        images::push_manifest(http, repository, &tag(n), &manifest)?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(crate::report::median(&took))
}

/// Six characters.
fn tag(n: usize) -> String {
    format!("t{n:05}")
}

/// What one collection took and left.
struct Collection {
    seconds: f64,
    freed: u64,
    live: u64,
    /// Of the process, in bytes.
    before: u64,
    peak: u64,
}

/// Collects in a process that did nothing else yet.
fn collect(node: &mut Node) -> Result<Collection> {
    node.daemon().stop();
    node.restart();
    thread::sleep(std::time::Duration::from_secs(5));
    let before = memory(node.daemon().id(), "VmRSS");
    let start = Instant::now();
    let said = node.json(&["gc", "--all"]);
    let seconds = start.elapsed().as_secs_f64();
    let figure = |name: &str| said[name].as_u64().unwrap_or_default();
    let (freed, live) = (figure("freed_blocks"), figure("live_blocks"));
    ensure!(live > 0, "the collection says {said}");
    Ok(Collection { seconds, freed, live, before, peak: node.daemon().peak_memory() })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Both stores run side by side and take turns; then the large one is collected as it is, and again
/// after half of its images were deleted; then it is killed and started.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let empty = Node::start(&["--history", "1"]);
    let images = options.many / images::BLOBS_PER_IMAGE;
    let mut full = match &options.filled {
        Some(data) => Node::start_on(data, &["--history", "1"]),
        None => {
            let node = Node::start(&["--history", "1"]);
            images::fill(&node.http, images)?;
            node
        }
    };
    // Of this run alone, also in a store that an earlier one filled.
    let run = std::process::id();
    let (tags, brink, small) = (format!("{TAGS}{run}"), format!("{BRINK}{run}"), format!("bench/commit{run}"));
    images::tag_many(&full.http, &tags, options.tags)?;
    images::tag_many(&full.http, &brink, (256 << 10) / LINK - options.runs * COMMITS - 1)?;

    // Filling made one due, which must not run beside what is measured.
    let filled = full.json(&["gc"]);
    eprintln!("filled: {filled}");

    let places = [
        ("an empty store", &empty, &small),
        ("the full store", &full, &small),
        ("the repository with all tags", &full, &tags),
        ("a directory under the HAMT threshold", &full, &brink),
    ];
    let mut figures: [Vec<f64>; 4] = Default::default();
    for run in 0..options.runs {
        for ((_, node, repository), figures) in places.iter().zip(&mut figures) {
            figures.push(commits(&mut Client::connect(&node.http)?, repository, run * COMMITS)?);
        }
    }
    let work = format!("commit with {} blobs and {} tags", options.many, options.tags);
    for ((place, ..), figures) in places.into_iter().zip(figures) {
        report.add(&format!("{work}: {place}"), "cidery", "ms", figures, None);
    }

    let work = format!("collection of {} blobs", options.many);
    let mut row = |what: &str, found: Collection| {
        eprintln!("{what}: {} live, {} freed, {} MiB before", found.live, found.freed, mib(found.before));
        report.add(&format!("{work}: {what}"), "cidery", "s", vec![found.seconds], Some(found.peak));
    };
    row("what pushing left behind", collect(&mut full)?);
    row("nothing to free", collect(&mut full)?);
    let start = Instant::now();
    images::each(&full.http, (0..images).step_by(2), |http, image| {
        images::delete(http, &images::repository(image), &format!("v{image}"))
    })?;
    let each = start.elapsed().as_secs_f64() * 1e3 / (images / 2) as f64;
    let deletes = full.daemon().peak_memory();
    row("half of the images deleted", collect(&mut full)?);

    full.daemon().kill();
    let start = Instant::now();
    full.restart();
    let started = start.elapsed().as_secs_f64() * 1e3;
    let work = format!("of {} blobs", options.many);
    report.add(&format!("deletes of half of the images {work}"), "cidery", "ms each", vec![each], Some(deletes));
    report.add(&format!("start with half {work}, after kill -9"), "cidery", "ms", vec![started], None);
    Ok(())
}
