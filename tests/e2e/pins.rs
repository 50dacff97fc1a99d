//! Pins: what is kept, for how long, and what that changes for others.

use cidery_tests::{
    Kubo, Node,
    docker::noise,
    http,
    process::{Daemon, run_err, wait_for},
};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

const MB: usize = 1_000_000;

/// A node that publishes two images of two layers each.
fn owner() -> (Node, String, String) {
    let owner = Node::start(&[]);
    for image in ["app", "other"] {
        http::push_image(&owner.http, image, "1", &layers(image));
    }
    let (root, address) = (owner.publish(), owner.address());
    (owner, root, address)
}

fn layers(image: &str) -> [Vec<u8>; 2] {
    [noise(image, 0, 3 * MB), noise(image, 1, 2 * MB)]
}

/// Pulls an image from a node by HTTP; whether all of it came.
fn pulls(node: &Node, image: &str) -> bool {
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let get = |what: &str| http::get(&format!("http://{}/v2/{repository}/{what}", node.http));
    let manifest = get(&format!("manifests/{tag}"));
    let parts = manifest.json();
    let Some(layers) = parts["layers"].as_array() else { return false };
    layers.iter().chain([&parts["config"]]).all(|part| {
        let digest = part["digest"].as_str().unwrap();
        let blob = get(&format!("blobs/{digest}"));
        blob.status == 200 && blob.whole && http::digest(&blob.body) == digest
    })
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} in {value}"))
}

