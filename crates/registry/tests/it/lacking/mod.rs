//! Blobs that manifests name and nobody pushed, fetched by their digests from peers.

mod answers;
mod late;
mod liars;

use crate::{
    cold::Pair,
    support::{MIB, Node, image, noise, sha256, sha512},
};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use cidery_core::{BlobFile, Blockstore, Digest, MAX_FILES, Origin, memory::MemoryDigests};
use cidery_registry::{Config, tree::manifest::media_type};
use cidery_unixfs::FileBuilder;
use futures::StreamExt;
use serde_json::json;
use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

/// A pair whose origin published an image of these layers and answers for it, and whose node has a manifest that
/// names them.
async fn sparse(open: bool, layers: &[&[u8]]) -> Pair {
    let pair = Pair::new(open, layers).await;
    let digests = pair.origin.registry.digests(Arc::new(pair.origin.store.clone()));
    pair.network.answering.lock().push(("origin".into(), digests));
    name(&pair.node, layers).await;
    pair
}

/// Pushes a manifest that names these layers, and none of them.
async fn name(node: &Node, layers: &[&[u8]]) {
    let layers: Vec<_> = layers.iter().map(|layer| (sha256(layer), layer.len())).collect();
    let put = node.push_manifest("mine", "1", &image((sha256(b"own"), 3), &layers)).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
}

fn at(bytes: &[u8]) -> String {
    format!("/v2/mine/blobs/{}", sha256(bytes))
}

async fn lacks(node: &Node, bytes: &[u8]) -> bool {
    let missing = node.registry.images().await.unwrap().pop().unwrap().missing;
    missing.contains(&sha256(bytes))
}

#[tokio::test]
async fn a_large_blob_is_fetched_and_kept() {
    let data = noise(1, 5 * MIB + 7);
    let pair = sparse(true, &[&data]).await;
    let node = &pair.node;
    assert_eq!(node.head(at(&data)).await.status, StatusCode::NOT_FOUND, "HEAD asks nobody");
    assert!(pair.network.inquiries.lock().is_empty() && pair.network.specs.lock().is_empty());
    let got = node.get(at(&data)).await;
    assert_eq!((got.status, got.header("content-length")), (StatusCode::OK, data.len().to_string().as_str()));
    assert_eq!(got.header("docker-content-digest"), sha256(&data).as_str());
    assert!(got.body == data);
    assert!(!lacks(node, &data).await, "it is part of the root");
    // From now on it is here, whatever becomes of the others.
    pair.network.answering.lock().clear();
    let sent = pair.network.sent();
    assert_eq!(node.head(at(&data)).await.status, StatusCode::OK);
    let part = node.request(Method::GET, at(&data)).header("range", "bytes=5242880-5242882").send().await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &data[5 * MIB..5 * MIB + 3]));
    assert!(node.get(at(&data)).await.body == data);
    assert_eq!((pair.network.sent(), pair.network.inquiries.lock().len()), (sent, 1));
    node.registry.tidy(Duration::ZERO).await;
    assert_eq!(node.head(at(&data)).await.status, StatusCode::OK);
    // What came from peers is told on.
    let told = node.registry.digests(Arc::new(node.store.clone())).files(&sha256(&data)).unwrap();
    assert_eq!(told.iter().map(|file| file.size).collect::<Vec<_>>(), [data.len() as u64]);
}

