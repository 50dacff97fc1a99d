//! `cidery gc`.

use super::{
    bar::{Bar, bytes, count},
    print_json, time,
};
use crate::{
    cli,
    control::{
        client::Client,
        types::{CollectRequest, Collected},
    },
};
use anyhow::Result;

pub async fn run(node: &mut Client, cli::Gc { all, json }: cli::Gc) -> Result<()> {
    let bar = Bar::new("collecting");
    let frames = node.frames("/gc", &CollectRequest { all }).await?;
    let done: Collected = frames.finish(|progress| bar.show(&progress), |_| Ok(())).await?;
    drop(bar);
    if json {
        return print_json(&done);
    }
    let packs =
        if done.packs_removed > 0 { format!(", {} removed", count(done.packs_removed, "pack")) } else { String::new() };
    println!("freed      {} in {}{packs}", bytes(done.freed_bytes), count(done.freed_blocks, "block"));
    println!("live       {} in {}", bytes(done.live_bytes), count(done.live_blocks, "block"));
    println!("cached     {} in {}", bytes(done.cached_bytes), count(done.cached_blocks, "block"));
    if done.unnamed_blobs > 0 {
        let amount =
            format!("{} in {} that no manifest names", bytes(done.unnamed_bytes), count(done.unnamed_blobs, "blob"));
        let hint = if all { "pushed meanwhile" } else { "`cidery gc --all` gives it back" };
        println!("unnamed    {amount}  ({hint})");
    }
    println!("took       {}", time(done.seconds));
    Ok(())
}
