//! Web pages of other sites.

use crate::support::Node;
use axum::http::{Method, StatusCode};
use cidery_registry::Config;

const PAGE: &str = "https://ui.example";

async fn node() -> Node {
    let cors = vec![PAGE.parse().unwrap(), "http://localhost:8080".parse().unwrap()];
    Node::with(Config { cors, ..Config::default() }).await
}

#[tokio::test]
async fn off_unless_configured() {
    let node = Node::new().await;
    let preflight = node.request(Method::OPTIONS, "/v2/_catalog").header("origin", PAGE);
    let answer = preflight.header("access-control-request-method", "GET").send().await;
    answer.is_error(403, "DENIED");
    let answer = node.get("/v2/").await;
    for name in answer.headers.keys() {
        assert!(!name.as_str().starts_with("access-control"), "{name}");
    }
}

#[tokio::test]
async fn a_preflight_is_answered() {
    let node = node().await;
    let preflight = node.request(Method::OPTIONS, "/v2/app/manifests/1").header("origin", PAGE);
    let preflight = preflight.header("access-control-request-method", "DELETE");
    let answer = preflight.header("access-control-request-headers", "authorization,accept").send().await;
    assert!(answer.status.is_success(), "{}", answer.status);
    assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("access-control-allow-headers"), "authorization,accept");
    let methods = answer.header("access-control-allow-methods");
    for method in ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"] {
        assert!(methods.contains(method), "{methods}");
    }
    assert!(answer.header("access-control-max-age").parse::<u32>().unwrap() > 0);
    assert!(answer.header("vary").to_lowercase().contains("origin"));
}

#[tokio::test]
async fn a_page_may_use_the_registry_and_see_its_headers() {
    let node = node().await;
    node.push_image("app", "1", &[b"layer"]).await;
    let ask =
        |path: &str| node.request(Method::GET, path).header("origin", PAGE).header("sec-fetch-site", "cross-site");
    // Refusals, too: a page has to see the challenge.
    for (path, status) in [("/v2/app/manifests/1", StatusCode::OK), ("/v2/app/manifests/2", StatusCode::NOT_FOUND)] {
        let answer = ask(path).send().await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert!(answer.header("vary").to_lowercase().contains("origin"));
        let exposed = answer.header("access-control-expose-headers");
        for name in ["docker-content-digest", "link", "www-authenticate", "location", "retry-after"] {
            assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name}: {exposed}");
        }
    }
    let delete = node.request(Method::DELETE, "/v2/app/manifests/1").header("origin", PAGE).send().await;
    assert_eq!(delete.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn other_pages_stay_out() {
    let node = node().await;
    for origin in
        ["https://evil.example", "http://ui.example", "https://ui.example:8443", "https://ui.example.evil", "null"]
    {
        let answer = node.request(Method::GET, "/v2/").header("origin", origin).send().await;
        answer.is_error(403, "DENIED");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
        let preflight = node.request(Method::OPTIONS, "/v2/").header("origin", origin);
        let answer = preflight.header("access-control-request-method", "GET").send().await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
    }
    // Never all of them, and never by name of none.
    let answer = node.get("/v2/").await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}
