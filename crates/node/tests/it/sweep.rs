//! Announcing many keys to a DHT with more nodes than hold one key.

use crate::common::*;
use cidery_core::{Block, Cid, Namespace, Network};
use futures::{StreamExt, stream::SelectAll};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, connection_limits, identify,
    kad::{self, KBucketKey, RecordKey, store::RecordStore},
    swarm::{NetworkBehaviour, SwarmEvent},
};
use std::time::Instant;

#[derive(NetworkBehaviour)]
struct Foreign {
    limits: connection_limits::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
}

/// A server of the local DHT that is not ours.
async fn foreign() -> (Swarm<Foreign>, Multiaddr) {
    let mut swarm = raw(|key| {
        let id = key.public().to_peer_id();
        let config = kad::Config::new(StreamProtocol::new("/ipfs/lan/kad/1.0.0"));
        let mut kad = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
        kad.set_mode(Some(kad::Mode::Server));
        // They answer and call nobody: all of them getting to know each other would be most of the work here.
        let silent = connection_limits::ConnectionLimits::default().with_max_pending_outgoing(Some(0));
        let limits = connection_limits::Behaviour::new(silent);
        Foreign {
            limits,
            kad,
            identify: identify::Behaviour::new(identify::Config::new("test/1".into(), key.public())),
        }
    });
    swarm.listen_on(LOOPBACK.parse().unwrap()).unwrap();
    let address = within(async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return address;
            }
        }
    })
    .await;
    (swarm, address)
}

const NODES: usize = 28;
const KEYS: u32 = 60;
const REPLICAS: usize = 20;

/// Which nodes hold which keys, once the right ones do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_reaches_the_nodes_nearest_to_it() {
    let mut nodes: Vec<(Swarm<Foreign>, Multiaddr)> = Vec::new();
    for _ in 0..NODES {
        nodes.push(foreign().await);
    }
    // All know each other, as in a DHT that has been up for long.
    let known: Vec<(PeerId, Multiaddr)> =
        nodes.iter().map(|(swarm, address)| (*swarm.local_peer_id(), address.clone())).collect();
    for (swarm, _) in &mut nodes {
        for (peer, address) in &known {
            swarm.behaviour_mut().kad.add_address(peer, address.clone());
        }
    }
    let mut config = quiet();
    let (first, at) = &known[0];
    config.peers = vec![format!("{at}/p2p/{first}")];
    let a = start(config).await;
    let cids: Vec<Cid> = (0..KEYS).map(|n| *Block::raw(n.to_be_bytes().to_vec()).cid()).collect();
    a.node.provide(&Namespace::local(), cids.clone()).await.unwrap();
    let own = a.id();
    let begun = Instant::now();
    let right = |nodes: &mut Vec<(Swarm<Foreign>, Multiaddr)>| {
        let mut missing = 0;
        for cid in &cids {
            let key = RecordKey::new(&cid.hash().to_bytes());
            let point = KBucketKey::from(key.clone());
            let mut order: Vec<usize> = (0..NODES).collect();
            order.sort_by_key(|i| KBucketKey::from(known[*i].0).distance(&point));
            // The node itself is one of the DHT's, so the last of the nearest may be displaced by it.
            for i in &order[..REPLICAS - 1] {
                let kept = nodes[*i].0.behaviour_mut().kad.store_mut().providers(&key);
                missing += usize::from(!kept.iter().any(|kept| kept.provider == own && !kept.addresses.is_empty()));
            }
        }
        missing
    };
    let mut missing = usize::MAX;
    while missing > 0 {
        assert!(begun.elapsed() < PATIENCE, "{missing} records of {} are missing", KEYS as usize * (REPLICAS - 1));
        let mut all: SelectAll<_> = nodes.iter_mut().map(|(swarm, _)| swarm).collect();
        let pause = tokio::time::sleep(std::time::Duration::from_millis(100));
        tokio::select! {
            () = pause => {}
            () = async { while all.next().await.is_some() {} } => unreachable!("swarms do not end"),
        }
        drop(all);
        missing = right(&mut nodes);
    }
}
