//! Manifests: by tag and digest, checked, bounded, deleted.

use crate::support::{Node, image, sha256, sha512};
use axum::http::{Method, StatusCode};
use cidery_registry::tree::manifest::media_type;
use serde_json::json;

#[tokio::test]
async fn a_manifest_is_byte_exact_by_tag_and_digest() {
    let node = Node::new().await;
    let config = node.push_blob("app", b"{}").await;
    // Spaces and order as no serializer would write them.
    let text = format!(
        "{{ \"layers\" : [],\n \"schemaVersion\":2, \"mediaType\":\"{}\", \"config\":{{\"mediaType\":\"a/b\",\"size\":2,\"digest\":\"{config}\"}} }}",
        media_type::OCI_MANIFEST
    );
    let digest = sha256(text.as_bytes());
    let put = node.request(Method::PUT, "/v2/app/manifests/1").header("content-type", media_type::OCI_MANIFEST);
    let put = put.body(text.clone()).send().await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    assert_eq!(put.header("docker-content-digest"), digest.as_str());
    assert_eq!(put.header("location"), format!("/v2/app/manifests/{digest}"));
    for path in
        ["/v2/app/manifests/1".to_owned(), format!("/v2/app/manifests/{digest}"), "/v2/local/app/manifests/1".into()]
    {
        // Accept that does not match changes nothing: another type would have another digest.
        let get = node.request(Method::GET, &path).header("accept", media_type::DOCKER_MANIFEST).send().await;
        let head = node.head(&path).await;
        assert_eq!(get.text(), text);
        for answer in [get, head] {
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("content-type"), media_type::OCI_MANIFEST);
            assert_eq!(answer.header("content-length"), text.len().to_string());
            assert_eq!(answer.header("docker-content-digest"), digest.as_str());
            assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        }
    }
}

#[tokio::test]
async fn unknown_and_impossible_references_are_404() {
    let node = Node::new().await;
    node.push_image("app", "1", &[b"x"]).await;
    for reference in ["2", ".INVALID_MANIFEST_NAME", &format!("sha256:{}", "0".repeat(64)), "sha256:zz", "md5:00"] {
        let message = node.get(format!("/v2/app/manifests/{reference}")).await.is_error(404, "MANIFEST_UNKNOWN");
        assert!(message.contains("rule 4"), "{message}");
        assert_eq!(node.head(format!("/v2/app/manifests/{reference}")).await.status, StatusCode::NOT_FOUND);
    }
    node.get("/v2/nowhere/manifests/1").await.is_error(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let node = Node::new().await;
    let put = |body: String, media_type: &str| {
        node.request(Method::PUT, "/v2/app/manifests/1").header("content-type", media_type).body(body)
    };
    for body in ["", "{", "[]", "null", "\"x\"", &"[".repeat(100_000)] {
        put(body.to_owned(), media_type::OCI_MANIFEST).send().await.is_error(400, "MANIFEST_INVALID");
    }
    for version in [json!(null), json!(1.5), json!("2"), json!(3)] {
        let body = json!({ "schemaVersion": version, "mediaType": media_type::OCI_INDEX, "manifests": [] });
        put(body.to_string(), media_type::OCI_INDEX).send().await.is_error(400, "MANIFEST_INVALID");
    }
    let without = json!({ "mediaType": media_type::OCI_INDEX, "manifests": [] });
    put(without.to_string(), media_type::OCI_INDEX).send().await.is_error(400, "MANIFEST_INVALID");
    let schema1 = json!({ "schemaVersion": 1, "name": "x", "tag": "1", "fsLayers": [], "history": [] });
    let answer = put(schema1.to_string(), media_type::DOCKER_SCHEMA1_SIGNED).send().await;
    answer.is_error(400, "MANIFEST_INVALID");
    // A type that contradicts the manifest's own (GHSA-mc8v-mgrf-8f4m).
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] });
    put(index.to_string(), media_type::OCI_MANIFEST).send().await.is_error(400, "MANIFEST_INVALID");
    for bad in ["..", "a/b", &"a".repeat(129), "-x"] {
        let path = format!("/v2/app/manifests/{bad}");
        let answer = node.request(Method::PUT, path).body("{}").send().await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{bad}: {}", answer.text());
        answer.json();
    }
    // The bytes decide the digest.
    let digest = sha256(b"something else");
    let path = format!("/v2/app/manifests/{digest}");
    let answer = node.request(Method::PUT, path).header("content-type", media_type::OCI_INDEX).body(index.to_string());
    answer.send().await.is_error(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn manifests_of_four_mebibytes_are_taken_and_larger_ones_are_not() {
    let node = Node::new().await;
    let index = |padding: usize| {
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
                "annotations": { "x": "y".repeat(padding) } })
    };
    let frame = index(0).to_string().len();
    let large = index((4 << 20) - frame);
    assert_eq!(large.to_string().len(), 4 << 20);
    let put = node.push_manifest("app", "large", &large).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    assert_eq!(node.get("/v2/app/manifests/large").await.text(), large.to_string());
    let put = node.push_manifest("app", "larger", &index((4 << 20) - frame + 1)).await;
    put.is_error(413, "SIZE_INVALID");
    node.push_manifest("app", "gigantic", &index(40 << 20)).await.is_error(413, "SIZE_INVALID");
}

