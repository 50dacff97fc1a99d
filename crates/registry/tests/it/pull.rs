//! Local pulls: heads, ranges, conditions.

use crate::support::{MIB, Node, noise};
use axum::http::{Method, StatusCode};

#[tokio::test]
async fn a_blob_has_all_its_headers() {
    let node = Node::new().await;
    let data = noise(1, 3 * MIB + 17);
    let digest = node.push_blob("app", &data).await;
    let path = format!("/v2/app/blobs/{digest}");
    // containerd offers compression; a compressed blob would have another digest.
    let get = node.request(Method::GET, &path).header("accept-encoding", "zstd, gzip").send().await;
    let head = node.head(&path).await;
    assert!(get.body == data && head.body.is_empty());
    for answer in [&get, &head] {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-length"), data.len().to_string());
        assert_eq!(answer.header("docker-content-digest"), digest.as_str());
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        assert!(!answer.headers.contains_key("content-encoding"));
    }
}

#[tokio::test]
async fn ranges_are_206_or_416() {
    let node = Node::new().await;
    let data = noise(2, 2 * MIB + 3000);
    let digest = node.push_blob("app", &data).await;
    let path = format!("/v2/app/blobs/{digest}");
    let size = data.len();
    for (range, bytes) in [
        ("bytes=500-1499", 500..1500),
        ("bytes=500-", 500..size),
        ("bytes=-500", size - 500..size),
        ("bytes=2000-99999999", 2000..size),
        ("bytes=1048570-1048580", 1_048_570..1_048_581),
        ("bytes=0-", 0..size),
    ] {
        let answer = node.request(Method::GET, &path).header("range", range).send().await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1));
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
        assert!(answer.body == data[bytes], "{range}");
    }
    for range in ["bytes=500-0", "bytes=99999999-", "bytes=99999999-999999999"] {
        let answer = node.request(Method::GET, &path).header("range", range).send().await;
        answer.is_error(416, "RANGE_INVALID");
        assert_eq!(answer.header("content-range"), format!("bytes */{size}"));
    }
    let several = node.request(Method::GET, &path).header("range", "bytes=0-1,4-5").send().await;
    several.is_error(400, "UNSUPPORTED");
    let stale = node.request(Method::GET, &path).header("range", "bytes=0-1").header("if-range", "\"x\"").send().await;
    assert_eq!(stale.status, StatusCode::OK);
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let node = Node::new().await;
    let digest = node.push_blob("app", b"layer").await;
    let manifest = node.push_image("app", "1", &[b"layer"]).await;
    for path in
        [format!("/v2/app/blobs/{digest}"), "/v2/app/manifests/1".into(), format!("/v2/app/manifests/{manifest}")]
    {
        let etag = node.get(&path).await.header("etag").to_owned();
        for condition in [etag.clone(), format!("W/{etag}"), format!("\"a\", {etag}"), "*".to_owned()] {
            let answer = node.request(Method::GET, &path).header("if-none-match", &condition).send().await;
            assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{condition}");
            assert!(answer.body.is_empty() && answer.header("etag") == etag);
            let head = node.request(Method::HEAD, &path).header("if-none-match", &condition).send().await;
            assert_eq!(head.status, StatusCode::NOT_MODIFIED, "{condition}");
        }
        let answer = node.request(Method::GET, &path).header("if-none-match", "\"a\"").send().await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn unknown_and_invalid_digests() {
    let node = Node::new().await;
    node.push_image("app", "1", &[b"layer"]).await;
    node.get(format!("/v2/app/blobs/sha256:{}", "0".repeat(64))).await.is_error(404, "BLOB_UNKNOWN");
    for bad in ["sha256:abc", "sha256:..%2F..%2Fetc%2Fpasswd", "latest", "md5:0cc175b9c0f1b6a831c399e269772661"] {
        node.get(format!("/v2/app/blobs/{bad}")).await.is_error(400, "DIGEST_INVALID");
    }
    // A HEAD that finds nothing is 404 and nothing else: docker HEADs every layer before it pushes.
    let head = node.head(format!("/v2/app/blobs/sha256:{}", "0".repeat(64))).await;
    assert_eq!(head.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pulls_at_once_each_get_the_bytes() {
    let node = std::sync::Arc::new(Node::new().await);
    let data = noise(9, 4 * MIB + 1);
    let digest = node.push_blob("app", &data).await;
    let pulls = (0..32).map(|_| {
        let (node, path, data) = (node.clone(), format!("/v2/app/blobs/{digest}"), data.clone());
        tokio::spawn(async move { assert!(node.get(path).await.body == data) })
    });
    futures::future::try_join_all(pulls).await.unwrap();
}
