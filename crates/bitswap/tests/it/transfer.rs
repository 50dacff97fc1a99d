//! Honest peers: everything arrives, once.

use crate::harness::*;
use cidery_bitswap::Config;
use cidery_core::{Block, Fetcher, Session as _};
use futures::{StreamExt, future::join_all, stream};
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes() {
    let (a, b) = (Node::new().await, Node::new().await);
    let blocks = blocks(1, 64, 256 << 10);
    a.add(&blocks);
    b.connect(&a).await;
    let session = b.session(&blocks[0]);
    fetch_all(&session, &blocks, 16).await;
    let stats = b.bitswap.stats();
    assert_eq!((stats.blocks_received, stats.duplicate_blocks, stats.rejected_blocks), (64, 0, 0));
    assert_eq!(session.received(), 64 * (256 << 10));
    assert_eq!(a.bitswap.stats().blocks_sent, 64);
    assert!(blocks.iter().all(|block| b.has(block.cid())), "fetched blocks are stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_from_nothing_to_the_limit() {
    let (a, b) = (Node::new().await, Node::new().await);
    let sizes = [0, 1, 1_024, 1_025, 8_191, 8_192, 65_536, 2 << 20];
    let blocks: Vec<Block> = sizes.iter().flat_map(|size| blocks(*size as u64, 1, *size)).collect();
    a.add(&blocks);
    a.connect(&b).await;
    fetch_all(&b.session(&blocks[0]), &blocks, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_each_with_a_part() {
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(Node::new().await);
    }
    let blocks = blocks(2, 200, 10_000);
    for (place, part) in blocks.chunks(50).enumerate() {
        nodes[place].add(part);
        nodes[4].connect(&nodes[place]).await;
    }
    fetch_all(&nodes[4].session(&blocks[0]), &blocks, 200).await;
    let stats = nodes[4].bitswap.stats();
    assert_eq!((stats.blocks_received, stats.duplicate_blocks), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_wants_at_once() {
    let (a, b) = (Node::new().await, Node::new().await);
    let blocks = blocks(3, 5_000, 200);
    a.add(&blocks);
    b.connect(&a).await;
    let session = b.session(&blocks[0]);
    let watch = async {
        let mut most = 0;
        loop {
            most = most.max(a.bitswap.stats().peer_wants);
            assert!(most <= 1_024, "{most} wants at one peer");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = fetch_all(&session, &blocks, 5_000) => {}
        () = watch => {}
    }
    let stats = b.bitswap.stats();
    assert_eq!((stats.blocks_received, stats.duplicate_blocks, stats.wants), (5_000, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn four_peers_work_together() {
    let b = Node::new().await;
    let blocks = blocks(4, 200, 128 << 10);
    let mut peers = Vec::new();
    for _ in 0..4 {
        let peer = Node::new().await;
        peer.add(&blocks);
        b.connect(&peer).await;
        peers.push(peer);
    }
    fetch_all(&b.session(&blocks[0]), &blocks, 64).await;
    let stats = b.bitswap.stats();
    assert!(stats.duplicate_bytes * 20 <= stats.bytes_received, "duplicates: {stats:?}");
    for peer in &peers {
        let sent = peer.bitswap.stats().blocks_sent;
        assert!(sent >= 10, "a peer sent only {sent} of 200 blocks");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_sessions_cost_one_copy() {
    let (a, b) = (Node::new().await, Node::new().await);
    let blocks = blocks(5, 100, 50_000);
    a.add(&blocks);
    b.connect(&a).await;
    let sessions: Vec<_> = (0..16).map(|_| b.session(&blocks[0])).collect();
    join_all(sessions.iter().map(|session| fetch_all(session, &blocks, 8))).await;
    assert_eq!(a.bitswap.stats().blocks_sent, 100);
    assert_eq!(b.bitswap.stats().duplicate_blocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_fetch_stops_the_origin() {
    let (a, b) = (Node::new().await, Node::new().await);
    let blocks = blocks(6, 400, 256 << 10);
    a.add(&blocks);
    b.connect(&a).await;
    let session = b.session(&blocks[0]);
    let mut running = stream::iter(&blocks).map(|block| session.fetch(block.cid())).buffer_unordered(400);
    for _ in 0..20 {
        timeout(LIMIT, running.next()).await.unwrap().unwrap().unwrap();
    }
    let before = b.bitswap.stats().blocks_received;
    drop(running);
    assert_eq!(b.bitswap.stats().wants, 0);
    // A later fetch has gone the whole way behind everything that was still on its way.
    let last = &crate::harness::blocks(7, 1, 1_000)[0];
    a.add(std::slice::from_ref(last));
    fetch(&session, last.cid()).await.unwrap();
    let more = a.bitswap.stats().bytes_sent - before * (256 << 10);
    assert!(more <= 10 << 20, "{more} bytes were sent after the cancel");
    assert_eq!(a.bitswap.stats().peer_wants, 0, "nothing is left on the origin's list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_trades_while_downloading() {
    let (a, b, c) = (Node::new().await, Node::new().await, Node::new().await);
    let blocks = blocks(8, 60, 20_000);
    b.connect(&a).await;
    c.connect(&b).await;
    // A has only the first half yet: B is incomplete for certain while C pulls from it.
    a.add(&blocks[..30]);
    let (from_a, from_b) = (b.session(&blocks[0]), c.session(&blocks[0]));
    let middle = fetch_all(&from_a, &blocks, 60);
    let end = async {
        fetch_all(&from_b, &blocks[..30], 30).await;
        assert!(!b.has(blocks[59].cid()), "B is still downloading");
        a.add(&blocks[30..]);
        a.bitswap.announce(blocks[30..].iter().map(|block| *block.cid()));
        fetch_all(&from_b, &blocks, 60).await;
    };
    tokio::join!(middle, end);
    assert_eq!(a.bitswap.stats().blocks_sent, 60, "each block left A once");
    assert_eq!(b.bitswap.stats().blocks_sent, 60, "C got all of them from B");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_owes_when_it_leaves_comes_from_another() {
    let (a, b, c) = (Node::new().await, Node::new().await, Node::new().await);
    let blocks = blocks(9, 300, 64 << 10);
    a.add(&blocks);
    b.add(&blocks);
    c.connect(&a).await;
    c.connect(&b).await;
    let session = c.session(&blocks[0]);
    let mut running = stream::iter(&blocks).map(|block| session.fetch(block.cid())).buffer_unordered(300);
    for _ in 0..40 {
        timeout(LIMIT, running.next()).await.unwrap().unwrap().unwrap();
    }
    a.stop();
    while let Some(block) = timeout(LIMIT, running.next()).await.unwrap() {
        block.unwrap();
    }
    assert_eq!(c.bitswap.stats().blocks_received, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stalls_loses_its_work() {
    let config = Config { stall_after: Duration::from_millis(300), ..Config::default() };
    let (honest, silent, node) = (Node::new().await, crate::raw::Raw::new().await, Node::with(config).await);
    let blocks = blocks(10, 20, 5_000);
    honest.add(&blocks[1..]);
    node.dial(&silent.address).await;
    node.connect(&honest).await;
    let session = node.session(&blocks[0]);
    let play = silent.serve(node.id, |entry| match crate::raw::find(&blocks[..1], &entry) {
        // It sends the first block, says it has the rest, and never sends that.
        Some(data) => Some(crate::raw::Message { payload: vec![crate::raw::payload(data)], ..Default::default() }),
        None => (entry.want_type == crate::raw::HAVE).then(|| crate::raw::presence(&entry.cid, true)),
    });
    tokio::select! {
        () = play => panic!("the connection broke"),
        () = fetch_all(&session, &blocks, 20) => {}
    }
    assert_eq!(honest.bitswap.stats().blocks_sent, 19);
}
