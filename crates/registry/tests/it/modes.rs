//! Registries that take no deletes, or nothing at all (distribution CVE-2026-41888: deletes that nothing gated).

use crate::{
    store::Disk,
    support::{Node, sha256},
};
use axum::http::{Method, StatusCode};
use cidery_registry::Config;
use std::sync::Arc;

/// A registry over what is on the disk.
async fn open(disk: &Disk, config: Config) -> Node {
    let (blocks, roots) = (Arc::new(disk.clone()), Arc::new(disk.clone()));
    let network = Arc::new(crate::network::Forbidden);
    let registry = cidery_registry::Registry::open(config, blocks, roots, network).await.unwrap();
    Node { store: disk.memory.clone(), registry }
}

#[tokio::test]
async fn deletes_can_be_turned_off() {
    let disk = Disk::new();
    let node = open(&disk, Config { deletes: false, ..Config::default() }).await;
    let manifest = node.push_image("app", "1", &[b"layer"]).await;
    let loose = node.push_blob("app", b"loose").await;
    for (path, allow) in [
        ("/v2/app/manifests/1".to_owned(), "GET, HEAD, PUT"),
        (format!("/v2/app/manifests/{manifest}"), "GET, HEAD, PUT"),
        (format!("/v2/app/blobs/{loose}"), "GET, HEAD"),
        // Whether it is there is nobody's business then.
        ("/v2/nowhere/manifests/1".to_owned(), "GET, HEAD, PUT"),
    ] {
        let answer = node.delete(&path).await;
        answer.is_error(405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
    assert_eq!(node.get("/v2/app/manifests/1").await.status, StatusCode::OK);
    assert_eq!(node.get(format!("/v2/app/blobs/{loose}")).await.text(), "loose");
    // An upload is cancelled nevertheless.
    let location = node.start("app").await;
    assert_eq!(node.delete(&location).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_read_only_registry_takes_nothing() {
    let disk = Disk::new();
    let node = open(&disk, Config::default()).await;
    let manifest = node.push_image("app", "1", &[b"layer"]).await;
    let location = node.start("app").await;
    node.request(Method::PATCH, &location).body(vec![1; 3 << 20]).send().await;
    node.registry.save_uploads().await;
    drop(node);
    let node = open(&disk, Config { read_only: true, ..Config::default() }).await;
    let blob = sha256(b"layer");
    for (method, path) in [
        (Method::POST, "/v2/app/blobs/uploads/".to_owned()),
        (Method::POST, format!("/v2/web/blobs/uploads/?mount={blob}&from=app")),
        (Method::PATCH, location.clone()),
        (Method::PUT, format!("{location}?digest={blob}")),
        (Method::DELETE, location.clone()),
        (Method::PUT, "/v2/app/manifests/2".to_owned()),
        (Method::DELETE, "/v2/app/manifests/1".to_owned()),
        (Method::DELETE, format!("/v2/app/manifests/{manifest}")),
        (Method::DELETE, format!("/v2/app/blobs/{blob}")),
    ] {
        let answer = node.request(method.clone(), &path).body("{}").send().await;
        assert!(answer.is_error(405, "UNSUPPORTED").contains("read-only"), "{method} {path}");
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
    // What the path does not have at all is said as ever.
    let answer = node.request(Method::POST, "/v2/").send().await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    for path in ["/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/1", &format!("/v2/app/blobs/{blob}")] {
        assert_eq!(node.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(node.get(&location).await.header("range"), format!("0-{}", (3 << 20) - 1));
}
