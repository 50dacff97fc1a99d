//! Manifests that refer to what is not there.

use crate::{
    cold::Pair,
    support::{Node, image, noise, sha256},
};
use axum::http::{Method, StatusCode};
use cidery_core::Digest;
use cidery_registry::{Config, Error, tree::manifest::media_type};
use serde_json::{Value, json};

fn strict() -> Config {
    Config { require_references: true, ..Config::default() }
}

fn named(bytes: &[u8]) -> (Digest, usize) {
    (sha256(bytes), bytes.len())
}

/// The digests of an answer's errors, each an entry of its own.
fn missing(answer: &crate::support::Answer) -> Vec<String> {
    answer.is_error(400, "MANIFEST_BLOB_UNKNOWN");
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    let one = |error: &Value| {
        let digest = error["detail"].as_str().unwrap().to_owned();
        assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN");
        assert!(error["message"].as_str().unwrap().contains(&digest), "{error}");
        digest
    };
    errors.iter().map(one).collect()
}

fn sorted(digests: &[Digest]) -> Vec<String> {
    let mut digests: Vec<_> = digests.iter().map(ToString::to_string).collect();
    digests.sort();
    digests
}

#[tokio::test]
async fn each_missing_reference_is_an_error_of_its_own() {
    let node = Node::with(strict()).await;
    let manifest = image(named(b"config"), &[named(b"one"), named(b"two"), named(b"one")]);
    let put = || node.push_manifest("app", "1", &manifest);
    let all = [sha256(b"config"), sha256(b"one"), sha256(b"two")];
    assert_eq!(missing(&put().await), sorted(&all));
    node.push_blob("app", b"one").await;
    assert_eq!(missing(&put().await), sorted(&[sha256(b"config"), sha256(b"two")]));
    // Another repository's do not count.
    node.push_blob("other", b"two").await;
    node.push_blob("app", b"config").await;
    assert_eq!(missing(&put().await), [sha256(b"two").to_string()]);
    node.get("/v2/app/manifests/1").await.is_error(404, "MANIFEST_UNKNOWN");
    node.push_blob("app", b"two").await;
    assert_eq!(put().await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn an_index_needs_its_manifests_or_those_of_some_platforms() {
    let child = |bytes: &[u8], architecture: &str| {
        json!({ "mediaType": media_type::OCI_MANIFEST, "digest": sha256(bytes), "size": bytes.len(),
                "platform": { "os": "linux", "architecture": architecture } })
    };
    let amd64 = image(named(b"{}"), &[]).to_string();
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                        "manifests": [child(amd64.as_bytes(), "amd64"), child(b"elsewhere", "arm64")] });
    for (platforms, wanted) in [(vec![], true), (vec!["linux/arm64"], true), (vec!["linux/amd64"], false)] {
        let require_platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
        let node = Node::with(Config { require_platforms, ..strict() }).await;
        node.push_image("app", "amd64", &[]).await;
        let config = node.push_blob("app", b"{}").await;
        assert_eq!(node.push_manifest("app", "own", &image((config, 2), &[])).await.status, StatusCode::CREATED);
        let put = node.push_manifest("app", "all", &index).await;
        match wanted {
            true => assert_eq!(missing(&put), [sha256(b"elsewhere").to_string()], "{platforms:?}"),
            false => assert_eq!(put.status, StatusCode::CREATED, "{platforms:?}: {}", put.text()),
        }
    }
}

#[tokio::test]
async fn a_subject_and_layers_from_elsewhere_are_never_required() {
    let node = Node::with(strict()).await;
    let config = node.push_blob("app", b"{}").await;
    let mut manifest = image((config, 2), &[]);
    manifest["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": sha256(b"nobody"), "size": 6 });
    manifest["layers"] = json!([{
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": sha256(b"elsewhere"), "size": 9, "urls": ["https://layers.example/9"],
    }]);
    let put = node.push_manifest("app", "1", &manifest).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    assert_eq!(put.header("oci-subject"), sha256(b"nobody").as_str());
}

#[tokio::test]
async fn an_answer_names_a_bounded_number_of_what_is_missing() {
    let node = Node::with(strict()).await;
    let layers: Vec<_> = (0..1000).map(|n: u32| named(&n.to_be_bytes())).collect();
    let answer = node.push_manifest("app", "1", &image(named(b"config"), &layers)).await;
    answer.is_error(400, "MANIFEST_BLOB_UNKNOWN");
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    assert_eq!(errors.len(), 257);
    assert!(errors[256]["message"].as_str().unwrap().contains("745 more"), "{}", errors[256]);
}

