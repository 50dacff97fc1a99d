use cidery_core::{
    Block, Blockstore, Cid, Namespace, Network, Origin, PublishMode, RootStore, Scope, Session, SessionSpec,
    memory::MemoryStore, suite::node as dag_node,
};
use cidery_node::{Bootstrap, Config, Identity, Node};
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, kad,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, tls, yamux,
};
use std::{
    collections::HashSet,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

/// Much longer than anything here takes, much shorter than whoever waits for the tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

/// A node with an empty store, alone on loopback.
pub fn quiet() -> Config {
    Config {
        listen: vec![LOOPBACK.into()],
        bootstrap: Bootstrap::None,
        mdns: false,
        // Nobody answers there, and nobody is asked.
        dns: Some("127.0.0.1:1".parse().unwrap()),
        ..Config::new(Identity::generate())
    }
}

pub struct Peer {
    pub node: Node,
    pub store: MemoryStore,
}

pub async fn start(config: Config) -> Peer {
    let store = MemoryStore::new();
    let arc = Arc::new(store.clone());
    let node = Node::start(config, arc.clone(), arc).await.unwrap();
    Peer { node, store }
}

/// A node that is told of these peers.
pub async fn start_with(peers: &[&Peer]) -> Peer {
    let mut config = quiet();
    for peer in peers {
        config.peers.push(peer.address().await);
    }
    let started = start(config).await;
    eventually("it connects to its peers", || async { started.node.peers().await >= peers.len() }).await;
    started
}

impl Peer {
    pub async fn address(&self) -> String {
        self.node.addresses().await.first().unwrap().clone()
    }

    pub fn id(&self) -> PeerId {
        self.node.peer_id().parse().unwrap()
    }

    /// Stores a tree of blocks, as a push would.
    pub fn push(&self, seed: u8) -> Tree {
        let tree = Tree::new(seed);
        for block in &tree.blocks {
            self.store.put(block, Origin::Pushed).unwrap();
        }
        let current = self.store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid);
        self.store.commit(&Namespace::local(), current, tree.root, &[]).unwrap();
        tree
    }

    /// Stores a tree, publishes it, and announces it.
    pub async fn publish(&self, seed: u8) -> Tree {
        let tree = self.push(seed);
        self.store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
        self.node.provide(&Namespace::local(), vec![tree.root]).await.unwrap();
        tree
    }

    pub fn session(&self, root: Cid, hints: &[String]) -> Arc<dyn Session> {
        self.node.session(SessionSpec { root, hints: hints.to_vec(), scope: Scope::Owner })
    }
}

/// A root with leaves.
pub struct Tree {
    pub root: Cid,
    pub blocks: Vec<Block>,
}

impl Tree {
    pub fn new(seed: u8) -> Self {
        let leaf = |n: u8| Block::raw([vec![seed, n], vec![n; 20_000]].concat());
        let mut blocks: Vec<Block> = (0..40).map(leaf).collect();
        let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
        let root = dag_node(&cids);
        blocks.push(root.clone());
        Self { root: *root.cid(), blocks }
    }

    /// Fetches all of it, root first.
    pub async fn fetch(&self, session: &dyn Session) {
        for block in self.blocks.iter().rev() {
            let bytes = within(session.fetch(block.cid())).await.unwrap();
            assert_eq!(&bytes, block.data());
        }
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes much too long")
}

/// Waits for something that comes about by itself.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks one node of the local DHT who provides a key, with nothing but libp2p's own Kademlia.
pub async fn providers(at: &str, cid: &Cid) -> HashSet<PeerId> {
    let mut swarm = raw(|key| {
        let config = kad::Config::new(StreamProtocol::new("/ipfs/lan/kad/1.0.0"));
        let id = key.public().to_peer_id();
        let mut behaviour = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
        behaviour.set_mode(Some(kad::Mode::Client));
        behaviour
    });
    let address: Multiaddr = at.parse().unwrap();
    let Some(libp2p::multiaddr::Protocol::P2p(peer)) = address.iter().last() else { panic!("no peer id in {at}") };
    swarm.behaviour_mut().add_address(&peer, address);
    let query = swarm.behaviour_mut().get_providers(kad::RecordKey::new(&cid.hash().to_bytes()));
    let mut all = HashSet::new();
    within(async {
        loop {
            if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed {
                id,
                result: kad::QueryResult::GetProviders(result),
                step,
                stats,
            }) = swarm.select_next_some().await
                && id == query
            {
                if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = result {
                    all.extend(providers);
                }
                if step.last {
                    assert!(stats.num_successes() > 0, "{at} does not answer as a node of the local DHT");
                    return all;
                }
            }
        }
    })
    .await
}

/// A plain libp2p swarm over TCP.
pub fn raw<B: NetworkBehaviour>(behaviour: impl FnOnce(&libp2p::identity::Keypair) -> B) -> libp2p::Swarm<B> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), tls::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(behaviour)
        .unwrap()
        .build()
}

/// What a missing component means: in CI a failure, elsewhere a loud skip.
pub fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what}: required in CI");
    eprintln!("SKIPPED: {what}");
}
