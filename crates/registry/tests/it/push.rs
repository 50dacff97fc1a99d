//! Every way to push a blob (distribution-spec, "Pushing blobs"), and every way it is refused.

use crate::support::{MIB, Node, noise, sha256, sha512};
use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use bytes::Bytes;
use cidery_core::Blockstore;
use std::convert::Infallible;

async fn assert_blob(node: &Node, repository: &str, digest: &cidery_core::Digest, data: &[u8]) {
    let answer = node.get(format!("/v2/{repository}/blobs/{digest}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.body == data, "the bytes differ");
}

#[tokio::test]
async fn a_blob_in_one_patch() {
    let node = Node::new().await;
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7] {
        let data = noise(size as u64, size);
        let digest = node.push_blob("app", &data).await;
        assert_blob(&node, "app", &digest, &data).await;
    }
}

#[tokio::test]
async fn a_blob_in_one_post() {
    let node = Node::new().await;
    let data = noise(1, 100_000);
    let digest = sha256(&data);
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    let answer = node.request(Method::POST, &path).body(data.clone()).send().await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/team/app/blobs/{digest}"));
    assert_blob(&node, "team/app", &digest, &data).await;
    // Without a body the digest opens an upload.
    assert_eq!(node.request(Method::POST, &path).send().await.status, StatusCode::ACCEPTED);
    let wrong = node.request(Method::POST, &path).body("other").send().await;
    wrong.is_error(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn a_blob_in_post_and_put() {
    let node = Node::new().await;
    let data = noise(2, 2 * MIB);
    let (location, digest) = (node.start("app").await, sha256(&data));
    let put = node.request(Method::PUT, format!("{location}?digest={digest}")).body(data.clone()).send().await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    assert_blob(&node, "app", &digest, &data).await;
    // The upload has ended.
    node.get(location).await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_blob_in_chunks_with_and_without_ranges() {
    let node = Node::new().await;
    let data = noise(3, 2 * MIB + 123);
    for ranges in [true, false] {
        let location = node.start("app").await;
        let mut at = 0;
        for chunk in data[..2 * MIB].chunks(700_001) {
            let mut call = node.request(Method::PATCH, &location).body(chunk.to_vec());
            if ranges {
                call = call
                    .header("content-range", &format!("{at}-{}", at + chunk.len() - 1))
                    .header("content-length", &chunk.len().to_string());
            }
            let answer = call.send().await;
            at += chunk.len();
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
            assert_eq!(answer.header("range"), format!("0-{}", at - 1));
            assert!(answer.headers.contains_key("location") && answer.headers.contains_key("docker-upload-uuid"));
            let status = node.get(&location).await;
            assert_eq!((status.status, status.header("range")), (StatusCode::NO_CONTENT, answer.header("range")));
        }
        let digest = sha256(&data);
        let mut call = node.request(Method::PUT, format!("{location}?digest={digest}")).body(data[at..].to_vec());
        if ranges {
            call = call.header("content-range", &format!("{at}-{}", data.len() - 1));
        }
        assert_eq!(call.send().await.status, StatusCode::CREATED);
        assert_blob(&node, "app", &digest, &data).await;
    }
}

#[tokio::test]
async fn chunked_encoding_streams() {
    let node = Node::new().await;
    let data = noise(4, 3 * MIB);
    let location = node.start("app").await;
    let frames: Vec<_> = data.chunks(10_007).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
    let body = Body::from_stream(futures::stream::iter(frames));
    assert_eq!(node.request(Method::PATCH, &location).body(body).send().await.status, StatusCode::ACCEPTED);
    let digest = sha256(&data);
    let put = node.request(Method::PUT, format!("{location}?digest={digest}")).send().await;
    assert_eq!(put.status, StatusCode::CREATED);
    assert_blob(&node, "app", &digest, &data).await;
}

#[tokio::test]
async fn a_misordered_chunk_is_refused_and_the_upload_goes_on() {
    let node = Node::new().await;
    let location = node.start("app").await;
    let chunk = |range: &str, body: &'static str| {
        node.request(Method::PATCH, &location).header("content-range", range).body(body)
    };
    assert_eq!(chunk("0-4", "hello").send().await.status, StatusCode::ACCEPTED);
    for (range, code, status) in [
        ("6-8", "RANGE_INVALID", 416),
        ("0-4", "RANGE_INVALID", 416),
        ("9-8", "RANGE_INVALID", 416),
        ("bytes 5-8", "RANGE_INVALID", 416),
        ("x-y", "RANGE_INVALID", 416),
        ("5", "RANGE_INVALID", 416),
    ] {
        let answer = chunk(range, "abc").send().await;
        answer.is_error(status, code);
        assert_eq!(answer.header("range"), "0-4", "{range}");
        assert_eq!(answer.header("location"), location);
    }
    let short = chunk("5-99", "abc").header("content-length", "3").send().await;
    short.is_error(400, "SIZE_INVALID");
    let digest = sha256(b"hello, world");
    let put = node.request(Method::PUT, format!("{location}?digest={digest}")).header("content-range", "7-13");
    put.body(", world").send().await.is_error(416, "RANGE_INVALID");
    let put = node.request(Method::PUT, format!("{location}?digest={digest}")).header("content-range", "5-11");
    assert_eq!(put.body(", world").send().await.status, StatusCode::CREATED);
    assert_blob(&node, "app", &digest, b"hello, world").await;
}

#[tokio::test]
async fn sha512_is_named_at_the_close() {
    let node = Node::new().await;
    let data = noise(5, 2 * MIB + 5);
    let (location, digest) = (node.start("app").await, sha512(&data));
    node.request(Method::PATCH, &location).body(data.clone()).send().await;
    let put = node.request(Method::PUT, format!("{location}?digest={digest}")).send().await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    assert_blob(&node, "app", &digest, &data).await;
    // Under the name it was pushed by, and no other.
    node.get(format!("/v2/app/blobs/{}", sha256(&data))).await.is_error(404, "BLOB_UNKNOWN");
    let (location, wrong) = (node.start("app").await, sha512(b"other"));
    let put = node.request(Method::PUT, format!("{location}?digest={wrong}")).body("this").send().await;
    put.is_error(400, "DIGEST_INVALID");
    node.get(format!("/v2/app/blobs/{wrong}")).await.is_error(404, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn a_wrong_digest_is_refused_and_nothing_is_linked() {
    let node = Node::new().await;
    for digest in ["sha256:zz", "md5:00", "../../etc/passwd", "sha256:../../../../../etc/passwd", ""] {
        let location = node.start("app").await;
        let put = node.request(Method::PUT, format!("{location}?digest={digest}")).body("data").send().await;
        put.is_error(400, "DIGEST_INVALID");
    }
    let location = node.start("app").await;
    node.request(Method::PUT, &location).body("data").send().await.is_error(400, "DIGEST_INVALID");
    let wrong = sha256(b"other");
    let put = node.request(Method::PUT, format!("{location}?digest={wrong}")).body("data").send().await;
    assert!(put.is_error(400, "DIGEST_INVALID").contains(wrong.as_str()));
    for digest in [wrong, sha256(b"data")] {
        node.get(format!("/v2/app/blobs/{digest}")).await.is_error(404, "BLOB_UNKNOWN");
    }
    // It ended: nobody can add to what was refused.
    node.get(location).await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn uploads_are_cancelled_and_belong_to_their_repository() {
    let node = Node::new().await;
    let location = node.start("app").await;
    let elsewhere = location.replace("/app/", "/other/");
    for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
        let path = format!("{elsewhere}?digest={}", sha256(b""));
        node.request(method, path).send().await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    assert_eq!(node.delete(&location).await.status, StatusCode::NO_CONTENT);
    node.delete(&location).await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
    node.request(Method::PATCH, &location).body("x").send().await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn mounts() {
    let node = Node::new().await;
    let digest = node.push_blob("one", b"layer").await;
    let post = |to: &str, query: String| node.request(Method::POST, format!("/v2/{to}/blobs/uploads/?{query}"));
    // Named, not named, and named in another way.
    for (to, from) in [("two", "&from=one"), ("three", ""), ("four", "&from=local/one")] {
        let answer = post(to, format!("mount={digest}{from}")).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{to}: {}", answer.text());
        assert_eq!(answer.header("location"), format!("/v2/{to}/blobs/{digest}"));
        assert_blob(&node, to, &digest, b"layer").await;
    }
    // What is not there is uploaded instead; nothing is mounted from where nobody may write or read.
    let missing = sha256(b"missing");
    for query in [format!("mount={missing}&from=one"), format!("mount={missing}"), format!("mount={digest}&from=../x")]
    {
        let answer = post("five", query).send().await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        assert!(answer.headers.contains_key("location"));
    }
    post("five", "mount=sha256:zz&from=one".into()).send().await.is_error(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn blobs_are_deleted_from_their_repository_only() {
    let node = Node::new().await;
    let digest = node.push_blob("one", b"layer").await;
    node.push_blob("two", b"layer").await;
    let path = format!("/v2/one/blobs/{digest}");
    assert_eq!(node.delete(&path).await.status, StatusCode::ACCEPTED);
    node.delete(&path).await.is_error(404, "BLOB_UNKNOWN");
    node.get(&path).await.is_error(404, "BLOB_UNKNOWN");
    assert_blob(&node, "two", &digest, b"layer").await;
}

#[tokio::test]
async fn a_blob_under_one_repository_is_not_served_under_another() {
    let node = Node::new().await;
    let digest = node.push_blob("one", b"layer").await;
    node.get(format!("/v2/two/blobs/{digest}")).await.is_error(404, "BLOB_UNKNOWN");
    node.head(format!("/v2/two/blobs/{digest}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pushes_at_once() {
    let node = std::sync::Arc::new(Node::new().await);
    let pushes = (0..16).map(|n: u64| {
        let node = node.clone();
        tokio::spawn(async move {
            let data = noise(n % 8, MIB + n as usize % 8);
            let digest = node.push_blob(&format!("app{}", n % 4), &data).await;
            assert_blob(&node, &format!("app{}", n % 4), &digest, &data).await;
        })
    });
    futures::future::try_join_all(pushes).await.unwrap();
    // Equal bytes are stored once.
    assert!(node.store.stats().bytes < 9 * MIB as u64 + 10_000);
}

#[tokio::test]
async fn too_many_uploads_are_refused() {
    let node = Node::with(cidery_registry::Config { max_uploads: 2, ..Default::default() }).await;
    let first = node.start("app").await;
    node.start("app").await;
    let refused = node.request(Method::POST, "/v2/app/blobs/uploads/").send().await;
    refused.is_error(429, "TOOMANYREQUESTS");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    node.delete(first).await;
    node.start("app").await;
}

#[tokio::test]
async fn a_post_that_fails_leaves_no_upload_behind() {
    let node = Node::with(cidery_registry::Config { max_uploads: 1, ..Default::default() }).await;
    let digest = sha256(b"whole");
    let path = format!("/v2/app/blobs/uploads/?digest={digest}");
    let broken = [Ok(Bytes::from_static(b"wh")), Err(std::io::Error::other("the client went away"))];
    let body = Body::from_stream(futures::stream::iter(broken));
    node.request(Method::POST, &path).body(body).send().await.is_error(400, "BLOB_UPLOAD_INVALID");
    node.request(Method::POST, &path).body("another").send().await.is_error(400, "DIGEST_INVALID");
    let answer = node.request(Method::POST, &path).body("whole").send().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    node.start("app").await;
}
