//! TLS: what is negotiated, who is let in, and what happens when certificates change.

use crate::{
    accounts::World,
    socket::{Server, request, rest, send, serve_with},
    support::{MIB, Node, noise, sha256},
};
use axum::{body::Body, http::Version};
use bytes::Bytes;
use cidery_registry::{ClientCertificates, Config, Credentials, Tls};
use cidery_tests::certificates::{self, Pair};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// Who signs certificates, and what a server or a client of theirs is told.
pub struct Authority(certificates::Authority);

impl Authority {
    pub fn new(name: &str) -> Self {
        Self(certificates::Authority::new(name))
    }

    fn server(&self) -> Credentials {
        let pair = self.0.server();
        Credentials { chain: pair.cert.into(), key: pair.key.into(), clients: None }
    }

    pub fn asking_clients(&self, required: bool) -> Credentials {
        let clients = ClientCertificates { authorities: self.0.pem().into(), required };
        Credentials { clients: Some(clients), ..self.server() }
    }

    /// A client that trusts this authority, and speaks what is named, the best first.
    fn connector(&self, alpn: &[&str], own: Option<&Pair>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.0.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some(Pair { cert, key }) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![cert], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, server: &Server, alpn: &[&str], own: Option<&Pair>) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(server.address).await?;
        self.connector(alpn, own).connect("localhost".try_into().unwrap(), stream).await
    }

    /// GET /v2/ over a new connection: whether it was answered. With TLS 1.3 a client learns that its
    /// certificate was refused only when it reads.
    async fn gets_in(&self, server: &Server, own: Option<&Pair>) -> bool {
        let Ok(mut stream) = self.connect(server, &[], own).await else { return false };
        if stream.write_all(request("GET", "/v2/", "").as_bytes()).await.is_err() {
            return false;
        }
        rest(&mut stream).await.0.starts_with(b"HTTP/1.1 200")
    }

    async fn http2(&self, server: &Server, window: u32) -> Http2 {
        let stream = self.connect(server, &["h2", "http/1.1"], None).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let ended = tokio::spawn(async move { drop(connection.await) });
        Http2 { sender, ended }
    }
}

struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    ended: tokio::task::JoinHandle<()>,
}

