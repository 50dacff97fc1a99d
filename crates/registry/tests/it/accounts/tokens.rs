//! Bearer tokens, and long-lived ones.

use super::{World, basic, challenge, rule, text};
use axum::http::{Method, StatusCode};
use cidery_access::{Rights, Secret, users::NewToken};

#[tokio::test]
async fn bearer_tokens_by_get() {
    let rules = vec![rule("alice", "team/**", "pull,push"), rule("anonymous", "public/**", "pull")];
    let world = World::new(&["alice"], rules).await;
    let answer = world.get("alice", "/token?service=cidery&scope=repository:team/app:pull,push").await;
    assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"));
    let token = answer.json();
    assert_eq!((text(&token, "token"), token["expires_in"].as_u64()), (text(&token, "access_token"), Some(300)));
    assert!(text(&token, "issued_at").ends_with('Z') && token.get("refresh_token").is_none());
    let answer = world.with_token(&token, Method::POST, "/v2/team/app/blobs/uploads/").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    // It is for nothing else: another one is to be asked for.
    let answer = world.with_token(&token, Method::GET, "/v2/team/other/tags/list").await;
    assert!(challenge(&answer).ends_with("scope=\"repository:team/other:pull\",error=\"insufficient_scope\""));
    // For what alice may not, no token helps.
    world.with_token(&token, Method::DELETE, "/v2/team/app/manifests/1").await.is_error(403, "DENIED");
    world.with_token(&token, Method::GET, "/v2/other/manifests/1").await.is_error(404, "NAME_UNKNOWN");
    assert_eq!(world.with_token(&token, Method::GET, "/v2/").await.status, StatusCode::OK);
    // Scopes are narrowed, and never an error.
    let token = world
        .token(
            "alice",
            "scope=repository:team/app:*&scope=repository:other:pull&scope=nonsense&scope=repository:BAD:pull",
        )
        .await;
    assert_eq!(text(&token, "scope"), "repository:team/app:pull,push");
    // Nobody gets a token for what everybody may, and the name of a repository can be spelled otherwise.
    let token = world.token("", "scope=repository:team/app:pull&scope=repository:local/public/a:pull,push").await;
    assert_eq!(text(&token, "scope"), "repository:public/a:pull");
    world.with_token(&token, Method::GET, "/v2/public/a/manifests/1").await.is_error(404, "MANIFEST_UNKNOWN");
    let answer = world.with_token(&token, Method::GET, "/v2/team/app/manifests/1").await;
    assert!(challenge(&answer).ends_with("scope=\"repository:team/app:pull\""));
    assert_eq!(world.with_token(&token, Method::GET, "/token").await.status, StatusCode::UNAUTHORIZED);
    world.call("alice", Method::PUT, "/token").send().await.is_error(405, "UNSUPPORTED");
}

#[tokio::test]
async fn bearer_tokens_by_post() {
    let world = World::new(&["alice"], Vec::new()).await;
    let scope = "service=cidery&client_id=test&scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    let answer = world
        .form(&format!("grant_type=password&username=alice&password=alicealice&access_type=offline&{scope}"))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let token = answer.json();
    assert_eq!((text(&token, "scope"), text(&token, "token_type")), ("repository:team/app:pull,push", "Bearer"));
    assert_eq!(
        world.with_token(&token, Method::POST, "/v2/team/app/blobs/uploads/").await.status,
        StatusCode::ACCEPTED
    );
    let refresh = text(&token, "refresh_token").to_owned();
    let answer = world.form(&format!("grant_type=refresh_token&refresh_token={refresh}&{scope}")).await;
    assert_eq!(text(&answer.json(), "scope"), "repository:team/app:pull,push");
    assert_eq!(world.with_token(&answer.json(), Method::GET, "/v2/").await.status, StatusCode::OK);
    let offline = world.token("alice", "offline_token=true").await;
    let answer =
        world.form(&format!("grant_type=refresh_token&refresh_token={}", text(&offline, "refresh_token"))).await;
    assert_eq!(answer.status, StatusCode::OK);
    // A refresh token is no bearer token, and the other way round.
    let swapped = serde_json::json!({ "token": refresh });
    assert_eq!(world.with_token(&swapped, Method::GET, "/v2/").await.status, StatusCode::UNAUTHORIZED);
    let access = text(&token, "token");
    world.form(&format!("grant_type=refresh_token&refresh_token={access}")).await.is_error(401, "UNAUTHORIZED");
    for wrong in ["", "grant_type=code", "grant_type=password&username=alice", "grant_type=refresh_token", "%ff%fe"] {
        world.form(wrong).await.is_error(400, "UNSUPPORTED");
    }
    let answer = world.form("grant_type=password&username=alice&password=wrong").await;
    assert_eq!(challenge(&answer), "Basic realm=\"cidery\"");
    world.form(&format!("grant_type=password&x={}", "x".repeat(20_000))).await.is_error(400, "UNSUPPORTED");
    // Another password ends them all.
    world.users.set("alice", &Secret::new("changed")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world.form(&format!("grant_type=refresh_token&refresh_token={refresh}")).await.is_error(401, "UNAUTHORIZED");
    assert_eq!(world.with_token(&token, Method::GET, "/v2/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn tokens_for_programs() {
    let world = World::new(&["bot"], Vec::new()).await;
    assert_eq!(world.push("bot", "app", "1", b"layer").await.status, StatusCode::CREATED);
    let new = NewToken { name: "ci".into(), lifetime: None, rights: Some(Rights::PULL) };
    let token = world.users.add_token("bot", new).unwrap();
    let shown = basic("bot", token.reveal());
    let call = |method, path: &str| world.node.request(method, path).header("authorization", &shown);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(call(Method::GET, "/v2/app/manifests/1").send().await.status, StatusCode::OK);
    call(Method::POST, "/v2/app/blobs/uploads/").send().await.is_error(403, "DENIED");
    let bearer = call(Method::GET, "/token?scope=repository:app:pull,push").send().await.json();
    assert_eq!(text(&bearer, "scope"), "repository:app:pull");
    world.users.revoke_token("bot", "ci").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(call(Method::GET, "/v2/").send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.with_token(&bearer, Method::GET, "/v2/").await.status, StatusCode::UNAUTHORIZED);
}
