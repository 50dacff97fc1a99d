//! Against a real server.

use super::{Hook, Source, Webhook, Webhooks, endpoint::Pace};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use cidery_node::Hosts;
use cidery_registry::ops::{Action, Event, Observer, Observers, Origin, Target};
use cidery_tests::certificates::Authority;
use serde_json::Value;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

const QUICK: Pace = Pace { first: Duration::from_millis(5), most: Duration::from_millis(20) };
const SOON: Duration = Duration::from_secs(10);

/// What an endpoint got, and the statuses it is to answer with before it answers 200.
#[derive(Default)]
struct Got {
    requests: Mutex<Vec<(HeaderMap, Value)>>,
    statuses: Mutex<VecDeque<u16>>,
    delay: Duration,
}

impl Got {
    fn tags(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let tag = |(_, body): &(HeaderMap, Value)| body["events"][0]["target"]["tag"].as_str().unwrap().to_owned();
        requests.iter().map(tag).collect()
    }
}

async fn take(State(got): State<Arc<Got>>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    tokio::time::sleep(got.delay).await;
    got.requests.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
    let status = got.statuses.lock().unwrap().pop_front().unwrap_or(200);
    (StatusCode::from_u16(status).unwrap(), "heard")
}

/// A server that answers as `got` says.
async fn server(got: Got) -> (SocketAddr, Arc<Got>) {
    let got = Arc::new(got);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/hook", post(take)).with_state(got.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, got)
}

fn hook(address: SocketAddr, more: &str) -> Hook {
    let text = format!("url = \"http://{address}/hook\"\n{more}");
    toml::from_str::<Webhook>(&text).unwrap().check(1).unwrap()
}

fn start(hooks: &[Hook]) -> Webhooks {
    let source = Source { address: "here".into(), instance: "me".into() };
    Webhooks::with(hooks, source, Hosts::new(None).unwrap(), QUICK).unwrap()
}

/// Pushes of the tags 0, 1, …
async fn push(webhooks: &Webhooks, tags: std::ops::Range<usize>) {
    let observers = Observers::new(vec![Arc::new(webhooks.clone())]);
    for n in tags {
        let target = Target { tags: vec![n.to_string()], ..Target::named("app") };
        observers.room().await.unwrap().tell(Event::new(Action::Push, vec![target], Origin::Control));
    }
}

fn counted(webhooks: &Webhooks, name: &str) -> f64 {
    webhooks.readings().into_iter().filter(|reading| reading.name == name).map(|reading| reading.value).sum()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{what} did not come about"));
}

#[tokio::test]
async fn events_come_in_order_and_again_until_they_are_taken() {
    let (address, got) = server(Got { statuses: Mutex::new([500, 503, 200, 429].into()), ..Got::default() }).await;
    let webhooks = start(&[hook(address, "headers = { Authorization = \"Bearer s3cret\" }")]);
    push(&webhooks, 0..4).await;
    until("delivery", || counted(&webhooks, "cidery_webhook_delivered") == 4.0).await;
    assert_eq!(got.tags(), ["0", "0", "0", "1", "1", "2", "3"]);
    assert_eq!(
        (counted(&webhooks, "cidery_webhook_failures"), counted(&webhooks, "cidery_webhook_dropped")),
        (3.0, 0.0)
    );
    let requests = got.requests.lock().unwrap();
    let (headers, body) = &requests[0];
    assert_eq!(headers["content-type"], "application/vnd.docker.distribution.events.v2+json");
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("cidery/"));
    let event = &body["events"][0];
    assert_eq!((&event["action"], &event["target"]["repository"]), (&"push".into(), &"app".into()));
    assert_eq!((&event["source"]["addr"], &event["source"]["instanceID"]), (&"here".into(), &"me".into()));
    // An attempt is of the same event: its id tells so.
    assert_eq!(requests[0].1["events"][0]["id"], requests[2].1["events"][0]["id"]);
}

#[tokio::test]
async fn each_endpoint_gets_what_it_wants() {
    let (first, pushes) = server(Got::default()).await;
    let (second, pulls) = server(Got::default()).await;
    let (third, deletes) = server(Got::default()).await;
    let hooks =
        [hook(first, ""), hook(second, "actions = [\"pull\"]"), hook(third, "actions = [\"delete\"]\nblobs = true")];
    let webhooks = start(&hooks);
    push(&webhooks, 0..1).await;
    let digest: cidery_core::Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let observers = Observers::new(vec![Arc::new(webhooks.clone())]);
    let blob = || Target { tags: vec!["b".into()], ..Target::blob("app", digest.clone(), Some(1)) };
    observers.room().await.unwrap().tell(Event::new(Action::Delete, vec![blob()], Origin::Control));
    observers.room().await.unwrap().tell(Event::new(Action::Push, vec![blob()], Origin::Control));
    assert!(webhooks.wants_pulls());
    let pulled = Target { tags: vec!["p".into()], ..Target::named("app") };
    observers.pulled(|| Event::new(Action::Pull, vec![pulled], Origin::Control));
    webhooks.close(SOON).await;
    assert_eq!((pushes.tags(), pulls.tags(), deletes.tags()), (vec!["0".into()], vec!["p".into()], vec!["b".into()]));
    assert!(!start(&hooks[..1]).wants_pulls());
}

