//! What broke in other registries and has no better place among these tests.

use crate::{
    cold::Pair,
    network::Fault,
    support::{MIB, Node, image, noise, sha256, until},
};
use axum::http::{Method, StatusCode};
use cidery_core::{Blockstore, Cid, Namespace, RootStore};
use serde_json::json;

/// spegel#735: the digest of one image served under another's name.
#[tokio::test]
async fn a_manifest_is_served_under_its_own_repository_only() {
    let node = Node::new().await;
    let digest = node.push_image("one", "1", &[b"layer"]).await;
    node.push_image("two", "1", &[b"other"]).await;
    node.get(format!("/v2/two/manifests/{digest}")).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(node.get(format!("/v2/one/manifests/{digest}")).await.status, StatusCode::OK);
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

/// CVE-2026-35172: a blob that was deleted and is still there, under an old root for example.
#[tokio::test]
async fn what_was_deleted_is_served_under_no_name() {
    let node = Node::new().await;
    let digest = node.push_image("app", "1", &[b"layer"]).await;
    let blob = sha256(b"layer");
    assert_eq!(node.delete(format!("/v2/app/manifests/{digest}")).await.status, StatusCode::ACCEPTED);
    assert_eq!(node.delete(format!("/v2/app/blobs/{blob}")).await.status, StatusCode::ACCEPTED);
    for name in ["app", "local/app"] {
        node.get(format!("/v2/{name}/blobs/{blob}")).await.is_error(404, "BLOB_UNKNOWN");
        node.get(format!("/v2/{name}/manifests/{digest}")).await.is_error(404, "MANIFEST_UNKNOWN");
    }
    let mount = format!("/v2/other/blobs/uploads/?mount={blob}");
    assert_eq!(node.request(Method::POST, mount).send().await.status, StatusCode::ACCEPTED);
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
    let node = Node::new().await;
    let config = node.push_blob("app", b"{}").await;
    let mut manifest = image((config, 2), &[]);
    let elsewhere = sha256(b"elsewhere");
    manifest["layers"] = json!([{
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": elsewhere, "size": 9, "urls": ["http://127.0.0.1:1/secret"],
    }]);
    let put = node.push_manifest("app", "1", &manifest).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    node.get(format!("/v2/app/blobs/{elsewhere}")).await.is_error(404, "BLOB_UNKNOWN");
    let pulled = node.registry.pull("app:1", |_| {}).await.unwrap();
    assert_eq!(pulled.blobs, 1);
}
