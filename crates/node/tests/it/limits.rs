use crate::common::*;
use futures::StreamExt;
use libp2p::{Multiaddr, identify, swarm::SwarmEvent};

#[tokio::test]
async fn connections_that_come_in_are_limited_and_configured_peers_get_in() {
    let friend_identity = cidery_node::Identity::generate();
    let friend_id = friend_identity.peer_id();
    let mut config = quiet();
    config.limits.incoming = 3;
    // Known to the node though it cannot be dialled: its peer id counts.
    config.peers = vec![format!("/ip4/127.0.0.1/tcp/1/p2p/{friend_id}")];
    let a = start(config).await;
    let address: Multiaddr = a.address().await.parse().unwrap();
    let mut strangers = Vec::new();
    for _ in 0..8 {
        let mut swarm = raw(|key| {
            identify::Behaviour::new(identify::Config::new("test/1".into(), key.public()).with_interval(PATIENCE))
        });
        swarm.dial(address.clone()).unwrap();
        // A refused one is closed again before it can identify itself.
        let admitted = within(async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::Behaviour(identify::Event::Received { .. }) => return true,
                    SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => return false,
                    _ => {}
                }
            }
        })
        .await;
        strangers.push((admitted, tokio::spawn(async move { while swarm.next().await.is_some() {} })));
    }
    assert_eq!(
        strangers.iter().map(|(admitted, _)| *admitted).collect::<Vec<_>>(),
        [true, true, true, false, false, false, false, false]
    );
    assert_eq!(a.node.peers().await, 3);
    let mut config = quiet();
    config.identity = friend_identity;
    config.peers = vec![a.address().await];
    let friend = start(config).await;
    eventually("the friend gets in", || async { a.node.peers().await == 4 }).await;
    assert_eq!(friend.node.peers().await, 1);
    for (_, task) in strangers {
        task.abort();
    }
}

#[tokio::test]
async fn connections_to_one_peer_are_limited() {
    let mut config = quiet();
    config.limits.per_peer = 2;
    let a = start(config).await;
    let address: Multiaddr = a.address().await.parse().unwrap();
    let mut swarm = raw(|key| {
        identify::Behaviour::new(identify::Config::new("test/1".into(), key.public()).with_interval(PATIENCE))
    });
    let (mut open, mut ended) = (0, 0);
    for _ in 0..6 {
        let opts = libp2p::swarm::dial_opts::DialOpts::unknown_peer_id().address(address.clone()).build();
        swarm.dial(opts).unwrap();
    }
    within(async {
        while ended + open < 6 || open > 2 {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => open += 1,
                SwarmEvent::ConnectionClosed { .. } => (open, ended) = (open - 1, ended + 1),
                SwarmEvent::OutgoingConnectionError { .. } => ended += 1,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!((open, ended), (2, 4));
}

#[tokio::test]
async fn no_connections_over_the_memory_limit() {
    let mut config = quiet();
    config.limits.memory = 1;
    let a = start(config).await;
    let b = start(quiet()).await;
    assert!(within(a.node.connect(&b.address().await)).await.is_err());
    assert_eq!((a.node.peers().await, b.node.peers().await), (0, 0));
}
