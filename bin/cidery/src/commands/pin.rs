//! `cidery pin add`, `rm` and `ls`.

use super::{
    bar::{Bar, bytes},
    print_json, without_host,
};
use crate::{
    cli::{Pin, PinAdd, PinRm},
    control::{
        client::Client,
        types::{PinRequest, Pinned, Unpinned},
    },
};
use anyhow::Result;

pub async fn run(node: &mut Client, options: Pin) -> Result<()> {
    match options {
        Pin::Add(options) => add(node, options).await,
        Pin::Rm(options) => remove(node, options).await,
        Pin::Ls(options) => list(node, options.json).await,
    }
}

async fn add(node: &mut Client, PinAdd { name, json }: PinAdd) -> Result<()> {
    without_host(&name)?;
    let bar = Bar::new(&name);
    let frames = node.frames("/pin/add", &PinRequest { name }).await?;
    let pinned: Pinned = frames.finish(|progress| bar.show(&progress), |_| Ok(())).await?;
    drop(bar);
    if json {
        return print_json(&pinned);
    }
    println!("pinned     {}  {}  ({})", pinned.name, pinned.root, bytes(pinned.bytes));
    Ok(())
}

async fn remove(node: &mut Client, PinRm { name, json }: PinRm) -> Result<()> {
    let unpinned: Unpinned = node.post("/pin/rm", &PinRequest { name }).await?;
    if json {
        return print_json(&unpinned);
    }
    println!("unpinned   {}", unpinned.name);
    Ok(())
}

async fn list(node: &mut Client, json: bool) -> Result<()> {
    let pins: Vec<Pinned> = node.get("/pin/ls").await?;
    if json {
        return print_json(&pins);
    }
    if pins.is_empty() {
        println!("Nothing is pinned. Keep an image: cidery pin add example.com/app:1");
        return Ok(());
    }
    let width = pins.iter().map(|pin| pin.name.len()).max().unwrap_or(0).max(4);
    println!("{:width$}  {:>10}  {:20}  ROOT", "NAME", "SIZE", "PINNED");
    for pin in pins {
        let lost = match pin.purged.len() {
            0 => String::new(),
            1 => "  (1 file was purged)".into(),
            many => format!("  ({many} files were purged)"),
        };
        println!("{:width$}  {:>10}  {:20}  {}{lost}", pin.name, bytes(pin.bytes), pin.pinned, pin.root);
    }
    Ok(())
}