/// Accepted unless it was said otherwise; and what may come late is as good as what came in time.
#[tokio::test]
async fn what_is_missing_may_come_later() {
    let node = Node::new().await;
    let manifest = image(named(b"config"), &[named(b"late"), named(b"never")]);
    let put = node.push_manifest("app", "1", &manifest).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    assert_eq!(node.get("/v2/app/manifests/1").await.text(), manifest.to_string());
    let late = format!("/v2/app/blobs/{}", sha256(b"late"));
    node.get(&late).await.is_error(404, "BLOB_UNKNOWN");
    node.delete(&late).await.is_error(404, "BLOB_UNKNOWN");

    let shown = |node: &Node| {
        let registry = node.registry.clone();
        async move { registry.images().await.unwrap().pop().unwrap().missing }
    };
    let digests = |missing: Vec<Digest>| sorted(&missing);
    let all = [sha256(b"config"), sha256(b"late"), sha256(b"never")];
    assert_eq!(digests(shown(&node).await), sorted(&all));
    let pulled = node.registry.pull("app:1", |_| {}).await;
    assert!(matches!(&pulled, Err(Error::Incomplete { digests, .. }) if digests.len() == 3), "{pulled:?}");

    node.push_blob("app", b"config").await;
    node.push_blob("app", b"late").await;
    assert_eq!(node.get(&late).await.text(), "late");
    assert_eq!(digests(shown(&node).await), [sha256(b"never").to_string()]);
    // It is in use now, like any other, and does not expire.
    node.delete(&late).await.is_error(405, "UNSUPPORTED");
    node.registry.tidy(std::time::Duration::ZERO).await;
    assert_eq!(node.get(&late).await.text(), "late");

    // Others pull what there is of it, and are told what there is not.
    let pair = Pair::of(Config::default(), true, node).await;
    assert_eq!(pair.node.get(pair.manifest()).await.text(), manifest.to_string());
    assert_eq!(pair.node.get(pair.blob(b"late")).await.text(), "late");
    pair.node.get(pair.blob(b"never")).await.is_error(404, "BLOB_UNKNOWN");
    let pulled = pair.node.registry.pull(&format!("{}/app:1", pair.root), |_| {}).await;
    assert!(pulled.unwrap_err().to_string().contains(sha256(b"never").as_str()));
}

#[tokio::test]
async fn a_sparse_index_is_pulled_for_the_platform_that_is_there() {
    let node = Node::new().await;
    let there = node.push_image("app", "amd64", &[b"layer"]).await;
    let child =
        |digest: &Digest, size: usize| json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size });
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                        "manifests": [child(&there, 1), child(&sha256(b"arm64"), 5)] });
    assert_eq!(node.push_manifest("app", "all", &index).await.status, StatusCode::CREATED);
    let images = node.registry.images().await.unwrap();
    let of = |name: &str| images.iter().find(|image| image.name == name).unwrap();
    assert_eq!(of("app:all").missing, [sha256(b"arm64")]);
    assert_eq!(of("app:amd64").missing, []);
    assert!(of("app:all").bytes > of("app:amd64").bytes, "what is there of it counts");
    let pulled = node.registry.pull("app:all", |_| {}).await;
    assert!(matches!(&pulled, Err(Error::Incomplete { digests, .. }) if *digests == [sha256(b"arm64")]), "{pulled:?}");
    assert_eq!(node.get(format!("/v2/app/manifests/{there}")).await.status, StatusCode::OK);
    node.get(format!("/v2/app/manifests/{}", sha256(b"arm64"))).await.is_error(404, "MANIFEST_UNKNOWN");
    // A child of an index, and a blob of an image, are in use.
    let refused = node.delete(format!("/v2/app/manifests/{there}")).await;
    assert!(refused.is_error(405, "UNSUPPORTED").contains("in use"));
    assert_eq!(refused.header("allow"), "GET, HEAD");
    node.delete(format!("/v2/app/blobs/{}", sha256(b"layer"))).await.is_error(405, "UNSUPPORTED");
    for reference in ["all", "amd64"] {
        let digest = node.head(format!("/v2/app/manifests/{reference}")).await;
        let path = format!("/v2/app/manifests/{}", digest.header("docker-content-digest"));
        assert_eq!(node.request(Method::DELETE, path).send().await.status, StatusCode::ACCEPTED, "{reference}");
    }
    assert_eq!(node.delete(format!("/v2/app/blobs/{}", sha256(b"layer"))).await.status, StatusCode::ACCEPTED);
}

