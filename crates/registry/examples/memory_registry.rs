//! A registry that keeps everything in memory and knows nobody: `cargo run --example memory_registry -- 127.0.0.1:5000`,
//! with `--require-references` after it to refuse manifests whose blobs are not there.

use cidery_core::memory::{MemoryStore, World};
use cidery_registry::{Config, Registry};
use std::{error::Error, sync::Arc};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5000".to_owned());
    let store = MemoryStore::new();
    let network = World::new().join(store.clone());
    let config = Config {
        require_references: std::env::args().any(|argument| argument == "--require-references"),
        ..Config::default()
    };
    let registry = Registry::open(config, Arc::new(store.clone()), Arc::new(store), Arc::new(network)).await?;
    let listener = TcpListener::bind(&address).await?;
    println!("docker push {}/hello", listener.local_addr()?);
    registry.serve(listener, std::future::pending()).await?;
    Ok(())
}
