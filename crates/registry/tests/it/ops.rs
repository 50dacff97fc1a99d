//! Health, readiness, metrics.

use crate::{
    metrics::{Sample, parse},
    support::{MIB, Node, noise},
};
use async_trait::async_trait;
use axum::http::{Method, StatusCode};
use cidery_registry::{
    Config,
    ops::{Ailment, Reading, Surroundings},
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// Surroundings that are as the test wants them.
#[derive(Debug, Default)]
struct Around {
    ailments: Mutex<Vec<Ailment>>,
    hangs: Mutex<bool>,
}

#[async_trait]
impl Surroundings for Around {
    async fn ailments(&self) -> Vec<Ailment> {
        if *self.hangs.lock() {
            std::future::pending::<()>().await;
        }
        self.ailments.lock().clone()
    }

    async fn readings(&self) -> Vec<Reading> {
        if *self.hangs.lock() {
            std::future::pending::<()>().await;
        }
        let (name, help) = ("cidery_thing_bytes", "Of the test");
        vec![
            Reading::gauge(name, help, 7).with("what", "a \"quoted\\ line\nbreak"),
            Reading::gauge(name, help, 8).with("what", "plain"),
            Reading::counter("cidery_things", "Of the test", 3),
        ]
    }
}

async fn node() -> (Node, Arc<Around>) {
    let around = Arc::new(Around::default());
    let config = Config { surroundings: Some(around.clone()), ..Config::default() };
    (Node::with(config).await, around)
}

async fn metrics(node: &Node) -> Vec<Sample> {
    let answer = node.get("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    parse(answer.text())
}

/// The value of the one sample that has these labels, 0 if there is none.
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |sample: &&Sample| {
        sample.name == name && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|is| is == value))
    };
    let found: Vec<_> = samples.iter().filter(fits).collect();
    assert!(found.len() <= 1, "{name} {labels:?}: {found:?}");
    found.first().map_or(0.0, |sample| sample.value)
}

