//! Foreign trees and peers that lie, stall or stop.

use crate::{
    cold::Pair,
    network::Fault,
    support::{MIB, Node, image, noise, sha256, until},
};
use axum::http::{Method, StatusCode};
use cidery_core::{Blockstore, Digest, dag};
use cidery_registry::Config;

/// An origin whose tree links `claimed` to `data`.
async fn liar(data: &[u8], claimed: &Digest) -> Pair {
    let origin = Node::new().await;
    origin.link("app", data, claimed).await;
    let config = origin.push_blob("app", b"{}").await;
    let manifest = image((config, 2), &[(claimed.clone(), data.len())]);
    assert_eq!(origin.push_manifest("app", "1", &manifest).await.status, StatusCode::CREATED);
    Pair::of(Config::default(), true, origin).await
}

#[tokio::test]
async fn a_blob_that_is_something_else_resets_and_is_remembered() {
    let (data, claimed) = (noise(1, 4 * MIB), sha256(b"what it should be"));
    let pair = liar(&data, &claimed).await;
    let path = format!("/v2/{}/app/blobs/{claimed}", pair.root);
    let response = pair.node.request(Method::GET, &path).begin().await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let mut got = 0;
    let error = loop {
        match futures::StreamExt::next(&mut body).await {
            Some(Ok(frame)) => got += frame.len(),
            Some(Err(error)) => break error,
            None => panic!("it ended cleanly"),
        }
    };
    assert!(error.to_string().contains("something else"), "{error}");
    assert!(got <= 3 * MIB, "the last leaf was withheld: {got}");
    // From now on it is refused at once, and nothing is fetched for it.
    let sent = pair.network.sent();
    for method in [Method::GET, Method::HEAD] {
        let again = pair.node.request(method.clone(), &path).send().await;
        assert_eq!(again.status, StatusCode::NOT_FOUND);
    }
    let message = pair.node.get(&path).await.is_error(404, "BLOB_UNKNOWN");
    assert!(message.contains("something else"), "{message}");
    let part = pair.node.request(Method::GET, &path).header("range", "bytes=0-9").send().await;
    part.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(pair.network.sent(), sent);
}

#[tokio::test]
async fn a_part_of_a_blob_that_turns_out_wrong_is_not_sent_to_its_end() {
    let (data, claimed) = (noise(5, 24 * MIB), sha256(b"what it should be"));
    let pair = liar(&data, &claimed).await;
    let path = format!("/v2/{}/app/blobs/{claimed}", pair.root);
    // Nobody knows yet; its reader takes one frame and waits.
    let part = pair.node.request(Method::GET, &path).header("range", "bytes=1-").begin().await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    let mut body = part.into_body().into_data_stream();
    let mut got = futures::StreamExt::next(&mut body).await.unwrap().unwrap().len();
    assert!(pair.node.request(Method::GET, &path).try_send().await.is_err());
    let error = loop {
        match futures::StreamExt::next(&mut body).await {
            Some(Ok(frame)) => got += frame.len(),
            Some(Err(error)) => break error,
            None => panic!("it ended cleanly after {got} bytes"),
        }
    };
    assert!(error.to_string().contains("something else"), "{error}");
    assert!(got <= 4 * MIB, "{got}");
}

#[tokio::test]
async fn a_small_blob_that_is_something_else_is_an_error_from_the_start() {
    let claimed = sha256(b"what it should be");
    let pair = liar(b"something small", &claimed).await;
    let answer = pair.node.get(format!("/v2/{}/app/blobs/{claimed}", pair.root)).await;
    answer.is_error(404, "BLOB_UNKNOWN");
}

/// The CIDs of a blob's leaves, in order.
async fn leaves(pair: &Pair, data: &[u8]) -> Vec<cidery_core::Cid> {
    let tree = pair.origin.registry.tree(&cidery_core::Namespace::local()).unwrap();
    let blob = tree.snapshot().blob(&"app".parse().unwrap(), &sha256(data)).await.unwrap().unwrap();
    let root = pair.origin.store.get(&blob.cid).unwrap().unwrap();
    dag::links(&blob.cid, &root).unwrap()
}

#[tokio::test]
async fn a_blob_that_breaks_off_never_ends_cleanly() {
    let data = noise(2, 4 * MIB);
    for fault in [Fault::Missing, Fault::Stalled] {
        let pair = Pair::new(true, &[&data]).await;
        let leaves = leaves(&pair, &data).await;
        assert_eq!(leaves.len(), 4);
        pair.network.faults.lock().insert(leaves[2], fault);
        assert!(pair.node.request(Method::GET, pair.blob(&data)).try_send().await.is_err());
        // It was not the blob's fault: when the block is there, the pull works.
        pair.network.faults.lock().clear();
        assert!(pair.node.get(pair.blob(&data)).await.body == data);
    }
}

#[tokio::test]
async fn a_root_that_nobody_has_is_404_and_one_that_stalls_is_504() {
    let pair = Pair::new(true, &[b"layer"]).await;
    let root: cidery_core::Cid = pair.root.parse().unwrap();
    pair.network.faults.lock().insert(root, Fault::Missing);
    let message = pair.node.get(pair.manifest()).await.is_error(404, "MANIFEST_UNKNOWN");
    assert!(message.contains("nobody") && message.contains("rule 2"), "{message}");
    pair.node.get(pair.blob(b"layer")).await.is_error(404, "BLOB_UNKNOWN");
    pair.node.get(format!("/v2/{}/app/tags/list", pair.root)).await.is_error(404, "NAME_UNKNOWN");
    pair.network.faults.lock().insert(root, Fault::Stalled);
    let answer = pair.node.get(pair.manifest()).await;
    let message = answer.is_error(504, "UNAVAILABLE");
    assert!(message.contains(answer.header("x-request-id")) && !message.contains(&pair.root), "{message}");
    pair.network.faults.lock().clear();
    assert_eq!(pair.node.get(pair.manifest()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stalled_pull_ends_when_its_client_does() {
    let data = noise(3, 4 * MIB);
    let pair = Pair::new(true, &[&data]).await;
    let leaves = leaves(&pair, &data).await;
    pair.network.faults.lock().insert(leaves[2], Fault::Never);
    let response = pair.node.request(Method::GET, pair.blob(&data)).begin().await;
    until("the want for the third leaf", || pair.network.waiting() == 1).await;
    drop(response);
    until("its withdrawal", || pair.network.waiting() == 0).await;
}

#[tokio::test]
async fn what_is_no_registry_is_said() {
    let origin = Node::new().await;
    let blob = origin.push_blob("app", &noise(4, 2 * MIB)).await;
    origin.push_image("app", "1", &[b"x"]).await;
    let tree = origin.registry.tree(&cidery_core::Namespace::local()).unwrap();
    let file = tree.snapshot().blob(&"app".parse().unwrap(), &blob).await.unwrap().unwrap();
    let pair = Pair::of(Config::default(), true, origin).await;
    // Public because the published root reaches it; but it is a file.
    let answer = pair.node.get(format!("/v2/{}/app/manifests/1", file.cid)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    answer.json();
}
