//! Whoever did not log in, whatever he asks: he gets nothing, changes nothing, and learns nothing.

use super::{World, basic, rule};
use crate::requests::{Made, cases, check, made, send};
use axum::http::{Method, StatusCode};
use cidery_access::{Config as AccessConfig, Proxies};
use cidery_core::{Namespace, RootStore};
use cidery_registry::Config;
use proptest::{prelude::*, sample::Index};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// What is shown in place of a login.
#[derive(Debug, Clone)]
enum Shown {
    Nothing,
    Text(String),
    /// A bearer token that was issued, with one character exchanged.
    Spoiled(Index, char),
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![
        3 => Just(Shown::Nothing),
        2 => "(Basic|Bearer|basic|Negotiate)? {0,2}[A-Za-z0-9+/=._-]{0,80}".prop_map(Shown::Text),
        1 => "Bearer cidery_[A-Za-z0-9]{43}".prop_map(Shown::Text),
        1 => ("[a-z]{0,8}", "[ -~]{0,12}").prop_map(|(user, password)| Shown::Text(basic(&user, &password))),
        3 => (any::<Index>(), "[A-Za-z0-9._-]").prop_map(|(at, c)| Shown::Spoiled(at, c.chars().next().expect("one"))),
    ]
}

impl Shown {
    fn header(&self, token: &str) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Text(text) => Some(text.clone()),
            Self::Spoiled(at, with) => {
                let mut chars: Vec<_> = token.chars().collect();
                let at = at.index(chars.len());
                chars[at] = if chars[at] == *with { '!' } else { *with };
                Some(format!("Bearer {}", chars.into_iter().collect::<String>()))
            }
        }
    }
}

/// Whether an answer to somebody unknown is one of those that show nothing.
fn shows_nothing(made: &Made, status: StatusCode) -> bool {
    // What is asked of every node, and what anybody may pull; a name that is not this node's own is nobody's here.
    let open = ["/healthz", "/readyz", "/metrics", "/token", "/v2/_catalog"];
    if open.contains(&made.path.trim_end_matches('/')) || made.method == "OPTIONS" {
        return true;
    }
    let found = status.is_success() || matches!(status.as_u16(), 304 | 416);
    !found
}

#[test]
fn no_request_gets_in_without_a_login() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (world, token) = runtime.block_on(async {
        let rules = vec![rule("alice", "**", "all"), rule("anonymous", "public/**", "pull")];
        let config = Config { max_uploads: 1 << 16, page_limit: 10, ..Config::default() };
        let access = AccessConfig { proxies: Proxies::read(["192.0.2.0/24"]).unwrap(), ..Default::default() };
        let world = World::on(config, &["alice"], rules, false, access).await;
        for (repository, tag) in [("app", "1"), ("team/app", "2")] {
            assert_eq!(world.push("alice", repository, tag, b"layer").await.status, StatusCode::CREATED);
        }
        let token = world.token("alice", "scope=repository:app:pull,push,delete").await;
        assert_eq!(world.with_token(&token, Method::GET, "/v2/app/manifests/1").await.status, StatusCode::OK);
        (world, token["token"].as_str().unwrap().to_owned())
    });
    let root = |world: &World| world.node.store.state(&Namespace::local()).unwrap().root.unwrap().cid;
    let before = root(&world);
    let opened = runtime.block_on(async { world.call("alice", Method::POST, "/v2/app/blobs/uploads/").send().await });
    let location = opened.header("location").to_owned();
    let upload = location.rsplit('/').next().unwrap();
    let asked = AtomicUsize::new(0);
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(requests in proptest::collection::vec((made(), shown()), 1..8))| {
        runtime.block_on(async {
            for (made, shown) in &requests {
                let mut made = made.clone();
                made.headers.retain(|(name, _)| name != "authorization");
                made.headers.extend(shown.header(&token).map(|text| ("authorization".to_owned(), text)));
                let Some(answer) = send(&world.node, &made, upload).await else { continue };
                check(&made, &answer)?;
                prop_assert!(shows_nothing(&made, answer.status), "{made:?}: {} {}", answer.status, answer.text());
                asked.fetch_add(1, SeqCst);
            }
            Ok::<_, TestCaseError>(())
        })?;
    });
    assert!(asked.load(SeqCst) > cases() as usize);
    // Nothing was written, and whoever may still can.
    assert_eq!(root(&world), before);
    runtime.block_on(async {
        let stands = world.call("alice", Method::GET, &*location).send();
        // Guessing has slowed this address; who has a token is not slowed.
        assert!(matches!(stands.await.status.as_u16(), 204 | 429));
        let token = serde_json::json!({ "token": token });
        let upload = world.with_token(&token, Method::GET, &location).await;
        assert_eq!((upload.status, upload.header("range")), (StatusCode::NO_CONTENT, "0-0"));
        assert_eq!(world.with_token(&token, Method::GET, "/v2/app/manifests/1").await.status, StatusCode::OK);
    });
}