#[tokio::test]
async fn what_an_endpoint_refuses_holds_nothing_up() {
    let (address, got) = server(Got { statuses: Mutex::new([422].into()), ..Got::default() }).await;
    let webhooks = start(&[hook(address, "")]);
    push(&webhooks, 0..2).await;
    until("delivery", || counted(&webhooks, "cidery_webhook_delivered") == 1.0).await;
    assert_eq!((got.tags(), counted(&webhooks, "cidery_webhook_dropped")), (vec!["0".into(), "1".into()], 1.0));
}

#[tokio::test]
async fn a_dead_endpoint_slows_nobody_and_its_queue_is_bounded() {
    // Nobody listens there any more; a second endpoint takes connections and never answers.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, got) = server(Got::default()).await;
    let short = "queue = 3\ntimeout = \"50ms\"";
    let hooks = [hook(dead, short), hook(mute.local_addr().unwrap(), short), hook(address, "")];
    let webhooks = start(&hooks);
    let begun = Instant::now();
    push(&webhooks, 0..100).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    until("delivery", || counted(&webhooks, "cidery_webhook_delivered") == 100.0).await;
    assert_eq!(got.tags(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    // Of each, one at most is with the task and three wait.
    assert!(counted(&webhooks, "cidery_webhook_dropped") >= 2.0 * 96.0);
    until("attempts", || counted(&webhooks, "cidery_webhook_failures") >= 4.0).await;
    let begun = Instant::now();
    webhooks.close(Duration::from_secs(3)).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(counted(&webhooks, "cidery_webhook_dropped"), 200.0);
}

#[tokio::test]
async fn an_event_is_given_up_when_it_is_old() {
    let (address, got) = server(Got { statuses: Mutex::new(vec![500; 100].into()), ..Got::default() }).await;
    let webhooks = start(&[hook(address, "retry-for = \"100ms\"")]);
    push(&webhooks, 0..1).await;
    until("giving up", || counted(&webhooks, "cidery_webhook_dropped") == 1.0).await;
    let attempts = got.tags().len();
    assert!((2..100).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn the_end_waits_for_what_waits_but_not_for_ever() {
    let (address, got) = server(Got { delay: Duration::from_millis(20), ..Got::default() }).await;
    let webhooks = start(&[hook(address, "")]);
    push(&webhooks, 0..10).await;
    webhooks.close(SOON).await;
    assert_eq!(got.tags().len(), 10);
    let (address, got) = server(Got { delay: Duration::from_millis(200), ..Got::default() }).await;
    let webhooks = start(&[hook(address, "")]);
    push(&webhooks, 0..50).await;
    let begun = Instant::now();
    webhooks.close(Duration::from_millis(500)).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let (taken, dropped) = (got.tags().len() as f64, counted(&webhooks, "cidery_webhook_dropped"));
    assert!(taken >= 1.0 && (taken + dropped - 50.0).abs() <= 1.0, "{taken} + {dropped}");
}

/// A server behind TLS, whose authority's certificate is in the file that is given back.
async fn tls_server(dir: &std::path::Path) -> (SocketAddr, std::path::PathBuf) {
    let (authority, path) = (Authority::new("ca"), dir.join("ca.pem"));
    authority.write(&path);
    let pair = authority.server();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let certificate = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not trust it ends here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&head).contains("}}]}") && !head.ends_with(b"}]}") {
                let n = stream.read(&mut buffer).await.unwrap();
                head.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (address, path)
}

#[tokio::test]
async fn https_is_checked_against_whom_the_file_names() {
    let dir = tempfile::tempdir().unwrap();
    let (address, ca) = tls_server(dir.path()).await;
    let hook = |ca: &std::path::Path| {
        let text = format!("url = \"https://localhost:{}/\"\nca = {:?}\nretry-for = \"50ms\"", address.port(), ca);
        toml::from_str::<Webhook>(&text).unwrap().check(1).unwrap()
    };
    let webhooks = start(&[hook(&ca)]);
    push(&webhooks, 0..2).await;
    until("delivery", || counted(&webhooks, "cidery_webhook_delivered") == 2.0).await;

    let other = dir.path().join("other.pem");
    Authority::new("other").write(&other);
    let webhooks = start(&[hook(&other)]);
    push(&webhooks, 0..1).await;
    until("refusal", || counted(&webhooks, "cidery_webhook_dropped") == 1.0).await;
    assert_eq!(counted(&webhooks, "cidery_webhook_delivered"), 0.0);
    let missing = Webhooks::with(
        &[hook(&dir.path().join("none"))],
        Source { address: String::new(), instance: String::new() },
        Hosts::new(None).unwrap(),
        QUICK,
    );
    assert!(format!("{:#}", missing.unwrap_err()).contains("none"), "the file is named");
}
