//! `cidery backup`.

use super::{
    bar::{Bar, bytes, count},
    print_json, time,
};
use crate::{
    cli,
    control::{
        client::Client,
        types::{BackedUp, BackupRequest},
    },
};
use anyhow::{Context, Result};
use std::path;

pub async fn run(node: &mut Client, cli::Backup { directory, json }: cli::Backup) -> Result<()> {
    // The node has another working directory.
    let directory = path::absolute(&directory).with_context(|| format!("the directory {}", directory.display()))?;
    let bar = Bar::new("backing up");
    let frames = node.frames("/backup", &BackupRequest { directory: directory.clone() }).await?;
    let done: BackedUp = frames.finish(|progress| bar.show(&progress), |_| Ok(())).await?;
    drop(bar);
    if json {
        return print_json(&done);
    }
    println!("copied     {}", bytes(done.copied_bytes));
    println!(
        "backup     {} in {}, {} on the disk",
        bytes(done.bytes),
        count(done.packs, "pack"),
        bytes(done.disk_bytes)
    );
    if done.unreadable_bytes > 0 {
        println!("unreadable {}: run `cidery scrub`, then this again", bytes(done.unreadable_bytes));
    }
    println!("took       {}", time(done.seconds));
    println!("To restore: stop the node, and `cidery serve --data` a copy of {}", directory.display());
    Ok(())
}
