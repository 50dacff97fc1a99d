//! `cidery gc`.

use super::{
    bar::{Bar, bytes},
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
    let packs = if done.packs_removed > 0 { format!(", {} packs removed", done.packs_removed) } else { String::new() };
    println!("freed      {} in {} blocks{packs}", bytes(done.freed_bytes), done.freed_blocks);
    println!("live       {} in {} blocks", bytes(done.live_bytes), done.live_blocks);
    println!("cached     {} in {} blocks", bytes(done.cached_bytes), done.cached_blocks);
    if done.unnamed_blobs > 0 {
        let amount = format!("{} in {} blobs that no manifest names", bytes(done.unnamed_bytes), done.unnamed_blobs);
        let hint = if all { "pushed meanwhile" } else { "`cidery gc --all` gives it back" };
        println!("unnamed    {amount}  ({hint})");
    }
    println!("took       {}", time(done.seconds));
    Ok(())
}
