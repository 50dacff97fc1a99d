//! Looking after a node: what takes its disk, and what gives room back.

use cidery_tests::{
    Node,
    disk::on_disk,
    docker::noise,
    http,
    process::{run_err, wait_for},
};
use std::process::Command;
use tempfile::TempDir;

const MB: usize = 1_000_000;

fn number(value: &serde_json::Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} in {value}"))
}

/// Deletes an image with its layers, as a registry client does.
fn delete_image(node: &Node, repository: &str, digest: &str, layers: &[Vec<u8>]) {
    let at = |what: &str, digest: &str| format!("http://{}/v2/{repository}/{what}/{digest}", node.http);
    assert_eq!(http::delete(&at("manifests", digest)).status, 202);
    for layer in layers {
        assert_eq!(http::delete(&at("blobs", &http::digest(layer))).status, 202);
    }
}

#[test]
fn what_was_deleted_leaves_the_disk() {
    let node = Node::start(&["--history", "1"]);
    let (stays, goes) = ([noise("stays", 0, 3 * MB)], [noise("goes", 0, 5 * MB), noise("goes", 1, 4 * MB)]);
    let stays_digest = http::push_image(&node.http, "stays", "1", &stays);
    let goes_digest = http::push_image(&node.http, "goes", "1", &goes);
    let before = on_disk(&node.data().join("packs"));
    delete_image(&node, "goes", &goes_digest, &goes);
    let done = node.json(&["gc"]);
    let freed = number(&done, "freed_bytes");
    assert!((9 * MB as u64..10 * MB as u64).contains(&freed) && number(&done, "freed_blocks") >= 9, "{done}");
    assert!((3 * MB as u64..4 * MB as u64).contains(&number(&done, "live_bytes")), "{done}");
    assert_eq!((number(&done, "cached_bytes"), number(&done, "cached_blocks")), (0, 0));
    assert!(number(&done, "live_blocks") > 3 && done["seconds"].as_f64().unwrap() > 0.0, "{done}");
    number(&done, "packs_removed");
    // With holes in packs or without packs, the file system has it back.
    let after = on_disk(&node.data().join("packs"));
    assert!(after + 8 * MB as u64 <= before, "{before} before, {after} after");
    let status = http::get(&format!("http://{}/v2/goes/blobs/{}", node.http, http::digest(&goes[0]))).status;
    assert_eq!(status, 404);
    let kept = http::get(&format!("http://{}/v2/stays/manifests/{stays_digest}", node.http));
    assert_eq!(kept.status, 200);
    // For people: the same in four lines, and nothing more to free.
    let said = node.run(&["gc"]);
    let words: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(words, ["freed", "live", "cached", "unnamed", "took"], "{said}");
    assert!(said.starts_with("freed      0 B"), "{said}");
}

/// The fields others script against, and that they say what is so.
#[test]
fn what_takes_the_disk() {
    let node = Node::start(&["--history", "1"]);
    let (stays, goes) = ([noise("du", 0, 3 * MB)], [noise("du", 1, 2 * MB)]);
    http::push_image(&node.http, "stays", "1", &stays);
    let digest = http::push_image(&node.http, "goes", "1", &goes);
    let usage = node.json(&["du"]);
    let bytes = |field: &str| number(&usage, field);
    let near = |bytes: u64, expected: usize| (expected as u64..(expected + MB / 5) as u64).contains(&bytes);
    assert!(near(bytes("live_bytes"), 5 * MB) && bytes("live_blocks") > 5, "{usage}");
    let local = &usage["namespaces"][0];
    assert_eq!((local["name"].as_str(), usage["namespaces"].as_array().unwrap().len()), (Some("local"), 1));
    assert_eq!(local["root"], node.json(&["status"])["namespaces"][0]["root"]);
    assert!(near(number(local, "bytes"), 5 * MB) && number(local, "blocks") > 5, "{usage}");
    for field in ["history_roots", "history_blocks", "history_bytes", "uploads", "uploads_blocks", "uploads_bytes"] {
        assert_eq!(bytes(field), 0, "{field}");
    }
    assert_eq!((bytes("cached_blocks"), bytes("cached_bytes")), (0, 0));
    assert!(bytes("dead_blocks") > 0, "nodes of earlier states: {usage}");
    let (packs, journal, index) = (bytes("packs_bytes"), bytes("journal_bytes"), bytes("index_bytes"));
    assert!(packs > 5 * MB as u64 && bytes("packs") > 0 && journal > 0 && index > 0, "{usage}");
    assert!(packs + journal + index <= on_disk(node.data()), "{usage}");

    delete_image(&node, "goes", &digest, &goes);
    let dead = number(&node.json(&["du"]), "dead_bytes");
    assert!(near(dead, 2 * MB), "{dead}");
    assert!(node.run(&["du"]).contains("`cidery gc` gives it back"));
    // Before it collects it takes out of the tree what no manifest names, here the config: a new state, so a
    // few nodes more.
    let freed = node_gc(&node).freed;
    assert!((dead..dead + 10_000).contains(&freed), "{dead} dead, {freed} freed");
    assert_eq!(number(&node.json(&["du"]), "dead_bytes"), 0);
}

