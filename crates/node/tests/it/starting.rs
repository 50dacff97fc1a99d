use crate::common::*;
use cidery_core::memory::MemoryStore;
use cidery_node::{Identity, Node, StartError};
use std::{net::UdpSocket, sync::Arc};

async fn refused(listen: &str) -> StartError {
    let store = Arc::new(MemoryStore::new());
    let mut config = quiet();
    config.listen = vec![LOOPBACK.into(), listen.into()];
    Node::start(config, store.clone(), store).await.unwrap_err()
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_says_so() {
    let other = start(quiet()).await;
    let address = other.address().await;
    let taken = address.split("/p2p/").next().unwrap();
    let error = refused(taken).await;
    assert!(matches!(error, StartError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(taken) && error.to_string().contains("in use"), "{error}");

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1", socket.local_addr().unwrap().port());
    let error = refused(&quic).await;
    assert!(matches!(error, StartError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&quic), "{error}");
}

#[tokio::test]
async fn addresses_that_cannot_be_listened_on() {
    for bad in ["nonsense", "/ip4/127.0.0.1/udp/0", "/dns4/localhost/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/unix/x"] {
        let error = refused(bad).await;
        assert!(matches!(error, StartError::Address { .. }), "{bad}: {error:?}");
        assert!(error.to_string().contains(bad), "{error}");
    }
    let error = refused("/ip4/192.0.2.7/tcp/0").await;
    assert!(matches!(error, StartError::Listen { .. }) && error.to_string().contains("192.0.2.7"), "{error}");
    let mut config = quiet();
    config.peers = vec!["127.0.0.1:4001".into()];
    let store = Arc::new(MemoryStore::new());
    let error = Node::start(config, store.clone(), store).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:4001"), "{error}");
}

#[tokio::test]
async fn it_listens_when_start_returns_and_wildcards_are_expanded() {
    let mut config = quiet();
    config.listen = vec!["/ip4/0.0.0.0/tcp/0".into(), "/ip4/0.0.0.0/udp/0/quic-v1".into()];
    let peer = start(config).await;
    let addresses = peer.node.addresses().await;
    let ending = format!("/p2p/{}", peer.node.peer_id());
    assert!(
        addresses.iter().all(|address| address.ends_with(&ending) && !address.contains("0.0.0.0")),
        "{addresses:?}"
    );
    let loopback = |kind: &str| addresses.iter().find(|a| a.starts_with("/ip4/127.0.0.1/") && a.contains(kind));
    for address in [loopback("/tcp/").unwrap(), loopback("/quic-v1/").unwrap()] {
        let other = start(quiet()).await;
        within(other.node.connect(address)).await.unwrap();
        assert_eq!(other.node.peers().await, 1);
    }
}

#[tokio::test]
async fn a_restart_keeps_the_peer_id_and_peers_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let identity = || Identity::load_or_create(&dir.path().join("identity")).unwrap();
    let mut config = quiet();
    config.identity = identity();
    config.listen.push("/ip4/127.0.0.1/udp/0/quic-v1".into());
    let first = start(config).await;
    let addresses = first.node.addresses().await;
    let friend = start_with(&[&first]).await;
    first.node.shutdown().await;
    assert!(first.node.addresses().await.is_empty());
    eventually("the friend notices", || async { friend.node.peers().await == 0 }).await;

    let mut config = quiet();
    config.identity = identity();
    let bare = |address: &String| address.split("/p2p/").next().unwrap().to_owned();
    config.listen = addresses.iter().map(bare).collect();
    let second = start(config).await;
    assert_eq!(second.node.peer_id(), first.node.peer_id());
    assert_eq!(second.node.addresses().await, addresses);
    eventually("the friend dials it again", || async { friend.node.peers().await == 1 }).await;
}

#[tokio::test]
async fn it_stops_with_its_last_handle() {
    let a = start(quiet()).await;
    let b = start_with(&[&a]).await;
    let session = a.session(Tree::new(60).root, &[]);
    let Peer { node, .. } = a;
    drop(node.clone());
    assert_eq!(b.node.peers().await, 1);
    drop(node);
    // A session is a handle as well.
    assert_eq!(b.node.peers().await, 1);
    drop(session);
    eventually("it is gone", || async { b.node.peers().await == 0 }).await;
}

#[tokio::test]
async fn connecting_says_what_went_wrong() {
    let (a, b, c) = (start(quiet()).await, start(quiet()).await, start(quiet()).await);
    let error = within(a.node.connect("example.com:4001")).await.unwrap_err();
    assert!(error.to_string().contains("not a multiaddr"), "{error}");
    let bare = b.address().await.split("/p2p/").next().unwrap().to_owned();
    let error = within(a.node.connect(&format!("{bare}/p2p/{}", c.node.peer_id()))).await.unwrap_err();
    assert!(error.to_string().contains(&b.node.peer_id()), "{error}");
    let error = within(a.node.connect("/ip4/127.0.0.1/tcp/1")).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(a.node.peers().await, 0);
    within(a.node.connect(&bare)).await.unwrap();
    within(a.node.connect(&b.address().await)).await.unwrap();
    assert_eq!(a.node.peers().await, 1);
    a.node.shutdown().await;
    assert!(a.node.connect(&bare).await.is_err());
    a.node.shutdown().await;
}

#[tokio::test]
async fn a_configured_peer_that_comes_later_is_found() {
    let late = start(quiet()).await;
    let address = late.address().await;
    late.node.shutdown().await;
    let mut config = quiet();
    // Without a peer id: whoever answers is the peer.
    config.peers = vec![address.split("/p2p/").next().unwrap().to_owned()];
    let early = start(config).await;
    let mut config = quiet();
    config.listen = early_listen(&address);
    let late = start(config).await;
    eventually("it is dialled again", || async { early.node.peers().await == 1 }).await;
    assert_eq!(late.node.peers().await, 1);
}

fn early_listen(address: &str) -> Vec<String> {
    vec![address.split("/p2p/").next().unwrap().to_owned()]
}
