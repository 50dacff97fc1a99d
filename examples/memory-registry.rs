//! A registry that keeps everything in memory and knows no peers: for tests of one's own.
//!
//! ```sh
//! cargo run -p cidery-examples --example memory-registry
//! docker push localhost:5050/hello:1
//! ```

use cidery_core::memory::{MemoryStore, World};
use cidery_registry::{Config, Registry};
use std::sync::Arc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = MemoryStore::new();
    // A world with one member: foreign names lead nowhere.
    let network = World::new().join(store.clone());
    let registry =
        Registry::open(Config::default(), Arc::new(store.clone()), Arc::new(store), Arc::new(network)).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5050").await?;
    println!("registry on {}; Ctrl-C ends it", listener.local_addr()?);
    let stop = async {
        // Without a signal handler the program simply runs on.
        let _ = tokio::signal::ctrl_c().await;
    };
    Ok(registry.serve(listener, stop).await?)
}
