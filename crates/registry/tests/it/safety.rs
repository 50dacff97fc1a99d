//! Safe defaults, and errors that are always OCI JSON.

use crate::{
    network::Forbidden,
    support::{Node, sha256},
};
use axum::http::{Method, StatusCode};
use cidery_core::memory::MemoryStore;
use cidery_registry::Config;
use std::sync::Arc;

const ELSEWHERE: &str = "192.0.2.7:4000";

#[tokio::test]
async fn pushes_and_deletes_come_from_this_machine() {
    let node = Node::new().await;
    let manifest = node.push_image("app", "1", &[b"layer"]).await;
    let location = node.start("app").await;
    let blob = format!("/v2/app/blobs/{}", sha256(b"layer"));
    for (method, path) in [
        (Method::POST, "/v2/app/blobs/uploads/".to_owned()),
        (Method::PATCH, location.clone()),
        (Method::PUT, location.clone()),
        (Method::DELETE, location.clone()),
        (Method::PUT, "/v2/app/manifests/2".to_owned()),
        (Method::DELETE, "/v2/app/manifests/1".to_owned()),
        (Method::DELETE, format!("/v2/app/manifests/{manifest}")),
        (Method::DELETE, blob.clone()),
    ] {
        let call = node.request(method, path).header("host", "192.0.2.1:5000").from(ELSEWHERE);
        let message = call.send().await.is_error(403, "DENIED");
        assert!(message.contains("127.0.0.1"), "{message}");
    }
    // Pulls are for whoever reaches the listener.
    for path in ["/v2/", "/v2/app/manifests/1", &blob] {
        let call = node.request(Method::GET, path).header("host", "192.0.2.1:5000").from(ELSEWHERE);
        assert_eq!(call.send().await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn loopback_is_not_trusted_blindly() {
    let node = Node::with(Config { allowed_hosts: vec!["registry.lan".into()], ..Config::default() }).await;
    let get = |name: &'static str, value: &'static str| node.request(Method::GET, "/v2/").header(name, value).send();
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "192.0.2.1"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("forwarded", "for=192.0.2.7"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "registry"),
    ] {
        get(name, value).await.is_error(403, "DENIED");
    }
    for (name, value) in [
        ("host", "127.0.0.1:5000"),
        ("host", "[::1]"),
        ("host", "registry.lan:80"),
        ("origin", "http://localhost:5000"),
    ] {
        assert_eq!(get(name, value).await.status, StatusCode::OK, "{name}: {value}");
    }
}

#[tokio::test]
async fn everything_else_is_an_oci_error() {
    let node = Node::new().await;
    for path in ["/", "/v1/", "/v2/x", "/v2/a/b", "/favicon.ico", "/v2/a/manifests", "/v2/../../etc/passwd"] {
        let answer = node.get(path).await;
        answer.is_error(404, "UNSUPPORTED");
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
    for (method, path, allow) in [
        (Method::POST, "/v2/", "GET, HEAD"),
        (Method::DELETE, "/v2/_catalog", "GET, HEAD"),
        (Method::PUT, "/v2/a/tags/list", "GET, HEAD"),
        (Method::POST, "/v2/a/manifests/1", "GET, HEAD, PUT, DELETE"),
        (Method::PUT, "/v2/a/blobs/uploads/", "POST"),
        (Method::OPTIONS, "/v2/a/blobs/uploads/x", "GET, PATCH, PUT, DELETE"),
        (Method::TRACE, "/v2/a/blobs/sha256:00", "GET, HEAD, DELETE"),
    ] {
        let answer = node.request(method, path).send().await;
        answer.is_error(405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), allow);
    }
    node.get(format!("/v2/{}/tags/list", "a/".repeat(3000))).await.is_error(414, "NAME_INVALID");
    let fat = node.request(Method::GET, "/v2/").header("x-fat", &"x".repeat(40_000));
    fat.send().await.is_error(431, "SIZE_INVALID");
    let ids: Vec<_> = [node.get("/v2/").await, node.get("/").await].map(|a| a.header("x-request-id").to_owned()).into();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_panic_is_an_answer_too() {
    let node = Node::over(Config::default(), MemoryStore::new(), Arc::new(Forbidden)).await;
    let answer = node.get("/v2/example.com/app/manifests/1").await;
    let message = answer.is_error(500, "UNKNOWN");
    assert!(message.contains(answer.header("x-request-id")) && !message.contains("resolving"), "{message}");
    assert_eq!(node.get("/v2/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_base_answers_without_a_login() {
    let node = Node::new().await;
    let answer = node.get("/v2/").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "{}"));
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    assert_eq!(node.head("/v2/").await.status, StatusCode::OK);
}
