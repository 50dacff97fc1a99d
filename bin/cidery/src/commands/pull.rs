//! `cidery pull`.

use super::bar::{self, Bar};
use crate::{
    cli,
    control::{
        client::Client,
        types::{PullRequest, Pulled},
    },
};
use anyhow::Result;

pub async fn run(node: &mut Client, options: cli::Pull) -> Result<()> {
    super::without_host(&options.name)?;
    let bar = Bar::new(&options.name);
    let frames = node.frames("/pull", &PullRequest { name: options.name.clone() }).await?;
    let pulled: Pulled = frames.finish(|progress| bar.show(&progress), |_| Ok(())).await?;
    drop(bar);
    println!(
        "{}  {}  ({}, {})",
        options.name,
        pulled.digest,
        bar::count(pulled.blobs, "blob"),
        bar::bytes(pulled.bytes)
    );
    Ok(())
}