#[tokio::test]
async fn it_leaves_while_it_arrives_and_its_last_leaf_waits_for_the_digest() {
    let data = noise(2, 4 * MIB);
    let pair = sparse(false, &[&data]).await;
    pair.network.gate.add_permits(3);
    let response = pair.node.request(Method::GET, at(&data)).begin().await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let mut got = Vec::new();
    while got.len() < 2 * MIB {
        got.extend_from_slice(&body.next().await.unwrap().unwrap());
    }
    assert!(futures::poll!(body.next()).is_pending());
    assert_eq!(pair.node.head(at(&data)).await.status, StatusCode::NOT_FOUND, "nobody knows yet whether it is right");
    pair.network.gate.add_permits(1);
    while let Some(frame) = body.next().await {
        got.extend_from_slice(&frame.unwrap());
    }
    assert!(got == data);
    assert_eq!(pair.node.head(at(&data)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_leaves_ends_it_and_the_next_goes_on() {
    let data = noise(3, 4 * MIB);
    let pair = sparse(false, &[&data]).await;
    pair.network.gate.add_permits(2);
    let response = pair.node.request(Method::GET, at(&data)).begin().await;
    let mut body = response.into_body().into_data_stream();
    assert!(body.next().await.unwrap().is_ok());
    drop(body);
    crate::support::until("wants are withdrawn", || pair.network.waiting() == 0).await;
    assert_eq!(pair.node.head(at(&data)).await.status, StatusCode::NOT_FOUND);
    pair.network.gate.add_permits(100);
    assert!(pair.node.get(at(&data)).await.body == data);
    assert!(pair.network.sent() < 5 * MIB as u64, "what came before is here");
}

#[tokio::test]
async fn a_part_is_given_when_the_whole_is_known_to_be_right() {
    let data = noise(4, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let part = pair.node.request(Method::GET, at(&data)).header("range", "bytes=100-199").send().await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &data[100..200]));
    assert_eq!(pair.node.head(at(&data)).await.status, StatusCode::OK);
    let outside = pair.node.request(Method::GET, at(&data)).header("range", "bytes=9999999-").send().await;
    outside.is_error(416, "RANGE_INVALID");
}

#[tokio::test]
async fn what_is_private_there_or_unnamed_here_is_not_found() {
    let (data, private) = (noise(5, 2 * MIB), noise(6, 2 * MIB));
    let pair = sparse(true, &[&data]).await;
    pair.origin.push_blob("app", &private).await;
    name(&pair.node, &[&private]).await;
    pair.node.get(at(&private)).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(*pair.network.inquiries.lock(), [sha256(&private)]);
    for unnamed in [format!("/v2/mine/blobs/{}", sha256(b"unnamed")), format!("/v2/other/blobs/{}", sha256(&data))] {
        pair.node.get(unnamed).await.is_error(404, "BLOB_UNKNOWN");
    }
    assert_eq!(pair.network.inquiries.lock().len(), 1);
    // Nor on a read-only node.
    let config = Config { read_only: true, ..Config::default() };
    let network = Arc::new(crate::network::Handle(pair.network.clone()));
    let node = Node::over(config, pair.node.store.clone(), network).await;
    node.get(at(&private)).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(pair.network.inquiries.lock().len(), 1);
}

/// Naming it shows nothing of this node's own, although a peer says rightly which file it is.
#[tokio::test]
async fn a_private_blob_of_another_repository_is_not_shown() {
    let secret = noise(7, 3 * MIB);
    let pair = sparse(true, &[b"x"]).await;
    let node = &pair.node;
    node.push_blob("secret", &secret).await;
    let known = node.link("secret", &secret, &sha256(&secret)).await;
    name(node, &[&secret]).await;
    struct Knows(BlobFile);
    impl cidery_core::Digests for Knows {
        fn files(&self, _: &Digest) -> Result<Vec<BlobFile>, cidery_core::StoreError> {
            Ok(vec![self.0])
        }
    }
    let file = BlobFile { cid: known.cid, size: known.size };
    pair.network.answering.lock().push(("spy".into(), Arc::new(Knows(file))));
    node.get(at(&secret)).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(node.registry.digests(Arc::new(node.store.clone())).files(&sha256(&secret)).unwrap(), []);
}

#[tokio::test]
async fn what_was_purged_does_not_come_back() {
    let data = noise(8, 2 * MIB);
    let pair = sparse(true, &[&data]).await;
    assert!(pair.node.get(at(&data)).await.body == data);
    pair.node.registry.purge(&sha256(&data)).await.unwrap();
    pair.node.get(at(&data)).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(pair.network.inquiries.lock().len(), 1);
    assert_eq!(pair.node.registry.digests(Arc::new(pair.node.store.clone())).files(&sha256(&data)).unwrap(), []);
}

/// By another algorithm than that of blocks too, and also where peers have it as another file.
#[tokio::test]
async fn what_was_purged_by_another_algorithm_does_not_come_back() {
    let origin = Node::new().await;
    let data = noise(24, 2 * MIB);
    let location = origin.start("app").await;
    let put = origin.request(Method::PUT, format!("{location}?digest={}", sha512(&data))).body(data.clone());
    assert_eq!(put.send().await.status, StatusCode::CREATED);
    let manifest = image((origin.push_blob("app", b"{}").await, 2), &[(sha512(&data), data.len())]);
    assert_eq!(origin.push_manifest("app", "1", &manifest).await.status, StatusCode::CREATED);
    let pair = Pair::of(Config::default(), true, origin).await;
    let digests = pair.origin.registry.digests(Arc::new(pair.origin.store.clone()));
    pair.network.answering.lock().push(("origin".into(), digests));
    let mine = image((sha256(b"own"), 3), &[(sha512(&data), data.len())]);
    assert_eq!(pair.node.push_manifest("mine", "1", &mine).await.status, StatusCode::CREATED);
    let path = format!("/v2/mine/blobs/{}", sha512(&data));
    assert!(pair.node.get(&path).await.body == data);
    let told = |node: &Node| node.registry.digests(Arc::new(node.store.clone())).files(&sha512(&data)).unwrap();
    assert_eq!(told(&pair.node).len(), 1);
    pair.node.registry.purge(&sha512(&data)).await.unwrap();
    // Another file of the same bytes was not withdrawn with it.
    let another = liars::wrapped(&pair, liars::offer(&pair, &data));
    liars::lie(&pair, "another", &sha512(&data), &[another]);
    pair.node.get(&path).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(pair.network.inquiries.lock().len(), 1, "nobody is asked");
    assert_eq!(told(&pair.node), []);
    // It comes back by a push, and is told of then where it is published.
    let location = pair.node.start("mine").await;
    let put = pair.node.request(Method::PUT, format!("{location}?digest={}", sha512(&data))).body(data.clone());
    assert_eq!(put.send().await.status, StatusCode::CREATED);
    assert!(pair.node.get(&path).await.body == data);
    pair.node.registry.tidy(Duration::from_secs(3600)).await;
    pair.node.publish();
    assert_eq!(told(&pair.node).len(), 1);
}

#[tokio::test]
async fn a_manifest_above_one_leaf() {
    let origin = Node::new().await;
    let config = origin.push_blob("app", b"{}").await;
    let mut manifest = image((config, 2), &[]);
    manifest["annotations"] = json!({ "filler": "x".repeat(3 * MIB / 2) });
    let put = origin.push_manifest("app", "1", &manifest).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    let child: Digest = put.header("docker-content-digest").parse().unwrap();
    let pair = Pair::of(Config::default(), true, origin).await;
    let digests = pair.origin.registry.digests(Arc::new(pair.origin.store.clone()));
    pair.network.answering.lock().push(("origin".into(), digests));
    let index = |size: usize| {
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                "manifests": [{ "mediaType": media_type::OCI_MANIFEST, "digest": child, "size": size }] })
    };
    let size = manifest.to_string().len();
    // With a size that it has not, it is not found, and nothing is fetched.
    assert_eq!(pair.node.push_manifest("wrong", "1", &index(size + 1)).await.status, StatusCode::CREATED);
    pair.node.get(format!("/v2/wrong/manifests/{child}")).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(pair.network.sent(), 0);
    assert_eq!(pair.node.push_manifest("mine", "1", &index(size)).await.status, StatusCode::CREATED);
    let path = format!("/v2/mine/manifests/{child}");
    assert_eq!(pair.node.head(&path).await.status, StatusCode::NOT_FOUND);
    let got = pair.node.get(&path).await;
    assert_eq!(got.header("content-type"), media_type::OCI_MANIFEST);
    assert!(got.body == manifest.to_string().into_bytes());
    pair.network.answering.lock().clear();
    assert_eq!(pair.node.head(&path).await.status, StatusCode::OK);
    // Two manifests that contradict each other about a size: whoever is asked could not be held to either.
    assert_eq!(pair.node.push_manifest("wrong", "2", &index(size)).await.status, StatusCode::CREATED);
    let asked = pair.network.inquiries.lock().len();
    pair.node.get(format!("/v2/wrong/manifests/{child}")).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(pair.network.inquiries.lock().len(), asked);
}

