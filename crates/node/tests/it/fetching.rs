use crate::common::*;
use cidery_core::Blockstore;
use std::time::Instant;
use tokio::net::TcpListener;

#[tokio::test]
async fn a_tree_from_a_configured_peer() {
    let a = start(quiet()).await;
    let tree = a.publish(1).await;
    let b = start_with(&[&a]).await;
    let session = b.session(tree.root, &[]);
    tree.fetch(&*session).await;
    let bytes: usize = tree.blocks.iter().map(|block| block.data().len()).sum();
    assert_eq!(session.received(), bytes as u64);
    let (sent, received) = (a.node.traffic(), b.node.traffic());
    assert_eq!((received.bytes_received, received.blocks_received), (bytes as u64, tree.blocks.len() as u64));
    assert_eq!((sent.bytes_sent, sent.blocks_sent), (bytes as u64, tree.blocks.len() as u64));
    for block in &tree.blocks {
        assert!(b.store.get(block.cid()).unwrap().is_some());
    }
}

#[tokio::test]
async fn over_quic_alone() {
    let mut config = quiet();
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()];
    let a = start(config).await;
    let tree = a.publish(2).await;
    let b = start_with(&[&a]).await;
    tree.fetch(&*b.session(tree.root, &[])).await;
}

#[tokio::test]
async fn a_tree_from_a_peer_that_only_a_third_one_knows() {
    let middle = start(quiet()).await;
    let a = start_with(&[&middle]).await;
    let tree = a.publish(3).await;
    let c = start_with(&[&middle]).await;
    eventually("the record is in the middle", || async {
        providers(&middle.address().await, &tree.root).await.contains(&a.id())
    })
    .await;
    tree.fetch(&*c.session(tree.root, &[])).await;
    assert_eq!(c.node.peers().await, 2);
}

#[tokio::test]
async fn a_root_published_before_there_was_anybody_to_tell() {
    let a = start(quiet()).await;
    let tree = a.publish(4).await;
    let middle = start_with(&[&a]).await;
    let c = start_with(&[&middle]).await;
    tree.fetch(&*c.session(tree.root, &[])).await;
}

#[tokio::test]
async fn a_download_is_announced_from_its_first_blocks_on() {
    let middle = start(quiet()).await;
    let a = start_with(&[&middle]).await;
    let tree = a.publish(5).await;
    let b = start_with(&[&a, &middle]).await;
    let session = b.session(tree.root, &[]);
    within(session.fetch(&tree.root)).await.unwrap();
    // One block of many is here, and the session goes on.
    eventually("others can find it here", || async {
        providers(&middle.address().await, &tree.root).await.contains(&b.id())
    })
    .await;
    drop(session);
}

#[tokio::test]
async fn a_peer_that_accepts_and_never_answers_delays_nobody() {
    let tarpit = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tarpit.local_addr().unwrap().port();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = tarpit.accept().await {
            held.push(stream);
        }
    });
    let a = start(quiet()).await;
    let tree = a.publish(6).await;
    let mut config = quiet();
    config.peers = vec![format!("/ip4/127.0.0.1/tcp/{port}"), a.address().await];
    let b = start(config).await;
    let begun = Instant::now();
    let hint = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", libp2p::PeerId::random());
    tree.fetch(&*b.session(tree.root, &[hint])).await;
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
    held.abort();
}

#[tokio::test]
async fn a_block_that_nobody_has() {
    let a = start(quiet()).await;
    let b = start_with(&[&a]).await;
    let absent = Tree::new(7).root;
    let error = within(b.session(absent, &[]).fetch(&absent)).await.unwrap_err();
    assert!(matches!(error, cidery_core::FetchError::NotFound(cid) if cid == absent), "{error:?}");
}

#[tokio::test]
async fn sessions_after_the_end() {
    let a = start(quiet()).await;
    let absent = Tree::new(8).root;
    let session = a.session(absent, &[]);
    a.node.shutdown().await;
    let error = within(session.fetch(&absent)).await.unwrap_err();
    assert!(matches!(error, cidery_core::FetchError::Closed), "{error:?}");
}
