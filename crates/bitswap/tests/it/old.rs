//! Peers of before 1.2.0, made by hand: no HAVE, no DONT_HAVE, and in 1.0 no prefixes.

use crate::{harness::*, raw::*};
use cidery_bitswap::Config;
use std::time::Duration;

async fn both_ways(name: &'static [&'static str], prefixes: bool) {
    let config = Config { silent_after: Duration::from_millis(300), ..Config::default() };
    let (node, old, other) = (Node::with(config).await, Raw::speaking(name).await, Node::new().await);
    let blocks = blocks(30, 20, 3_000);
    let make = |data: &[u8]| {
        if prefixes {
            Message { payload: vec![payload(data)], ..Message::default() }
        } else {
            Message { blocks: vec![data.to_vec()], ..Message::default() }
        }
    };
    // The last block only the other one has: the old peer is silent about it.
    other.add(&blocks[19..]);
    node.dial(&old.address).await;
    node.connect(&other).await;
    let session = node.session(&blocks[0]);
    let play = old.serve(node.id, |entry| {
        assert_eq!((entry.want_type, "want-haves are not understood"), (BLOCK, "want-haves are not understood"));
        find(&blocks[..19], &entry).map(|data| make(data))
    });
    tokio::select! {
        () = play => panic!("the connection broke"),
        () = fetch_all(&session, &blocks, 20) => {}
    }
    assert_eq!(node.bitswap.stats().duplicate_blocks, 0);
    // And the other way: it asks, we send in its form, and say nothing about what we lack.
    let mut stream = old.open(node.id).await;
    let missing = &crate::harness::blocks(31, 1, 10)[0];
    send(&mut stream, &wants([missing.cid(), blocks[3].cid()], BLOCK)).await;
    let again = Raw::speaking(name).await;
    node.dial(&again.address).await;
    let mut stream = again.open(node.id).await;
    send(&mut stream, &wants([missing.cid(), blocks[3].cid()], BLOCK)).await;
    let mut replies = again.accept().await;
    let mut reply = receive(&mut replies).await.unwrap();
    if reply == Message::default() {
        reply = receive(&mut replies).await.unwrap();
    }
    assert_eq!(reply, make(blocks[3].data()));
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_1() {
    both_ways(&["/ipfs/bitswap/1.1.0"], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_0() {
    both_ways(&["/ipfs/bitswap/1.0.0"], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_version() {
    both_ways(&["/ipfs/bitswap"], false).await;
}
