//! Cold pulls: through a session, while the blob arrives.

use crate::{
    network::{Counting, Handle},
    support::{MIB, Node, noise, sha256},
};
use axum::http::{Method, StatusCode};
use cidery_core::{Namespace, Scope, memory::MemoryStore};
use cidery_registry::Config;
use futures::StreamExt;
use http_body_util::BodyExt;
use std::sync::{Arc, atomic::Ordering::SeqCst};

/// An origin with one published image, and a node that knows nothing but its root.
pub struct Pair {
    pub origin: Node,
    pub node: Node,
    pub network: Arc<Counting>,
    pub root: String,
}

impl Pair {
    pub async fn new(open: bool, layers: &[&[u8]]) -> Self {
        Self::with(Config::default(), open, layers).await
    }

    pub async fn with(config: Config, open: bool, layers: &[&[u8]]) -> Self {
        let origin = Node::new().await;
        origin.push_image("app", "1", layers).await;
        Self::of(config, open, origin).await
    }

    pub async fn of(config: Config, open: bool, origin: Node) -> Self {
        let root = origin.publish();
        let store = MemoryStore::new();
        let network = Counting::new(&origin.store, &store, open);
        let node = Node::over(config, store, Arc::new(Handle(network.clone()))).await;
        Self { origin, node, network, root }
    }

    pub fn manifest(&self) -> String {
        format!("/v2/{}/app/manifests/1", self.root)
    }

    pub fn blob(&self, data: &[u8]) -> String {
        format!("/v2/{}/app/blobs/{}", self.root, sha256(data))
    }
}

#[tokio::test]
async fn an_image_is_pulled_through() {
    let data = noise(1, 3 * MIB + 5);
    let pair = Pair::new(true, &[&data, b"small"]).await;
    let manifest = pair.node.get(pair.manifest()).await;
    assert_eq!(manifest.status, StatusCode::OK, "{}", manifest.text());
    assert_eq!(manifest.body, pair.origin.get("/v2/app/manifests/1").await.body);
    for layer in manifest.json()["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let head = pair.node.head(format!("/v2/{}/app/blobs/{digest}", pair.root)).await;
        assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, layer["size"].to_string().as_str()));
        let blob = pair.node.get(format!("/v2/{}/app/blobs/{digest}", pair.root)).await;
        assert_eq!(blob.status, StatusCode::OK);
        assert_eq!(sha256(&blob.body).as_str(), digest);
        assert_eq!(blob.header("docker-content-digest"), digest);
        assert_eq!(blob.header("content-length"), layer["size"].to_string());
    }
    assert_eq!(pair.network.sessions.load(SeqCst), 1);
}

#[tokio::test]
async fn the_first_bytes_leave_before_the_blob_is_complete() {
    let data = noise(2, 4 * MIB);
    let pair = Pair::new(false, &[&data]).await;
    // Three of the four leaves may pass.
    pair.network.gate.add_permits(3);
    let response = pair.node.request(Method::GET, pair.blob(&data)).begin().await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let mut got = Vec::new();
    while got.len() < 2 * MIB {
        got.extend_from_slice(&body.next().await.unwrap().unwrap());
    }
    assert!(pair.network.sent() < 4 * MIB as u64);
    pair.network.gate.add_permits(1);
    while let Some(frame) = body.next().await {
        got.extend_from_slice(&frame.unwrap());
    }
    assert!(got == data);
}

#[tokio::test]
async fn the_last_leaf_waits_for_the_digest() {
    let data = noise(3, 3 * MIB);
    let pair = Pair::new(false, &[&data]).await;
    pair.network.gate.add_permits(2);
    let response = pair.node.request(Method::GET, pair.blob(&data)).begin().await;
    let mut body = response.into_body().into_data_stream();
    let mut got = 0;
    while got < MIB {
        got += body.next().await.unwrap().unwrap().len();
    }
    // The second leaf is here, but may be the last there will ever be: it is held.
    assert!(futures::poll!(body.next()).is_pending());
    pair.network.gate.add_permits(1);
    while let Some(frame) = body.next().await {
        got += frame.unwrap().len();
    }
    assert_eq!(got, data.len());
}

#[tokio::test]
async fn a_range_fetches_what_it_needs() {
    let data = noise(4, 20 * MIB);
    let pair = Pair::new(true, &[&data]).await;
    pair.node.get(pair.manifest()).await;
    let before = pair.network.sent();
    for (range, bytes) in [
        ("bytes=100-200", 100..201),
        ("bytes=20971519-", 20_971_519..20_971_520),
        ("bytes=9437184-9437184", 9_437_184..9_437_185),
    ] {
        let part = pair.node.request(Method::GET, pair.blob(&data)).header("range", range).send().await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.header("content-length"), bytes.len().to_string());
        assert!(part.body == data[bytes]);
    }
    let fetched = pair.network.sent() - before;
    assert!(fetched < 3 * MIB as u64 + 10_000, "{fetched} bytes for three leaves");
    let outside = pair.node.request(Method::GET, pair.blob(&data)).header("range", "bytes=99999999-").send().await;
    outside.is_error(416, "RANGE_INVALID");
}

