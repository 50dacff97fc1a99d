//! `cidery status`.

use super::{
    bar::{bytes, count},
    print_json,
};
use crate::control::{client::Client, types::Status};
use anyhow::Result;

pub async fn run(node: &mut Client, json: bool) -> Result<()> {
    let status: Status = node.get("/status").await?;
    if json {
        return print_json(&status);
    }
    println!("cidery {}", status.version);
    println!("peer id    {}", status.peer_id);
    for address in &status.addresses {
        println!("address    {address}");
    }
    println!("peers      {}", status.peers);
    println!("store      {}, {}", count(status.blocks, "block"), bytes(status.bytes));
    for namespace in &status.namespaces {
        let root = namespace.root.as_deref().unwrap_or("empty");
        let state = match &namespace.published {
            Some(published) if Some(published) == namespace.root.as_ref() => "public".into(),
            Some(published) => format!("public is {published}"),
            None => "private: `cidery publish` makes it public".into(),
        };
        println!("namespace  {}  {root}  ({state})", namespace.name);
    }
    Ok(())
}
