//! Which registry a name belongs to, seen from outside.

use crate::{
    network::{Counting, Forbidden, Handle},
    support::{Node, noise, sha256},
};
use axum::http::{Method, StatusCode};
use cidery_core::{ForeignName, ResolveError, Resolved, memory::MemoryStore, memory::World};
use cidery_registry::Config;
use std::sync::Arc;

const CID: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

#[tokio::test]
async fn a_request_in_an_owned_namespace_never_reaches_out() {
    let config = Config { namespaces: vec!["example.com".parse().unwrap()], ..Config::default() };
    let node = Node::over(config, MemoryStore::new(), Arc::new(Forbidden)).await;
    let missing = sha256(b"missing");
    for name in ["app", "example.com/app", "local/other", "my.app"] {
        for path in [
            format!("/v2/{name}/blobs/{missing}"),
            format!("/v2/{name}/manifests/1"),
            format!("/v2/{name}/manifests/{missing}"),
            format!("/v2/{name}/tags/list"),
        ] {
            assert_eq!(node.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(node.head(&path).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(node.get(format!("/v2/{name}/referrers/{missing}")).await.status, StatusCode::OK);
        let mount = format!("/v2/{name}/blobs/uploads/?mount={missing}&from=example.org/app");
        assert_eq!(node.request(Method::POST, mount).send().await.status, StatusCode::ACCEPTED);
        node.push_image(name, "1", &[&noise(1, 2_000_000)]).await;
        assert_eq!(node.get(format!("/v2/{name}/manifests/1")).await.status, StatusCode::OK);
        let blob = sha256(&noise(1, 2_000_000));
        assert_eq!(node.get(format!("/v2/{name}/blobs/{blob}")).await.body.len(), 2_000_000);
        node.delete(format!("/v2/{name}/manifests/1")).await;
    }
    node.get("/v2/_catalog").await;
    node.get("/v2/").await;
    node.registry.images().await.unwrap();
}

#[tokio::test]
async fn names_of_others_are_not_written() {
    let node = Node::over(Config::default(), MemoryStore::new(), Arc::new(Forbidden)).await;
    let digest = sha256(b"x");
    for (name, rule) in
        [("example.com/app", "rule 3"), (&format!("{CID}/app"), "rule 2"), (&format!("ipfs/{CID}/app"), "rule 2")]
    {
        for (method, path) in [
            (Method::POST, format!("/v2/{name}/blobs/uploads/")),
            (Method::PATCH, format!("/v2/{name}/blobs/uploads/x")),
            (Method::PUT, format!("/v2/{name}/manifests/1")),
            (Method::DELETE, format!("/v2/{name}/manifests/1")),
            (Method::DELETE, format!("/v2/{name}/blobs/{digest}")),
        ] {
            let message = node.request(method, path).body("{}").send().await.is_error(403, "DENIED");
            assert!(message.contains(rule), "{message}");
        }
    }
}

#[tokio::test]
async fn invalid_names_are_refused() {
    let node = Node::over(Config::default(), MemoryStore::new(), Arc::new(Forbidden)).await;
    for name in ["..", "../..", "a/../b", "A", "a//b", "-a", "a%2Fb", "a%00b", "..%2F..", CID, &"a".repeat(300)] {
        for path in [format!("/v2/{name}/manifests/1"), format!("/v2/{name}/tags/list")] {
            node.get(path).await.is_error(400, "NAME_INVALID");
        }
        node.request(Method::POST, format!("/v2/{name}/blobs/uploads/")).send().await.is_error(400, "NAME_INVALID");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_says_why() {
    let (origin, store) = (MemoryStore::new(), MemoryStore::new());
    let network = Counting::new(&origin, &store, true);
    let (name, detail) = (String::from("late.example"), String::from("secret of the resolver"));
    let late = ResolveError::Unavailable { name: name.clone(), detail: detail.clone() };
    network.names.lock().insert(name, Err(late));
    let twice = ResolveError::Invalid { name: "twice.example".into(), detail: "two dnslink records".into() };
    network.names.lock().insert("twice.example".into(), Err(twice));
    let node = Node::over(Config::default(), store, Arc::new(Handle(network))).await;
    let message = node.get("/v2/nobody.example/app/manifests/1").await.is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("no TXT record") && message.contains("rule 3"), "{message}");
    let message = node.get("/v2/twice.example/app/manifests/1").await.is_error(404, "NAME_UNKNOWN");
    assert!(message.contains("two dnslink records"), "{message}");
    // It may work later, so it is not a 404; and a 5xx says no more than its code and an id.
    let answer = node.get("/v2/late.example/app/manifests/1").await;
    let message = answer.is_error(504, "UNAVAILABLE");
    assert!(!message.contains(&detail) && message.contains(answer.header("x-request-id")), "{message}");
}

#[tokio::test]
async fn every_kind_of_foreign_name_is_read() {
    let world = World::new();
    let origin = {
        let store = MemoryStore::new();
        Node::over(Config::default(), store.clone(), Arc::new(world.join(store))).await
    };
    origin.push_image("team/app", "1", &[b"layer"]).await;
    let root = origin.publish();
    let ipns = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    let resolved = Resolved { root: root.parse().unwrap(), path: Vec::new(), hints: Vec::new() };
    for name in [ipns, "example.com"] {
        world.set_name(ForeignName::parse(name).unwrap(), resolved.clone());
    }
    let store = MemoryStore::new();
    let node = Node::over(Config::default(), store.clone(), Arc::new(world.join(store))).await;
    for name in [root.clone(), format!("ipfs/{root}"), ipns.into(), format!("ipns/{ipns}"), "example.com".into()] {
        let answer = node.get(format!("/v2/{name}/team/app/manifests/1")).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.text());
        let tags = node.get(format!("/v2/{name}/team/app/tags/list")).await.json();
        assert_eq!(tags["tags"], serde_json::json!(["1"]));
        let message = node.get(format!("/v2/{name}/team/app/manifests/2")).await.is_error(404, "MANIFEST_UNKNOWN");
        assert!(message.contains("rule"), "{message}");
        node.get(format!("/v2/{name}/nothing/tags/list")).await.is_error(404, "NAME_UNKNOWN");
        assert_eq!(node.get(format!("/v2/{name}/nothing/referrers/{}", sha256(b""))).await.status, StatusCode::OK);
    }
    // Containerd sends `ns`; it is not dialled.
    let answer = node.get(format!("/v2/{root}/team/app/manifests/1?ns=evil.example")).await;
    assert_eq!(answer.status, StatusCode::OK);
}
