//! `cidery scrub`.

use super::{
    bar::{Bar, bytes, count},
    print_json, time,
};
use crate::{
    cli,
    control::{
        client::Client,
        types::{ScrubRequest, Scrubbed},
    },
};
use anyhow::{Result, bail};

pub async fn run(node: &mut Client, options: cli::Scrub) -> Result<()> {
    let bar = Bar::new("reading every block");
    let frames = node.frames("/scrub", &ScrubRequest { rate: options.rate.0 }).await?;
    let done: Scrubbed = frames.finish(|progress| bar.show(&progress), |_| Ok(())).await?;
    drop(bar);
    if options.json {
        print_json(&done)?;
    } else {
        show(&done);
    }
    match done.damaged.len() {
        0 => Ok(()),
        1 => bail!("one block is damaged and nobody who was asked has it"),
        many => bail!("{many} blocks are damaged and nobody who was asked has them"),
    }
}

fn show(done: &Scrubbed) {
    println!("read       {} in {}", bytes(done.bytes), count(done.blocks, "block"));
    println!("repaired   {}", count(done.repaired.len(), "block"));
    if done.removed > 0 {
        println!("removed    {} of the cache; the next pull fetches what it needs again", count(done.removed, "block"));
    }
    println!("damaged    {}", count(done.damaged.len(), "block"));
    for cid in &done.damaged {
        println!("  {cid}");
    }
    if !done.images.is_empty() {
        println!("Images that need them; push them again while this node runs, or restore a backup:");
    }
    for image in &done.images {
        println!("  {image}");
    }
    for namespace in &done.namespaces {
        println!("In namespace {namespace} something else is damaged: what has no tag, or the tree itself.");
        println!("What was deleted goes with `cidery gc`; for the rest, restore a backup.");
    }
    println!("took       {}", time(done.seconds));
}
