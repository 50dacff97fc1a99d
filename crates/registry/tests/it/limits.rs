//! More clients than there is room for, and clients that take their time.

use crate::{
    socket::{request, rest, send, serve},
    support::{MIB, Node, noise, until},
};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use cidery_registry::Config;
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const ASK: &str = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A body of one byte every so often, for ever.
fn trickle(every: Duration) -> axum::body::Body {
    axum::body::Body::from_stream(futures::stream::unfold((), move |()| async move {
        tokio::time::sleep(every).await;
        Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), ()))
    }))
}

/// A connection that asks for a blob and takes only the beginning of the answer.
async fn deaf(address: std::net::SocketAddr, path: &str) -> TcpStream {
    let mut stream = send(address, &request("GET", path, "")).await;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream
}

#[tokio::test]
async fn connections_without_a_place_wait_and_are_then_told() {
    let config = Config { max_connections: 1, queue_timeout: Duration::from_millis(300), ..Config::default() };
    let node = Node::with(config).await;
    let server = serve(&node.registry).await;
    let mut first = send(server.address, ASK).await;
    first.read_exact(&mut [0; 15]).await.unwrap();

    let start = Instant::now();
    let mut second = send(server.address, ASK).await;
    let text = String::from_utf8(rest(&mut second).await.0).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("\"UNAVAILABLE\""), "{text}");
    assert!(text.contains("retry-after: ") && text.contains("connection: close"), "{text}");

    // Also one that has much to say is answered, not reset.
    let body = vec![0; 4 * MIB];
    let head = request("PUT", "/v2/app/manifests/1", &format!("Content-Length: {}\r\n", body.len()));
    let mut third = send(server.address, &head).await;
    third.write_all(&body).await.unwrap();
    assert!(rest(&mut third).await.0.starts_with(b"HTTP/1.1 503"));

    drop(first);
    let mut fourth = send(server.address, ASK).await;
    let mut head = [0; 15];
    fourth.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn downloads_are_bounded() {
    let config = Config { max_downloads: 2, queue_timeout: Duration::from_millis(200), ..Config::default() };
    let node = Node::with(config).await;
    let digest = node.push_blob("app", &noise(1, 24 * MIB)).await;
    let small = node.push_blob("app", b"small").await;
    let manifest = node.push_image("app", "1", &[b"layer"]).await;
    let path = format!("/v2/app/blobs/{digest}");
    let server = serve(&node.registry).await;
    let (mut first, _second) = (deaf(server.address, &path).await, deaf(server.address, &path).await);
    for path in [&path, &format!("/v2/app/blobs/{small}")] {
        let refused = node.get(path).await;
        refused.is_error(429, "TOOMANYREQUESTS");
        assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
        // What has no body to send needs no place.
        assert_eq!(node.head(path).await.status, StatusCode::OK);
    }
    assert_eq!(node.get(format!("/v2/app/manifests/{manifest}")).await.status, StatusCode::OK);
    // One that is served to its end leaves its place.
    let (bytes, clean) = rest(&mut first).await;
    assert!(clean && bytes.len() > 24 * MIB - 1000);
    assert_eq!(node.get(&path).await.body.len(), 24 * MIB);
}

#[tokio::test]
async fn while_others_wait_a_slow_reader_is_cut_soon() {
    let config = Config { max_downloads: 1, stall_timeout: Duration::from_secs(12), ..Config::default() };
    let node = Node::with(config).await;
    let digest = node.push_blob("app", &noise(1, 24 * MIB)).await;
    let path = format!("/v2/app/blobs/{digest}");
    let server = serve(&node.registry).await;
    let mut slow = deaf(server.address, &path).await;
    let start = Instant::now();
    assert_eq!(node.get(&path).await.body.len(), 24 * MIB);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(rest(&mut slow).await.0.len() < 24 * MIB);
}

#[tokio::test]
async fn a_byte_now_and_then_is_no_upload() {
    let node = Node::with(Config { stall_timeout: Duration::from_millis(600), ..Config::default() }).await;
    let location = node.start("app").await;
    let start = Instant::now();
    let call = node.request(Method::PATCH, &location).body(trickle(Duration::from_millis(20)));
    let answer = timeout(Duration::from_secs(20), call.send()).await.expect("it was cut off");
    let message = answer.is_error(400, "BLOB_UPLOAD_INVALID");
    assert!(message.contains("next to nothing") && start.elapsed() >= Duration::from_millis(500), "{message}");
    // What came is kept.
    assert_ne!(answer.header("range"), "0-0");

    let call = node.request(Method::PUT, "/v2/app/manifests/1").body(trickle(Duration::from_millis(20)));
    let answer = timeout(Duration::from_secs(20), call.send()).await.expect("it was cut off");
    assert!(answer.is_error(400, "BLOB_UPLOAD_INVALID").contains("next to nothing"));
}

