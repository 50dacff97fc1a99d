//! What broke in other registries and has no better place among these tests.

use crate::{
    cold::Pair,
    network::Fault,
    support::{MIB, Node, image, noise, sha256, until},
};
use axum::http::{Method, StatusCode};
use cidery_core::{
    Blockstore, Cid, ForeignName, Namespace, Resolved, RootStore,
    memory::{MemoryStore, World},
};
use cidery_registry::Config;
use serde_json::json;
use std::{io::ErrorKind, net::TcpListener, sync::Arc};

/// spegel#735: the digest of one image served under another's name.
#[tokio::test]
async fn a_manifest_is_served_under_its_own_repository_only() {
    let node = Node::new().await;
    let digest = node.push_image("one", "1", &[b"layer"]).await;
    node.push_image("two", "1", &[b"other"]).await;
    node.get(format!("/v2/two/manifests/{digest}")).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(node.get(format!("/v2/one/manifests/{digest}")).await.status, StatusCode::OK);
}

/// GHSA-mc8v-mgrf-8f4m: what something is, is decided where it is pushed, and never by who asks for it.
#[tokio::test]
async fn a_blob_is_no_manifest_and_a_manifest_no_blob() {
    let node = Node::new().await;
    let config = node.push_blob("app", b"{}").await;
    let manifest = image((config, 2), &[]);
    let bytes = manifest.to_string();
    // Pushed as a blob, the bytes of a manifest are no image.
    let digest = node.push_blob("app", bytes.as_bytes()).await;
    node.get(format!("/v2/app/manifests/{digest}")).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(node.head(format!("/v2/app/manifests/{digest}")).await.status, StatusCode::NOT_FOUND);
    let blob = node.get(format!("/v2/app/blobs/{digest}")).await;
    assert_eq!((blob.text(), blob.header("content-type")), (bytes.as_str(), "application/octet-stream"));
    // Pushed as a manifest, they are no blob, to be read, mounted or deleted as one.
    assert_eq!(node.push_manifest("other", "1", &manifest).await.status, StatusCode::CREATED);
    node.get(format!("/v2/other/blobs/{digest}")).await.is_error(404, "BLOB_UNKNOWN");
    let mount = format!("/v2/new/blobs/uploads/?mount={digest}&from=other");
    assert_eq!(node.request(Method::POST, mount).send().await.status, StatusCode::ACCEPTED);
    node.delete(format!("/v2/other/blobs/{digest}")).await.is_error(404, "BLOB_UNKNOWN");
    let answer = node.request(Method::GET, "/v2/other/manifests/1").header("accept", "application/octet-stream");
    assert_eq!(answer.send().await.header("content-type"), manifest["mediaType"].as_str().unwrap());
}

/// spegel#1378: a tag that exists, and then its digest does not.
#[tokio::test]
async fn what_a_tag_stands_for_can_be_had_by_its_digest() {
    let pair = Pair::new(true, &[b"layer"]).await;
    let head = pair.node.head(pair.manifest()).await;
    let digest = head.header("docker-content-digest");
    let get = pair.node.get(format!("/v2/{}/app/manifests/{digest}", pair.root)).await;
    assert_eq!(get.status, StatusCode::OK);
    assert_eq!(get.body.len().to_string(), head.header("content-length"));
}

/// IPDR: a lock held over network I/O.
#[tokio::test]
async fn one_pull_that_hangs_stops_no_other() {
    let data = noise(1, 2 * MIB);
    let pair = Pair::new(true, &[&data]).await;
    let stuck = Node::new().await;
    stuck.push_image("other", "1", &[b"x"]).await;
    let root: Cid = stuck.publish().parse().unwrap();
    pair.network.faults.lock().insert(root, Fault::Never);
    let path = format!("/v2/{root}/other/manifests/1");
    let hanging = pair.node.get(path.as_str());
    let others = async {
        until("the want that hangs", || pair.network.waiting() == 1).await;
        assert!(pair.node.get(pair.blob(&data)).await.body == data);
        pair.node.push_image("mine", "1", &[b"y"]).await;
        assert_eq!(pair.node.get("/v2/mine/manifests/1").await.status, StatusCode::OK);
    };
    tokio::select! {
        answer = hanging => panic!("{answer:?}"),
        () = others => {}
    }
    until("its end with its client", || pair.network.waiting() == 0).await;
}

