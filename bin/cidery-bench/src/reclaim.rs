//! What is left on the disk when half of a store was deleted.

use crate::{Options, images, local, report::Report};
use anyhow::Result;
use cidery_tests::{Node, docker::noise, wire::Client};
use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Instant};

/// MiB of the layers of an image; there are small blobs beside them.
const LAYERS: [usize; 4] = [44, 12, 6, 2];
const SMALL: [usize; 3] = [300, 5_000, 200_000];

fn push(http: &mut Client, image: usize) -> Result<()> {
    let small = SMALL.iter().enumerate().map(|(n, size)| noise("reclaim", image * SMALL.len() + n, *size));
    let layers = LAYERS.iter().enumerate().map(|(n, mib)| local::blob(*mib, image * LAYERS.len() + n));
    images::push(http, &repository(image), &tag(image), small.chain(layers))
}

fn repository(image: usize) -> String {
    format!("reclaim/images-{}", image % 8)
}

fn tag(image: usize) -> String {
    format!("v{image}")
}

/// Bytes of the disk that a directory takes, holes left out.
fn taken(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { taken(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Fills a store, deletes every other image, and collects: the disk that is taken, over what is live.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut node = Node::start(&["--reserve", "0"]);
    let images = (options.reclaim_gib << 10) / LAYERS.iter().sum::<usize>();
    let mut http = Client::connect(&node.http)?;
    (0..images).try_for_each(|image| push(&mut http, image))?;
    let full = taken(node.data())?;
    images::each(&node.http, (0..images).step_by(2), |http, image| {
        images::delete(http, &repository(image), &tag(image))
    })?;
    let start = Instant::now();
    node.run(&["gc", "--all"]);
    let seconds = start.elapsed().as_secs_f64();
    let live = node.json(&["du"])["live_bytes"].as_u64().unwrap_or_default();
    let left = taken(node.data())?;
    let peak = node.daemon().peak_memory();
    let work = format!("half of {} GiB deleted", options.reclaim_gib);
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let mut add = |what: &str, unit, figure, peak| {
        report.add(&format!("{work}: {what}"), "cidery", unit, vec![figure], peak);
    };
    add("collection", "s", seconds, Some(peak));
    add("disk before", "MiB", mib(full), None);
    add("disk after", "MiB", mib(left), None);
    add("live", "MiB", mib(live), None);
    add("disk over live", "%", 100.0 * (left as f64 / live as f64 - 1.0), None);
    Ok(())
}