impl Http2 {
    async fn send(&self, method: &str, path: &str, body: &[u8]) -> hyper::Response<hyper::body::Incoming> {
        let path = path.strip_prefix("http://localhost").unwrap_or(path);
        let request = hyper::Request::builder().method(method).uri(format!("https://localhost{path}"));
        let body = Full::new(Bytes::copy_from_slice(body));
        self.sender.clone().send_request(request.body(body).unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn http1_over_tls() {
    let (node, authority) = (Node::new().await, Authority::new("ca"));
    let data = noise(1, 3 * MIB);
    let digest = node.push_blob("app", &data).await;
    let server = serve_with(&node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    for alpn in [&[][..], &["http/1.1"]] {
        let mut stream = authority.connect(&server, alpn, None).await.unwrap();
        stream.write_all(request("GET", &format!("/v2/app/blobs/{digest}"), "").as_bytes()).await.unwrap();
        let (bytes, clean) = rest(&mut stream).await;
        assert!(clean && bytes.starts_with(b"HTTP/1.1 200") && bytes.ends_with(&data));
    }
    // Somebody who trusts others does not get as far as asking.
    assert!(Authority::new("other").connect(&server, &[], None).await.is_err());
}

#[tokio::test]
async fn http2_pushes_and_pulls_over_one_connection() {
    let (node, authority) = (Node::new().await, Authority::new("ca"));
    let server = serve_with(&node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    let client = authority.http2(&server, 1 << 20).await;
    let blobs: Vec<_> = (0..8).map(|seed| noise(seed, 2 * MIB + seed as usize)).collect();
    let push = |blob: Vec<u8>| {
        let client = &client;
        async move {
            let start = client.send("POST", "/v2/app/blobs/uploads/", b"").await;
            assert_eq!((start.status().as_u16(), start.version()), (202, Version::HTTP_2));
            let location = start.headers()["location"].to_str().unwrap().to_owned();
            assert_eq!(client.send("PATCH", &location, &blob).await.status(), 202);
            let close = format!("{location}?digest={}", sha256(&blob));
            assert_eq!(client.send("PUT", &close, b"").await.status(), 201);
        }
    };
    futures::future::join_all(blobs.iter().cloned().map(push)).await;
    let pull = |blob: Vec<u8>| {
        let client = &client;
        async move {
            let path = format!("/v2/app/blobs/{}", sha256(&blob));
            let head = client.send("HEAD", &path, b"").await;
            assert_eq!(head.headers()["content-length"].to_str().unwrap(), blob.len().to_string());
            let answer = client.send("GET", &path, b"").await.into_body().collect().await.unwrap();
            assert!(answer.to_bytes() == blob);
        }
    };
    futures::future::join_all(blobs.iter().cloned().map(pull)).await;
    let missing = client.send("GET", "/v2/app/manifests/none", b"").await;
    assert_eq!(missing.status(), 404);
    assert!(missing.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn logins_know_whether_they_are_encrypted() {
    let (world, authority) = (World::new(&["alice"], Vec::new()).await, Authority::new("ca"));
    let server = serve_with(&world.node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    let answer = authority.http2(&server, 1 << 20).await.send("GET", "/v2/", b"").await;
    let realm = "Bearer realm=\"https://localhost/token\",service=\"cidery\"";
    assert_eq!((answer.status().as_u16(), answer.headers()["www-authenticate"].to_str().unwrap()), (401, realm));
    let mut stream = authority.connect(&server, &[], None).await.unwrap();
    stream.write_all(request("GET", "/v2/", "").as_bytes()).await.unwrap();
    let said = String::from_utf8(rest(&mut stream).await.0).unwrap();
    assert!(said.contains(realm), "{said}");
    let server = serve_with(&world.node.registry, None).await;
    let mut stream = send(server.address, &request("GET", "/v2/", "")).await;
    let said = String::from_utf8(rest(&mut stream).await.0).unwrap();
    assert!(said.contains("realm=\"http://localhost/token\""), "{said}");
}

#[tokio::test]
async fn plain_http_is_told_to_use_tls() {
    let (node, authority) = (Node::new().await, Authority::new("ca"));
    let server = serve_with(&node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    let body = vec![b'x'; 4 * MIB];
    for (head, body) in [
        (request("GET", "/v2/", ""), &[][..]),
        (request("PUT", "/v2/app/manifests/1", &format!("Content-Length: {}\r\n", body.len())), &body),
    ] {
        let mut stream = send(server.address, &head).await;
        stream.write_all(body).await.unwrap();
        let text = String::from_utf8(rest(&mut stream).await.0).unwrap();
        assert!(text.starts_with("HTTP/1.1 400") && text.contains("https://"), "{text}");
        assert!(text.contains("application/json") && text.contains("docker-distribution-api-version"), "{text}");
    }
}

#[tokio::test]
async fn client_certificates_open_the_door() {
    let (node, authority, other) = (Node::new().await, Authority::new("ca"), Authority::new("other"));
    let (known, stranger) = (authority.0.client(), other.0.client());
    // One that is meant for servers does not do, whoever signed it.
    let server_pair = authority.0.server();
    for required in [true, false] {
        let tls = Tls::new(&authority.asking_clients(required)).unwrap();
        let server = serve_with(&node.registry, Some(tls)).await;
        assert!(authority.gets_in(&server, Some(&known)).await);
        assert_eq!(authority.gets_in(&server, None).await, !required);
        assert!(!authority.gets_in(&server, Some(&stranger)).await);
        assert!(!authority.gets_in(&server, Some(&server_pair)).await);
    }
}

#[tokio::test]
async fn credentials_are_replaced_while_it_serves() {
    let (node, before, after) = (Node::new().await, Authority::new("before"), Authority::new("after"));
    let tls = Tls::new(&before.server()).unwrap();
    let server = serve_with(&node.registry, Some(tls.clone())).await;
    let mut open = before.connect(&server, &[], None).await.unwrap();

    // What cannot be used changes nothing.
    let (one, another) = (after.server(), after.server());
    let mixed = Credentials { key: another.key, ..one.clone() };
    assert!(tls.replace(&mixed).is_err());
    assert!(before.gets_in(&server, None).await && !after.gets_in(&server, None).await);

    tls.replace(&one).unwrap();
    assert!(!before.gets_in(&server, None).await && after.gets_in(&server, None).await);
    // Who was there before goes on.
    open.write_all(request("GET", "/v2/", "").as_bytes()).await.unwrap();
    assert!(rest(&mut open).await.0.starts_with(b"HTTP/1.1 200"));
    // From now on clients need certificates.
    tls.replace(&after.asking_clients(true)).unwrap();
    assert!(!after.gets_in(&server, None).await && after.gets_in(&server, Some(&after.0.client())).await);
}

#[test]
fn unusable_credentials_say_why() {
    let authority = Authority::new("ca");
    let good = authority.asking_clients(true);
    let with_authorities = |authorities: &[u8]| {
        let clients = ClientCertificates { authorities: authorities.to_vec(), required: true };
        Credentials { clients: Some(clients), ..good.clone() }
    };
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_vec();
    for (bad, said) in [
        (Credentials { chain: vec![], ..good.clone() }, "no certificate in the certificate file"),
        (Credentials { chain: good.key.clone(), ..good.clone() }, "no certificate in the certificate file"),
        (Credentials { chain: b"-----BEGIN CERTIFICATE-----\n".to_vec(), ..good.clone() }, "not valid PEM"),
        (Credentials { key: vec![], ..good.clone() }, "no private key"),
        (Credentials { key: encrypted, ..good.clone() }, "openssl pkey"),
        (Credentials { key: authority.server().key, ..good.clone() }, "certificate and its key"),
        (with_authorities(b""), "no certificate in the client CA file"),
        (with_authorities(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "client CA file"),
    ] {
        let error = Tls::new(&bad).expect_err(said).to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
    let secret = String::from_utf8(good.key.clone()).unwrap();
    let shown = format!("{good:?} {:?}", Tls::new(&good).unwrap());
    assert!(!shown.contains(secret.lines().nth(1).unwrap()), "{shown}");
}

#[tokio::test]
async fn who_does_not_come_to_the_point_is_cut_off() {
    let config = Config { header_timeout: Duration::from_secs(1), ..Config::default() };
    let (node, authority) = (Node::with(config).await, Authority::new("ca"));
    let server = serve_with(&node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    let mut slow = Vec::new();
    for begin in ["", "\u{16}", "\u{16}\u{3}\u{1}", "GET /v2/ HT"] {
        slow.push(send(server.address, begin).await);
    }
    // Nobody waits for them.
    assert!(timeout(Duration::from_secs(5), authority.gets_in(&server, None)).await.unwrap());
    // After the handshake the same holds, whatever is spoken.
    let mut mute = authority.connect(&server, &[], None).await.unwrap();
    let mute2 = authority.http2(&server, 65_536).await;
    for stream in &mut slow {
        timeout(Duration::from_secs(10), rest(stream)).await.expect("it was cut off");
    }
    timeout(Duration::from_secs(10), rest(&mut mute)).await.expect("it was cut off");
    timeout(Duration::from_secs(10), mute2.ended).await.expect("it was cut off").unwrap();
}

#[tokio::test]
async fn an_http2_answer_that_is_not_taken_holds_no_place() {
    let config = Config { stall_timeout: Duration::from_secs(2), max_downloads: 1, ..Config::default() };
    let (node, authority) = (Node::with(config).await, Authority::new("ca"));
    let digest = node.push_blob("app", &noise(1, 8 * MIB)).await;
    let server = serve_with(&node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    let path = format!("/v2/app/blobs/{digest}");
    let deaf = authority.http2(&server, 1000).await;
    let answer = deaf.send("GET", &path, b"").await;
    assert_eq!(answer.status(), 200);
    // Its connection is alive meanwhile: the window of one answer is what it keeps shut.
    assert_eq!(deaf.send("GET", "/v2/", b"").await.status(), 200);
    let client = authority.http2(&server, 1 << 20).await;
    let next = timeout(Duration::from_secs(20), client.send("GET", &path, b"")).await.expect("its turn came");
    assert_eq!(next.status(), 200);
    assert_eq!(next.into_body().collect().await.unwrap().to_bytes().len(), 8 * MIB);
    let broken = answer.into_body().collect().await;
    assert!(broken.is_err(), "the deaf client was cut off");
}

#[tokio::test]
async fn a_large_upload_over_http2_is_bounded_and_can_be_cut() {
    let config = Config { stall_timeout: Duration::from_millis(600), ..Config::default() };
    let (node, authority) = (Node::with(config).await, Authority::new("ca"));
    let server = serve_with(&node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    let stream = authority.connect(&server, &["h2"], None).await.unwrap();
    let (mut sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let location = node.start("app").await;
    // One byte at a time, for ever.
    let bytes = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), ()))
    });
    let request = hyper::Request::builder().method("PATCH").uri(format!("https://localhost{location}"));
    let answer = sender.send_request(request.body(Body::from_stream(bytes)).unwrap());
    let answer = timeout(Duration::from_secs(10), answer).await.expect("it was cut off").unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(std::str::from_utf8(&text).unwrap().contains("next to nothing"), "{text:?}");
}

#[tokio::test]
async fn where_there_is_no_room_tls_clients_are_told_so() {
    let config = Config { max_connections: 1, queue_timeout: Duration::from_millis(50), ..Config::default() };
    let (node, authority) = (Node::with(config).await, Authority::new("ca"));
    let server = serve_with(&node.registry, Some(Tls::new(&authority.server()).unwrap())).await;
    let mut first = authority.connect(&server, &[], None).await.unwrap();
    first.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    first.read_exact(&mut [0; 15]).await.unwrap();
    let mut second = authority.connect(&server, &[], None).await.unwrap();
    second.write_all(request("GET", "/v2/", "").as_bytes()).await.unwrap();
    let text = String::from_utf8(rest(&mut second).await.0).unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after"), "{text}");
    let third = authority.http2(&server, 65_536).await;
    let answer = third.send("GET", "/v2/", b"").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}
