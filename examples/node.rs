//! The whole node without the command line: a store on disk, the swarm, and the registry over both.
//!
//! ```sh
//! cargo run -p cidery-examples --example node -- /tmp/cidery-example
//! ```

use anyhow::Context;
use cidery_blockstore::{DiskStore, Options};
use cidery_node::{Bootstrap, Config as NodeConfig, Identity, Node};
use cidery_registry::{Config, Registry};
use std::{path::Path, sync::Arc};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data = std::env::args().nth(1).context("name a data directory")?;
    let data = Path::new(&data);
    // Every port is an Arc<dyn …>: any of them can be one's own.
    let store = DiskStore::open(data, Options::default())?;
    let blocks = Arc::new(store.clone());
    let config = NodeConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/4011".into()],
        bootstrap: Bootstrap::None,
        mdns: false,
        ..NodeConfig::new(Identity::load_or_create(&data.join("identity"))?)
    };
    let node = Node::start(config, blocks.clone(), blocks.clone()).await?;
    let registry = Registry::open(Config::default(), blocks.clone(), blocks, Arc::new(node.clone())).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5051").await?;
    println!("registry on {}, swarm on {:?}; Ctrl-C ends it", listener.local_addr()?, node.addresses().await);
    let stop = async {
        // Without a signal handler the program simply runs on.
        let _ = tokio::signal::ctrl_c().await;
    };
    registry.serve(listener, stop).await?;
    node.shutdown().await;
    Ok(store.close()?)
}