fn names(node: &Node) -> Vec<String> {
    let pins = node.json(&["pin", "ls"]);
    pins.as_array().unwrap().iter().map(|pin| pin["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_pinned_image_outlasts_the_cache_the_peer_and_the_index() {
    let (owner, root, address) = owner();
    let directory = TempDir::new().unwrap();
    let mut guest = Node::start_on(directory.path(), &["--peer", &address, "--cache-limit", "1MB"]);
    let (app, other) = (format!("{root}/app:1"), format!("{root}/other:1"));
    assert!(names(&guest).is_empty() && guest.run(&["pin", "ls"]).contains("cidery pin add"));
    let pinned = guest.json(&["pin", "add", &app]);
    assert_eq!((pinned["name"].as_str(), pinned["root"].as_str()), (Some(&*app), Some(&*root)));
    assert!(number(&pinned, "bytes") > 5 * MB as u64 && !pinned["pinned"].as_str().unwrap().is_empty(), "{pinned}");
    assert_eq!(pinned["kept"].as_array().unwrap().len(), 3, "{pinned}");
    assert!(!pinned["blocks"].as_array().unwrap().is_empty() && pinned["purged"] == serde_json::json!([]));
    assert_eq!(names(&guest), [&*app]);
    let shown = guest.run(&["pin", "ls"]);
    assert!(shown.contains(&app) && shown.contains("MiB"), "{shown}");
    // The other one passes through a cache that is smaller than it.
    assert!(pulls(&guest, &other));
    let done = guest.json(&["gc"]);
    assert!(number(&done, "cached_bytes") <= MB as u64 && number(&done, "live_bytes") > 5 * MB as u64, "{done}");
    let usage = guest.json(&["du"]);
    assert!(number(&usage, "pins") == 1 && number(&usage, "pinned_bytes") > 5 * MB as u64, "{usage}");
    assert_eq!(number(&usage, "history_blocks"), 0);
    assert!(guest.run(&["du"]).contains("(1 pin)"));
    // A copy keeps it as well.
    let copy = TempDir::new().unwrap();
    let copy = copy.path().join("copy");
    guest.run(&["backup", copy.to_str().unwrap()]);
    drop(owner);
    guest.daemon().stop();
    fs::remove_dir_all(directory.path().join("index")).unwrap();
    guest.restart();
    assert_eq!(number(&guest.json(&["gc"]), "cached_bytes") / MB as u64, 0);
    assert!(pulls(&guest, &app));
    assert_eq!(names(&guest), [&*app]);
    let restored = Node::start_on(&copy, &["--cache-limit", "1MB"]);
    restored.run(&["gc"]);
    assert!(pulls(&restored, &app) && names(&restored) == [&*app]);
    // A purge finds what is pinned by its digest.
    drop(restored);
    let restored = Node::start_on(&copy, &["--cache-limit", "1MB"]);
    let done = restored.json(&["purge", &http::digest(&layers("app")[0])]);
    assert!(number(&done, "freed_bytes") >= 3 * MB as u64 && done["pins"] == serde_json::json!([app]), "{done}");
    assert!(restored.run(&["pin", "ls"]).contains("1 file was purged") && !pulls(&restored, &app));
    // Taken back, it is a cache again.
    assert_eq!(guest.json(&["pin", "rm", &app])["name"].as_str(), Some(&*app));
    assert!(number(&guest.json(&["gc"]), "freed_bytes") > 4 * MB as u64);
    assert!(run_err(&mut guest.command(&["pin", "rm", &app])).contains("is not pinned"));
}

#[test]
fn a_whole_registry_is_pinned_by_its_root() {
    let (owner, root, address) = owner();
    let guest = Node::start(&["--peer", &address, "--cache-limit", "1MB"]);
    let said = guest.run(&["pin", "add", &root]);
    assert!(said.contains(&root) && said.starts_with("pinned"), "{said}");
    guest.run(&["gc"]);
    drop(owner);
    assert!(pulls(&guest, &format!("{root}/app:1")) && pulls(&guest, &format!("{root}/other:1")));
    assert_eq!(names(&guest), [root]);
}

#[test]
fn a_directory_of_another_ipfs_node_is_pinned() {
    let Some(kubo) = Kubo::start() else { return };
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("inner")).unwrap();
    let content = noise("kubo", 0, 3 * MB);
    fs::write(directory.path().join("inner/file"), &content).unwrap();
    let root = kubo.add(directory.path());
    let node = Node::start(&["--peer", &kubo.address(), "--cache-limit", "1MB"]);
    let pinned = node.json(&["pin", "add", &root]);
    assert!(number(&pinned, "bytes") > 3 * MB as u64, "{pinned}");
    drop(kubo);
    node.run(&["gc"]);
    let out = directory.path().join("out");
    node.run(&["export", &root, out.to_str().unwrap()]);
    assert_eq!(fs::read(out.join("inner/file")).unwrap(), content);
}

/// Interrupted, it leaves no half pin; and what cannot be had is none.
#[test]
fn what_is_not_whole_is_not_pinned() {
    let (owner, root, address) = owner();
    let guest = Node::with_peer(&address);
    let nobodys = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let mut adding = Daemon::start(&mut guest.command(&["pin", "add", nobodys]));
    std::thread::sleep(std::time::Duration::from_millis(700));
    // As Ctrl-C does.
    adding.stop();
    assert!(names(&guest).is_empty());
    let said = run_err(&mut guest.command(&["pin", "add", &format!("{root}/absent:1")]));
    assert!(said.contains("absent"), "{said}");
    let said = run_err(&mut guest.command(&["pin", "add", "localhost:5000/app:1"]));
    assert!(said.contains("leave it out"), "{said}");
    assert!(names(&guest).is_empty());
    drop(owner);
}

#[test]
fn a_delete_leaves_what_is_pinned_and_a_purge_does_not() {
    let node = Node::start(&["--history", "1"]);
    let digest = http::push_image(&node.http, "app", "1", &layers("app"));
    assert_eq!(node.json(&["pin", "add", "app:1"])["name"], "app:1");
    for path in [format!("manifests/{digest}"), format!("blobs/{}", http::digest(&layers("app")[1]))] {
        assert_eq!(http::delete(&format!("http://{}/v2/app/{path}", node.http)).status, 202);
    }
    let before = number(&node.json(&["gc", "--all"]), "live_bytes");
    assert!(before > 5 * MB as u64 && !pulls(&node, "app:1"));
    let said = run_err(&mut node.command(&["pin", "add", "app:1"]));
    assert!(said.contains("app"), "{said}");
    let done = node.json(&["purge", &http::digest(&layers("app")[0])]);
    assert!(number(&done, "freed_bytes") >= 3 * MB as u64 && done["pins"] == serde_json::json!(["app:1"]), "{done}");
    let left = number(&node.json(&["gc"]), "live_bytes");
    assert!((2 * MB as u64..3 * MB as u64).contains(&left), "{left}");
    assert!(node.run(&["pin", "ls"]).contains("1 file was purged"));
    assert_eq!(node.json(&["pin", "ls"])[0]["purged"].as_array().unwrap().len(), 1);
    node.run(&["pin", "rm", "app:1"]);
    wait_for("the rest to go", || {
        node.json(&["gc", "--all"]);
        (number(&node.json(&["du"]), "live_bytes") < MB as u64).then_some(())
    });
}
