//! `cidery purge`.

use super::{
    bar::{Bar, bytes, count},
    print_json,
};
use crate::{
    cli,
    control::{
        client::Client,
        types::{PurgeRequest, Purged},
    },
};
use anyhow::{Result, bail};

pub async fn run(node: &mut Client, cli::Purge { digest, json }: cli::Purge) -> Result<()> {
    let bar = Bar::new("purging");
    let frames = node.frames("/purge", &PurgeRequest { digest: digest.clone() }).await?;
    let done: Purged = frames.finish(|progress| bar.show(&progress), |_| Ok(())).await?;
    drop(bar);
    if json {
        return print_json(&done);
    }
    if !done.found {
        bail!("{digest} is nowhere on this node");
    }
    if done.places.is_empty() && done.pins.is_empty() {
        println!("cache");
    }
    for place in &done.places {
        let kind = if place.manifest { "manifest" } else { "blob" };
        println!("{kind:10} {}/{}", place.namespace, place.repository);
    }
    for pin in &done.pins {
        println!("{:10} {pin}: the rest of it is kept", "pin");
    }
    println!("freed      {} in {}", bytes(done.freed_bytes), count(done.freed_blocks, "block"));
    Ok(())
}
