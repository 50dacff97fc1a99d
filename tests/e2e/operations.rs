//! What whoever runs a node sees of it: health, metrics, logs, webhooks.

use crate::accounts;
use cidery_tests::{
    Engine,
    certificates::Authority,
    http::{delete, get, post, put},
    node::Node,
    process::text,
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Until a file has so many lines.
fn wait_for_lines(path: &Path, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let found = lines(path);
        if found.len() >= count {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{}: {found:#?}", path.display());
        thread::sleep(Duration::from_millis(20));
    }
}

/// An endpoint that takes everything, and what it gets.
fn endpoint() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" || line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// Pushes a manifest without blobs, with secrets where clients put them.
fn push(node: &Node, name: &str, tag: &str) -> String {
    let url = format!("http://{}/v2/{name}/manifests/{tag}?token=s3cret", node.http);
    let request = ureq::put(&url).header("authorization", "Basic czNjcmV0OnMzY3JldA==");
    let answer = request.header("content-type", INDEX).send(MANIFEST).unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    answer.headers()["docker-content-digest"].to_str().unwrap().to_owned()
}

#[test]
fn what_is_done_is_counted_logged_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (access, audit, config) =
        (dir.path().join("access.jsonl"), dir.path().join("audit.jsonl"), dir.path().join("config.toml"));
    let (url, events) = endpoint();
    fs::write(&config, format!("[[webhook]]\nurl = {url:?}\n")).unwrap();
    let arguments = ["--metrics", "127.0.0.1:0", "--access-log", access.to_str().unwrap(), "--audit-log"];
    let arguments = [&arguments[..], &[audit.to_str().unwrap(), "--config", config.to_str().unwrap()]].concat();
    let mut node = Node::start(&arguments);
    let log = node.daemon().log();
    let metrics = log.lines().find(|line| line.trim_start().starts_with("metrics ")).unwrap();
    let monitoring = metrics.rsplit("http://").next().unwrap().trim().trim_end_matches("/metrics").to_owned();
    let ask = |path: &str| get(&format!("http://{monitoring}{path}"));
    assert_eq!((ask("/healthz").status, ask("/readyz").status), (200, 200));

    let digest = push(&node, "team/app", "1");
    let event = events.recv_timeout(Duration::from_secs(20)).unwrap()["events"][0].take();
    assert_eq!((event["action"].as_str(), event["target"]["tag"].as_str()), (Some("push"), Some("1")));
    assert_eq!(
        (event["target"]["digest"].as_str(), event["target"]["repository"].as_str()),
        (Some(&*digest), Some("team/app"))
    );
    let id = node.json(&["status"])["peer_id"].clone();
    assert_eq!(event["source"]["instanceID"], id);
    node.run(&["publish"]);
    assert_eq!(delete(&format!("http://{}/v2/team/app/manifests/1", node.http)).status, 202);
    let event = events.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(event["events"][0]["action"], "delete");
    node.run(&["purge", &digest]);
    let event = events.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(
        (&event["events"][0]["action"], &event["events"][0]["target"]["digest"]),
        (&"delete".into(), &digest.clone().into())
    );

    let text = String::from_utf8(ask("/metrics").body).unwrap();
    for line in [
        "cidery_http_requests_total{route=\"/v2/{name}/manifests/{reference}\",method=\"PUT\",code=\"201\"} 1",
        "cidery_webhook_delivered_total{webhook=\"1\",host=\"127.0.0.1\"} 3",
        "cidery_collections_total 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found.trim_end_matches(".0") == line), "{line} is not in\n{text}");
    }
    for name in ["cidery_store_blocks ", "cidery_store_free_bytes ", "cidery_peers ", "cidery_bitswap_wants "] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
    }

    let written = wait_for_lines(&audit, 4);
    let actions: Vec<_> = written.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["push", "publish", "delete", "purge"]);
    assert_eq!(
        (&written[0]["kind"], &written[2]["kind"], &written[3]["via"]),
        (&"manifest".into(), &"tag".into(), &"command".into())
    );
    let requests = wait_for_lines(&access, 2);
    let put = requests.iter().find(|line| line["method"] == "PUT").unwrap();
    assert_eq!((&put["status"], &put["path"]), (&201.into(), &"/v2/team/app/manifests/1".into()));
    // One request is the same in both.
    assert_eq!(put["request"], written[0]["request"]);

    // Rotation: what comes after it is in a new file.
    let rotated = dir.path().join("audit.jsonl.1");
    fs::rename(&audit, &rotated).unwrap();
    let pid = node.daemon().id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    thread::sleep(Duration::from_millis(200));
    push(&node, "team/app", "2");
    let fresh = wait_for_lines(&audit, 1);
    assert_eq!((&fresh[0]["tags"][0], lines(&rotated).len()), (&"2".into(), 4));
    let log = node.daemon().log();
    let all = [log, fs::read_to_string(&access).unwrap(), fs::read_to_string(&audit).unwrap()].concat();
    for secret in ["s3cret", "czNjcmV0"] {
        assert!(!all.contains(secret), "{secret} is in a log");
    }
}

