//! `cidery publish` and `cidery unpublish`.

use super::print_json;
use crate::{
    cli::{Publish, Unpublish},
    control::{
        client::Client,
        types::{PublishRequest, Published, UnpublishRequest},
    },
};
use anyhow::Result;

pub async fn publish(node: &mut Client, options: Publish) -> Result<()> {
    let request = PublishRequest { namespace: options.namespace, once: options.once };
    let published: Published = node.post("/publish", &request).await?;
    if options.json {
        return print_json(&published);
    }
    let name = &published.namespace;
    if options.once {
        println!("Public from now on: what is in namespace {name} now. Later pushes stay private.");
    } else {
        println!("Public from now on: everything in namespace {name}, and every later push to it.");
    }
    println!("Anyone who knows a name below can pull it; `cidery unpublish` makes it private again.\n");
    println!("Root       {}", published.root);
    println!("\nTo pull, on any machine that runs cidery (connect it with --peer if it does not find this one):");
    for line in &published.pull {
        println!("  docker pull {line}");
    }
    println!("\nTo pull by a domain of yours instead, e.g. example.com/app:1, set these TXT records:");
    for line in &published.txt {
        println!("  {line}");
    }
    if published.txt.iter().any(|line| line.contains("/ip4/127.") || line.contains("/ip6/::1/")) {
        println!("The addresses in them are this machine's own: others need one that leads here.");
    }
    if !options.once {
        println!("The CID in them is today's: after a push, run `cidery publish` again and set the new one.");
    }
    Ok(())
}

pub async fn unpublish(node: &mut Client, options: Unpublish) -> Result<()> {
    let namespace = options.namespace;
    let () = node.post("/unpublish", &UnpublishRequest { namespace: namespace.clone() }).await?;
    println!("Namespace {namespace} is private. Copies that others have fetched stay with them.");
    Ok(())
}
