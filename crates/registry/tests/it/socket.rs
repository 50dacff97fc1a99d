//! Over a real socket: what only a connection shows.

use crate::{
    cold::Pair,
    network::Fault,
    support::{MIB, Node, image, noise, sha256},
};
use cidery_core::{Blockstore, RootStore, dag};
use cidery_registry::{Config, Registry, Tls};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

pub struct Server {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<std::io::Result<()>>,
}

pub async fn serve(registry: &Registry) -> Server {
    serve_with(registry, None).await
}

/// Over TLS, if there is any.
pub async fn serve_with(registry: &Registry, tls: Option<Tls>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let registry = registry.clone();
    let done = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        match tls {
            Some(tls) => registry.serve_tls(listener, tls, stopped).await,
            None => registry.serve(listener, stopped).await,
        }
    });
    Server { address, stop, done }
}

pub async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything up to the end of the connection, clean or not.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let clean = stream.read_to_end(&mut bytes).await.is_ok();
    (bytes, clean)
}

pub fn request(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn a_pull_over_a_socket() {
    let node = Node::new().await;
    let data = noise(1, 3 * MIB);
    let digest = node.push_blob("app", &data).await;
    let server = serve(&node.registry).await;
    let mut stream = send(server.address, &request("GET", &format!("/v2/app/blobs/{digest}"), "")).await;
    let (bytes, clean) = rest(&mut stream).await;
    assert!(clean && bytes.starts_with(b"HTTP/1.1 200"));
    assert!(bytes.ends_with(&data) && bytes.len() < data.len() + 1000);
    let mut stream = send(server.address, &request("HEAD", &format!("/v2/app/blobs/{digest}"), "")).await;
    let (bytes, _) = rest(&mut stream).await;
    let head = String::from_utf8(bytes).unwrap();
    assert!(head.to_lowercase().contains(&format!("content-length: {}", data.len())), "{head}");
    server.stop.send(()).unwrap();
    server.done.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_wrong_or_broken_blob_never_ends_cleanly() {
    let data = noise(2, 3 * MIB);
    let claimed = sha256(b"something else");
    let origin = Node::new().await;
    origin.link("app", &data, &claimed).await;
    let config = origin.push_blob("app", b"{}").await;
    origin.push_manifest("app", "1", &image((config, 2), &[(claimed.clone(), data.len())])).await;
    let pair = Pair::of(Config::default(), true, origin).await;
    let server = serve(&pair.node.registry).await;
    let path = format!("/v2/{}/app/blobs/{claimed}", pair.root);
    let mut stream = send(server.address, &request("GET", &path, "")).await;
    let (bytes, _) = rest(&mut stream).await;
    assert!(bytes.len() < 2 * MIB + 2000, "the last leaf was sent");

    // A peer that stops in the middle looks the same to the client.
    let pair = Pair::new(true, &[&data]).await;
    let tree = pair.origin.registry.tree(&cidery_core::Namespace::local()).unwrap();
    let blob = tree.snapshot().blob(&"app".parse().unwrap(), &sha256(&data)).await.unwrap().unwrap();
    let leaves = dag::links(&blob.cid, &pair.origin.store.get(&blob.cid).unwrap().unwrap()).unwrap();
    pair.network.faults.lock().insert(leaves[1], Fault::Missing);
    let server = serve(&pair.node.registry).await;
    let mut stream = send(server.address, &request("GET", &pair.blob(&data), "")).await;
    let (bytes, _) = rest(&mut stream).await;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).to_lowercase();
    assert!(text.contains(&format!("content-length: {}", data.len())) && bytes.len() < data.len(), "{text}");
}

#[tokio::test]
async fn a_cut_patch_resumes_where_it_was_cut() {
    let node = Node::new().await;
    let server = serve(&node.registry).await;
    let data = noise(3, 2 * MIB);
    let location = node.start("app").await;
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", data.len());
    let mut stream = send(server.address, &head).await;
    stream.write_all(&data[..MIB + 77]).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream);
    let wait = async {
        loop {
            let status = node.get(&location).await;
            if status.header("range") == format!("0-{}", MIB + 76) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    let range =
        format!("Content-Range: {}-{}\r\nContent-Length: {}\r\n", MIB + 77, data.len() - 1, data.len() - MIB - 77);
    let mut stream = send(server.address, &request("PATCH", &location, &range)).await;
    stream.write_all(&data[MIB + 77..]).await.unwrap();
    let (bytes, _) = rest(&mut stream).await;
    assert!(bytes.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&bytes));
    let digest = sha256(&data);
    let mut stream =
        send(server.address, &request("PUT", &format!("{location}?digest={digest}"), "Content-Length: 0\r\n")).await;
    let (bytes, _) = rest(&mut stream).await;
    assert!(bytes.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&bytes));
    assert!(node.get(format!("/v2/app/blobs/{digest}")).await.body == data);
}