/// Over TLS, with accounts: who pushed is in both logs and in the event, whose address is the one that docker called.
#[test]
fn who_did_it_is_told() {
    const PASSWORD: &str = "alice's password";
    let Some(engine) = Engine::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (access, audit, config, cert, key) = (at("access"), at("audit"), at("config"), at("pem"), at("key"));
    Authority::new("ca").server().write(&cert, &key);
    let (url, events) = endpoint();
    fs::write(&config, format!("[[webhook]]\nurl = {url:?}\n")).unwrap();
    let files = ["--tls-cert", text(&cert), "--tls-key", text(&key), "--config", text(&config)];
    let node = Node::start(&[&files[..], &["--access-log", text(&access), "--audit-log", text(&audit)]].concat());
    accounts::add(node.data(), "alice", PASSWORD);
    accounts::heeded();
    let host = node.host();
    let image = format!("{host}/team/app:1");
    engine.build(&image, "who", &[1 << 20]);
    assert!(!accounts::docker_login(&engine, &host, "alice", "mistaken").0);
    assert!(accounts::docker_login(&engine, &host, "alice", PASSWORD).0);
    engine.run(&["push", "-q", &image]);

    let event = events.recv_timeout(Duration::from_secs(20)).unwrap()["events"][0].take();
    assert_eq!((event["action"].as_str(), event["actor"]["name"].as_str()), (Some("push"), Some("alice")));
    let address = event["target"]["url"].as_str().unwrap();
    assert!(address.starts_with(&format!("https://{host}/v2/team/app/manifests/sha256:")), "{address}");
    // Two blobs and the manifest.
    let written = wait_for_lines(&audit, 3);
    assert!(written.iter().all(|line| line["user"] == "alice"), "{written:#?}");
    let put = written.iter().find(|line| line["kind"] == "manifest").unwrap();
    let begun = Instant::now();
    let requests = loop {
        let found = lines(&access);
        if found.iter().any(|line| line["request"] == put["request"]) {
            break found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{found:#?}");
        thread::sleep(Duration::from_millis(20));
    };
    let at_token =
        |status: u64| requests.iter().filter(move |line| line["route"] == "/token" && line["status"] == status);
    assert!(at_token(200).any(|line| line["user"] == "alice"), "{requests:#?}");
    assert!(at_token(401).count() > 0 && at_token(401).all(|line| line.get("user").is_none()), "{requests:#?}");
    let pushed = requests.iter().filter(|line| line["status"] == 201 && line["user"] == "alice");
    assert!(pushed.count() >= 3, "{requests:#?}");
    let all = [&access, &audit].map(|file| fs::read_to_string(file).unwrap()).concat();
    for secret in [PASSWORD, "mistaken", "Bearer", "eyJ"] {
        assert!(!all.contains(secret), "{secret} is in a log:\n{all}");
    }
}

#[test]
fn what_the_audit_log_cannot_hold_is_not_done() {
    let node = Node::start(&["--audit-log", "/dev/full"]);
    // The queue takes what it can; then nothing is written, and pulls go on.
    let url = format!("http://{}/v2/app/blobs/uploads/", node.http);
    assert_eq!(post(&url).status, 202);
    let (next, refused) = (AtomicUsize::new(0), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while refused.lock().unwrap().is_none() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    assert!(n < 5000, "the queue is bounded");
                    let answer = put(&format!("http://{}/v2/app/manifests/{n}", node.http), INDEX, MANIFEST.as_bytes());
                    if answer.status != 201 {
                        *refused.lock().unwrap() = Some((n, answer.status, answer.code()));
                    }
                }
            });
        }
    });
    let (n, status, code) = refused.into_inner().unwrap().unwrap();
    assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));
    assert_eq!(get(&format!("http://{}/v2/app/manifests/{n}", node.http)).status, 404);
    assert_eq!(get(&format!("http://{}/v2/app/manifests/0", node.http)).status, 200);
}
