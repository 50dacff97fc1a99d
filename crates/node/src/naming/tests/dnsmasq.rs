//! Against dnsmasq as Debian ships it.

use super::*;
use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const DNSMASQ: &str = "/usr/sbin/dnsmasq";

struct Dnsmasq {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A dnsmasq that answers when this returns. `None` if it is not installed, which is said loudly.
fn dnsmasq(config: &[String]) -> Option<Dnsmasq> {
    if !Path::new(DNSMASQ).exists() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{DNSMASQ} is missing: install dnsmasq-base");
        eprintln!("SKIPPED: {DNSMASQ} is missing, install dnsmasq-base to run this test");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dnsmasq.conf");
    std::fs::write(&file, config.join("\n") + "\n").unwrap();
    // The port is free when it is looked for; somebody else may take it before dnsmasq does.
    for _ in 0..5 {
        let address = free_port();
        // With --no-daemon it would answer nobody else while a TCP connection is open.
        let mut process = Command::new(DNSMASQ)
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
                "--user=root",
                "--pid-file=",
            ])
            .arg(format!("--port={}", address.port()))
            .arg("--listen-address=127.0.0.1")
            .arg(format!("--conf-file={}", file.display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while process.try_wait().unwrap().is_none() {
            if TcpStream::connect(address).is_ok() {
                return Some(Dnsmasq { process, address, _directory: directory });
            }
            assert!(Instant::now() < deadline, "dnsmasq does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("dnsmasq ends as soon as it is started");
}

/// A port that is free for UDP and TCP.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// A line of dnsmasq's configuration; each string becomes a character-string of its own.
fn record(name: &str, strings: &[&str]) -> String {
    let strings: Vec<String> = strings.iter().map(|text| format!("\"{}\"", text.replace('"', "\\\""))).collect();
    format!("txt-record={name},{}", strings.join(","))
}

#[tokio::test]
async fn the_records_of_a_real_server() {
    let array = format!("ipfsnode=[\"{}\",\"{}\"]", hint(1), hint(2));
    let (start, end) = array.split_at(100);
    let config = [
        record("_dnslink.new.test", &[&format!("dnslink=/ipfs/{ROOT}/docker")]),
        record("new.test", &["v=spf1 -all"]),
        record("new.test", &[start, end]),
        // As the first gateway had it: both on the apex. dnsmasq refuses the other name.
        record("old.test", &[&format!("dnslink=/ipfs/{ROOT}")]),
        record("old.test", &[&array]),
        record("_dnslink.linked.test", &["dnslink=/ipns/new.test/v2"]),
        record("_dnslink.double.test", &[&format!("dnslink=/ipfs/{ROOT}")]),
        record("_dnslink.double.test", &[&format!("dnslink=/ipfs/{OTHER_ROOT}")]),
        record("plain.test", &["hello"]),
        "local=/plain.test/".to_owned(),
        "cname=_dnslink.alias.test,_dnslink.new.test".to_owned(),
    ];
    let Some(server) = dnsmasq(&config) else { return };
    let naming = naming(server.address);
    let hints = [hint(1), hint(2)];
    let resolve = async |name: &str| naming.resolve(&domain(name)).await;
    assert_eq!(resolve("new.test").await.unwrap(), found(ROOT, &["docker"], &hints));
    assert_eq!(resolve("old.test").await.unwrap(), found(ROOT, &[], &hints));
    assert_eq!(resolve("linked.test").await.unwrap(), found(ROOT, &["docker", "v2"], &hints));
    assert_eq!(resolve("alias.test").await.unwrap(), found(ROOT, &["docker"], &[]));
    assert!(invalid(resolve("double.test").await).contains("several"));
    assert!(not_found(resolve("plain.test").await).contains("_dnslink.plain.test"));
    assert!(unavailable(resolve("unknown.test").await).contains("refuses"));
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_over_tcp() {
    let mut config: Vec<String> = (0..8)
        .map(|number| record("_dnslink.long.test", &[&format!("{number}{}", "x".repeat(250)), &"y".repeat(255)]))
        .collect();
    config.push(record("_dnslink.long.test", &[&format!("dnslink=/ipfs/{ROOT}"), "/a", "/b"]));
    for port in 0..20 {
        config.push(record("_dnslink.long.test", &[&format!("ipfsnode={}", hint(port + 1))]));
    }
    let Some(server) = dnsmasq(&config) else { return };
    let resolved = naming(server.address).resolve(&domain("long.test")).await.unwrap();
    assert_eq!((resolved.root, resolved.path), (root(), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(resolved.hints.len(), 16);
}

#[tokio::test]
async fn a_server_that_went_away_is_bridged() {
    // Without a local TTL, which is dnsmasq's default, the answer expires as soon as it may.
    let Some(server) = dnsmasq(&[record("_dnslink.a.test", &[&format!("dnslink=/ipfs/{ROOT}")])]) else { return };
    let naming = naming(server.address);
    assert_eq!(naming.resolve(&domain("a.test")).await.unwrap(), found(ROOT, &[], &[]));
    drop(server);
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        assert_eq!(naming.resolve(&domain("a.test")).await.unwrap(), found(ROOT, &[], &[]));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