/// Also what a restart would lose of it.
#[test]
fn an_open_upload_takes_the_disk() {
    let node = Node::start(&[]);
    let url = http::open_upload(&node.http, "app").unwrap();
    assert_eq!(http::patch(&url, &noise("open", 0, 5 * MB / 2)).status, 202);
    let usage = node.json(&["du"]);
    let bytes = |field: &str| number(&usage, field);
    assert_eq!(bytes("uploads"), 1);
    let (saved, unsaved) = (bytes("uploads_bytes"), bytes("uploads_unsaved_bytes"));
    assert!(saved >= 2 * MB as u64 && unsaved > 0, "{usage}");
    // One of which not a whole leaf has come is open nevertheless.
    let url = http::open_upload(&node.http, "app").unwrap();
    assert_eq!(http::patch(&url, b"a little").status, 202);
    let usage = node.json(&["du"]);
    assert_eq!((number(&usage, "uploads"), number(&usage, "uploads_unsaved_bytes")), (2, unsaved + 8));
    assert!(node.run(&["du"]).contains("2 open, and"));
}

/// Earlier states are kept, and with them whatever was not deleted.
#[test]
fn history_is_kept() {
    let node = Node::start(&[]);
    let layers = [noise("history", 0, 2 * MB)];
    let digest = http::push_image(&node.http, "app", "1", &layers);
    http::push_image(&node.http, "app", "1", &[noise("history", 1, 1000)]);
    let done = node.json(&["gc"]);
    assert!(number(&done, "live_bytes") > 2 * MB as u64, "{done}");
    let pulled = http::get(&format!("http://{}/v2/app/manifests/{digest}", node.http));
    assert_eq!(pulled.status, 200);
    let usage = node.json(&["du"]);
    assert!(number(&usage, "history_roots") > 0 && number(&usage, "history_blocks") > 0, "{usage}");
    assert!(number(&usage, "history_bytes") < MB as u64, "only nodes: {usage}");
}

/// What came from a peer is a cache, and stays below its limit.
#[test]
fn the_cache_stays_below_its_limit() {
    let owner = Node::start(&[]);
    http::push_image(&owner.http, "app", "1", &[noise("cache", 0, 4 * MB), noise("cache", 1, 4 * MB)]);
    let (root, address) = (owner.publish(), owner.address());
    let directory = TempDir::new().unwrap();
    let mut guest = Node::start_on(directory.path(), &["--peer", &address]);
    let name = format!("{root}/app:1");
    guest.run(&["pull", &name]);
    guest.daemon().stop();
    drop(guest);
    let guest = Node::start_on(directory.path(), &["--peer", &address]);
    let done = node_gc(&guest);
    assert!(done.cached > 8 * MB as u64 && done.freed == 0 && done.live == 0, "{done:?}");
    drop(guest);
    let guest = Node::start_on(directory.path(), &["--peer", &address, "--cache-limit", "3MB"]);
    let done = node_gc(&guest);
    assert!(done.cached <= 3 * MB as u64 && done.freed >= 5 * MB as u64, "{done:?}");
    // It is fetched again where it is wanted again.
    guest.run(&["pull", &name]);
}

