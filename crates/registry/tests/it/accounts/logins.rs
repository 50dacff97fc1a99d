//! How one logs in, and how one is kept from guessing.

use super::{World, basic, challenge, text};
use axum::http::{Method, StatusCode};
use cidery_access::{Challenge, Config as AccessConfig, Proxies, Secret, users::NewToken};
use cidery_registry::Connection;
use std::{
    cell::RefCell,
    io::{self, Write},
};

const ELSEWHERE: &str = "192.0.2.7:4000";

#[tokio::test]
async fn the_base_challenges_whatever_anybody_may_pull() {
    let world = World::with(&["alice"], Vec::new(), true, AccessConfig::default()).await;
    assert_eq!(world.push("alice", "app", "1", b"layer").await.status, StatusCode::CREATED);
    let answer = world.get("", "/v2/").await;
    assert_eq!(challenge(&answer), "Bearer realm=\"http://localhost:5000/token\",service=\"cidery\"");
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    assert_eq!(world.call("", Method::HEAD, "/v2/").send().await.status, StatusCode::UNAUTHORIZED);
    let answer = world.get("alice", "/v2/").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "{}"));
    // Pulls go without, from here and from elsewhere; pushes do not, not even from here.
    for path in ["/v2/app/manifests/1", "/v2/app/tags/list", "/v2/_catalog"] {
        assert_eq!(world.get("", path).await.status, StatusCode::OK, "{path}");
        let call = world.node.request(Method::GET, path).header("host", "192.0.2.1:5000").from(ELSEWHERE);
        assert_eq!(call.send().await.status, StatusCode::OK, "{path}");
    }
    let answer = world.push_blob("", "app", b"x").await;
    let wanted = "Bearer realm=\"http://localhost:5000/token\",service=\"cidery\",scope=\"repository:app:pull,push\"";
    assert_eq!(challenge(&answer), wanted);
    let answer = world.call("", Method::DELETE, "/v2/app/manifests/1").send().await;
    assert!(challenge(&answer).ends_with("scope=\"repository:app:delete\""));
}