/// CVE-2026-35172.
#[tokio::test]
async fn what_was_deleted_is_gone_from_the_current_root_and_every_name_that_resolves_to_it() {
    let (world, store) = (World::new(), MemoryStore::new());
    let node = Node::over(Config::default(), store.clone(), Arc::new(world.join(store))).await;
    let digest = node.push_image("app", "1", &[b"layer"]).await;
    node.push_image("app", "kept", &[b"another"]).await;
    let before = node.publish();
    let blob = sha256(b"layer");
    assert_eq!(node.delete(format!("/v2/app/manifests/{digest}")).await.status, StatusCode::ACCEPTED);
    assert_eq!(node.delete(format!("/v2/app/blobs/{blob}")).await.status, StatusCode::ACCEPTED);
    let root = node.store.state(&Namespace::local()).unwrap().root.unwrap().cid;
    assert_ne!(root.to_string(), before);
    let resolved = Resolved { root, path: Vec::new(), hints: Vec::new() };
    world.set_name(ForeignName::parse("example.com").unwrap(), resolved);
    for name in ["app", "local/app", &format!("{root}/app"), &format!("ipfs/{root}/app"), "example.com/app"] {
        node.get(format!("/v2/{name}/blobs/{blob}")).await.is_error(404, "BLOB_UNKNOWN");
        node.get(format!("/v2/{name}/manifests/{digest}")).await.is_error(404, "MANIFEST_UNKNOWN");
        node.get(format!("/v2/{name}/manifests/1")).await.is_error(404, "MANIFEST_UNKNOWN");
        assert_eq!(node.get(format!("/v2/{name}/manifests/kept")).await.status, StatusCode::OK);
    }
    // The root before it is no longer public, so nobody else reads what was deleted there.
    for path in [format!("/v2/{before}/app/blobs/{blob}"), format!("/v2/{before}/app/manifests/1")] {
        let elsewhere = node.request(Method::GET, path).header("host", "192.0.2.1").from("192.0.2.7:1").send().await;
        assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
    }
    // Nor does the owner, and the rest of that root is there still.
    let earlier = |path: &str| node.get(format!("/v2/{before}/app/{path}"));
    earlier(&format!("blobs/{blob}")).await.is_error(404, "BLOB_UNKNOWN");
    earlier(&format!("manifests/{digest}")).await.is_error(404, "MANIFEST_UNKNOWN");
    earlier("manifests/1").await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(earlier("manifests/kept").await.status, StatusCode::OK);
    assert_eq!(earlier(&format!("blobs/{}", sha256(b"another"))).await.text(), "another");
    let mount = format!("/v2/other/blobs/uploads/?mount={blob}");
    assert_eq!(node.request(Method::POST, mount).send().await.status, StatusCode::ACCEPTED);
}

/// One blob, out of every namespace and repository, and out of what earlier roots show.
#[tokio::test]
async fn a_purged_blob_is_nowhere() {
    let other: Namespace = "example.org".parse().unwrap();
    let node = Node::with(Config { namespaces: vec![other.clone()], ..Config::default() }).await;
    let blob = sha256(b"secret");
    for repository in ["app", "team/web", "example.org/app"] {
        node.push_image(repository, "1", &[b"secret", b"fine"]).await;
    }
    node.push_blob("loose", b"secret").await;
    let root = node.store.state(&Namespace::local()).unwrap().root.unwrap().cid;
    let places = node.registry.purge(&blob).await.unwrap().places;
    let mut names: Vec<String> = places.iter().map(|p| format!("{}/{}", p.namespace, p.repository)).collect();
    names.sort();
    assert_eq!(names, ["example.org/app", "local/app", "local/loose", "local/team/web"]);
    for name in ["app", "team/web", "loose", "example.org/app", &format!("{root}/app")] {
        node.get(format!("/v2/{name}/blobs/{blob}")).await.is_error(404, "BLOB_UNKNOWN");
    }
    assert_eq!(node.get(format!("/v2/app/blobs/{}", sha256(b"fine"))).await.text(), "fine");
    assert!(node.registry.purge(&blob).await.unwrap().places.is_empty());
    // It can be pushed again.
    node.push_image("app", "2", &[b"secret"]).await;
    assert_eq!(node.get(format!("/v2/app/blobs/{blob}")).await.text(), "secret");
}

/// Blocks are stored by their hash: a blob may be the same block as a node of the tree it is in.
#[tokio::test]
async fn a_blob_with_the_bytes_of_a_directory() {
    let node = Node::new().await;
    node.push_image("app", "1", &[b"layer"]).await;
    let root = node.store.state(&Namespace::local()).unwrap().root.unwrap().cid;
    let bytes = node.store.get(&root).unwrap().unwrap();
    node.push_image("evil", "1", &[&bytes]).await;
    let blob = sha256(&bytes);
    assert_eq!(node.get(format!("/v2/evil/blobs/{blob}")).await.body, bytes);
    let pair = Pair::of(Default::default(), true, node).await;
    let cold = |path: &str| pair.node.get(format!("/v2/{}/{path}", pair.root));
    assert_eq!(cold(&format!("evil/blobs/{blob}")).await.body, bytes);
    assert_eq!(cold("app/manifests/1").await.status, StatusCode::OK);
    assert_eq!(cold(&format!("app/blobs/{}", sha256(b"layer"))).await.text(), "layer");
}

/// CVE-2026-33540 and its like: addresses that a manifest names are nobody's to dial.
#[tokio::test]
async fn layers_that_are_to_be_had_elsewhere_are_neither_needed_nor_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let node = Node::new().await;
    let config = node.push_blob("app", b"{}").await;
    node.push_blob("app", b"layer").await;
    let mut manifest = image((config, 2), &[(sha256(b"layer"), 5)]);
    let elsewhere = sha256(b"elsewhere");
    manifest["layers"].as_array_mut().unwrap().push(json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": elsewhere, "size": 9, "urls": [format!("http://{address}/secret")],
    }));
    let put = node.push_manifest("app", "1", &manifest).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    node.get(format!("/v2/app/blobs/{elsewhere}")).await.is_error(404, "BLOB_UNKNOWN");
    let pulled = node.registry.pull("app:1", |_| {}).await.unwrap();
    assert_eq!(pulled.blobs, 2);
    // Nor does who pulls it from there, with all that goes with it.
    let pair = Pair::of(Config::default(), true, node).await;
    assert_eq!(pair.node.get(pair.manifest()).await.status, StatusCode::OK);
    assert_eq!(pair.node.get(pair.blob(b"layer")).await.text(), "layer");
    pair.node.get(pair.blob(b"elsewhere")).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(pair.node.registry.pull(&format!("{}/app:1", pair.root), |_| {}).await.unwrap().blobs, 2);
    // A connection would wait in the listener's queue, accepted by the system.
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
