//! Readiness and numbers of what is around the registry: store, swarm, process.

use super::{process, records::Records};
use crate::line::one_line;
use async_trait::async_trait;
use cidery_blockstore::{DiskStore, Measures, Obstacle};
use cidery_node::{Node, Questions, Tables, Traffic};
use cidery_registry::ops::{Ailment, Reading, Surroundings};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::task::spawn_blocking;

/// How long the swarm may take to answer: it is asked from its own task.
const PATIENCE: Duration = Duration::from_secs(1);

/// The node around a registry.
#[derive(Debug)]
pub struct Around {
    node: Node,
    store: Store,
    records: Arc<Records>,
}

/// A store whose `Debug` says nothing.
#[derive(Clone)]
struct Store(DiskStore);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Around {
    /// Around the registry of this node.
    pub fn new(node: Node, store: DiskStore, records: Arc<Records>) -> Self {
        Self { node, store: Store(store), records }
    }

    async fn swarm(&self) -> Option<(u64, Tables)> {
        let asked = async { (self.node.peers().await as u64, self.node.tables().await) };
        tokio::time::timeout(PATIENCE, asked).await.ok()
    }
}

#[async_trait]
impl Surroundings for Around {
    async fn ailments(&self) -> Vec<Ailment> {
        let store = self.store.clone();
        match spawn_blocking(move || store.0.obstacles()).await {
            Ok(obstacles) => obstacles.into_iter().map(ailment).collect(),
            Err(error) => vec![Ailment::new("store", error.to_string())],
        }
    }

    async fn readings(&self) -> Vec<Reading> {
        let mut all = vec![
            Reading::gauge("cidery_build_info", "Always 1; what is running", 1)
                .with("version", env!("CARGO_PKG_VERSION"))
                .with("target", std::env::consts::ARCH),
        ];
        let store = self.store.clone();
        match spawn_blocking(move || store.0.measures()).await {
            Ok(Ok(measures)) => all.extend(of_store(&measures)),
            Ok(Err(error)) => tracing::warn!("the store has no numbers: {}", one_line(&error.into())),
            Err(error) => tracing::warn!(%error, "the store has no numbers"),
        }
        all.extend(of_bitswap(&self.node.traffic()));
        all.extend(of_questions(&self.node.questions()));
        if let Some((peers, tables)) = self.swarm().await {
            all.push(Reading::gauge("cidery_peers", "Peers that are connected", peers));
            let (name, help) = ("cidery_dht_peers", "Peers in the routing tables, by network");
            all.push(Reading::gauge(name, help, tables.local as u64).with("network", "local"));
            all.push(Reading::gauge(name, help, tables.wide as u64).with("network", "public"));
        }
        all.extend(self.records.readings());
        all.extend(process::readings());
        all
    }
}

fn ailment(obstacle: Obstacle) -> Ailment {
    match obstacle {
        Obstacle::Unsound(why) => Ailment::new("store", why),
        Obstacle::NoRoom(missing) => {
            let detail = format!("pushes are refused until {missing} bytes more are free; see `cidery du`");
            Ailment::new("no-space", detail)
        }
    }
}

fn of_store(measures: &Measures) -> Vec<Reading> {
    let gauge = Reading::gauge;
    let mut all = vec![
        gauge("cidery_store_blocks", "Blocks in the store", measures.blocks),
        gauge("cidery_store_block_bytes", "Bytes of blocks in the store", measures.bytes),
        gauge("cidery_store_cached_bytes", "Bytes of blocks in the cache, about", measures.cached_bytes),
        gauge("cidery_store_packs", "Pack files", measures.packs),
        gauge("cidery_store_pack_bytes", "Bytes that pack files take on the disk", measures.packs_bytes),
        gauge("cidery_store_journal_bytes", "Bytes that the journal takes on the disk", measures.journal_bytes),
        gauge("cidery_store_reserve_bytes", "Bytes that are to stay free on the disk", measures.reserve_bytes),
        Reading::counter("cidery_store_syncs", "Times something was made durable", measures.syncs),
    ];
    let free =
        measures.free_bytes.map(|free| gauge("cidery_store_free_bytes", "Bytes that are free on the disk", free));
    let limit = measures.limit_bytes;
    let limit = limit.map(|limit| gauge("cidery_store_limit_bytes", "Bytes of blocks that are taken at most", limit));
    all.extend(free.into_iter().chain(limit));
    let done = &measures.collections;
    let (name, help) = ("cidery_collection_seconds", "Seconds that collections took");
    all.extend([
        Reading::counter("cidery_collections", "Collections that ended", done.count),
        Reading::counter("cidery_collection_freed_blocks", "Blocks that collections removed", done.freed_blocks),
        Reading::counter("cidery_collection_freed_bytes", "Bytes of blocks that collections removed", done.freed_bytes),
        Reading::counter(name, help, 0).value(done.took.as_secs_f64()),
    ]);
    if let Some((at, last)) = &measures.last_collection {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (name, help) = ("cidery_last_collection_timestamp_seconds", "When the last collection ended");
        all.push(gauge(name, help, 0).value(since.as_secs_f64()));
        let (name, help) = ("cidery_last_collection_duration_seconds", "How long the last collection took");
        all.push(gauge(name, help, 0).value(last.took.as_secs_f64()));
        let (name, help) = ("cidery_last_collection_freed_bytes", "Bytes of blocks that the last collection removed");
        all.push(gauge(name, help, last.freed_bytes));
    }
    all
}

fn of_bitswap(traffic: &Traffic) -> Vec<Reading> {
    let (counter, gauge) = (Reading::counter, Reading::gauge);
    vec![
        counter("cidery_bitswap_sent_blocks", "Blocks sent to peers", traffic.blocks_sent),
        counter("cidery_bitswap_sent_bytes", "Bytes of blocks sent to peers", traffic.bytes_sent),
        counter("cidery_bitswap_received_blocks", "Wanted blocks received from peers", traffic.blocks_received),
        counter("cidery_bitswap_received_bytes", "Bytes of wanted blocks received from peers", traffic.bytes_received),
        counter("cidery_bitswap_duplicate_bytes", "Bytes of blocks that came twice", traffic.duplicate_bytes),
        counter("cidery_bitswap_rejected_blocks", "Blocks that nobody had asked for", traffic.rejected_blocks),
        gauge("cidery_bitswap_wants", "Blocks that are wanted of peers now", traffic.wants as u64),
        gauge("cidery_bitswap_sessions", "Sessions now", traffic.sessions as u64),
        gauge("cidery_bitswap_peer_wants", "Blocks that peers want of this node now", traffic.peer_wants as u64),
    ]
}

fn of_questions(questions: &Questions) -> Vec<Reading> {
    let (name, help) = ("cidery_digest_questions", "Questions for digests: that peers were asked, and theirs");
    let all = [("asked", questions.asked), ("answered", questions.answered), ("refused", questions.refused)];
    all.map(|(what, count)| Reading::counter(name, help, count).with("what", what)).into()
}
