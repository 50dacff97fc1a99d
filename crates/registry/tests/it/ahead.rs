//! The other blobs of an image that is being pulled.

use crate::{
    cold::Pair,
    support::{MIB, noise, until},
};
use axum::http::{Method, StatusCode};
use cidery_registry::Config;
use futures::StreamExt;
use std::{sync::atomic::Ordering::SeqCst, time::Duration};

fn layers() -> [Vec<u8>; 3] {
    [noise(1, 2 * MIB), noise(2, 3 * MIB), noise(3, 2 * MIB + 1)]
}

#[tokio::test]
async fn siblings_follow_the_first_whole_blob() {
    let [a, b, c] = layers();
    let pair = Pair::new(true, &[&a, &b, &c]).await;
    pair.node.get(pair.manifest()).await;
    let before = pair.network.sent();
    assert!(before < 20_000, "a manifest is no pull: {before}");
    assert!(pair.node.get(pair.blob(&a)).await.body == a);
    let all = (a.len() + b.len() + c.len()) as u64;
    until("the whole image", || pair.network.sent() >= all).await;
    assert!(pair.network.sent() < all + 20_000, "each block once");
    // Now it is all here: the network is not asked any more.
    let sent = pair.network.sent();
    for layer in [&b, &c] {
        assert!(pair.node.get(pair.blob(layer)).await.body == *layer);
    }
    assert_eq!(pair.network.sent(), sent);
}

#[tokio::test]
async fn heads_ranges_and_unknown_images_fetch_nothing_ahead() {
    let [a, b, c] = layers();
    let pair = Pair::new(true, &[&a, &b, &c]).await;
    pair.node.get(pair.manifest()).await;
    pair.node.head(pair.blob(&a)).await;
    let part = pair.node.request(Method::GET, pair.blob(&a)).header("range", "bytes=0-9").send().await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    // A second image that is not being pulled does not matter either.
    assert!(pair.network.sent() < MIB as u64 + 20_000);
    // Nothing is under way: nothing holds the sessions but the cache, and no block is wanted.
    let sent = pair.network.sent();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(pair.network.sent(), sent);
}

#[tokio::test]
async fn a_client_that_goes_away_stops_everything() {
    let big: Vec<_> = (0..4).map(|n| noise(n, 24 * MIB)).collect();
    let layers: Vec<&[u8]> = big.iter().map(Vec::as_slice).collect();
    let pair = Pair::new(false, &layers).await;
    pair.node.get(pair.manifest()).await;
    // Blocks are let through one by one until the client has seen two leaves.
    let response = pair.node.request(Method::GET, pair.blob(&big[0])).begin().await;
    let mut body = response.into_body().into_data_stream();
    let mut got = 0;
    while got < 2 * MIB {
        if let std::task::Poll::Ready(frame) = futures::poll!(body.next()) {
            got += frame.unwrap().unwrap().len();
        } else {
            pair.network.gate.add_permits(1);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    drop(body);
    let before = pair.network.sent();
    // From now on everything that is still wanted comes at once.
    pair.network.gate.add_permits(10_000);
    let passed = || 10_000usize.saturating_sub(pair.network.gate.available_permits());
    let mut last = usize::MAX;
    while passed() != last {
        last = passed();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let more = pair.network.sent() - before;
    assert!(more <= 8 * MIB as u64, "{more} bytes after the client was gone");
}

#[tokio::test]
async fn after_a_whole_blob_the_rest_is_fetched_for_a_while_only() {
    let [a, b, c] = [noise(1, 2 * MIB), noise(2, 24 * MIB), noise(3, 24 * MIB)];
    let config = Config { sibling_linger: Duration::from_millis(50), ..Config::default() };
    let pair = Pair::with(config, false, &[&a, &b, &c]).await;
    pair.node.get(pair.manifest()).await;
    let response = pair.node.request(Method::GET, pair.blob(&a)).begin().await;
    let mut body = response.into_body().into_data_stream();
    let mut got = 0;
    while got < a.len() {
        match futures::poll!(body.next()) {
            std::task::Poll::Ready(frame) => got += frame.unwrap().unwrap().len(),
            std::task::Poll::Pending => {
                pair.network.gate.add_permits(1);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert!(body.next().await.is_none());
    drop(body);
    // Longer than the linger: what is still missing is not wanted any more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = pair.network.sent();
    pair.network.gate.add_permits(10_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(pair.network.sent(), before);
    assert!(before < (a.len() + b.len() + c.len()) as u64);
    // A new client takes it up again.
    assert!(pair.node.get(pair.blob(&b)).await.body == b);
    let all = (a.len() + b.len() + c.len()) as u64;
    until("the rest", || pair.network.sent() >= all).await;
}

#[tokio::test]
async fn the_session_ends_when_it_is_idle() {
    let [a, ..] = layers();
    let config = Config { session_idle: Duration::from_millis(300), ..Config::default() };
    let pair = Pair::with(config, true, &[&a]).await;
    for _ in 0..2 {
        assert!(pair.node.get(pair.blob(&a)).await.body == a);
    }
    assert_eq!(pair.network.sessions.load(SeqCst), 1, "used again while it is warm");
    assert_eq!(pair.network.alive(), 1);
    until("the end of the session", || pair.network.alive() == 0).await;
    // What it fetched is still here; only the tree is read through a new one.
    let sent = pair.network.sent();
    assert!(pair.node.get(pair.blob(&a)).await.body == a);
    assert_eq!((pair.network.sessions.load(SeqCst), pair.network.sent()), (2, sent));
}
