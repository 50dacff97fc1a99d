//! How long a node takes to serve again after it was killed, by the size of its store.

use crate::{Options, images, local, report::Report};
use anyhow::{Result, bail};
use cidery_tests::{
    Node,
    process::{Daemon, free_port},
    wire::Client,
};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// MiB in each large blob; sixteen of them make an image.
const LARGE: usize = 64;
/// More than any start takes, a rebuild of the index included.
const PATIENCE: Duration = Duration::from_secs(600);

/// A store that is killed and opened again and again, always on one port.
struct Victim {
    directory: TempDir,
    host: String,
    daemon: Daemon,
    /// Large blobs, or small images, that were pushed so far.
    pushed: usize,
}

impl Victim {
    fn new() -> Result<Self> {
        let (directory, host) = (TempDir::with_prefix("cidery-reopen-")?, format!("127.0.0.1:{}", free_port()));
        let (daemon, _) = start(directory.path(), &host)?;
        Ok(Self { directory, host, daemon, pushed: 0 })
    }

    /// Pushes one image of large blobs.
    fn push_large(&mut self, blobs: usize) -> Result<()> {
        let first = self.pushed;
        self.pushed += blobs;
        let config = format!("{{\"first\":{first}}}").into_bytes();
        let layers = (first..self.pushed).map(|n| local::blob(LARGE, n));
        let blobs = [config].into_iter().chain(layers);
        images::push(&mut Client::connect(&self.host)?, "bench/large", &format!("v{first}"), blobs)
    }

    /// Kills it; milliseconds from the start of the next process to its first answer.
    fn reopen(&mut self) -> Result<f64> {
        self.daemon.kill();
        let (daemon, took) = start(self.directory.path(), &self.host)?;
        self.daemon = daemon;
        Ok(took.as_secs_f64() * 1e3)
    }

    /// Several rounds of a push, a kill and a start. The push is there for the start to find what no
    /// checkpoint covers, as it would on a node that was busy when it died.
    fn measure(
        &mut self,
        work: &str,
        runs: usize,
        report: &mut Report,
        push: fn(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let (mut figures, mut peak) = (Vec::new(), 0);
        for _ in 0..runs {
            push(self)?;
            figures.push(self.reopen()?);
            peak = self.daemon.peak_memory().max(peak);
        }
        report.add(&format!("reopen after kill -9: {work}"), "cidery", "ms", figures, Some(peak));
        Ok(())
    }
}

/// Starts a node; how long it took to the first 200.
fn start(data: &Path, host: &str) -> Result<(Daemon, Duration)> {
    let started = Instant::now();
    let mut daemon = Daemon::start(&mut Node::serve(data, &["--http", host]));
    loop {
        // A request waits in the socket's backlog as soon as the port is bound, so this is no polling
        // of the answer.
        if Client::connect(host).and_then(|mut http| http.get("/v2/", None)).is_ok() {
            return Ok((daemon, started.elapsed()));
        }
        if let Some(status) = daemon.exited() {
            bail!("the node ended with {status}:\n{}", daemon.log());
        }
        if started.elapsed() > PATIENCE {
            bail!("the node did not answer in {PATIENCE:?}:\n{}", daemon.log());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// One store that grows from size to size, and one of many small blobs.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut large = Victim::new()?;
    for gib in &options.gib {
        while large.pushed * LARGE < gib * 1024 {
            large.push_large(16.min(gib * 1024 / LARGE - large.pushed))?;
        }
        large.measure(&format!("{gib} GiB"), options.runs, report, |victim| victim.push_large(1))?;
    }
    drop(large);
    let mut small = Victim::new()?;
    small.pushed = options.blobs / images::BLOBS_PER_IMAGE;
    images::each(&small.host, 0..small.pushed, images::push_small)?;
    small.measure(&format!("{} small blobs", options.blobs), options.runs, report, |victim| {
        victim.pushed += 1;
        images::push_small(&mut Client::connect(&victim.host)?, victim.pushed)
    })
}