/// What a manifest names is fetched by its digest, where that is enough to find it.
#[tokio::test]
async fn what_nobody_pushed_is_fetched_by_its_digest() {
    let origin = Node::new().await;
    let large = noise(1, 3 << 20);
    let child = origin.push_image("app", "1", &[b"layer", &large]).await;
    let pair = Pair::of(Config::default(), true, origin).await;
    // Private there, so as good as nowhere.
    pair.origin.push_blob("app", b"private").await;
    let node = &pair.node;
    let layers = [named(b"layer"), named(b"private"), named(b"nowhere"), named(&large)];
    let put = node.push_manifest("mine", "1", &image(named(b"own"), &layers)).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    let list = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
        { "mediaType": media_type::OCI_MANIFEST, "digest": child, "size": 1 }] });
    assert_eq!(node.push_manifest("mine", "all", &list).await.status, StatusCode::CREATED);
    let at = |bytes: &[u8]| format!("/v2/mine/blobs/{}", sha256(bytes));
    // Not for who only asks whether it is here, as before a push, nor for what no manifest names.
    assert_eq!(node.head(at(b"layer")).await.status, StatusCode::NOT_FOUND);
    node.get(at(b"unnamed")).await.is_error(404, "BLOB_UNKNOWN");
    node.get(format!("/v2/other/blobs/{}", sha256(b"layer"))).await.is_error(404, "BLOB_UNKNOWN");
    node.get(format!("/v2/mine/manifests/{}", sha256(b"unnamed"))).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(pair.network.sessions.load(std::sync::atomic::Ordering::SeqCst), 0);

    assert_eq!(node.get(at(b"layer")).await.text(), "layer");
    assert_eq!(node.head(at(b"layer")).await.status, StatusCode::OK, "from now on it is here");
    for elsewhere in [&b"private"[..], b"nowhere", &large] {
        node.get(at(elsewhere)).await.is_error(404, "BLOB_UNKNOWN");
    }
    // What is here is not looked for as something else.
    let sessions = || pair.network.sessions.load(std::sync::atomic::Ordering::SeqCst);
    let before = sessions();
    node.get(format!("/v2/mine/manifests/{}", sha256(b"layer"))).await.is_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(sessions(), before);
    let manifest = format!("/v2/mine/manifests/{child}");
    assert_eq!(node.head(&manifest).await.status, StatusCode::NOT_FOUND);
    let fetched = node.get(&manifest).await;
    assert_eq!(fetched.header("content-type"), media_type::OCI_MANIFEST);
    assert_eq!(fetched.body, pair.origin.get("/v2/app/manifests/1").await.body);
    let sent = pair.network.sent();
    assert_eq!(
        (node.get(&manifest).await.status, node.get(at(b"layer")).await.status),
        (StatusCode::OK, StatusCode::OK)
    );
    assert_eq!(pair.network.sent(), sent);
    // It is part of the root, like what was pushed.
    let images = node.registry.images().await.unwrap();
    let of = |name: &str| images.iter().find(|image| image.name == name).unwrap().missing.clone();
    assert!(!of("mine:1").contains(&sha256(b"layer")) && of("mine:1").contains(&sha256(b"private")));
    assert!(!of("mine:all").contains(&child));
}

/// A manifest may name what its owner must not read: naming it shows him nothing of this node's either.
#[tokio::test]
async fn naming_a_private_blob_of_another_repository_does_not_show_it() {
    let node = Node::new().await;
    node.push_image("secret", "1", &[b"secret"]).await;
    let put = node.push_manifest("mine", "1", &image(named(b"own"), &[named(b"secret")])).await;
    assert_eq!(put.status, StatusCode::CREATED);
    node.get(format!("/v2/mine/blobs/{}", sha256(b"secret"))).await.is_error(404, "BLOB_UNKNOWN");
    // What was purged does not come back either, although it is public elsewhere.
    node.publish();
    assert_eq!(node.get(format!("/v2/mine/blobs/{}", sha256(b"secret"))).await.text(), "secret");
    node.registry.purge(&sha256(b"secret")).await.unwrap();
    node.get(format!("/v2/mine/blobs/{}", sha256(b"secret"))).await.is_error(404, "BLOB_UNKNOWN");
}
