//! Push, pull and manifests against servers on the same machine.

use crate::{Options, report::Report};
use anyhow::{Context, Result};
use cidery_tests::{
    Nginx, Node,
    docker::noise,
    http as client,
    process::{free_port, run, text},
    stock::StockRegistry,
    wire::Client,
};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const MANIFEST_CONNECTIONS: usize = 16;
const MANIFEST_TIME: Duration = Duration::from_secs(3);

/// A blob of this size, different for every `run`, without hashing a gigabyte to make it.
pub fn blob(mib: usize, run: usize) -> Vec<u8> {
    let piece = noise("bench", 0, 1 << 20);
    let mut bytes = Vec::with_capacity(mib << 20);
    for n in 0..mib {
        let at = bytes.len();
        bytes.extend_from_slice(&piece);
        bytes[at..at + 16].copy_from_slice(&[(n as u64).to_le_bytes(), (run as u64).to_le_bytes()].concat());
    }
    bytes
}

/// MB/s for this many bytes since `start`.
pub fn rate(bytes: usize, start: Instant) -> f64 {
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn stock(storage: &Path) -> Result<StockRegistry> {
    StockRegistry::start(storage).context("docker-registry is missing: apt install docker-registry")
}

/// Durable push of one blob. The stock registry answers 201 without a sync: it is given one
/// afterwards, inside its time, since that is what is compared.
pub fn push(options: &Options, report: &mut Report) -> Result<()> {
    let (storage, plain) = (TempDir::new()?, TempDir::new()?);
    let mut node = Node::start(&[]);
    let stock = stock(storage.path())?;
    let (mut ours, mut theirs, mut synced, mut dd) = (vec![], vec![], vec![], vec![]);
    for run in 0..=options.runs {
        let bytes = blob(options.mib, run);
        let digest = client::digest(&bytes);
        let file = plain.path().join("source");
        fs::write(&file, &bytes)?;
        settle()?;
        let start = Instant::now();
        Client::connect(&node.http)?.push("bench", &digest, &bytes)?;
        let our_rate = rate(bytes.len(), start);

        settle()?;
        let start = Instant::now();
        Client::connect(&stock.host)?.push("bench", &digest, &bytes)?;
        let their_rate = rate(bytes.len(), start);
        let hex = &digest[7..];
        let stored = storage.path().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
        fs::File::open(stored)?.sync_data()?;
        let their_synced = rate(bytes.len(), start);

        settle()?;
        let start = Instant::now();
        let copy = format!("of={}", text(&plain.path().join("copy")));
        let source = format!("if={}", text(&file));
        cidery_tests::run(Command::new("dd").args([&source, &copy, "bs=1M", "conv=fdatasync", "status=none"]));
        let dd_rate = rate(bytes.len(), start);
        fs::remove_file(plain.path().join("copy"))?;
        // The first run warms everybody up.
        if run > 0 {
            ours.push(our_rate);
            theirs.push(their_rate);
            synced.push(their_synced);
            dd.push(dd_rate);
        }
    }
    let work = format!("push {} MiB, durable", options.mib);
    report.add(&work, "cidery", "MB/s", ours, Some(node.daemon().peak_memory()));
    report.add(&work, "docker-registry (no sync)", "MB/s", theirs, Some(stock.peak_memory()));
    report.add(&work, "docker-registry + sync", "MB/s", synced, None);
    report.add(&work, "dd + fdatasync", "MB/s", dd, None);
    Ok(())
}

/// What earlier contestants left to write must not be paid by the next.
fn settle() -> Result<()> {
    run(&mut Command::new("sync"));
    Ok(())
}

/// Local pull of one blob that is in the page cache.
pub fn pull(options: &Options, report: &mut Report) -> Result<()> {
    let (storage, served) = (TempDir::new()?, TempDir::new()?);
    let mut node = Node::start(&[]);
    let stock = stock(storage.path())?;
    let bytes = blob(options.mib, 0);
    let digest = client::digest(&bytes);
    Client::connect(&node.http)?.push("bench", &digest, &bytes)?;
    Client::connect(&stock.host)?.push("bench", &digest, &bytes)?;
    fs::write(served.path().join("blob"), &bytes)?;
    let address = format!("127.0.0.1:{}", free_port());
    let server = format!("sendfile on; tcp_nopush on; server {{ listen {address}; root {}; }}", text(served.path()));
    let nginx =
        Nginx::start(&address, &server).with_context(|| format!("nginx is missing: apt install {}", Nginx::PACKAGE))?;
    settle()?;

    let target = format!("/v2/bench/blobs/{digest}");
    let contestants: [(&str, &str, &str); 3] = [
        ("cidery", &node.http, &target),
        ("docker-registry", &stock.host, &target),
        ("nginx, sendfile", &nginx.address, "/blob"),
    ];
    let mut figures = [vec![], vec![], vec![]];
    for run in 0..=options.runs {
        for (n, (_, host, target)) in contestants.iter().enumerate() {
            let start = Instant::now();
            Client::connect(host)?.get(target, Some(bytes.len() as u64))?;
            if run > 0 {
                figures[n].push(rate(bytes.len(), start));
            }
        }
    }
    let work = format!("pull {} MiB, local", options.mib);
    let names = contestants.map(|(name, ..)| name);
    let [ours, theirs, nginxs] = figures;
    report.add(&work, names[0], "MB/s", ours, Some(node.daemon().peak_memory()));
    report.add(&work, names[1], "MB/s", theirs, Some(stock.peak_memory()));
    report.add(&work, names[2], "MB/s", nginxs, Some(nginx.peak_memory()));
    Ok(())
}

/// Manifest by tag, as many as 16 connections get in a few seconds.
pub fn manifests(options: &Options, report: &mut Report) -> Result<()> {
    let storage = TempDir::new()?;
    let mut node = Node::start(&[]);
    let stock = stock(storage.path())?;
    for host in [&node.http, &stock.host] {
        client::push_image(host, "bench/app", "v1", &[b"layer".to_vec()]);
    }
    let (mut ours, mut theirs) = (vec![], vec![]);
    for run in 0..=options.runs {
        let our_rate = requests(&node.http)?;
        let their_rate = requests(&stock.host)?;
        if run > 0 {
            ours.push(our_rate);
            theirs.push(their_rate);
        }
    }
    let work = "manifest by tag, 16 connections";
    report.add(work, "cidery", "req/s", ours, Some(node.daemon().peak_memory()));
    report.add(work, "docker-registry", "req/s", theirs, Some(stock.peak_memory()));
    Ok(())
}

fn requests(host: &str) -> Result<f64> {
    let count = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..MANIFEST_CONNECTIONS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut client = Client::connect(host)?;
                    while start.elapsed() < MANIFEST_TIME {
                        client.get("/v2/bench/app/manifests/v1", None)?;
                        count.fetch_add(1, Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        // A worker only panics on a bug here.
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })?;
    Ok(count.into_inner() as f64 / start.elapsed().as_secs_f64())
}
