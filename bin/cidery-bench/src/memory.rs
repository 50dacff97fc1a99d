//! Memory with many blobs: idle, and while 16 clients pull cold.

use crate::{Options, http::Client, local, report::Report};
use anyhow::Result;
use cidery_tests::{Node, docker::noise, http as client};
use std::{fs, thread, time::Duration};

const WORKERS: usize = 16;
/// The config among them.
const BLOBS_PER_IMAGE: usize = 100;

/// Pushes one image of small blobs, on a kept connection.
fn push(http: &mut Client, image: usize) -> Result<()> {
    let repository = format!("many/images-{}", image % 64);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut described = Vec::new();
    for n in 0..BLOBS_PER_IMAGE {
        let bytes = noise("memory", image * BLOBS_PER_IMAGE + n, 200);
        let digest = client::digest(&bytes);
        http.push(&repository, &digest, &bytes)?;
        let media_type = if n == 0 { "image.config.v1+json" } else { "image.layer.v1.tar" };
        described.push(serde_json::json!({
            "mediaType": format!("application/vnd.oci.{media_type}"), "digest": digest, "size": bytes.len()
        }));
    }
    let layers = described.split_off(1);
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": described[0], "layers": layers})
        .to_string();
    let target = format!("/v2/{repository}/manifests/v{image}");
    let answer = http.request("PUT", &target, &format!("Content-Type: {kind}\r\n"), manifest.as_bytes())?;
    anyhow::ensure!(answer.status == 201, "the manifest was answered {}", answer.status);
    Ok(())
}

/// Resident memory of a process, in bytes: `VmRSS` now, `VmHWM` its most so far.
pub fn resident(id: u32, which: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with(which)).unwrap_or_default();
    Ok(line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10)
}

/// Many images of 100 small blobs each, restart, idle; then 16 cold pulls at once from another node.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut node = Node::start(&[]);
    let images = options.blobs / BLOBS_PER_IMAGE;
    thread::scope(|scope| -> Result<()> {
        let host = &node.http;
        let handles: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || -> Result<()> {
                    let mut http = Client::connect(host)?;
                    (worker..images).step_by(WORKERS).try_for_each(|image| push(&mut http, image))
                })
            })
            .collect();
        handles.into_iter().try_for_each(|h| h.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })?;
    let origin = Node::start(&[]);
    let layers: Vec<Vec<u8>> = (0..16).map(|n| local::blob(64, n)).collect();
    client::push_image(&origin.http, "app", "1", &layers);
    let root = origin.publish();
    node.daemon().stop();
    node.restart();
    thread::sleep(Duration::from_secs(5));
    let idle = resident(node.daemon().id(), "VmRSS")?;
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let work = format!("memory after {} blobs", options.blobs);
    report.add(&format!("{work}: idle"), "cidery", "MiB", vec![mib(idle)], None);

    let peer = origin.address();
    let data = node.data().to_owned();
    node.daemon().stop();
    let mut node = Node::start_on(&data, &["--peer", &peer]);
    thread::scope(|scope| -> Result<()> {
        let (host, root) = (&node.http, &root);
        let pulls: Vec<_> = layers
            .iter()
            .map(|layer| {
                scope.spawn(move || {
                    let target = format!("/v2/{root}/app/blobs/{}", client::digest(layer));
                    Client::connect(host)?.get(&target, Some(layer.len() as u64))
                })
            })
            .collect();
        pulls.into_iter().try_for_each(|p| p.join().unwrap_or_else(|_| anyhow::bail!("a pull panicked")))
    })?;
    let peak = node.daemon().peak_memory();
    report.add(&format!("{work}: 16 cold pulls, peak"), "cidery", "MiB", vec![mib(peak)], Some(peak));
    Ok(())
}