#[tokio::test]
async fn slow_heads_are_cut_off_and_slow_bodies_are_not() {
    let config = Config { header_timeout: Duration::from_millis(300), ..Config::default() };
    let node = Node::with(config).await;
    let server = serve(&node.registry).await;
    let mut slow = send(server.address, "GET /v2/ HTTP/1.1\r\nHost: loc").await;
    let ended = tokio::time::timeout(Duration::from_secs(20), rest(&mut slow)).await;
    assert!(!ended.expect("it was cut off").0.starts_with(b"HTTP/1.1 200"));

    let location = node.start("app").await;
    let mut stream = send(server.address, &request("PATCH", &location, "Content-Length: 5\r\n")).await;
    for byte in b"slow!" {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    let (bytes, _) = rest(&mut stream).await;
    assert!(bytes.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let node = Node::with(Config { stall_timeout: Duration::from_millis(200), ..Config::default() }).await;
    let digest = node.push_blob("app", &noise(4, 24 * MIB)).await;
    let server = serve(&node.registry).await;
    let mut stream = send(server.address, &request("GET", &format!("/v2/app/blobs/{digest}"), "")).await;
    let mut first = [0; 100];
    stream.read_exact(&mut first).await.unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), rest(&mut stream)).await.expect("it was given up");
    assert!(ended.0.len() < 24 * MIB, "{}", ended.0.len());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_connection() {
    let config = Config { stall_timeout: Duration::from_millis(200), max_connections: 1, ..Config::default() };
    let node = Node::with(config).await;
    let digest = node.push_blob("app", &noise(4, 24 * MIB)).await;
    let server = serve(&node.registry).await;
    let _deaf = send(server.address, &request("GET", &format!("/v2/app/blobs/{digest}"), "")).await;
    let mut next = send(server.address, &request("GET", "/v2/", "")).await;
    let (bytes, _) = tokio::time::timeout(Duration::from_secs(20), rest(&mut next)).await.expect("its turn came");
    assert!(bytes.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn an_oversized_manifest_is_answered_not_reset() {
    let node = Node::new().await;
    let server = serve(&node.registry).await;
    let body = vec![b'x'; 8 * MIB];
    let head = request("PUT", "/v2/app/manifests/1", &format!("Content-Length: {}\r\n", body.len()));
    let mut stream = send(server.address, &head).await;
    stream.write_all(&body).await.unwrap();
    let (bytes, _) = rest(&mut stream).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("SIZE_INVALID"), "{text}");
}

#[tokio::test]
async fn connections_are_bounded() {
    let node = Node::with(Config { max_connections: 2, ..Config::default() }).await;
    let server = serve(&node.registry).await;
    let ask = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = send(server.address, ask).await;
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        open.push(stream);
    }
    // A third is not answered before one of them ends.
    let mut third = send(server.address, ask).await;
    let mut head = [0; 15];
    let early = tokio::time::timeout(Duration::from_millis(200), third.read_exact(&mut head)).await;
    assert!(early.is_err());
    open.pop();
    third.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn stopping_saves_uploads() {
    let node = Node::new().await;
    let server = serve(&node.registry).await;
    let (data, location) = (noise(5, 2 * MIB), node.start("app").await);
    let head = request("PATCH", &location, &format!("Content-Length: {}\r\n", data.len()));
    let mut stream = send(server.address, &head).await;
    stream.write_all(&data).await.unwrap();
    let (bytes, _) = rest(&mut stream).await;
    assert!(bytes.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(node.store.uploads().unwrap(), []);
    server.stop.send(()).unwrap();
    server.done.await.unwrap().unwrap();
    assert_eq!(node.store.uploads().unwrap().len(), 1);
}

#[tokio::test]
async fn stopping_lets_open_requests_finish() {
    let node = Node::new().await;
    let server = serve(&node.registry).await;
    let location = node.start("app").await;
    let mut stream = send(server.address, &request("PATCH", &location, "Content-Length: 5\r\n")).await;
    stream.write_all(b"he").await.unwrap();
    node.taken(&location).await;
    server.stop.send(()).unwrap();
    stream.write_all(b"llo").await.unwrap();
    let (bytes, _) = rest(&mut stream).await;
    assert!(bytes.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&bytes));
    server.done.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_refused_chunk_is_answered_not_reset() {
    let node = Node::new().await;
    let server = serve(&node.registry).await;
    let (body, location) = (vec![0; 8 * MIB], node.start("app").await);
    let wrong = format!("Content-Range: 5-{}\r\n", body.len() + 4);
    let gone = location.replace(location.rsplit('/').next().unwrap(), &"0".repeat(32));
    let digest = sha256(&body);
    for (method, path, more, status, code) in [
        ("PATCH", location.clone(), wrong.as_str(), "416", "RANGE_INVALID"),
        ("PUT", format!("{location}?digest={digest}"), wrong.as_str(), "416", "RANGE_INVALID"),
        ("PATCH", gone.clone(), "", "404", "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", format!("{gone}?digest={digest}"), "", "404", "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", format!("{location}?digest=nonsense"), "", "400", "DIGEST_INVALID"),
        ("POST", "/v2/app/blobs/uploads/?digest=nonsense".into(), "", "400", "DIGEST_INVALID"),
    ] {
        let head = request(method, &path, &format!("{more}Content-Length: {}\r\n", body.len()));
        let mut stream = send(server.address, &head).await;
        stream.write_all(&body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (bytes, _) = rest(&mut stream).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")) && text.contains(code), "{method} {path}: {text}");
    }
}
