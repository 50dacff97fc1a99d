use crate::common::*;
use cidery_core::{Bytes, Cid, PublicBlocks, StoreError, memory::MemoryStore};
use cidery_node::Node;
use libp2p::PeerId;
use std::{
    sync::{Arc, Condvar, Mutex},
    time::Instant,
};

#[tokio::test]
async fn a_good_hint_is_enough() {
    let a = start(quiet()).await;
    let tree = a.publish(10).await;
    let b = start(quiet()).await;
    tree.fetch(&*b.session(tree.root, &[a.address().await])).await;
}

#[tokio::test]
async fn hostile_hints_neither_fail_nor_slow_a_fetch() {
    let a = start(quiet()).await;
    let tree = a.publish(11).await;
    let b = start(quiet()).await;
    let (own, stranger) = (b.address().await, PeerId::random());
    let bare = |address: &str| address.split("/p2p/").next().unwrap().to_owned();
    let mut hints: Vec<String> = vec![
        "".into(),
        "rubbish".into(),
        "/unix/%2Fvar%2Frun%2Fdocker.sock/p2p/".into(),
        // This node itself, by its name and by another's.
        own.clone(),
        format!("{}/p2p/{stranger}", bare(&own)),
        // Somebody else under a stranger's name.
        format!("{}/p2p/{stranger}", bare(&a.address().await)),
        // Nobody.
        format!("/ip4/127.0.0.1/tcp/1/p2p/{}", PeerId::random()),
        // A private range without an interface here would be dialled, were it not left out.
        format!("/ip4/198.18.7.7/tcp/1/p2p/{}", PeerId::random()),
        // A name that cannot be resolved: the DNS server does not answer.
        format!("/dns4/nobody.example/tcp/1/p2p/{}", PeerId::random()),
        format!("/dnsaddr/nobody.example/p2p/{}", PeerId::random()),
        a.address().await,
    ];
    hints.extend((1..=1000).map(|port| format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", PeerId::random())));
    let begun = Instant::now();
    tree.fetch(&*b.session(tree.root, &hints)).await;
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_thousand_hints_are_sixteen_dials() {
    let b = start(quiet()).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let hints: Vec<String> = (0..1000).map(|_| format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", PeerId::random())).collect();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let absent = Tree::new(12).root;
    let session = b.session(absent, &hints);
    let mut dials = 0;
    let count = async {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
            dials += 1;
        }
    };
    // The fetch ends by itself when nobody is left to ask.
    tokio::select! {
        _ = count => unreachable!("the listener does not close"),
        result = within(session.fetch(&absent)) => assert!(result.is_err()),
    }
    assert!((1..=32).contains(&dials), "{dials} dials");
}

#[tokio::test]
async fn without_a_listener_on_loopback_nobody_sends_this_node_there() {
    let a = start(quiet()).await;
    let tree = a.publish(13).await;
    let mut config = quiet();
    config.listen.clear();
    let b = start(config).await;
    let session = b.session(tree.root, &[a.address().await]);
    assert!(within(session.fetch(&tree.root)).await.is_err());
    assert_eq!(a.node.peers().await, 0);
}

/// Says nothing to anybody, until it is dropped.
#[derive(Clone, Default)]
struct Mute(Arc<(Mutex<bool>, Condvar)>);

impl Mute {
    fn wait(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |over| !*over).unwrap());
    }
}

struct Unmute(Mute);

impl Drop for Unmute {
    fn drop(&mut self) {
        *self.0.0.0.lock().unwrap() = true;
        self.0.0.1.notify_all();
    }
}

impl PublicBlocks for Mute {
    fn public_size(&self, _: &Cid) -> Result<Option<u64>, StoreError> {
        self.wait();
        Ok(None)
    }

    fn public_get(&self, _: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.wait();
        Ok(None)
    }
}

#[tokio::test]
async fn a_hint_is_raced_with_a_connected_peer_that_never_answers() {
    let honest = start(quiet()).await;
    let tree = honest.publish(14).await;
    let mute = Mute::default();
    let _unmute = Unmute(mute.clone());
    let silent = Node::start(quiet(), Arc::new(MemoryStore::new()), Arc::new(mute)).await.unwrap();
    let mut config = quiet();
    config.peers = silent.addresses().await;
    let b = start(config).await;
    eventually("it connects to the silent peer", || async { b.node.peers().await == 1 }).await;
    let session = b.session(tree.root, &[honest.address().await]);
    let begun = Instant::now();
    let connected = async {
        eventually("it connects to the hint", || async { b.node.peers().await == 2 }).await;
        assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    };
    let (fetched, ()) = tokio::join!(within(session.fetch(&tree.root)), connected);
    fetched.unwrap();
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    tree.fetch(&*session).await;
}
