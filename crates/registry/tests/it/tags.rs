//! Tags that never change.

use crate::support::{Node, image, sha256};
use axum::http::{Method, StatusCode};
use cidery_access::Selection;
use cidery_core::{Digest, Namespace};
use cidery_registry::{
    Config, Covered, TagRules,
    tree::{Image, ImageManifest, TreeError},
};
use serde_json::{Value, json};

fn immutable(repositories: &[&str], tags: &[&str]) -> Covered {
    Covered {
        repositories: Selection::read(repositories.iter().copied()).unwrap(),
        tags: Selection::read(tags.iter().copied()).unwrap(),
    }
}

async fn node() -> Node {
    let rules = TagRules::new(vec![immutable(&["team/**"], &["v*", "!v*-rc*"])], Vec::new());
    Node::with(Config { tag_rules: rules, ..Config::default() }).await
}

/// A manifest that needs nothing.
fn manifest(note: &str) -> Value {
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [],
            "annotations": { "note": note } })
}

fn digest(manifest: &Value) -> Digest {
    sha256(manifest.to_string().as_bytes())
}

async fn stands_for(node: &Node, name: &str) -> String {
    let answer = node.head(format!("/v2/{}", name.replace(':', "/manifests/"))).await;
    assert_eq!(answer.status, StatusCode::OK, "{name}");
    answer.header("docker-content-digest").to_owned()
}

#[tokio::test]
async fn an_immutable_tag_stands_for_what_it_stood_for_first() {
    let node = node().await;
    let (first, second) = (manifest("first"), manifest("second"));
    let push = async |name: &str, manifest: &Value| node.push_manifest("team/app", name, manifest).await;
    assert_eq!(push("v1", &first).await.status, StatusCode::CREATED);
    // The same again is as good as the first time, by whatever spelling of the name.
    assert_eq!(push("v1", &first).await.status, StatusCode::CREATED);
    assert_eq!(node.push_manifest("local/team/app", "v1", &first).await.status, StatusCode::CREATED);
    let refused = push("v1", &second).await;
    // The words that tools look for.
    let message = refused.is_error(400, "TAG_INVALID");
    assert!(message.contains("'v1'") && message.contains("'team/app'"), "{message}");
    assert!(message.contains("cannot be overwritten because the tag is immutable"), "{message}");
    node.push_manifest("local/team/app", "v1", &second).await.is_error(400, "TAG_INVALID");
    // One of several is one too many, and then none is set.
    let several = format!("{}?tag=v2&tag=v1", digest(&second));
    push(&several, &second).await.is_error(400, "TAG_INVALID");
    assert_eq!(node.head("/v2/team/app/manifests/v2").await.status, StatusCode::NOT_FOUND);
    assert_eq!(node.head(format!("/v2/team/app/manifests/{}", digest(&second))).await.status, StatusCode::NOT_FOUND);
    assert_eq!(stands_for(&node, "team/app:v1").await, digest(&first).as_str());
    // By digest there is no tag to move; and other tags, and those of other repositories, move.
    assert_eq!(push(digest(&second).as_str(), &second).await.status, StatusCode::CREATED);
    for name in ["team/app:v1-rc1", "team/app:latest", "other/app:v1"] {
        let (repository, tag) = name.split_once(':').unwrap();
        for manifest in [&first, &second] {
            assert_eq!(node.push_manifest(repository, tag, manifest).await.status, StatusCode::CREATED, "{name}");
            assert_eq!(stands_for(&node, name).await, digest(manifest).as_str());
        }
    }
}

