//! Who may do what, and what the others are told.

use super::{World, challenge, rule};
use crate::support::sha256;
use axum::http::{Method, StatusCode};

#[tokio::test]
async fn rights_decide_and_the_rest_is_hidden() {
    let rules = vec![
        rule("alice", "team/**", "all"),
        rule("bob", "team/*", "pull"),
        rule("carol", "team/*", "pull,create"),
        rule("anonymous", "public/**", "pull"),
    ];
    let world = World::new(&["alice", "bob", "carol", "dave"], rules).await;
    assert_eq!(world.push("alice", "team/app", "1", b"layer").await.status, StatusCode::CREATED);
    let blob = format!("/v2/team/app/blobs/{}", sha256(b"layer"));
    for user in ["alice", "bob", "carol"] {
        for path in ["/v2/team/app/manifests/1", "/v2/team/app/tags/list", &blob] {
            assert_eq!(world.get(user, path).await.status, StatusCode::OK, "{user} {path}");
        }
    }
    // Who may pull and not push is told so; who may not pull is told nothing, be there something or not.
    assert!(world.push_blob("bob", "team/app", b"x").await.is_error(403, "DENIED").contains("bob"));
    world.push_manifest("bob", "team/app", "2", b"layer").await.is_error(403, "DENIED");
    world.call("carol", Method::DELETE, "/v2/team/app/manifests/1").send().await.is_error(403, "DENIED");
    for name in ["team/app", "team/nothing", "public/x", "other"] {
        let said = world.get("dave", &format!("/v2/{name}/manifests/1")).await;
        match name.starts_with("public/") {
            // What anybody may pull he may know of: it is just not there.
            true => drop(said.is_error(404, "MANIFEST_UNKNOWN")),
            false => assert!(said.is_error(404, "NAME_UNKNOWN").contains(name)),
        }
    }
    assert_eq!(world.call("dave", Method::HEAD, &blob).send().await.status, StatusCode::NOT_FOUND);
    world.push_blob("dave", "team/app", b"x").await.is_error(404, "NAME_UNKNOWN");
    challenge(&world.get("", "/v2/team/app/manifests/1").await);
    challenge(&world.get("", "/v2/team/nothing/manifests/1").await);
    // Another spelling of the same name is the same repository.
    assert_eq!(world.get("bob", "/v2/local/team/app/manifests/1").await.status, StatusCode::OK);
    world.get("dave", "/v2/local/team/app/manifests/1").await.is_error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_tag_is_moved_by_who_may_overwrite() {
    let rules =
        vec![rule("alice", "**", "all"), rule("carol", "**", "pull,create"), rule("otto", "**", "pull,overwrite")];
    let world = World::new(&["alice", "carol", "otto"], rules).await;
    assert_eq!(world.push("carol", "app", "1", b"first").await.status, StatusCode::CREATED);
    // The same again is nothing new; another image under the same tag is.
    assert_eq!(world.push("carol", "app", "1", b"first").await.status, StatusCode::CREATED);
    let second = world.push("carol", "app", "2", b"second").await;
    assert_eq!(second.status, StatusCode::CREATED);
    let message = world.push("carol", "app", "1", b"second").await.is_error(403, "DENIED");
    assert!(message.contains("app:1") && message.contains("overwrite"), "{message}");
    let several = format!("{}?tag=3&tag=1", second.header("docker-content-digest"));
    world.push_manifest("carol", "app", &several, b"second").await.is_error(403, "DENIED");
    assert_eq!(world.get("carol", "/v2/app/manifests/3").await.status, StatusCode::NOT_FOUND);
    // Who may only overwrite adds nothing.
    world.push_blob("otto", "app", b"new").await.is_error(403, "DENIED");
    world.push_manifest("otto", "app", "3", b"second").await.is_error(403, "DENIED");
    assert_eq!(world.push_manifest("otto", "app", "1", b"second").await.status, StatusCode::CREATED);
    let moved = world.get("carol", "/v2/app/manifests/1").await;
    assert_eq!(
        moved.header("docker-content-digest"),
        world.get("carol", "/v2/app/manifests/2").await.header("docker-content-digest")
    );
    assert_eq!(world.call("alice", Method::DELETE, "/v2/app/manifests/1").send().await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn pushes_at_the_same_time_do_not_slip_by() {
    let rules = vec![rule("carol", "**", "pull,create")];
    let world = World::new(&["carol"], rules).await;
    for layer in [&b"one"[..], b"two", b"three", b"{}"] {
        assert_eq!(world.push_blob("carol", "app", layer).await.status, StatusCode::CREATED);
    }
    let (one, two, three) = tokio::join!(
        world.push_manifest("carol", "app", "1", b"one"),
        world.push_manifest("carol", "app", "1", b"two"),
        world.push_manifest("carol", "app", "1", b"three"),
    );
    let statuses = [one.status, two.status, three.status];
    assert_eq!(statuses.iter().filter(|status| **status == StatusCode::CREATED).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == StatusCode::FORBIDDEN).count(), 2, "{statuses:?}");
}

#[tokio::test]
async fn blobs_are_mounted_from_where_one_may_pull() {
    let rules = vec![rule("alice", "a/**,shared", "all"), rule("bob", "b/**", "all"), rule("bob", "shared", "pull")];
    let world = World::new(&["alice", "bob"], rules).await;
    for (repository, layer) in [("a/app", &b"secret layer"[..]), ("shared", b"shared layer")] {
        assert_eq!(world.push("alice", repository, "1", layer).await.status, StatusCode::CREATED);
    }
    // One that is only linked, of no manifest.
    assert_eq!(world.push_blob("alice", "a/app", b"linked only").await.status, StatusCode::CREATED);
    for data in [&b"secret layer"[..], b"linked only"] {
        let digest = sha256(data);
        for repository in ["a/app", "b/app"] {
            let head = world.call("bob", Method::HEAD, format!("/v2/{repository}/blobs/{digest}")).send().await;
            assert_eq!(head.status, StatusCode::NOT_FOUND);
        }
        for from in ["&from=a/app", "&from=local/a/app", ""] {
            let path = format!("/v2/b/app/blobs/uploads/?mount={digest}{from}");
            let answer = world.call("bob", Method::POST, path).send().await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{from}");
            assert!(answer.header("location").starts_with("/v2/b/app/blobs/uploads/"));
        }
        let own = world.call("alice", Method::POST, format!("/v2/a/other/blobs/uploads/?mount={digest}")).send().await;
        assert_eq!(own.status, StatusCode::CREATED);
    }
    for from in ["&from=shared", ""] {
        let path = format!("/v2/b/app/blobs/uploads/?mount={}{from}", sha256(b"shared layer"));
        assert_eq!(world.call("bob", Method::POST, path).send().await.status, StatusCode::CREATED, "{from}");
    }
    // A bearer token that is not for the other repository mounts nothing from it.
    let token = world.token("bob", "scope=repository:b/new:pull,push").await;
    let path = format!("/v2/b/new/blobs/uploads/?mount={}&from=shared", sha256(b"shared layer"));
    assert_eq!(world.with_token(&token, Method::POST, &path).await.status, StatusCode::ACCEPTED);
    let token = world.token("bob", "scope=repository:b/new:pull,push&scope=repository:shared:pull").await;
    assert_eq!(world.with_token(&token, Method::POST, &path).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn the_catalog_is_what_one_may_pull() {
    let rules = vec![
        rule("alice", "**", "all"),
        rule("bob", "a*", "pull"),
        rule("*", "shared", "pull"),
        rule("anonymous", "zoo/**", "pull"),
        rule("eve", "a1", "create"),
    ];
    let world = World::new(&["alice", "bob", "eve"], rules).await;
    for repository in ["a1", "a2", "b1", "shared", "zoo/x"] {
        assert_eq!(world.push("alice", repository, "1", b"layer").await.status, StatusCode::CREATED);
    }
    assert_eq!(world.catalog("alice", "").await, serde_json::json!(["a1", "a2", "b1", "shared", "zoo/x"]));
    assert_eq!(world.catalog("bob", "").await, serde_json::json!(["a1", "a2", "shared", "zoo/x"]));
    assert_eq!(world.catalog("eve", "").await, serde_json::json!(["shared", "zoo/x"]));
    assert_eq!(world.catalog("", "").await, serde_json::json!(["zoo/x"]));
    // Pages are full, and the last one has no next.
    let page = world.get("bob", "/v2/_catalog?n=2&last=a1").await;
    assert_eq!(page.json()["repositories"], serde_json::json!(["a2", "shared"]));
    assert_eq!(page.header("link"), "</v2/_catalog?n=2&last=shared>; rel=\"next\"");
    let page = world.get("bob", "/v2/_catalog?n=2&last=shared").await;
    assert_eq!((page.json()["repositories"].clone(), page.headers.get("link")), (serde_json::json!(["zoo/x"]), None));
    // With a token it takes the scope.
    let token = world.token("bob", "scope=repository:a1:pull").await;
    let answer = world.with_token(&token, Method::GET, "/v2/_catalog").await;
    assert!(challenge(&answer).ends_with("scope=\"registry:catalog:*\",error=\"insufficient_scope\""));
    let token = world.token("bob", "scope=registry:catalog:*").await;
    let answer = world.with_token(&token, Method::GET, "/v2/_catalog").await;
    assert_eq!(answer.json()["repositories"], serde_json::json!(["a1", "a2", "shared", "zoo/x"]));
}

#[tokio::test]
async fn nothing_is_listed_for_who_may_pull_nothing() {
    let world = World::new(&["alice"], vec![rule("alice", "**", "all")]).await;
    assert!(challenge(&world.get("", "/v2/_catalog").await).ends_with("scope=\"registry:catalog:*\""));
}
