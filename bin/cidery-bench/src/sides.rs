//! cidery and docker-registry side by side: the same work for each in turn, several clients at once.

use crate::report::Report;
use anyhow::{Context, Result};
use cidery_tests::{Node, stock::StockRegistry, wire::Client};
use std::{
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The contestants, each started empty.
pub struct Sides {
    pub node: Node,
    stock: StockRegistry,
    _storage: TempDir,
}

/// What one contestant took for a piece of work.
pub struct Measured {
    /// Work done in a second, in whatever unit it is counted.
    pub rate: f64,
    /// What single requests took, in milliseconds, sorted.
    times: Vec<f64>,
}

impl Measured {
    /// The time that all but one in a hundred requests took at most, in milliseconds.
    fn p99(&self) -> f64 {
        self.times.get((self.times.len() * 99 / 100).min(self.times.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

impl Sides {
    /// Starts both.
    pub fn start() -> Result<Self> {
        let storage = TempDir::new()?;
        let stock =
            StockRegistry::start(storage.path()).context("docker-registry is missing: apt install docker-registry")?;
        Ok(Self { node: Node::start(&[]), stock, _storage: storage })
    }

    /// Their addresses, cidery's first.
    pub fn hosts(&self) -> [&str; 2] {
        [&self.node.http, &self.stock.host]
    }

    /// Has both do `work(host, run)` in turns, once to warm up and then `runs` times, and adds a row for the
    /// rate and one for the slowest requests.
    pub fn compare(
        &mut self,
        report: &mut Report,
        (what, unit, runs): (&str, &'static str, usize),
        mut work: impl FnMut(&str, usize) -> Result<Measured>,
    ) -> Result<()> {
        let (mut rates, mut slowest) = ([vec![], vec![]], [vec![], vec![]]);
        for run in 0..=runs {
            for (n, host) in self.hosts().into_iter().enumerate() {
                // What the other left to write must not be paid by the next.
                cidery_tests::run(&mut std::process::Command::new("sync"));
                let measured = work(host, run)?;
                if run > 0 {
                    rates[n].push(measured.rate);
                    slowest[n].push(measured.p99());
                }
            }
        }
        let peaks = [self.node.daemon().peak_memory(), self.stock.peak_memory()];
        for (unit, work, figures) in [(unit, what.to_owned(), rates), ("ms", format!("{what}: request p99"), slowest)] {
            for ((who, figures), peak) in ["cidery", "docker-registry"].into_iter().zip(figures).zip(peaks) {
                report.add(&work, who, unit, figures, Some(peak));
            }
        }
        Ok(())
    }
}

/// Runs `work` on so many connections at once, each with its number, and counts what all did together.
pub fn together(
    host: &str,
    clients: usize,
    work: impl Fn(&mut Client, usize) -> Result<f64> + Sync,
) -> Result<Measured> {
    let mut connections = (0..clients)
        .map(|_| {
            let mut http = Client::connect(host)?;
            http.times = Some(Vec::new());
            Ok(http)
        })
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let amounts = thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> =
            connections.iter_mut().enumerate().map(|(n, http)| scope.spawn(move || work(http, n))).collect();
        let joined = workers.into_iter().map(|w| w.join().unwrap_or_else(|_| anyhow::bail!("a client panicked")));
        joined.collect::<Result<Vec<f64>>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let times = connections.into_iter().flat_map(|http| http.times.unwrap_or_default());
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    Ok(Measured { rate: amounts.iter().sum::<f64>() / seconds, times })
}

/// As [`together`], the same request again and again for this long; counted in requests.
pub fn again(
    host: &str,
    clients: usize,
    time: Duration,
    request: impl Fn(&mut Client) -> Result<()> + Sync,
) -> Result<Measured> {
    let start = Instant::now();
    together(host, clients, |http, _| {
        let mut count = 0.0;
        while start.elapsed() < time {
            request(http)?;
            count += 1.0;
        }
        Ok(count)
    })
}
