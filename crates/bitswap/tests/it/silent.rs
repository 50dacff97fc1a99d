//! Connected peers that are asked and send nothing, or nothing of use, while others could.

use crate::{harness::*, raw::*};
use cidery_bitswap::{Config, Event};
use cidery_core::{Block, FetchError, Fetcher};
use futures::AsyncWriteExt;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// With somebody honest at hand.
const SOON: Duration = Duration::from_secs(10);

async fn providers_are_called_for(name: &'static [&'static str]) {
    let (mut node, silent, other) = (Node::new().await, Raw::speaking(name).await, Node::new().await);
    let blocks = blocks(60, 10, 5_000);
    other.add(&blocks);
    node.dial(&silent.address).await;
    let session = node.session(&blocks[0]);
    let all = async {
        tokio::join!(fetch_all(&session, &blocks, 10), async {
            let Event::NeedPeers { session, .. } = node.event().await else { panic!("another event") };
            node.bitswap.offer_peers(session, vec![other.id]);
            other.dial(&node.address).await;
        })
    };
    timeout(SOON, all).await.expect("one silent peer is not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_called_for_while_one_peer_is_silent() {
    providers_are_called_for(&["/ipfs/bitswap/1.2.0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_called_for_while_one_old_peer_is_silent() {
    providers_are_called_for(&["/ipfs/bitswap/1.1.0"]).await;
}

/// Says that it has the block, and goes on saying so, between empty messages.
async fn promise(peer: &Raw, node: &Node, block: &Block) {
    let mut stream = peer.open(node.id).await;
    loop {
        send(&mut stream, &presence(&block.cid().to_bytes(), true)).await;
        send(&mut stream, &Message::default()).await;
        sleep(Duration::from_millis(50)).await;
    }
}

fn hasty() -> Config {
    Config { no_progress: Duration::from_secs(1), slow_frame: Duration::from_millis(500), ..Config::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_are_no_progress() {
    let (node, peer) = (Node::with(hasty()).await, Raw::new().await);
    let block = &blocks(61, 1, 5_000)[0];
    node.dial(&peer.address).await;
    let session = node.session(block);
    let answer = tokio::select! {
        () = promise(&peer, &node, block) => unreachable!(),
        answer = timeout(SOON, session.fetch(block.cid())) => answer.expect("an end"),
    };
    assert!(matches!(answer, Err(FetchError::Stalled { .. })), "{answer:?}");
}

/// Sends a frame of a MiB, one byte after the other.
async fn trickle(peer: &Raw, node: &Node) {
    let mut stream = peer.open(node.id).await;
    stream.write_all(&[0x80, 0x80, 0x40]).await.unwrap();
    loop {
        stream.write_all(&[0x1a]).await.unwrap();
        stream.flush().await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_never_ends_is_no_progress() {
    let (node, peer) = (Node::with(hasty()).await, Raw::new().await);
    let block = &blocks(62, 1, 5_000)[0];
    node.dial(&peer.address).await;
    let session = node.session(block);
    let answer = tokio::select! {
        () = trickle(&peer, &node) => unreachable!(),
        answer = timeout(SOON, session.fetch(block.cid())) => answer.expect("an end"),
    };
    assert!(matches!(answer, Err(FetchError::Stalled { .. })), "{answer:?}");
}

/// An honest peer comes when `peer`, who goes on with `play`, owes the only block.
async fn an_honest_peer_helps(seed: u64, play: impl AsyncFn(&Raw, &Node, &Block)) {
    let (node, peer, honest) = (Node::new().await, Raw::new().await, Node::new().await);
    let block = &blocks(seed, 1, 5_000)[0];
    honest.add(std::slice::from_ref(block));
    node.dial(&peer.address).await;
    let session = node.session(block);
    let helped = async {
        tokio::join!(session.fetch(block.cid()), async {
            let mut stream = peer.accept().await;
            receive(&mut stream).await.unwrap();
            honest.dial(&node.address).await;
        })
    };
    let (answer, ()) = tokio::select! {
        () = play(&peer, &node, block) => unreachable!(),
        helped = timeout(SOON, helped) => helped.expect("the only want is taken over too"),
    };
    assert_eq!(answer.unwrap(), block.data());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_in_vain_comes_from_an_honest_peer() {
    an_honest_peer_helps(63, promise).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_take_for_ever_comes_from_an_honest_peer() {
    an_honest_peer_helps(64, async |peer, node, _| trickle(peer, node).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_peer_that_comes_later_is_tried_too() {
    let (node, silent, old) = (Node::new().await, Raw::new().await, Raw::speaking(&["/ipfs/bitswap/1.1.0"]).await);
    let block = &blocks(65, 1, 5_000)[0];
    node.dial(&silent.address).await;
    let session = node.session(block);
    let serve = async {
        silent.accept().await;
        node.dial(&old.address).await;
        let found = |entry: Entry| find(std::slice::from_ref(block), &entry).map(|data| payload(data));
        old.serve(node.id, |entry| Some(Message { payload: vec![found(entry)?], ..Message::default() })).await;
    };
    tokio::select! {
        () = serve => panic!("the connection broke"),
        answer = timeout(SOON, session.fetch(block.cid())) => assert_eq!(answer.expect("in time").unwrap(), block.data()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_promisers_as_a_session_has_peers_keep_nobody_out() {
    let (race_after, no_progress) = (Duration::from_millis(200), Duration::from_secs(6));
    let config = Config { race_after, no_progress, ..Config::default() };
    let (most, blocks) = (config.session_peers, blocks(66, 8, 5_000));
    let (node, honest) = (Node::with(config).await, Node::new().await);
    honest.add(&blocks);
    let mut promisers = Vec::new();
    for _ in 0..most {
        let peer = Raw::new().await;
        node.dial(&peer.address).await;
        promisers.push(peer);
    }
    let session = node.session(&blocks[0]);
    let play = promisers.iter().map(|peer| peer.serve(node.id, |entry| Some(presence(&entry.cid, true))));
    let helped = async {
        tokio::join!(fetch_all(&session, &blocks, 8), async {
            sleep(Duration::from_millis(100)).await;
            honest.dial(&node.address).await;
        })
    };
    tokio::select! {
        _ = futures::future::join_all(play) => panic!("the connections broke"),
        helped = timeout(Duration::from_secs(20), helped) => drop(helped.expect("an end")),
    }
}
