//! What accounts change for what is beside the API, and what is told of who came.

use super::{World, challenge};
use crate::{observers::Notes, support::sha256};
use axum::http::{Method, StatusCode};
use cidery_access::{Config as AccessConfig, Proxies};
use cidery_registry::{
    Config,
    ops::{Action, Observers, Origin},
};

const PAGE: &str = "https://ui.example";

#[tokio::test]
async fn what_watches_a_node_needs_no_login() {
    let world = World::new(&["alice"], Vec::new()).await;
    world.token("alice", "").await;
    let ask = |path: &str, from: &str, host: &str| {
        world.node.request(Method::GET, path).from(from).header("host", host).send()
    };
    for (from, host) in [("192.0.2.7:1", "192.0.2.1"), ("127.0.0.1:1", "localhost")] {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(ask(path, from, host).await.status, StatusCode::OK, "{path} from {from}");
        }
        // The API is closed to the same callers.
        challenge(&ask("/v2/", from, host).await);
    }
    let metrics = ask("/metrics", "127.0.0.1:1", "localhost").await;
    let line = "cidery_http_requests_total{route=\"/token\",method=\"GET\",code=\"200\"} 1";
    assert!(metrics.status == StatusCode::OK && metrics.text().contains(line), "{}", metrics.text());
    // A login opens them to nobody else.
    ask("/metrics", "192.0.2.7:1", "192.0.2.1").await.is_error(403, "DENIED");
    let logged_in = world.call("alice", Method::GET, "/metrics").from("192.0.2.7:1").header("host", "192.0.2.1");
    logged_in.send().await.is_error(403, "DENIED");
}

#[tokio::test]
async fn a_page_is_told_beforehand_and_then_logs_in() {
    let config = Config { cors: vec![PAGE.parse().unwrap()], ..Config::default() };
    let world = World::on(config, &["alice"], Vec::new(), false, AccessConfig::default()).await;
    for path in ["/v2/app/manifests/1", "/token"] {
        let preflight = world.node.request(Method::OPTIONS, path).header("origin", PAGE);
        let preflight = preflight.header("access-control-request-method", "GET");
        let answer = preflight.header("access-control-request-headers", "authorization").send().await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
    }
    let answer = world.call("", Method::GET, "/v2/_catalog").header("origin", PAGE).send().await;
    assert!(challenge(&answer).starts_with("Bearer "));
    assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    let answer = world.call("alice", Method::GET, "/v2/_catalog").header("origin", PAGE).send().await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::OK, PAGE));
}

#[tokio::test]
async fn who_did_it_is_told() {
    let notes = Notes::new(true);
    let config = Config { observers: Observers::new(vec![notes.clone()]), ..Config::default() };
    let world = World::on(config, &["alice", "bob"], Vec::new(), true, AccessConfig::default()).await;
    let told = || {
        let users = notes.take().into_iter().map(|event| match event.origin {
            Origin::Http(origin) => (event.action, origin.user),
            origin => panic!("{origin:?}"),
        });
        users.collect::<Vec<_>>()
    };
    let by = |action, user: &str| (action, Some(user.to_owned()));
    assert_eq!(world.push("alice", "app", "1", b"layer").await.status, StatusCode::CREATED);
    assert_eq!(told(), [by(Action::Push, "alice"), by(Action::Push, "alice"), by(Action::Push, "alice")]);
    let token = world.token("bob", "scope=repository:app:delete").await;
    assert_eq!(world.with_token(&token, Method::DELETE, "/v2/app/manifests/1").await.status, StatusCode::ACCEPTED);
    assert_eq!(told(), [by(Action::Delete, "bob")]);
    // What is refused is not told, not even of whom it was.
    challenge(&world.push_manifest("", "app", "2", b"layer").await);
    challenge(&world.push_manifest("mallory", "app", "2", b"layer").await);
    assert!(told().is_empty());
    assert_eq!(world.push_manifest("alice", "app", "2", b"layer").await.status, StatusCode::CREATED);
    told();
    assert_eq!(world.get("", "/v2/app/manifests/2").await.status, StatusCode::OK);
    assert_eq!(told(), [(Action::Pull, None)]);
}

#[tokio::test]
async fn behind_a_proxy_its_client_is_told() {
    let notes = Notes::new(false);
    let config = Config { observers: Observers::new(vec![notes.clone()]), ..Config::default() };
    let access = AccessConfig { proxies: Proxies::read(["127.0.0.1"]).unwrap(), ..AccessConfig::default() };
    let world = World::on(config, &["alice"], Vec::new(), false, access).await;
    let start = |from: &str| {
        let path = format!("/v2/app/blobs/uploads/?digest={}", sha256(b"x"));
        world.call("alice", Method::POST, path).from(from).header("host", "192.0.2.1").body("x")
    };
    let told = || match notes.take().remove(0).origin {
        Origin::Http(origin) => (origin.client.map(|client| client.to_string()), origin.host, origin.https),
        origin => panic!("{origin:?}"),
    };
    let proxied = start("127.0.0.1:9").header("x-forwarded-for", "203.0.113.9, 198.51.100.4");
    let proxied = proxied.header("x-forwarded-proto", "https").header("x-forwarded-host", "registry.lan");
    let answer = proxied.send().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(told(), (Some("198.51.100.4".to_owned()), Some("registry.lan".to_owned()), true));
    // Who is no proxy is not believed.
    let direct = start("192.0.2.7:9").header("x-forwarded-for", "198.51.100.4");
    assert_eq!(direct.send().await.status, StatusCode::CREATED);
    assert_eq!(told(), (None, Some("192.0.2.1".to_owned()), false));
}

#[tokio::test]
async fn a_read_only_registry_logs_in() {
    let config = Config { read_only: true, ..Config::default() };
    let world = World::on(config, &["alice"], Vec::new(), false, AccessConfig::default()).await;
    let answer = world.form("grant_type=password&username=alice&password=alicealice").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    world.push_blob("alice", "app", b"x").await.is_error(405, "UNSUPPORTED");
}
