//! Measures cidery side by side with other registries and nodes, in one run on one machine.
//!
//! Each figure is taken several times, the contestants in turn so that a machine whose speed drifts
//! drifts for all of them; what is quoted is the median, and every raw figure is kept in the JSON.
//! `docs/benchmarks.md` says how to run it.

mod clients;
mod cold;
mod collections;
mod images;
mod local;
mod many;
mod memory;
mod raw;
mod rebuild;
mod reclaim;
mod reopen;
mod report;
mod sides;
mod small;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use report::Report;
use std::path::PathBuf;

/// Measures cidery side by side with other registries and nodes.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Everything, as in docs/benchmarks.md
    All(Options),
    /// Durable push of one blob: cidery, docker-registry, dd + fdatasync
    Push(Options),
    /// Local pull of one blob: cidery, docker-registry, nginx with sendfile
    Pull(Options),
    /// Manifest by tag over 16 connections: cidery, docker-registry
    Manifests(Options),
    /// Images by one client and by many, many layers, uploads in pieces: cidery, docker-registry
    Clients(Options),
    /// An image pushed into a registry of very many blobs: cidery, docker-registry
    First(Options),
    /// Manifests, HEADs and lists of names: cidery, docker-registry
    Small(Options),
    /// Cold pull of one blob from one peer: cidery, a raw libp2p stream with sha256, Kubo
    Cold(Options),
    /// Memory with many blobs: just pushed, idle, and during 16 cold pulls
    Memory(Options),
    /// Latency of a mix of requests, alone and beside collections that follow each other without a pause
    Collections(Options),
    /// Start after kill -9, by the size of the store: from the process to the first answer
    Reopen(Options),
    /// The index of a store with many blocks: made anew, opened, asked, added to
    Rebuild(Options),
    /// A store with very many blobs and tags: what commits and collections take in it
    Many(Options),
    /// The disk that is left after half of a store was deleted
    Reclaim(Options),
    /// Opens a store and looks its blocks up (used by rebuild)
    #[command(hide = true)]
    OpenStore { data: PathBuf, blocks: u64 },
    /// One end of the raw stream (used by cold)
    #[command(hide = true)]
    RawServe { mib: usize },
    /// The other end
    #[command(hide = true)]
    RawFetch { address: String, mib: usize },
}

/// What all measurements take.
#[derive(clap::Args, Clone)]
struct Options {
    /// Size of the blob in MiB
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Counted runs of each contestant
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Small blobs in the stores that are idle, collected and reopened
    #[arg(long, default_value_t = 100_000)]
    blobs: usize,
    /// Sizes of the store that is reopened, in GiB, rising
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    gib: Vec<usize>,
    /// Blocks in the measurement of the index
    #[arg(long, default_value_t = 1_000_000)]
    blocks: u64,
    /// Blobs in the store in which commits and collections are measured
    #[arg(long, default_value_t = 1_000_000)]
    many: usize,
    /// Tags in one of its repositories
    #[arg(long, default_value_t = 100_000)]
    tags: usize,
    /// Size of the store of which half is deleted, in GiB
    #[arg(long, default_value_t = 20)]
    reclaim_gib: usize,
    /// Write every raw figure to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let mut report = Report::default();
    let options = match Cli::parse().what {
        What::RawServe { mib } => return raw::serve(mib),
        What::RawFetch { address, mib } => return raw::fetch(&address, mib),
        What::OpenStore { data, blocks } => return rebuild::probe(&data, blocks),
        What::All(options) => {
            local::push(&options, &mut report)?;
            local::pull(&options, &mut report)?;
            local::manifests(&options, &mut report)?;
            clients::run(&options, &mut report)?;
            clients::first(&options, &mut report)?;
            small::run(&options, &mut report)?;
            cold::run(&options, &mut report)?;
            memory::run(&options, &mut report)?;
            collections::run(&options, &mut report)?;
            reopen::run(&options, &mut report)?;
            rebuild::run(&options, &mut report)?;
            many::run(&options, &mut report)?;
            reclaim::run(&options, &mut report)?;
            options
        }
        What::Push(options) => local::push(&options, &mut report).map(|()| options)?,
        What::Pull(options) => local::pull(&options, &mut report).map(|()| options)?,
        What::Manifests(options) => local::manifests(&options, &mut report).map(|()| options)?,
        What::Clients(options) => clients::run(&options, &mut report).map(|()| options)?,
        What::First(options) => clients::first(&options, &mut report).map(|()| options)?,
        What::Small(options) => small::run(&options, &mut report).map(|()| options)?,
        What::Cold(options) => cold::run(&options, &mut report).map(|()| options)?,
        What::Memory(options) => memory::run(&options, &mut report).map(|()| options)?,
        What::Collections(options) => collections::run(&options, &mut report).map(|()| options)?,
        What::Reopen(options) => reopen::run(&options, &mut report).map(|()| options)?,
        What::Rebuild(options) => rebuild::run(&options, &mut report).map(|()| options)?,
        What::Many(options) => many::run(&options, &mut report).map(|()| options)?,
        What::Reclaim(options) => reclaim::run(&options, &mut report).map(|()| options)?,
    };
    print!("{}", report.table());
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
