//! Peers that lie, flood, or never read.

use crate::{harness::*, raw::*};
use cidery_bitswap::{Config, Event, Misbehaviour, PeerStats};
use cidery_core::{Blockstore, FetchError};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::time::Duration;
use tokio::time::timeout;

fn lie(entry: &Entry) -> Message {
    let mut data = entry.cid.clone();
    data.push(0);
    Message { payload: vec![payload(&data)], ..Message::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_blocks_are_dropped_and_an_honest_peer_is_found() {
    let (mut node, liar, honest) = (Node::new().await, Raw::new().await, Node::new().await);
    let blocks = blocks(40, 10, 5_000);
    honest.add(&blocks);
    node.dial(&liar.address).await;
    let session = node.session(&blocks[0]);
    let play = liar
        .serve(node.id, |entry| Some(if entry.want_type == HAVE { presence(&entry.cid, true) } else { lie(&entry) }));
    let watch = async {
        let misbehaved = Event::PeerMisbehaved { peer: liar.id, reason: Misbehaviour::UnrequestedBlock };
        while node.event().await != misbehaved {}
        honest.dial(&node.address).await;
    };
    tokio::select! {
        () = play => panic!("the connection broke"),
        ((), ()) = async { tokio::join!(fetch_all(&session, &blocks, 10), watch) } => {}
    }
    assert!(node.bitswap.stats().rejected_blocks > 0);
    assert_eq!(node.store.stats().blocks, 10, "nothing else was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_liar_alone_the_fetch_fails() {
    let config = Config { no_progress: Duration::from_millis(700), ..Config::default() };
    let (node, liar) = (Node::with(config).await, Raw::new().await);
    let block = &blocks(41, 1, 5_000)[0];
    node.dial(&liar.address).await;
    let session = node.session(block);
    let play = liar.serve(node.id, |entry| Some(lie(&entry)));
    tokio::select! {
        () = play => panic!("the connection broke"),
        answer = fetch(&session, block.cid()) => assert!(matches!(answer, Err(FetchError::Stalled { .. })), "{answer:?}"),
    }
    assert_eq!(node.store.stats().blocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_nobody_asked_for_are_not_kept() {
    let (mut node, peer) = (Node::new().await, Raw::new().await);
    node.dial(&peer.address).await;
    let mut stream = peer.open(node.id).await;
    for block in blocks(42, 5, 100) {
        send(&mut stream, &Message { payload: vec![payload(block.data())], ..Message::default() }).await;
    }
    for _ in 0..Config::default().max_strikes {
        let event = node.event().await;
        assert_eq!(event, Event::PeerMisbehaved { peer: peer.id, reason: Misbehaviour::UnrequestedBlock });
    }
    assert_eq!(node.store.stats().blocks, 0);
}

async fn is_reset(stream: &mut libp2p::Stream) -> bool {
    let mut byte = [0];
    matches!(timeout(LIMIT, stream.read(&mut byte)).await.expect("closed in time"), Ok(0) | Err(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_close_the_stream_and_nothing_else() {
    let (mut node, peer) = (Node::new().await, Raw::new().await);
    node.dial(&peer.address).await;
    let mut oversized = unsigned_varint(4 << 20 | 1);
    oversized.extend([0; 100]);
    let mut flood = unsigned_varint(400_000);
    flood.extend([0x22, 0x00].repeat(200_000));
    let bad: [&[u8]; 5] = [
        &oversized,
        &flood,
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[3, 0x0a, 0x7f, 0x00],
        &[2, 0x0b, 0x0c],
    ];
    for frame in bad {
        let mut stream = peer.open(node.id).await;
        // It may be reset before everything is written.
        let _ = stream.write_all(frame).await;
        let _ = stream.flush().await;
        assert!(is_reset(&mut stream).await);
    }
    assert_eq!(node.event().await, Event::PeerMisbehaved { peer: peer.id, reason: Misbehaviour::BadMessage });
    // It may still ask: shunning concerns what comes from it.
    let block = &blocks(43, 1, 5_000)[0];
    node.add(std::slice::from_ref(block));
    let mut stream = peer.open(node.id).await;
    send(&mut stream, &wants([block.cid()], BLOCK)).await;
    let mut replies = peer.accept().await;
    assert_eq!(receive(&mut replies).await.unwrap().payload, [payload(block.data())]);
}

fn unsigned_varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 0x7f {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wants_is_bounded_and_what_is_here_survives_it() {
    let config = Config { max_wantlist: 500, ..Config::default() };
    let (node, peer) = (Node::with(config).await, Raw::new().await);
    node.dial(&peer.address).await;
    let mut stream = peer.open(node.id).await;
    let missing = blocks(44, 20_000, 8);
    for part in missing.chunks(5_000) {
        let mut flood = wants(part.iter().map(|block| block.cid()), BLOCK);
        for entry in flood.wantlist.iter_mut().flat_map(|list| &mut list.entries) {
            entry.send_dont_have = false;
        }
        send(&mut stream, &flood).await;
    }
    let here = &blocks(45, 1, 5_000)[0];
    node.add(std::slice::from_ref(here));
    send(&mut stream, &wants([here.cid()], BLOCK)).await;
    let mut replies = peer.accept().await;
    loop {
        let reply = receive(&mut replies).await.unwrap();
        if reply.payload == [payload(here.data())] {
            break;
        }
        // Too early for it: everything on the list was still being looked up.
        send(&mut stream, &wants([here.cid()], BLOCK)).await;
    }
    assert!(node.bitswap.stats().peer_wants <= 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_wants_in_one_message_are_all_granted() {
    let (node, peer) = (Node::new().await, Raw::new().await);
    node.dial(&peer.address).await;
    let blocks = blocks(47, 5_000, 1_500);
    node.add(&blocks);
    let mut stream = peer.open(node.id).await;
    send(&mut stream, &wants(blocks.iter().map(|block| block.cid()), BLOCK)).await;
    let mut replies = peer.accept().await;
    let mut got = std::collections::HashSet::new();
    while got.len() < 5_000 {
        got.extend(receive(&mut replies).await.unwrap().payload.into_iter().map(|payload| payload.data));
    }
    assert!(blocks.iter().all(|block| got.contains(block.data().as_ref())));
    assert_eq!(node.bitswap.stats().blocks_sent, 5_000, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_peer_that_does_not_read_little_is_read() {
    let (node, deaf, honest) = (Node::new().await, Raw::new().await, Node::new().await);
    let blocks = blocks(46, 100, 1 << 20);
    node.add(&blocks);
    node.dial(&deaf.address).await;
    let mut stream = deaf.open(node.id).await;
    send(&mut stream, &wants(blocks.iter().map(|block| block.cid()), BLOCK)).await;
    let _unread = deaf.accept().await;
    // Meanwhile others are served at full speed.
    honest.connect(&node).await;
    fetch_all(&honest.session(&blocks[0]), &blocks, 16).await;
    let stats = node.bitswap.stats();
    let to = |id| stats.peers.iter().find(|peer| peer.peer == id).map_or(0, |peer: &PeerStats| peer.bytes_sent);
    assert_eq!(to(honest.id), 100 << 20);
    assert!(to(deaf.id) <= 4 << 20, "{} bytes were written to nobody", to(deaf.id));
    assert!(stats.peer_wants >= 96, "the rest waits, unread");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_peers_that_do_not_read_hold_up_nobody() {
    let (node, honest) = (Node::new().await, Node::new().await);
    let blocks = blocks(48, 50, 1 << 20);
    node.add(&blocks);
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let peer = Raw::new().await;
        node.dial(&peer.address).await;
        let mut stream = peer.open(node.id).await;
        send(&mut stream, &wants(blocks.iter().map(|block| block.cid()), BLOCK)).await;
        let replies = peer.accept().await;
        deaf.push((peer, stream, replies));
    }
    honest.connect(&node).await;
    let session = honest.session(&blocks[0]);
    timeout(Duration::from_secs(15), fetch_all(&session, &blocks, 8)).await.expect("served promptly");
    assert_eq!(honest.bitswap.stats().blocks_received, 50);
    // Those that begin to read get theirs.
    let (_, _, replies) = &mut deaf[7];
    assert_eq!(receive(replies).await.unwrap().payload, [payload(blocks[0].data())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tricklers_cannot_hold_the_memory_for_frames() {
    let patience = Duration::from_millis(100);
    let config = Config { inbound_buffers: 8 << 20, inbound_patience: patience, ..Config::default() };
    let (node, honest) = (Node::with(config).await, Node::new().await);
    let blocks = blocks(49, 8, 1 << 20);
    honest.add(&blocks);
    let mut slow = Vec::new();
    for _ in 0..2 {
        let peer = Raw::new().await;
        node.dial(&peer.address).await;
        let mut stream = peer.open(node.id).await;
        stream.write_all(&unsigned_varint(4 << 20)).await.unwrap();
        stream.write_all(&[0x1a; 1_000]).await.unwrap();
        stream.flush().await.unwrap();
        slow.push((peer, stream));
    }
    node.connect(&honest).await;
    let session = node.session(&blocks[0]);
    let trickle = async {
        loop {
            for (_, stream) in &mut slow {
                // One of them is reset.
                let _ = stream.write_all(&[0x1a]).await;
                let _ = stream.flush().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = trickle => unreachable!(),
        fetched = timeout(Duration::from_secs(15), fetch_all(&session, &blocks, 8)) => fetched.expect("in time"),
    }
    let (one, two) = slow.split_at_mut(1);
    let ends = futures::future::select(Box::pin(is_reset(&mut one[0].1)), Box::pin(is_reset(&mut two[0].1)));
    assert!(timeout(Duration::from_secs(5), ends).await.expect("one of them is given up").factor_first().0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_tricklers_does_not_stand_in_line_before_what_was_asked_for() {
    let (patience, no_progress) = (Duration::from_millis(100), Duration::from_secs(3));
    let config = Config { inbound_buffers: 16 << 20, inbound_patience: patience, no_progress, ..Config::default() };
    let (node, honest) = (Node::with(config).await, Node::new().await);
    let blocks = blocks(50, 8, 1 << 20);
    honest.add(&blocks);
    let mut crowd = Vec::new();
    for _ in 0..20 {
        let peer = Raw::new().await;
        node.dial(&peer.address).await;
        crowd.push(peer);
    }
    // Each begins two frames as large as they may be, and two more whenever it is cut off.
    let tricklers = crowd.iter().flat_map(|peer| [peer, peer]).map(|peer| async {
        loop {
            let mut stream = peer.open(node.id).await;
            if stream.write_all(&unsigned_varint(4 << 20)).await.is_err() {
                continue;
            }
            while stream.write_all(&[0x1a]).await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let fetched = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.connect(&honest).await;
        let session = node.session(&blocks[0]);
        timeout(Duration::from_secs(15), fetch_all(&session, &blocks, 8)).await
    };
    tokio::select! {
        _ = futures::future::join_all(tricklers) => {}
        fetched = fetched => fetched.expect("in time"),
    }
}
