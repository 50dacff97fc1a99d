//! Pulls under way, and deletes beside them.

use cidery_tests::{Node, docker::noise, http, process::wait_for};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// More than sockets and the node's own buffers take.
const SIZE: usize = 32 << 20;

/// A client that has asked for something and read only the first bytes of it.
struct SlowClient {
    stream: TcpStream,
    read: Vec<u8>,
}

impl SlowClient {
    fn ask(host: &str, path: &str) -> Self {
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut read = vec![0; 100_000];
        stream.read_exact(&mut read).unwrap();
        assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read[..200]));
        Self { stream, read }
    }

    /// The body, as far as it comes.
    fn finish(mut self) -> Vec<u8> {
        // What breaks the connection ends the body early.
        let _ = self.stream.read_to_end(&mut self.read);
        let body = self.read.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        self.read.split_off(body)
    }
}

fn freed(node: &Node) -> u64 {
    node.json(&["gc", "--all"])["freed_bytes"].as_u64().unwrap()
}

fn start(seed: &str) -> (Node, Vec<u8>, String, String) {
    let node = Node::start(&["--history", "1"]);
    let layer = noise(seed, 0, SIZE);
    let manifest = http::push_image(&node.http, "app", "1", std::slice::from_ref(&layer));
    let blob = format!("/v2/app/blobs/{}", http::digest(&layer));
    (node, layer, manifest, blob)
}

fn delete(node: &Node, manifest: &str, blob: &str) {
    for path in [&format!("/v2/app/manifests/{manifest}"), blob] {
        assert_eq!(http::delete(&format!("http://{}{path}", node.http)).status, 202);
    }
}

#[test]
fn a_pull_that_began_before_a_delete_ends_whole() {
    let (node, layer, manifest, blob) = start("slow");
    let slow = SlowClient::ask(&node.http, &blob);
    delete(&node, &manifest, &blob);
    let early = freed(&node);
    assert!(early < SIZE as u64 / 4, "{early}");
    assert_eq!(http::get(&format!("http://{}{blob}", node.http)).status, 404);
    assert_eq!(http::digest(&slow.finish()), http::digest(&layer));
    wait_for("the blob to go", || (freed(&node) > SIZE as u64 / 2).then_some(()));
}

#[test]
fn a_client_that_goes_away_keeps_nothing() {
    let (node, _, manifest, blob) = start("gone");
    let slow = SlowClient::ask(&node.http, &blob);
    delete(&node, &manifest, &blob);
    assert!(freed(&node) < SIZE as u64 / 4);
    drop(slow);
    wait_for("the blob to go", || (freed(&node) > SIZE as u64 / 2).then_some(()));
}

#[test]
fn a_purge_cuts_off_who_is_at_it() {
    let (node, layer, _, blob) = start("purged");
    let slow = SlowClient::ask(&node.http, &blob);
    let done = node.json(&["purge", &http::digest(&layer)]);
    assert!(done["freed_bytes"].as_u64().unwrap() >= SIZE as u64, "{done}");
    let got = slow.finish();
    assert!(got.len() < SIZE && layer.starts_with(&got));
}

#[test]
fn an_export_that_began_before_a_delete_ends_whole() {
    let (node, layer, manifest, blob) = start("export");
    let mut export = node.command(&["export", "app:1", "-", "--format", "oci"]);
    let mut export = export.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut out = export.stdout.take().unwrap();
    let mut archive = vec![0; 100_000];
    out.read_exact(&mut archive).unwrap();
    delete(&node, &manifest, &blob);
    assert!(freed(&node) < SIZE as u64 / 4);
    out.read_to_end(&mut archive).unwrap();
    assert!(export.wait().unwrap().success());
    let whole = archive.windows(32).position(|piece| piece == &layer[..32]).unwrap();
    assert!(archive[whole..].starts_with(&layer));
    wait_for("the blob to go", || (freed(&node) > SIZE as u64 / 2).then_some(()));
}
