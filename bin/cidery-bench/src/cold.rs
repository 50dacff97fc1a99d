//! Cold pull of one blob from one peer over loopback.

use crate::{Options, local, report::Report};
use anyhow::{Context, Result};
use cidery_tests::{Kubo, Node, http as client, process::Daemon, wire::Client};
use std::{process::Command, time::Instant};
use tempfile::TempDir;

/// cidery to cidery over HTTP; a raw libp2p stream that hashes; Kubo to Kubo (`ipfs get`).
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (mut ours, mut raw, mut kubo) = (vec![], vec![], vec![]);
    let mut peaks = [0; 6];
    for run in 0..=options.runs {
        let bytes = local::blob(options.mib, run);
        let (rate, server, client) = cidery(&bytes)?;
        let (raw_rate, raw_server, raw_client) = stream(options.mib)?;
        // Kubo takes its time: fewer megabytes make the same rate.
        let (kubo_rate, kubo_server, kubo_client) = kubo_to_kubo(&bytes)?;
        if run > 0 {
            ours.push(rate);
            raw.push(raw_rate);
            kubo.push(kubo_rate);
        }
        for (peak, now) in peaks.iter_mut().zip([server, client, raw_server, raw_client, kubo_server, kubo_client]) {
            *peak = now.max(*peak);
        }
    }
    let work = format!("cold pull {} MiB from one peer", options.mib);
    report.add(&work, "cidery", "MB/s", ours, Some(peaks[1])).served_by(peaks[0]);
    report.add(&work, "raw libp2p stream + sha256", "MB/s", raw, Some(peaks[3])).served_by(peaks[2]);
    report.add(&work, "Kubo to Kubo", "MB/s", kubo, Some(peaks[5])).served_by(peaks[4]);
    Ok(())
}

/// The rate, and the peak memory of the serving and of the fetching end; so do the other two.
fn cidery(bytes: &[u8]) -> Result<(f64, u64, u64)> {
    let mut origin = Node::start(&[]);
    let digest = client::push_image(&origin.http, "app", "1", std::slice::from_ref(&bytes.to_vec()));
    let root = origin.publish();
    let mut node = Node::with_peer(&origin.address());
    let mut http = Client::connect(&node.http)?;
    http.get(&format!("/v2/{root}/app/manifests/{digest}"), None)?;
    let start = Instant::now();
    http.get(&format!("/v2/{root}/app/blobs/{}", client::digest(bytes)), Some(bytes.len() as u64))?;
    Ok((local::rate(bytes.len(), start), origin.daemon().peak_memory(), node.daemon().peak_memory()))
}

fn stream(mib: usize) -> Result<(f64, u64, u64)> {
    let program = std::env::current_exe()?;
    let mut server = Daemon::start(Command::new(&program).args(["raw-serve", &mib.to_string()]));
    server.wait_for_line("listening on");
    let log = server.log();
    let address = log.trim().rsplit(' ').next().context("an address")?;
    let said = cidery_tests::run(Command::new(&program).args(["raw-fetch", address, &mib.to_string()]));
    let (seconds, peak) = said.trim().split_once(' ').context("seconds and memory")?;
    Ok(((mib << 20) as f64 / 1e6 / seconds.parse::<f64>()?, server.peak_memory(), peak.parse()?))
}

fn kubo_to_kubo(bytes: &[u8]) -> Result<(f64, u64, u64)> {
    let directory = TempDir::new()?;
    let source = directory.path().join("source");
    std::fs::write(&source, bytes)?;
    let missing = "Kubo is missing: see tests/run, and name it in CIDERY_TEST_KUBO";
    let (server, client) = (Kubo::start().context(missing)?, Kubo::start().context(missing)?);
    let root = server.add(&source);
    client.run(&["swarm", "connect", &server.address()]);
    let start = Instant::now();
    client.run(&["get", "-o", cidery_tests::process::text(&directory.path().join("copy")), &format!("/ipfs/{root}")]);
    Ok((local::rate(bytes.len(), start), server.peak_memory(), client.peak_memory()))
}