#[tokio::test]
async fn nor_is_it_deleted_nor_what_it_stands_for() {
    let node = node().await;
    let (kept, loose) = (manifest("kept"), manifest("loose"));
    for (tag, manifest) in [("v1", &kept), ("also", &kept), ("v2-rc1", &loose), ("b", &loose)] {
        assert_eq!(node.push_manifest("team/app", tag, manifest).await.status, StatusCode::CREATED);
    }
    let at = |reference: &str| format!("/v2/team/app/manifests/{reference}");
    for reference in ["v1", digest(&kept).as_str()] {
        let refused = node.delete(at(reference)).await;
        let message = refused.is_error(405, "UNSUPPORTED");
        assert!(message.contains("team/app:v1 is an immutable tag"), "{message}");
        assert_eq!(refused.header("allow"), "GET, HEAD");
    }
    assert_eq!(stands_for(&node, "team/app:v1").await, digest(&kept).as_str());
    assert_eq!(stands_for(&node, "team/app:also").await, digest(&kept).as_str());
    // What is not there is not there, immutable or not.
    node.delete(at("v9")).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(node.delete(at("also")).await.status, StatusCode::ACCEPTED);
    assert_eq!(node.delete(at(digest(&loose).as_str())).await.status, StatusCode::ACCEPTED);
    assert_eq!(node.get("/v2/team/app/tags/list").await.json()["tags"], json!(["v1"]));
    // The owner of the node has the last word; then the name is free.
    node.registry.purge(&digest(&kept)).await.unwrap();
    assert_eq!(node.head(at("v1")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(node.push_manifest("team/app", "v1", &loose).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_layer_of_it_stays_too() {
    let node = node().await;
    let layer = node.push_blob("team/app", b"layer").await;
    let config = node.push_blob("team/app", b"{}").await;
    let image = image((config, 2), &[(layer.clone(), 5)]);
    assert_eq!(node.push_manifest("team/app", "v1", &image).await.status, StatusCode::CREATED);
    node.delete(format!("/v2/team/app/blobs/{layer}")).await.is_error(405, "UNSUPPORTED");
}

#[tokio::test]
async fn of_those_that_push_at_once_one_is_first() {
    let node = node().await;
    let manifests: Vec<Value> = (0..8).map(|n| manifest(&format!("number {n}"))).collect();
    let pushes = manifests.iter().map(|manifest| node.push_manifest("team/app", "v1", manifest));
    let answers = futures::future::join_all(pushes).await;
    let created: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).collect();
    assert_eq!(created.len(), 1);
    assert_eq!(stands_for(&node, "team/app:v1").await, created[0].header("docker-content-digest"));
    answers.iter().filter(|answer| answer.status != StatusCode::CREATED).for_each(|answer| {
        answer.is_error(400, "TAG_INVALID");
    });
}

#[tokio::test]
async fn images_that_come_in_otherwise_do_not_move_it_either() {
    let node = node().await;
    let (first, second) = (manifest("first"), manifest("second"));
    assert_eq!(node.push_manifest("team/app", "v1", &first).await.status, StatusCode::CREATED);
    let tree = node.registry.tree(&Namespace::local()).unwrap();
    let bring = async |tags: &[(&str, &Value)], manifests: &[&Value]| {
        let one = |manifest: &&Value| ImageManifest {
            digest: digest(manifest),
            media_type: None,
            bytes: manifest.to_string().into(),
        };
        let image = Image {
            blobs: Vec::new(),
            manifests: manifests.iter().map(one).collect(),
            tags: tags.iter().map(|(tag, manifest)| (tag.parse().unwrap(), digest(manifest))).collect(),
        };
        tree.adopt(&"team/app".parse().unwrap(), image).await
    };
    assert!(matches!(bring(&[("v1", &second)], &[&second]).await, Err(TreeError::Immutable { .. })));
    bring(&[("v1", &first), ("w", &second)], &[&first, &second]).await.unwrap();
    // Not even within one archive.
    let twice = bring(&[("v2", &first), ("v2", &second)], &[&first, &second]).await;
    assert!(matches!(twice, Err(TreeError::Immutable { .. })), "{twice:?}");
    let answer = node.request(Method::GET, "/v2/team/app/tags/list").send().await;
    assert_eq!(answer.json()["tags"], json!(["v1", "w"]));
    assert_eq!(stands_for(&node, "team/app:v1").await, digest(&first).as_str());
}