#[tokio::test]
async fn a_head_fetches_no_leaf() {
    let data = noise(5, 8 * MIB);
    let pair = Pair::new(true, &[&data]).await;
    let head = pair.node.head(pair.blob(&data)).await;
    assert_eq!(head.header("content-length"), data.len().to_string());
    assert_eq!(pair.node.head(pair.manifest()).await.status, StatusCode::OK);
    assert!(pair.network.sent() < 100_000, "{}", pair.network.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_clients_cost_the_origin_one_copy() {
    let data = noise(6, 12 * MIB);
    let pair = Arc::new(Pair::new(true, &[&data]).await);
    let pulls = (0..16).map(|_| {
        let (pair, data) = (pair.clone(), data.clone());
        tokio::spawn(async move { assert!(pair.node.get(pair.blob(&data)).await.body == data) })
    });
    futures::future::try_join_all(pulls).await.unwrap();
    assert_eq!(pair.network.sessions.load(SeqCst), 1);
    let limit = data.len() as u64 * 102 / 100;
    assert!(pair.network.sent() <= limit, "{} of {}", pair.network.sent(), data.len());
    // Warm: nothing is fetched again.
    let before = pair.network.sent();
    assert!(pair.node.get(pair.blob(&data)).await.body == data);
    assert_eq!(pair.network.sent(), before);
}

#[tokio::test]
async fn each_caller_reads_with_his_own_eyes() {
    let pair = Pair::new(true, &[b"layer"]).await;
    pair.node.get(pair.manifest()).await;
    let elsewhere = pair.node.request(Method::GET, pair.manifest()).header("host", "192.0.2.1").from("192.0.2.7:1");
    assert_eq!(elsewhere.send().await.status, StatusCode::OK);
    let scopes: Vec<_> = pair.network.specs.lock().iter().map(|spec| spec.scope).collect();
    assert_eq!(scopes, [Scope::Owner, Scope::Public]);
}

#[tokio::test]
async fn nobody_reads_private_blobs_through_a_tree_of_his_own() {
    // The node holds a private layer. A stranger who knows its digest links it in a tree he publishes
    // (zot CVE-2024-39897 in another guise).
    let secret = noise(7, 2 * MIB);
    let stranger = Node::new().await;
    let blob = stranger.link("app", &secret, &sha256(&secret)).await;
    let config = stranger.push_blob("app", b"{}").await;
    let manifest = crate::support::image((config, 2), &[(sha256(&secret), secret.len())]);
    assert_eq!(stranger.push_manifest("app", "1", &manifest).await.status, StatusCode::CREATED);
    let root = stranger.publish();
    // He does not have its bytes himself.
    let network = Counting::new(&stranger.store, &MemoryStore::new(), true);
    network.faults.lock().insert(blob.cid, crate::network::Fault::Missing);
    let store = network.store.clone();
    let node = Node::over(Config::default(), store, Arc::new(Handle(network))).await;
    node.push_image("mine", "1", &[&secret]).await;
    let path = format!("/v2/{root}/app/blobs/{}", sha256(&secret));
    let elsewhere = node.request(Method::GET, &path).header("host", "192.0.2.1").from("192.0.2.7:1").send().await;
    elsewhere.is_error(404, "BLOB_UNKNOWN");
    // The owner may: it is his.
    assert!(node.get(&path).await.body == secret);
}

#[tokio::test]
async fn what_is_private_again_is_nobody_elses_any_more() {
    let layer = noise(9, 2 * MIB);
    let node = Node::new().await;
    let digest = node.push_image("app", "1", &[&layer, b"small"]).await;
    let root = node.publish();
    let name = format!("/v2/{root}/app");
    let paths = [
        format!("{name}/manifests/1"),
        format!("{name}/manifests/{digest}"),
        format!("{name}/blobs/{}", sha256(&layer)),
        format!("{name}/blobs/{}", sha256(b"small")),
        format!("{name}/tags/list"),
    ];
    for (public, status) in [(true, StatusCode::OK), (false, StatusCode::NOT_FOUND)] {
        for path in &paths {
            for method in [Method::GET, Method::HEAD] {
                let call = node.request(method, path).header("host", "192.0.2.1").from("192.0.2.7:1");
                assert_eq!(call.send().await.status, status, "{path}, public: {public}");
            }
            // The owner reads his own either way.
            assert_eq!(node.get(path).await.status, StatusCode::OK, "{path}");
        }
        cidery_core::RootStore::unpublish(&node.store, &Namespace::local()).unwrap();
    }
}

#[tokio::test]
async fn other_hints_open_another_session() {
    use cidery_core::Resolved;
    let pair = Pair::new(true, &[b"layer"]).await;
    let hinted =
        Resolved { root: pair.root.parse().unwrap(), path: Vec::new(), hints: vec!["/ip4/192.0.2.1/tcp/1".into()] };
    pair.network.names.lock().insert("example.com".into(), Ok(hinted));
    for (path, sessions) in [(pair.manifest(), 1), ("/v2/example.com/app/manifests/1".into(), 2), (pair.manifest(), 2)]
    {
        assert_eq!(pair.node.get(path).await.status, StatusCode::OK);
        assert_eq!(pair.network.sessions.load(SeqCst), sessions);
    }
}

#[tokio::test]
async fn a_path_below_the_root_is_followed() {
    use cidery_core::Resolved;
    let pair = Pair::new(true, &[b"layer"]).await;
    for path in [vec!["docker"], vec!["docker", "registry"], vec!["docker", "registry", "v2"]] {
        let path = path.into_iter().map(str::to_owned).collect();
        let resolved = Resolved { root: pair.root.parse().unwrap(), path, hints: Vec::new() };
        pair.network.names.lock().insert("example.com".into(), Ok(resolved));
        let answer = pair.node.get("/v2/example.com/app/manifests/1").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_body_knows_its_length() {
    let data = noise(8, 2 * MIB);
    let pair = Pair::new(true, &[&data]).await;
    let response = pair.node.request(Method::GET, pair.blob(&data)).begin().await;
    let body = response.into_body();
    assert_eq!(axum::body::HttpBody::size_hint(&body).exact(), Some(data.len() as u64));
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), data.len());
}