#[derive(Debug)]
struct Done {
    freed: u64,
    live: u64,
    cached: u64,
}

fn node_gc(node: &Node) -> Done {
    let done = node.json(&["gc"]);
    Done {
        freed: number(&done, "freed_bytes"),
        live: number(&done, "live_bytes"),
        cached: number(&done, "cached_bytes"),
    }
}

/// Over a limit, or with less than the reserve free, pushes are refused and everything else goes on.
#[test]
fn without_room_pushes_are_refused_and_pulls_go_on() {
    let directory = TempDir::new().unwrap();
    let (layer, digest) = {
        let layer = noise("room", 0, 2 * MB);
        let mut node = Node::start_on(directory.path(), &[]);
        let digest = http::push_image(&node.http, "app", "1", std::slice::from_ref(&layer));
        node.daemon().stop();
        (layer, digest)
    };
    for (flag, size) in [("--reserve", "1000TB"), ("--store-limit", "1MiB")] {
        let node = Node::start_on(directory.path(), &[flag, size]);
        let status = http::push_blob(&node.http, "app", &noise(flag, 0, 2 * MB));
        assert_eq!(status, 507, "{flag}");
        let blob = http::get(&format!("http://{}/v2/app/blobs/{}", node.http, http::digest(&layer)));
        assert!(blob.status == 200 && blob.body == layer, "{flag}");
        let manifest = http::get(&format!("http://{}/v2/app/manifests/{digest}", node.http));
        assert_eq!(manifest.status, 200, "{flag}");
        node.json(&["gc"]);
    }
    // What is deleted makes room, so deleting needs none.
    let node = Node::start_on(directory.path(), &["--store-limit", "1MiB", "--history", "1"]);
    delete_image(&node, "app", &digest, std::slice::from_ref(&layer));
    assert!(node_gc(&node).freed > 2 * MB as u64);
    assert_eq!(http::push_blob(&node.http, "app", &noise("room", 2, MB / 2)), 201);
    drop(node);
    // The same with room again.
    let node = Node::start_on(directory.path(), &["--reserve", "0", "--store-limit", "1GB"]);
    assert_eq!(http::push_blob(&node.http, "app", &noise("room", 1, 2 * MB)), 201);
}

#[test]
fn an_upload_that_nobody_goes_on_with_is_given_up() {
    let node = Node::start(&["--upload-expiry", "1s"]);
    let start = http::post(&format!("http://{}/v2/app/blobs/uploads/", node.http));
    assert_eq!(start.status, 202);
    let url = format!("http://{}{}", node.http, start.headers["location"]);
    // Asking counts as going on with it: so not before it is due, and not often.
    std::thread::sleep(std::time::Duration::from_secs(13));
    wait_for("giving an upload up", || (http::get(&url).status == 404).then_some(()));
}

/// What cannot be a limit is refused before anything is touched, in one line.
#[test]
fn limits_that_are_none_are_refused() {
    let nowhere = TempDir::new().unwrap();
    let data = nowhere.path().join("data");
    for (flag, value) in
        [("--cache-limit", "50 gigs"), ("--reserve", "5M"), ("--history", "0"), ("--upload-expiry", "soon")]
    {
        let said = run_err(&mut Node::serve(&data, &[flag, value]));
        assert!(said.contains(flag) && said.contains(value) && !data.exists(), "{said}");
    }
    let config = nowhere.path().join("config.toml");
    std::fs::write(&config, "cache-limit = \"50 gigs\"\n").unwrap();
    let mut command: Command = Node::serve(&data, &[] as &[&str]);
    let said = run_err(command.env("CIDERY_CONFIG", &config));
    assert!(said.contains("line 1") && said.contains("50GiB") && !data.exists(), "{said}");
}