#[tokio::test]
async fn without_accounts_nothing_is_asked() {
    let world = World::new(&[], Vec::new()).await;
    let answer = world.call("stale", Method::GET, "/v2/").send().await;
    assert_eq!(answer.status, StatusCode::OK);
    world.get("", "/token").await.is_error(404, "UNSUPPORTED");
    let call = world.node.request(Method::POST, "/v2/app/blobs/uploads/").header("host", "192.0.2.1").from(ELSEWHERE);
    assert!(call.send().await.is_error(403, "DENIED").contains("127.0.0.1"));
    // The first user closes it, while it runs.
    world.users.set("alice", &Secret::new("alicealice")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(world.get("", "/v2/").await.status, StatusCode::UNAUTHORIZED);
    let call = world.call("alice", Method::POST, "/v2/app/blobs/uploads/").header("host", "192.0.2.1").from(ELSEWHERE);
    assert_eq!(call.send().await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn wrong_credentials_are_challenged_even_where_none_are_needed() {
    let world = World::with(&["alice"], Vec::new(), true, AccessConfig::default()).await;
    let get = async |path: &str, shown: &str| {
        world.node.request(Method::GET, path).header("authorization", shown).send().await
    };
    for shown in [&basic("alice", "wrong"), &basic("bob", "bobbob"), "Basic", "Digest x", "Bearer x.y.z", "Bearer "] {
        for path in ["/v2/", "/v2/app/manifests/1", "/v2/_catalog"] {
            let answer = get(path, shown).await;
            assert!(challenge(&answer).starts_with("Bearer realm="), "{shown}");
        }
    }
    assert!(challenge(&get("/v2/", "Bearer x.y.z").await).ends_with("error=\"invalid_token\""));
    assert_eq!(challenge(&get("/token", &basic("alice", "wrong")).await), "Basic realm=\"cidery\"");
    let basic_only = AccessConfig { challenge: Challenge::Basic, ..Default::default() };
    let world = World::with(&["alice"], Vec::new(), false, basic_only).await;
    assert_eq!(challenge(&world.get("", "/v2/").await), "Basic realm=\"cidery\"");
}

#[tokio::test]
async fn a_password_is_rewritten_while_it_runs() {
    let world = World::new(&["alice"], Vec::new()).await;
    assert_eq!(world.get("alice", "/v2/").await.status, StatusCode::OK);
    world.users.set("alice", &Secret::new("another")).unwrap();
    let call = world.node.request(Method::GET, "/v2/").header("authorization", &basic("alice", "another"));
    assert_eq!(call.send().await.status, StatusCode::OK);
    assert_eq!(world.get("alice", "/v2/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn failed_logins_are_slowed() {
    let world = World::new(&["alice"], Vec::new()).await;
    let try_once = async |from: &str, password: &str| {
        let call = world.node.request(Method::GET, "/v2/").header("host", "192.0.2.1").from(from);
        call.header("authorization", &basic("alice", password)).send().await
    };
    for n in 0..10 {
        assert_eq!(try_once(ELSEWHERE, &format!("guess{n}")).await.status, StatusCode::UNAUTHORIZED, "{n}");
    }
    for password in ["guess", "alicealice"] {
        let answer = try_once(ELSEWHERE, password).await;
        let message = answer.is_error(429, "TOOMANYREQUESTS");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1 && message.contains("wait"), "{message}");
        assert!(answer.headers.get("www-authenticate").is_none());
    }
    let form = world.node.request(Method::POST, "/token").header("host", "192.0.2.1").from(ELSEWHERE);
    let answer = form.body("grant_type=password&username=alice&password=alicealice").send().await;
    answer.is_error(429, "TOOMANYREQUESTS");
    // Others are not, and neither is who waited.
    assert_eq!(try_once("192.0.2.8:1", "alicealice").await.status, StatusCode::OK);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(try_once(ELSEWHERE, "alicealice").await.status, StatusCode::OK);
    assert_eq!(try_once(ELSEWHERE, "guess").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn passwords_are_not_taken_where_others_can_read_them() {
    let world = World::new(&["alice"], Vec::new()).await;
    let connection = |local: &str, tls| Connection { local: local.parse().unwrap(), tls };
    let get = |connection: Connection, shown: String| {
        let call = world.node.request(Method::GET, "/v2/").header("host", "192.0.2.1").from(ELSEWHERE);
        call.extension(connection).header("authorization", &shown).send()
    };
    let right = || basic("alice", "alicealice");
    let message = get(connection("192.0.2.1:5000", false), right()).await.is_error(403, "DENIED");
    assert!(message.contains("HTTPS") && message.contains("insecure-auth"), "{message}");
    assert_eq!(get(connection("192.0.2.1:5000", true), right()).await.status, StatusCode::OK);
    assert_eq!(get(connection("127.0.0.1:5000", false), right()).await.status, StatusCode::OK);
    let form = world.node.request(Method::POST, "/token").header("host", "192.0.2.1").from(ELSEWHERE);
    let form = form.extension(connection("192.0.2.1:5000", false));
    form.body("grant_type=password&username=alice&password=alicealice").send().await.is_error(403, "DENIED");
    // Asking for them is no harm, and neither is a token that ends soon.
    let call = world.node.request(Method::GET, "/v2/").header("host", "192.0.2.1").from(ELSEWHERE);
    let answer = call.extension(connection("192.0.2.1:5000", true)).send().await;
    assert!(challenge(&answer).starts_with("Bearer realm=\"https://192.0.2.1/token\""));
    let token = world.token("alice", "").await;
    let bearer = format!("Bearer {}", text(&token, "token"));
    assert_eq!(get(connection("192.0.2.1:5000", false), bearer).await.status, StatusCode::OK);
    let insecure = AccessConfig { insecure: true, ..Default::default() };
    let world = World::with(&["alice"], Vec::new(), false, insecure).await;
    let call = world.call("alice", Method::GET, "/v2/").header("host", "192.0.2.1").from(ELSEWHERE);
    assert_eq!(call.extension(connection("192.0.2.1:5000", false)).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_trusted_proxy_says_who_calls() {
    let proxies = Proxies::read(["127.0.0.1"]).unwrap();
    let config = AccessConfig { proxies, ..Default::default() };
    let world = World::with(&["alice"], Vec::new(), false, config).await;
    let call = |source: &str, shown: Option<&str>| {
        let call = world.node.request(Method::GET, "/v2/").from("127.0.0.1:9").header("x-forwarded-for", source);
        let call = call.header("x-forwarded-proto", "https").header("x-forwarded-host", "registry.lan");
        match shown {
            Some(shown) => call.header("authorization", shown),
            None => call,
        }
    };
    let answer = call("198.51.100.1", None).send().await;
    assert_eq!(challenge(&answer), "Bearer realm=\"https://registry.lan/token\",service=\"cidery\"");
    let wrong = basic("alice", "wrong");
    for _ in 0..10 {
        // What the client wrote itself makes no other source of it.
        let source = format!("203.0.113.{}, 198.51.100.1", rand::random::<u8>());
        assert_eq!(call(&source, Some(&wrong)).send().await.status, StatusCode::UNAUTHORIZED);
    }
    call("198.51.100.1", Some(&wrong)).send().await.is_error(429, "TOOMANYREQUESTS");
    assert_eq!(call("198.51.100.2", Some(&wrong)).send().await.status, StatusCode::UNAUTHORIZED);
    // Over plain HTTP to the proxy, passwords are not taken; and a name that nobody configured is not answered.
    let plain = world.call("alice", Method::GET, "/v2/").from("127.0.0.1:9").header("x-forwarded-for", "198.51.100.3");
    plain.header("x-forwarded-proto", "http").send().await.is_error(403, "DENIED");
    let evil = world.node.request(Method::GET, "/v2/").from("127.0.0.1:9").header("x-forwarded-host", "evil.example");
    evil.send().await.is_error(403, "DENIED");
}

#[tokio::test]
async fn pages_of_others_are_refused_with_accounts_too() {
    let world = World::with(&["alice"], Vec::new(), true, AccessConfig::default()).await;
    for (name, value) in [
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("x-forwarded-for", "192.0.2.7"),
    ] {
        world.call("alice", Method::GET, "/v2/").header(name, value).send().await.is_error(403, "DENIED");
    }
}

thread_local! {
    /// What was logged on this thread. The subscriber is one for all threads, since whether anybody listens to a
    /// place in the code is remembered for all of them.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.iter_mut().for_each(|log| log.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_in_the_log() {
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(|| Log);
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    LOG.set(Some(Vec::new()));
    let world = World::new(&["alice"], Vec::new()).await;
    let new = NewToken { name: "ci".into(), lifetime: None, rights: None };
    let token = world.users.add_token("alice", new).unwrap();
    let show = async |shown: &str| world.node.request(Method::GET, "/v2/").header("authorization", shown).send().await;
    for shown in [&basic("alice", token.reveal()), &basic("alice", "mistaken-1"), &basic("mistaken-2", "mistaken-3")] {
        show(shown).await;
    }
    let bearer = world.token("alice", "offline_token=true&scope=repository:app:pull").await;
    show(&format!("Bearer {}x", text(&bearer, "token"))).await;
    let form = format!("grant_type=refresh_token&refresh_token={}", text(&bearer, "refresh_token"));
    assert_eq!(world.form(&form).await.status, StatusCode::OK);
    world.form("grant_type=password&username=alice&password=mistaken-4").await.is_error(401, "UNAUTHORIZED");
    world.users.set("alice", &Secret::new("rewritten")).unwrap();
    show(&basic("alice", "rewritten")).await;
    let log = String::from_utf8(LOG.take().unwrap()).unwrap();
    assert!(log.contains("a login failed") && log.contains("alice") && log.contains("refused"), "{log}");
    let secrets =
        [token.reveal(), text(&bearer, "token"), text(&bearer, "refresh_token"), "alicealice", "rewritten", "mistaken"];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
