//! `cidery retention`.

use super::{bar::count, print_json};
use crate::{
    cli,
    control::{
        client::Client,
        types::{Retained, RetentionRequest},
    },
};
use anyhow::{Result, bail};

pub async fn run(node: &mut Client, cli::Retention { dry_run, json }: cli::Retention) -> Result<()> {
    let done: Retained = node.post("/retention", &RetentionRequest { dry_run }).await?;
    if json {
        print_json(&done)?;
    } else if done.rules {
        print(&done);
    } else {
        println!("No rule: nothing goes by itself. Add [[retention]] to the configuration file, and restart the node.");
    }
    match &done.failed[..] {
        [] => Ok(()),
        [one] => bail!("{} was left as it is: {}", one.repository, one.error),
        [first, more @ ..] => {
            bail!("{} and {} more were left as they are: {}", first.repository, more.len(), first.error)
        }
    }
}

fn print(done: &Retained) {
    if !done.tags.is_empty() {
        let width = done.tags.iter().map(|tag| tag.name.len()).max().unwrap_or(0).max(4);
        println!("{:width$}  {:24}  DIGEST", "NAME", "PUSHED");
        for tag in &done.tags {
            let (pushed, digest) = (tag.pushed.as_deref().unwrap_or("-"), tag.digest.as_deref().unwrap_or("-"));
            println!("{:width$}  {pushed:24}  {digest}", tag.name);
        }
    }
    for failed in &done.failed {
        println!("failed     {}: {}", failed.repository, failed.error);
    }
    let what = format!("{}, {}", count(done.tags.len(), "tag"), count(done.manifests.len(), "manifest"));
    let verb = if done.dry_run { "would go  " } else { "removed   " };
    let hint = match (done.dry_run, done.tags.is_empty()) {
        (true, false) => "  (remove them: cidery retention)",
        (false, false) => "  (their layers go as after any delete: cidery gc)",
        _ => "",
    };
    println!("{verb} {what}{hint}");
    // Signatures go with their images, and are covered by no rule.
    println!("covered    {}", count(done.covered, "tag"));
}