#[tokio::test]
async fn health_and_readiness() {
    let (node, around) = node().await;
    let answer = node.get("/healthz").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (StatusCode::OK, Some("ok")));
    let answer = node.get("/readyz").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, serde_json::json!({ "ready": true, "reasons": [] })));
    assert_eq!(answer.header("cache-control"), "no-store");
    let answer = node.head("/readyz").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));

    around.ailments.lock().push(Ailment::new("no-space", "the disk is full"));
    let answer = node.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let expected =
        serde_json::json!({ "ready": false, "reasons": [{ "code": "no-space", "detail": "the disk is full" }] });
    assert_eq!(answer.json(), expected);
    assert_eq!(node.head("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    // It lives nevertheless.
    assert_eq!(node.get("/healthz").await.status, StatusCode::OK);

    let answer = node.request(Method::POST, "/healthz").send().await;
    answer.is_error(405, "UNSUPPORTED");
    assert_eq!(answer.header("allow"), "GET, HEAD");
    node.get("/healthz/x").await.is_error(404, "UNSUPPORTED");
}

#[tokio::test]
async fn a_disk_that_hangs_is_not_ready_and_keeps_no_scrape() {
    let (node, around) = node().await;
    *around.hangs.lock() = true;
    let (answer, samples) = tokio::join!(node.get("/readyz"), metrics(&node));
    assert_eq!((answer.status.as_u16(), answer.json()["reasons"][0]["code"].as_str()), (503, Some("stalled")));
    assert_eq!(value(&samples, "cidery_uploads_in_flight", &[]), 0.0);
    assert!(samples.iter().all(|sample| sample.name != "cidery_things_total"));
}

#[tokio::test]
async fn who_may_ask_for_what() {
    let (node, _) = node().await;
    let from = |path: &str, host: &str| node.request(Method::GET, path).from("192.0.2.7:1").header("host", host).send();
    // A load balancer elsewhere may ask how it is, by address; nobody by a name that a web page chose.
    assert_eq!(from("/readyz", "192.0.2.1").await.status, StatusCode::OK);
    from("/readyz", "evil.example").await.is_error(403, "DENIED");
    let message = from("/metrics", "192.0.2.1").await.is_error(403, "DENIED");
    assert!(message.contains("--metrics"), "{message}");
    let answer = node.request(Method::GET, "/metrics").from("127.0.0.1:1").send().await;
    assert_eq!(answer.status, StatusCode::OK);
    // What a proxy on this machine passes on is somebody else's.
    let proxied = node.request(Method::GET, "/metrics").from("127.0.0.1:1").header("x-forwarded-for", "1.2.3.4");
    proxied.send().await.is_error(403, "DENIED");
}

#[tokio::test]
async fn metrics_move_with_what_is_done() {
    let (node, _) = node().await;
    let before = metrics(&node).await;
    assert_eq!(value(&before, "cidery_things_total", &[]), 3.0);
    let odd = value(&before, "cidery_thing_bytes", &[("what", "a \"quoted\\ line\nbreak")]);
    assert_eq!((odd, value(&before, "cidery_thing_bytes", &[("what", "plain")])), (7.0, 8.0));

    let layer = noise(3, 2 * MIB);
    node.push_image("team/app", "1", &[&layer]).await;
    node.start("team/app").await;
    let manifest = "/v2/team/app/manifests/1";
    for _ in 0..2 {
        node.get(manifest).await;
    }
    node.get("/v2/team/app/manifests/none").await.is_error(404, "MANIFEST_UNKNOWN");
    node.get("/v2/secret-name/tags/list").await;
    let pulled = node.get(format!("/v2/team/app/blobs/{}", crate::support::sha256(&layer))).await;
    assert_eq!(pulled.body.len(), layer.len());
    node.get("/nowhere/at/all").await;

    let after = metrics(&node).await;
    let template = "/v2/{name}/manifests/{reference}";
    let requests = |method, code| {
        let labels = [("route", template), ("method", method), ("code", code)];
        value(&after, "cidery_http_requests_total", &labels)
    };
    assert_eq!((requests("GET", "200"), requests("GET", "404"), requests("PUT", "201")), (2.0, 1.0, 1.0));
    let took = [("route", template), ("method", "GET")];
    assert_eq!(value(&after, "cidery_http_request_duration_seconds_count", &took), 3.0);
    assert!(value(&after, "cidery_http_request_duration_seconds_sum", &took) > 0.0);
    let other = [("route", "other"), ("method", "GET"), ("code", "404")];
    assert_eq!(value(&after, "cidery_http_requests_total", &other), 1.0);
    let difference = |name: &str| value(&after, name, &[]) - value(&before, name, &[]);
    assert!(difference("cidery_http_received_bytes_total") > layer.len() as f64);
    assert!(difference("cidery_http_sent_bytes_total") > layer.len() as f64);
    assert_eq!(value(&after, "cidery_uploads_in_flight", &[]), 1.0);
    // The scrape itself.
    assert_eq!(value(&after, "cidery_http_requests_in_flight", &[]), 1.0);
    // No name of a client's is a label.
    let text = node.get("/metrics").await;
    for name in ["secret-name", "team/app", "nowhere"] {
        assert!(!text.text().contains(name), "{name}");
    }
}

#[tokio::test]
async fn requests_that_are_given_up_are_counted_and_end() {
    let (node, _) = node().await;
    let layer = noise(4, 8 * MIB);
    let digest = node.push_blob("app", &layer).await;
    let location = node.start("app").await;
    // A body that is dropped half-way, and a request that is dropped before there is an answer.
    let response = node.request(Method::GET, format!("/v2/app/blobs/{digest}")).begin().await;
    let during = metrics(&node).await;
    assert_eq!(value(&during, "cidery_http_requests_in_flight", &[]), 2.0);
    drop(response);
    let endless = axum::body::Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let patch = node.request(Method::PATCH, location).body(endless).begin();
    assert!(tokio::time::timeout(Duration::from_millis(50), patch).await.is_err());
    let after = metrics(&node).await;
    assert_eq!(value(&after, "cidery_http_requests_in_flight", &[]), 1.0);
    let blob = [("route", "/v2/{name}/blobs/{digest}"), ("method", "GET"), ("code", "200")];
    assert_eq!(value(&after, "cidery_http_requests_total", &blob), 1.0);
    let gone = [("route", "/v2/{name}/blobs/uploads/{id}"), ("method", "PATCH"), ("code", "499")];
    assert_eq!(value(&after, "cidery_http_requests_total", &gone), 1.0);
}

async fn ask(stream: &mut TcpStream, path: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_port_of_its_own_tells_that_the_registry_is_stopping() {
    let (node, _) = node().await;
    let (main, beside) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = beside.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let registry = node.registry.clone();
    let serving = tokio::spawn(async move { registry.serve(main, async { stopped.await.unwrap() }).await });
    let registry = node.registry.clone();
    let second = tokio::spawn(async move { registry.serve_operations(beside, async { ended.await.unwrap() }).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut stream, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(ask(&mut stream, "/metrics").await.contains("openmetrics-text"));
    // It is no second registry.
    assert!(ask(&mut TcpStream::connect(address).await.unwrap(), "/v2/").await.starts_with("HTTP/1.1 404"));
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = ask(&mut stream, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("draining"), "{answer}");
    assert!(ask(&mut stream, "/healthz").await.starts_with("HTTP/1.1 200"));
    drop(stream);
    end.send(()).unwrap();
    second.await.unwrap().unwrap();
}
