//! Nodes with memory stores, connected over TCP loopback.

use cidery_bitswap::{Behaviour, Bitswap, Config, Event, Session};
use cidery_core::{Block, Blockstore, Bytes, Cid, FetchError, Fetcher, Origin, Scope, memory::MemoryStore};
use futures::{StreamExt, stream};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, identify, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

/// Nothing here takes longer, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
pub struct Both {
    bitswap: Behaviour,
    identify: identify::Behaviour,
}

struct Dial(Multiaddr, oneshot::Sender<()>);

pub struct Node {
    pub store: MemoryStore,
    pub bitswap: Bitswap,
    pub id: PeerId,
    pub address: Multiaddr,
    pub events: mpsc::Receiver<Event>,
    pub connected: watch::Receiver<Vec<PeerId>>,
    commands: mpsc::Sender<Dial>,
    task: JoinHandle<()>,
}

pub fn builder<B: NetworkBehaviour>(behaviour: impl FnOnce(&libp2p::identity::Keypair) -> B) -> Swarm<B> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| behaviour(key))
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(LIMIT))
        .build()
}

impl Node {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        Self::over(config, |store| Arc::new(store)).await
    }

    /// A node that stores through something around its memory store.
    pub async fn over(config: Config, around: impl FnOnce(MemoryStore) -> Arc<dyn Blockstore>) -> Self {
        let store = MemoryStore::new();
        let (behaviour, bitswap) = cidery_bitswap::new(config, around(store.clone()), Arc::new(store.clone()));
        let mut swarm = builder(|key| Both {
            bitswap: behaviour,
            identify: identify::Behaviour::new(identify::Config::new("/test".into(), key.public())),
        });
        let id = *swarm.local_peer_id();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (commands, mut inbox) = mpsc::channel(16);
        let (outbox, events) = mpsc::channel(4_096);
        let (now_connected, connected) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let mut dialling: Vec<(Multiaddr, oneshot::Sender<()>)> = Vec::new();
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        match event {
                            SwarmEvent::Behaviour(BothEvent::Bitswap(event)) => outbox.try_send(event).unwrap_or(()),
                            SwarmEvent::ConnectionEstablished { endpoint, .. } => {
                                if let Some(at) = dialling.iter().position(|(a, _)| a == endpoint.get_remote_address()) {
                                    dialling.swap_remove(at).1.send(()).unwrap_or(());
                                }
                            }
                            _ => {}
                        }
                        now_connected.send_replace(swarm.connected_peers().copied().collect());
                    }
                    command = inbox.recv() => match command {
                        Some(Dial(address, done)) => {
                            swarm.dial(address.clone()).unwrap();
                            dialling.push((address, done));
                        }
                        None => return,
                    },
                }
            }
        });
        Self { store, bitswap, id, address, events, connected, commands, task }
    }

    pub async fn dial(&self, address: &Multiaddr) {
        let (done, dialled) = oneshot::channel();
        self.commands.send(Dial(address.clone(), done)).await.unwrap();
        timeout(LIMIT, dialled).await.expect("dialled in time").unwrap();
    }

    pub async fn connect(&self, other: &Self) {
        self.dial(&other.address).await;
        other.connected.clone().wait_for(|peers| peers.contains(&self.id)).await.unwrap();
    }

    /// Stops the node's swarm.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Blocks that peers may have.
    pub fn add(&self, blocks: &[Block]) {
        for block in blocks {
            self.store.put(block, Origin::Peer).unwrap();
        }
    }

    pub fn has(&self, cid: &Cid) -> bool {
        self.store.get(cid).unwrap().is_some()
    }

    pub fn session(&self, root: &Block) -> Session {
        self.bitswap.session(*root.cid(), Scope::Owner)
    }

    pub async fn event(&mut self) -> Event {
        timeout(LIMIT, self.events.recv()).await.expect("an event in time").unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Blocks of random bytes; equal seeds make equal blocks.
pub fn blocks(seed: u64, count: usize, size: usize) -> Vec<Block> {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let mut data = vec![0; size];
            random.fill_bytes(&mut data);
            Block::raw(data)
        })
        .collect()
}

pub async fn fetch(session: &Session, cid: &Cid) -> Result<Bytes, FetchError> {
    timeout(LIMIT, session.fetch(cid)).await.expect("an answer in time")
}

/// Fetches them all, `width` at a time, and checks the bytes.
pub async fn fetch_all(session: &Session, blocks: &[Block], width: usize) {
    let all = stream::iter(blocks)
        .map(|block| async move { assert_eq!(&session.fetch(block.cid()).await.unwrap(), block.data()) })
        .buffer_unordered(width)
        .collect::<Vec<()>>();
    timeout(LIMIT, all).await.expect("all blocks in time");
}
