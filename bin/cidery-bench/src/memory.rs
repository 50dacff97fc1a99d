//! Memory with many blobs: when they were just pushed, idle, and while 16 clients pull cold.

use crate::{Options, images, local, report::Report};
use anyhow::Result;
use cidery_tests::{Node, http as client, process::memory, wire::Client};
use std::{thread, time::Duration};

/// Many images of 100 small blobs each, restart, idle; then 16 cold pulls at once from another node.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut node = Node::start(&[]);
    images::each(&node.http, 0..options.blobs / images::BLOBS_PER_IMAGE, images::push_small)?;
    let pushed = memory(node.daemon().id(), "VmRSS");
    let origin = Node::start(&[]);
    let layers: Vec<Vec<u8>> = (0..16).map(|n| local::blob(64, n)).collect();
    client::push_image(&origin.http, "app", "1", &layers);
    let root = origin.publish();
    node.daemon().stop();
    node.restart();
    thread::sleep(Duration::from_secs(5));
    let idle = memory(node.daemon().id(), "VmRSS");
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let work = format!("memory after {} blobs", options.blobs);
    report.add(&format!("{work}: just pushed"), "cidery", "MiB", vec![mib(pushed)], None);
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
                    Ok(Client::connect(host)?.get(&target, Some(layer.len() as u64))?)
                })
            })
            .collect();
        pulls.into_iter().try_for_each(|p| p.join().unwrap_or_else(|_| anyhow::bail!("a pull panicked")))
    })?;
    let peak = node.daemon().peak_memory();
    report.add(&format!("{work}: 16 cold pulls, peak"), "cidery", "MiB", vec![mib(peak)], Some(peak));
    Ok(())
}