#[tokio::test]
async fn several_tags_at_once_and_other_algorithms() {
    let node = Node::new().await;
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] });
    let digest = sha512(index.to_string().as_bytes());
    let put = node.push_manifest("app", &format!("{digest}?tag=a&tag=b"), &index).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    let tags: Vec<_> = put.headers.get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
    assert_eq!(tags, ["a", "b"]);
    for reference in ["a", "b", digest.as_str()] {
        let get = node.get(format!("/v2/app/manifests/{reference}")).await;
        assert_eq!(get.header("docker-content-digest"), digest.as_str());
    }
    let bad = node.push_manifest("app", &format!("{digest}?tag=../x"), &index).await;
    bad.is_error(400, "TAG_INVALID");
    let many: String = (0..100).map(|n| format!("&tag=t{n}")).collect();
    node.push_manifest("app", &format!("{digest}?{many}"), &index).await.is_error(400, "TAG_INVALID");
    // Of what was refused nothing is left.
    assert_eq!(node.get("/v2/app/tags/list").await.json()["tags"], json!(["a", "b"]));
    let tagged_twice = node.push_manifest("app", "c?tag=d", &index).await;
    assert!(tagged_twice.is_error(400, "TAG_INVALID").contains("digest"));
}

#[tokio::test]
async fn deletes() {
    let node = Node::new().await;
    let first = node.push_image("app", "1", &[b"x"]).await;
    let second = node.push_image("app", "2", &[b"y"]).await;
    assert_eq!(node.delete("/v2/app/manifests/1").await.status, StatusCode::ACCEPTED);
    node.delete("/v2/app/manifests/1").await.is_error(404, "MANIFEST_UNKNOWN");
    // The tag is gone, the manifest stays.
    assert_eq!(node.get(format!("/v2/app/manifests/{first}")).await.status, StatusCode::OK);
    let path = format!("/v2/app/manifests/{second}");
    assert_eq!(node.delete(&path).await.status, StatusCode::ACCEPTED);
    for path in [path.as_str(), "/v2/app/manifests/2"] {
        node.get(path).await.is_error(404, "MANIFEST_UNKNOWN");
        node.delete(path).await.is_error(404, "MANIFEST_UNKNOWN");
    }
    node.delete("/v2/app/manifests/.x").await.is_error(404, "MANIFEST_UNKNOWN");
    // What was deleted can be pushed again.
    assert_eq!(node.push_image("app", "2", &[b"y"]).await, second);
    assert_eq!(node.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn referrers_are_never_404() {
    let node = Node::new().await;
    let subject = node.push_image("app", "1", &[b"x"]).await;
    let empty = node.get(format!("/v2/app/referrers/{}", sha256(b"nothing"))).await;
    assert_eq!(empty.status, StatusCode::OK);
    assert_eq!(empty.header("content-type"), media_type::OCI_INDEX);
    assert_eq!(empty.json()["manifests"], json!([]));
    assert_eq!(node.get(format!("/v2/nowhere/referrers/{subject}")).await.status, StatusCode::OK);
    node.get("/v2/app/referrers/sha256:zz").await.is_error(400, "DIGEST_INVALID");

    let blob = node.push_blob("app", b"{}").await;
    for (n, kind) in ["a/sbom", "a/signature"].into_iter().enumerate() {
        let mut manifest = image((blob.clone(), 2), &[]);
        manifest["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 1 });
        manifest["artifactType"] = json!(kind);
        manifest["annotations"] = json!({ "n": n.to_string() });
        let digest = sha256(manifest.to_string().as_bytes());
        let put = node.push_manifest("app", digest.as_str(), &manifest).await;
        assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
        assert_eq!(put.header("oci-subject"), subject.as_str());
    }
    let all = node.get(format!("/v2/app/referrers/{subject}")).await;
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    assert!(!all.headers.contains_key("oci-filters-applied"));
    let some = node.get(format!("/v2/app/referrers/{subject}?artifactType=a/sbom")).await;
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    let some = some.json();
    assert_eq!(some["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(some["manifests"][0]["artifactType"], "a/sbom");
    assert_eq!(some["manifests"][0]["annotations"]["n"], "0");
}