#[tokio::test]
async fn slow_uploads_make_room_for_others() {
    let config = Config { max_uploads: 2, stall_timeout: Duration::from_secs(12), ..Config::default() };
    let node = std::sync::Arc::new(Node::with(config).await);
    let mut slow = Vec::new();
    for _ in 0..2 {
        let location = node.start("app").await;
        let node = node.clone();
        let call = async move {
            node.request(Method::PATCH, &location).body(trickle(Duration::from_millis(100))).send().await
        };
        slow.push(tokio::spawn(call));
    }
    let start = Instant::now();
    let try_again = async {
        loop {
            let answer = node.request(Method::POST, "/v2/app/blobs/uploads/").send().await;
            if answer.status == StatusCode::ACCEPTED {
                return;
            }
            answer.is_error(429, "TOOMANYREQUESTS");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(20), try_again).await.expect("there was room");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    for slow in slow {
        slow.await.unwrap().is_error(400, "BLOB_UPLOAD_INVALID");
    }
}

#[tokio::test]
async fn manifests_that_arrive_take_bounded_memory() {
    let config = Config { queue_timeout: Duration::from_millis(200), ..Config::default() };
    let node = std::sync::Arc::new(Node::with(config).await);
    let (mut senders, mut calls) = (Vec::new(), Vec::new());
    for n in 0..16 {
        let (sender, body) = tokio::sync::mpsc::channel::<Result<Bytes, io::Error>>(1);
        let body = axum::body::Body::from_stream(futures::stream::unfold(body, |mut body| async {
            let next = body.recv().await?;
            Some((next, body))
        }));
        sender.send(Ok(Bytes::from(vec![b' '; 100 << 10]))).await.unwrap();
        let node = node.clone();
        let path = format!("/v2/app/manifests/{n}");
        calls.push(tokio::spawn(async move { node.request(Method::PUT, path).body(body).send().await }));
        // It was taken, so its place is, too.
        sender.send(Ok(Bytes::from_static(b" "))).await.unwrap();
        until("its place", || sender.capacity() == 1).await;
        senders.push(sender);
    }
    let put = |size: usize| node.request(Method::PUT, "/v2/app/manifests/more").body(vec![b' '; size]).send();
    put(100 << 10).await.is_error(429, "TOOMANYREQUESTS");
    // Usual ones are small.
    put(60 << 10).await.is_error(400, "MANIFEST_INVALID");
    senders.pop();
    put(100 << 10).await.is_error(400, "MANIFEST_INVALID");
    drop(senders);
    for call in calls {
        call.await.unwrap().is_error(400, "MANIFEST_INVALID");
    }
}

/// Many heads, bodies and readers at a byte now and then: others are served meanwhile, and all of them go.
#[tokio::test]
async fn the_slow_keep_nobody_out() {
    let config = Config {
        max_connections: 90,
        max_downloads: 10,
        max_uploads: 10,
        header_timeout: Duration::from_secs(3),
        stall_timeout: Duration::from_secs(6),
        ..Config::default()
    };
    let node = Node::with(config).await;
    let data = noise(1, 24 * MIB);
    let digest = node.push_blob("app", &data).await;
    let path = format!("/v2/app/blobs/{digest}");
    let server = serve(&node.registry).await;
    let mut slow = Vec::new();
    for n in 0..120 {
        let head = match n % 3 {
            0 => "GET /v2/ HTTP/1.1\r\n".to_owned(),
            1 => request("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"), "Content-Length: 1000000\r\n"),
            _ => request("GET", &path, ""),
        };
        let mut stream = send(server.address, &head).await;
        slow.push(tokio::spawn(async move {
            let mut byte = [0];
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let done = match n % 3 {
                    2 => !matches!(stream.read(&mut byte).await, Ok(1)),
                    _ => stream.write_all(b"x").await.is_err(),
                };
                if done {
                    return;
                }
            }
        }));
    }
    let start = Instant::now();
    let mut stream = send(server.address, &request("GET", &path, "")).await;
    let (bytes, _) = timeout(Duration::from_secs(20), rest(&mut stream)).await.expect("it was served");
    assert!(bytes.starts_with(b"HTTP/1.1 200") && bytes.ends_with(&data), "{:?}", start.elapsed());
    drop(server);
    for slow in slow {
        slow.abort();
    }
}
