//! The catalog and tag lists: pages, order, bounds.

use crate::support::Node;
use axum::http::StatusCode;
use cidery_core::Namespace;
use cidery_registry::{Config, tree::manifest::media_type};
use serde_json::{Value, json};

fn index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] })
}

/// Follows `Link` to the end.
async fn pages(node: &Node, path: &str, key: &str) -> Vec<Vec<String>> {
    let (mut next, mut pages) = (Some(path.to_owned()), Vec::new());
    while let Some(path) = next {
        let answer = node.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        let list =
            answer.json()[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        pages.push(list);
        assert!(pages.len() < 100, "endless");
        next = answer.headers.get("link").map(|link| {
            let link = link.to_str().unwrap();
            link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
    }
    pages
}

#[tokio::test]
async fn tags_come_in_byte_order_by_pages() {
    let node = Node::new().await;
    let tags = ["B", "a", "v1", "v1.0", "v10", "v2", "_x"];
    for tag in tags {
        assert_eq!(node.push_manifest("team/app", tag, &index()).await.status, StatusCode::CREATED);
    }
    let mut sorted = tags.map(str::to_owned).to_vec();
    sorted.sort();
    assert_eq!(pages(&node, "/v2/team/app/tags/list", "tags").await, [sorted.clone()]);
    for n in 1..=8 {
        let pages = pages(&node, &format!("/v2/team/app/tags/list?n={n}"), "tags").await;
        assert!(pages.iter().all(|page| page.len() <= n));
        assert_eq!(pages.concat(), sorted);
    }
    let none = node.get("/v2/team/app/tags/list?n=0").await;
    assert_eq!((none.json()["tags"].clone(), none.headers.contains_key("link")), (json!([]), false));
    let after = node.get("/v2/team/app/tags/list?last=v1.0").await.json();
    assert_eq!(after, json!({ "name": "team/app", "tags": ["v10", "v2"] }));
    for bad in ["-1", "x", "1.5", "0x10"] {
        node.get(format!("/v2/team/app/tags/list?n={bad}")).await.is_error(400, "PAGINATION_NUMBER_INVALID");
    }
    node.get("/v2/nowhere/tags/list").await.is_error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn the_catalog_is_bounded_whatever_is_asked_for() {
    let node = Node::with(Config { page_limit: 3, ..Config::default() }).await;
    let names = ["a", "a/b", "a-b", "b", "c/d/e"];
    for name in names {
        node.push_manifest(name, "1", &index()).await;
    }
    let mut sorted = names.map(str::to_owned).to_vec();
    sorted.sort();
    // CVE-2023-2253: as much memory as the client likes.
    for n in ["", "?n=3"] {
        let pages = pages(&node, &format!("/v2/_catalog{n}"), "repositories").await;
        assert_eq!(pages[0].len(), 3, "{n}");
        assert_eq!(pages.concat(), sorted, "{n}");
    }
    assert_eq!(pages(&node, "/v2/_catalog?n=0", "repositories").await, [Vec::<String>::new()]);
    // A last that does not exist, before all, between two, and after all.
    for (last, rest) in [("!", json!(["a", "a-b", "a/b"])), ("a/a", json!(["a/b", "b", "c/d/e"])), ("zz", json!([]))] {
        let answer = node.get(format!("/v2/_catalog?last={last}")).await;
        assert_eq!((answer.status, answer.json()["repositories"].clone()), (StatusCode::OK, rest), "{last}");
    }
    for n in ["-1", "-5", "4", "1000000000", "18446744073709551616", "foo"] {
        let message = node.get(format!("/v2/_catalog?n={n}")).await.is_error(400, "PAGINATION_NUMBER_INVALID");
        assert!(message.contains('3'), "{message}");
    }
}

#[tokio::test]
async fn tags_are_in_the_order_of_bytes_and_a_page_is_bounded() {
    let node = Node::with(Config { page_limit: 2, ..Config::default() }).await;
    let tags = ["2", "2-test", "2.0.0", "New", "latest"];
    for tag in ["latest", "2.0.0", "New", "2", "2-test"] {
        assert_eq!(node.push_manifest("app", tag, &index()).await.status, StatusCode::CREATED);
    }
    for n in ["", "?n=2", "?n=100", "?n=18446744073709551616"] {
        let first = node.get(format!("/v2/app/tags/list{n}")).await;
        assert_eq!(first.json(), json!({ "name": "app", "tags": ["2", "2-test"] }), "{n}");
        // The next page is asked for as it was given.
        assert_eq!(first.header("link"), "</v2/app/tags/list?n=2&last=2-test>; rel=\"next\"", "{n}");
        assert_eq!(pages(&node, &format!("/v2/app/tags/list{n}"), "tags").await.concat(), tags, "{n}");
    }
    let tail = node.get("/v2/app/tags/list?last=New").await;
    assert_eq!((tail.json()["tags"].clone(), tail.headers.contains_key("link")), (json!(["latest"]), false));
    // A last that does not exist, before all, between two, and after all.
    for (last, rest) in [("!", json!(["2", "2-test"])), ("2.0.0-x", json!(["New", "latest"])), ("zzz", json!([]))] {
        let answer = node.get(format!("/v2/app/tags/list?last={last}")).await;
        assert_eq!((answer.status, answer.json()["tags"].clone()), (StatusCode::OK, rest), "{last}");
    }
    node.get("/v2/app/tags/list?n=foo").await.is_error(400, "PAGINATION_NUMBER_INVALID");
    node.get("/v2/app/manifests/3").await.is_error(404, "MANIFEST_UNKNOWN");
    node.get("/v2/nowhere/tags/list?n=1").await.is_error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn the_catalog_spans_namespaces() {
    let example: Namespace = "example.com".parse().unwrap();
    let node = Node::with(Config { namespaces: vec![example], ..Config::default() }).await;
    let names = ["app", "example.com/app", "example.com/web", "zoo", "exa"];
    for name in names {
        assert_eq!(node.push_manifest(name, "1", &index()).await.status, StatusCode::CREATED);
    }
    let mut sorted = names.map(str::to_owned).to_vec();
    sorted.sort();
    for n in 1..=6 {
        assert_eq!(pages(&node, &format!("/v2/_catalog?n={n}"), "repositories").await.concat(), sorted, "{n}");
    }
}

#[tokio::test]
async fn an_empty_registry_lists_nothing() {
    let node = Node::new().await;
    assert_eq!(node.get("/v2/_catalog").await.json(), json!({ "repositories": [] }));
}
