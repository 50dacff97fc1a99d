//! The index of a store with many small blocks: making it anew, opening it, asking it, adding to it.

use crate::{Options, report::Report};
use anyhow::{Context, Result, ensure};
use cidery_blockstore::{DiskStore, Options as StoreOptions};
use cidery_core::{Block, Blockstore, Origin};
use cidery_tests::process;
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio, id},
    time::Instant,
};
use tempfile::TempDir;

/// Just below what makes the store write a checkpoint by itself.
const CHECKPOINT: u64 = 16_000;
const LOOKUPS: u64 = 200_000;
/// Payload bytes: about what a directory node of a small repository has.
const SIZE: usize = 200;

fn block(n: u64) -> Block {
    let mut bytes = vec![7; SIZE];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Block::raw(bytes)
}

fn open(data: &Path) -> Result<DiskStore> {
    Ok(DiskStore::open(data, StoreOptions::default())?)
}

fn put(store: &DiskStore, from: u64, count: u64) -> Result<()> {
    (from..from + count).try_for_each(|n| store.put(&block(n), Origin::Pushed))?;
    Ok(store.sync()?)
}

/// What one process sees that opens a store.
#[derive(serde::Serialize, serde::Deserialize)]
struct Opened {
    blocks: u64,
    seconds: f64,
    /// One look-up in the index.
    nanoseconds: f64,
    /// After all that.
    resident: u64,
    /// Its most, meanwhile.
    peak: u64,
}

/// Opens a store with `blocks` blocks, looks many of them up, and prints how that went.
pub fn probe(data: &Path, blocks: u64) -> Result<()> {
    let start = Instant::now();
    let store = open(data)?;
    let seconds = start.elapsed().as_secs_f64();
    // Hashed before the time counts; in no order of the index.
    let step = (blocks / LOOKUPS).max(1);
    let cids: Vec<_> = (0..blocks.min(LOOKUPS)).map(|n| *block(n * step).cid()).collect();
    let start = Instant::now();
    for cid in &cids {
        ensure!(store.size(cid)? == Some(SIZE as u64), "{cid} is not there");
    }
    let nanoseconds = start.elapsed().as_secs_f64() * 1e9 / cids.len() as f64;
    drop(cids);
    let blocks = store.stats().blocks;
    let (resident, peak) = (process::memory(id(), "VmRSS"), process::memory(id(), "VmHWM"));
    println!("{}", serde_json::to_string(&Opened { blocks, seconds, nanoseconds, resident, peak })?);
    Ok(())
}

/// A process of its own, since its memory is measured.
fn probed(data: &Path, blocks: u64) -> Result<Opened> {
    let mut command = Command::new(env::current_exe()?);
    let output = command.arg("open-store").arg(data).arg(blocks.to_string()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the store did not open: {}", output.status);
    let opened: Opened = serde_json::from_slice(&output.stdout).context("what the probe printed")?;
    ensure!(opened.blocks == blocks, "{} blocks instead of {blocks}", opened.blocks);
    Ok(opened)
}

/// Bytes that the files of a directory take.
fn size(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Index by index: made anew, opened again, asked, and at last a checkpoint added to it.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let directory = TempDir::new()?;
    let (data, blocks) = (directory.path(), options.blocks);
    let store = open(data)?;
    put(&store, 0, blocks)?;
    drop(store);

    let index = data.join("index");
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let (mut rebuilds, mut peaks, mut starts, mut lookups) = (vec![], vec![], vec![], vec![]);
    let (mut memory, mut disk, mut checkpoints) = (vec![], vec![], vec![]);
    for run in 0..=options.runs {
        fs::remove_dir_all(&index)?;
        let rebuilt = probed(data, blocks)?;
        let opened = probed(data, blocks)?;
        // The first run brings the packs into the page cache.
        if run > 0 {
            rebuilds.push(blocks as f64 / rebuilt.seconds);
            peaks.push(mib(rebuilt.peak));
            starts.push(opened.seconds * 1e3);
            lookups.push(opened.nanoseconds);
            memory.push(mib(opened.resident));
            disk.push(mib(size(&index)?));
        }
    }
    for run in 0..=options.runs as u64 {
        let store = open(data)?;
        put(&store, blocks + run * CHECKPOINT, CHECKPOINT)?;
        let start = Instant::now();
        // Everything is flushed: what is left to do is the checkpoint.
        store.close()?;
        if run > 0 {
            checkpoints.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let work = format!("index of {blocks} blocks");
    let mut add = |what: &str, unit, figures| {
        report.add(&format!("{work}: {what}"), "cidery", unit, figures, None);
    };
    add("made anew", "blocks/s", rebuilds);
    add("made anew, peak memory", "MiB", peaks);
    add("start", "ms", starts);
    add("look-up", "ns", lookups);
    add("memory after the look-ups", "MiB", memory);
    add("on disk", "MiB", disk);
    add(&format!("checkpoint of {CHECKPOINT}"), "ms", checkpoints);
    Ok(())
}
