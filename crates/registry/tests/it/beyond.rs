//! What the conformance suite does not ask, and clients or other registries got wrong.

use crate::support::{MIB, Node, image, noise, sha256};
use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use bytes::Bytes;
use cidery_registry::tree::manifest::media_type;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// A body of `pieces` times 64 KiB that counts what is taken of it.
fn counted(pieces: usize) -> (Arc<AtomicUsize>, Body) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let pieces = (0..pieces).map(move |_| {
        count.fetch_add(64 << 10, SeqCst);
        Ok::<_, Infallible>(Bytes::from(vec![b' '; 64 << 10]))
    });
    (taken, Body::from_stream(futures::stream::iter(pieces)))
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_refused_before_it_is_here() {
    let node = Node::new().await;
    let put = |body| {
        node.request(Method::PUT, "/v2/app/manifests/1").header("content-type", media_type::OCI_INDEX).body(body)
    };
    // Who waits to be told to go on is not told so.
    let (taken, body) = counted(65);
    let announced = put(body).header("content-length", &((4 << 20) + 1).to_string()).header("expect", "100-continue");
    announced.send().await.is_error(413, "SIZE_INVALID");
    assert_eq!(taken.load(SeqCst), 0);
    // Who does not say how much comes is stopped where it is too much; what is sent yet is dropped.
    let (taken, body) = counted(10_000);
    put(body).header("expect", "100-continue").send().await.is_error(413, "SIZE_INVALID");
    assert!(taken.load(SeqCst) <= (4 << 20) + (128 << 10), "{}", taken.load(SeqCst));
    node.get("/v2/app/tags/list").await.is_error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn an_upload_from_its_start_to_its_cancellation() {
    let node = Node::new().await;
    let opened = node.request(Method::POST, "/v2/app/blobs/uploads/").send().await;
    assert_eq!(
        (opened.status, opened.header("range"), opened.header("content-length")),
        (StatusCode::ACCEPTED, "0-0", "0")
    );
    let location = opened.header("location");
    assert!(location.ends_with(opened.header("docker-upload-uuid")));
    let fresh = node.get(location).await;
    assert_eq!(
        (fresh.status, fresh.header("range"), fresh.header("location")),
        (StatusCode::NO_CONTENT, "0-0", location)
    );
    assert!(fresh.body.is_empty());
    let cancelled = node.delete(location).await;
    assert_eq!((cancelled.status, cancelled.text()), (StatusCode::NO_CONTENT, ""));
    for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
        let path = format!("{location}?digest={}", sha256(b""));
        node.request(method, path).send().await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[tokio::test]
async fn a_chunk_of_another_length_than_it_says() {
    let node = Node::new().await;
    let location = node.start("app").await;
    let chunk = |range: &str, body: &'static str| {
        node.request(Method::PATCH, &location).header("content-range", range).body(body)
    };
    // Shorter and longer than the body, and the length says so.
    for range in ["0-1", "0-9"] {
        let answer = chunk(range, "hello").header("content-length", "5").send().await;
        answer.is_error(400, "SIZE_INVALID");
        assert_eq!((answer.header("range"), answer.header("location")), ("0-0", location.as_str()), "{range}");
    }
    // Without a length it shows at the end; the client is told where it stands.
    let answer = chunk("0-9", "hello").send().await;
    answer.is_error(400, "SIZE_INVALID");
    assert_eq!(answer.header("range"), "0-4");
    let answer = chunk("5-9", "world").send().await;
    assert_eq!((answer.status, answer.header("range")), (StatusCode::ACCEPTED, "0-9"));
    let digest = sha256(b"helloworld");
    let close = node.request(Method::PUT, format!("{location}?digest={digest}")).header("content-range", "10-12");
    close.body("!").send().await.is_error(400, "SIZE_INVALID");
}

#[tokio::test]
async fn digests_of_no_known_algorithm() {
    let node = Node::new().await;
    node.push_image("app", "1", &[b"layer"]).await;
    let wrong = sha256(b"layer").to_string().replace("sha256:", "sha257:");
    node.get(format!("/v2/app/blobs/{wrong}")).await.is_error(400, "DIGEST_INVALID");
    assert_eq!(node.head(format!("/v2/app/blobs/{wrong}")).await.status, StatusCode::BAD_REQUEST);
    node.delete(format!("/v2/app/blobs/{wrong}")).await.is_error(400, "DIGEST_INVALID");
    node.get(format!("/v2/app/referrers/{wrong}")).await.is_error(400, "DIGEST_INVALID");
    let start = node.request(Method::POST, format!("/v2/app/blobs/uploads/?digest={wrong}")).body("layer");
    start.send().await.is_error(400, "DIGEST_INVALID");
    let mount = format!("/v2/two/blobs/uploads/?mount={wrong}&from=app");
    node.request(Method::POST, mount).send().await.is_error(400, "DIGEST_INVALID");
    let location = node.start("app").await;
    let close = node.request(Method::PUT, format!("{location}?digest={wrong}")).body("layer");
    close.send().await.is_error(400, "DIGEST_INVALID");
    let put =
        node.request(Method::PUT, format!("/v2/app/manifests/{wrong}")).header("content-type", media_type::OCI_INDEX);
    put.body("{}").send().await.is_error(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn a_range_beyond_a_small_blob() {
    let node = Node::new().await;
    let digest = node.push_blob("app", b"0123456789").await;
    let path = format!("/v2/app/blobs/{digest}");
    for range in ["bytes=100-100", "bytes=10-", "bytes=10-10", "bytes=500-0", "bytes=-0"] {
        let answer = node.request(Method::GET, &path).header("range", range).send().await;
        answer.is_error(416, "RANGE_INVALID");
        assert_eq!(answer.header("content-range"), "bytes */10", "{range}");
    }
    let last = node.request(Method::GET, &path).header("range", "bytes=9-100").send().await;
    assert_eq!(
        (last.status, last.header("content-range"), last.text()),
        (StatusCode::PARTIAL_CONTENT, "bytes 9-9/10", "9")
    );
    // Of nothing there is no part.
    let empty = node.push_blob("app", b"").await;
    let answer = node.request(Method::GET, format!("/v2/app/blobs/{empty}")).header("range", "bytes=0-0").send().await;
    answer.is_error(416, "RANGE_INVALID");
    assert_eq!(answer.header("content-range"), "bytes */0");
}

/// A client with a connection for each layer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thirty_two_layers_at_once_into_one_repository() {
    let node = Arc::new(Node::new().await);
    let layers: Vec<Vec<u8>> = (0..32).map(|n| noise(n, MIB / 2 + n as usize * 40_003)).collect();
    let pushes = layers.clone().into_iter().map(|layer| {
        let node = node.clone();
        tokio::spawn(async move {
            let location = node.start("app").await;
            let mut at = 0;
            for chunk in layer.chunks(300_007) {
                let range = format!("{at}-{}", at + chunk.len() - 1);
                let call = node.request(Method::PATCH, &location).header("content-range", &range).body(chunk.to_vec());
                let answer = call.send().await;
                at += chunk.len();
                assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
                assert_eq!(answer.header("range"), format!("0-{}", at - 1));
            }
            let digest = sha256(&layer);
            let put = node.request(Method::PUT, format!("{location}?digest={digest}")).send().await;
            assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
            (digest, layer.len())
        })
    });
    let pushed = futures::future::try_join_all(pushes).await.unwrap();
    let config = node.push_blob("app", b"{}").await;
    let put = node.push_manifest("app", "1", &image((config, 2), &pushed)).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    for layer in &layers {
        assert!(node.get(format!("/v2/app/blobs/{}", sha256(layer))).await.body == layer);
    }
    assert_eq!(node.registry.pull("app:1", |_| {}).await.unwrap().blobs, 33);
}
