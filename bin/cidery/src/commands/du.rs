//! `cidery du`.

use super::{
    bar::{Bar, bytes, count},
    print_json,
};
use crate::control::{client::Client, types::Usage};
use anyhow::Result;

pub async fn run(node: &mut Client, json: bool) -> Result<()> {
    let bar = Bar::new("counting");
    let frames = node.frames("/du", &()).await?;
    let usage: Usage = frames.finish(|progress| bar.show(&progress), |_| Ok(())).await?;
    drop(bar);
    if json {
        return print_json(&usage);
    }
    let amount = |blocks: u64, sum: u64| format!("{} in {}", bytes(sum), count(blocks, "block"));
    println!("live       {}", amount(usage.live_blocks, usage.live_bytes));
    for namespace in &usage.namespaces {
        println!("  {}  {}", namespace.name, amount(namespace.blocks, namespace.bytes));
    }
    let history = amount(usage.history_blocks, usage.history_bytes);
    println!("  history  {history}  (only in {})", count(usage.history_roots, "earlier state"));
    let unsaved = match usage.uploads_unsaved_bytes {
        0 => String::new(),
        unsaved => format!(", and {} that a restart would lose", bytes(unsaved)),
    };
    println!("  uploads  {}  ({} open{unsaved})", amount(usage.uploads_blocks, usage.uploads_bytes), usage.uploads);
    println!("  pinned  {}  ({})", amount(usage.pinned_blocks, usage.pinned_bytes), count(usage.pins, "pin"));
    println!("cached     {}", amount(usage.cached_blocks, usage.cached_bytes));
    let hint = if usage.dead_bytes > 0 { "  (`cidery gc` gives it back)" } else { "" };
    println!("dead       {}{hint}", amount(usage.dead_blocks, usage.dead_bytes));
    println!("packs      {} on the disk, {}", bytes(usage.packs_bytes), count(usage.packs, "file"));
    println!("journal    {}", bytes(usage.journal_bytes));
    println!("index      {}", bytes(usage.index_bytes));
    Ok(())
}