#[tokio::test]
async fn another_hash_than_that_of_blocks() {
    let origin = Node::new().await;
    let (small, large) = (b"small".to_vec(), noise(9, 3 * MIB));
    for data in [&small, &large] {
        let location = origin.start("app").await;
        let put = origin.request(Method::PUT, format!("{location}?digest={}", sha512(data))).body(data.clone());
        assert_eq!(put.send().await.status, StatusCode::CREATED);
    }
    let layers = [&small, &large].map(|data| (sha512(data), data.len()));
    let config = origin.push_blob("app", b"{}").await;
    let put = origin.push_manifest("app", "1", &image((config, 2), &layers)).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    let pair = Pair::of(Config::default(), true, origin).await;
    let digests = pair.origin.registry.digests(Arc::new(pair.origin.store.clone()));
    pair.network.answering.lock().push(("origin".into(), digests));
    assert_eq!(
        pair.node.push_manifest("mine", "1", &image((sha256(b"own"), 3), &layers)).await.status,
        StatusCode::CREATED
    );
    for data in [&small, &large] {
        let path = format!("/v2/mine/blobs/{}", sha512(data));
        assert!(pair.node.get(&path).await.body == *data);
        assert_eq!(pair.node.head(&path).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_cost_one_copy() {
    let data = noise(10, 6 * MIB);
    let pair = Arc::new(sparse(true, &[&data]).await);
    let pulls = (0..12).map(|_| {
        let (pair, data) = (pair.clone(), data.clone());
        tokio::spawn(async move { assert!(pair.node.get(at(&data)).await.body == data) })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap();
    }
    assert!(pair.network.sent() < 7 * MIB as u64, "{}", pair.network.sent());
    assert_eq!(pair.network.sessions.load(SeqCst), 1);
}
