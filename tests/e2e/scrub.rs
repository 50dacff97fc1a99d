//! Damage that is found before anybody needs the bytes, and repaired from whoever has them.

use crate::damage::find;
use cidery_tests::{Node, docker::noise, http, process::run_err};
use serde_json::Value;
use std::{fs, path::Path, process::Stdio};
use tempfile::TempDir;

const MB: usize = 1_000_000;

/// Damages a block that holds these bytes, while no node runs.
fn damage(data: &Path, needle: &[u8]) {
    let (file, at) = find(data, needle);
    let mut bytes = fs::read(&file).unwrap();
    bytes[at + needle.len() / 2] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Scrubs with damage that stays; what it says.
fn damaged(node: &Node) -> Value {
    let output = node.command(&["scrub", "--rate", "0", "--json"]).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list(value: &Value, field: &str) -> Vec<String> {
    let list = value[field].as_array().unwrap_or_else(|| panic!("{field} in {value}"));
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_whole_is_said_to_be() {
    let node = Node::start(&[]);
    http::push_image(&node.http, "app", "1", &[noise("whole", 0, 2 * MB)]);
    let done = node.json(&["scrub"]);
    assert!(done["blocks"].as_u64().unwrap() > 4 && done["bytes"].as_u64().unwrap() > 2 * MB as u64, "{done}");
    for field in ["repaired", "damaged", "images", "namespaces"] {
        assert!(list(&done, field).is_empty(), "{field} in {done}");
    }
    assert_eq!(done["removed"], 0);
    assert!(done["seconds"].as_f64().unwrap() >= 0.0);
    // The rate holds: 2 MB at 1 MB a second.
    let slow = node.json(&["scrub", "--rate", "1MB"]);
    assert!(slow["seconds"].as_f64().unwrap() > 1.0, "{slow}");
    assert!(node.run(&["scrub"]).contains("damaged    0 blocks"));
}

/// A list of images shows where the damage is, and all the others.
#[test]
fn a_damaged_manifest_hides_no_other_image() {
    let directory = TempDir::new().unwrap();
    let mut node = Node::start_on(directory.path(), &[]);
    let hit = http::push_image(&node.http, "hit", "1", &[noise("listed", 0, 1000)]);
    http::push_image(&node.http, "safe", "1", &[noise("listed", 1, 1000)]);
    let manifest = http::get(&format!("http://{}/v2/hit/manifests/1", node.http)).body;
    node.daemon().stop();
    damage(directory.path(), &manifest);
    node.restart();
    let output = node.command(&["images", "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let images: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| images.as_array().unwrap().iter().find(|image| image["name"] == name).unwrap().clone();
    assert!(of("safe:1")["damaged"].is_null() && of("safe:1")["bytes"].as_u64().unwrap() > 1000, "{images}");
    assert_eq!((of("hit:1")["digest"].as_str(), of("hit:1")["damaged"].is_string()), (Some(hit.as_str()), true));
    let output = node.command(&["images"]).output().unwrap();
    let (shown, warned) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && shown.contains("(damaged)") && shown.contains("safe:1"), "{shown}");
    assert!(warned.contains("hit:1") && warned.contains("cidery scrub"), "{warned}");
}

/// Nobody else has it: it is named, with its images, until somebody pushes it again.
#[test]
fn damaged_images_are_named_until_they_are_pushed_again() {
    let directory = TempDir::new().unwrap();
    let mut node = Node::start_on(directory.path(), &[]);
    let (hit, safe) = ([noise("hit", 0, 3 * MB), noise("hit", 1, 1000)], [noise("safe", 0, MB)]);
    http::push_image(&node.http, "team/app", "1", &hit);
    http::push_image(&node.http, "safe", "1", &safe);
    node.daemon().stop();
    damage(directory.path(), &hit[0][MB..MB + 1000]);
    node.restart();
    let done = damaged(&node);
    assert_eq!((list(&done, "damaged").len(), list(&done, "repaired").len()), (1, 0), "{done}");
    assert_eq!((list(&done, "images"), list(&done, "namespaces").len()), (vec!["team/app:1".to_owned()], 0), "{done}");
    let said = run_err(&mut node.command(&["scrub"]));
    assert!(said.contains("one block is damaged"), "{said}");
    // Clients ask first, and push what is said not to be there.
    let url = |name: &str| format!("http://{}/v2/{name}/blobs/{}", node.http, http::digest(&hit[0]));
    assert_eq!(http::head(&url("team/app")).status, 404);
    let mount = format!("http://{}/v2/new/blobs/uploads/?mount={}&from=team/app", node.http, http::digest(&hit[0]));
    assert_eq!(http::post(&mount).status, 202);
    assert_eq!(http::push_blob(&node.http, "elsewhere", &hit[0]), 201);
    assert_eq!(http::head(&url("team/app")).status, 200);
    let done = node.json(&["scrub"]);
    assert!(list(&done, "damaged").is_empty() && list(&done, "images").is_empty(), "{done}");
    let blob = http::get(&url("team/app"));
    assert!(blob.whole && blob.body == hit[0]);
}

/// What nobody knows to be damaged yet, too: what is acknowledged again is there.
#[test]
fn a_push_repairs_what_nobody_has_looked_at() {
    let directory = TempDir::new().unwrap();
    let mut node = Node::start_on(directory.path(), &[]);
    let layer = noise("unseen", 0, 3 * MB);
    http::push_image(&node.http, "app", "1", std::slice::from_ref(&layer));
    node.daemon().stop();
    damage(directory.path(), &layer[MB..MB + 1000]);
    node.restart();
    assert_eq!(http::push_blob(&node.http, "app", &layer), 201);
    let blob = http::get(&format!("http://{}/v2/app/blobs/{}", node.http, http::digest(&layer)));
    assert!(blob.whole && blob.body == layer);
    assert!(list(&node.json(&["scrub"]), "damaged").is_empty());
}

/// A pack that is gone takes blocks along of which nothing is left to be read.
#[test]
fn what_is_lost_is_named_until_it_is_pushed_again() {
    let directory = TempDir::new().unwrap();
    let mut node = Node::start_on(directory.path(), &[]);
    let (lost, safe) = (noise("lost", 0, 3 * MB), noise("lost", 1, 1000));
    http::push_image(&node.http, "team/app", "1", std::slice::from_ref(&lost));
    http::push_image(&node.http, "safe", "1", &[safe]);
    node.daemon().stop();
    fs::remove_file(find(directory.path(), &lost[MB..MB + 1000]).0).unwrap();
    node.restart();
    let done = damaged(&node);
    assert!(!list(&done, "damaged").is_empty(), "{done}");
    assert_eq!((list(&done, "images"), list(&done, "namespaces").len()), (vec!["team/app:1".to_owned()], 0), "{done}");
    let url = format!("http://{}/v2/team/app/blobs/{}", node.http, http::digest(&lost));
    assert_eq!(http::head(&url).status, 404);
    assert_eq!(http::push_blob(&node.http, "team/app", &lost), 201);
    assert!(list(&node.json(&["scrub"]), "damaged").is_empty());
    let blob = http::get(&url);
    assert!(blob.whole && blob.body == lost);
}

/// Owner and guest repair their copies from each other: the owner by a scrub, the guest by a pull too.
#[test]
fn peers_repair_each_other() {
    let directory = TempDir::new().unwrap();
    let (ours, theirs) = (directory.path().join("owner"), directory.path().join("guest"));
    let layer = noise("shared", 0, 3 * MB);
    let mut owner = Node::start_on(&ours, &[]);
    http::push_image(&owner.http, "app", "1", std::slice::from_ref(&layer));
    let name = format!("{}/app:1", owner.publish());
    let mut guest = Node::start_on(&theirs, &["--peer", &owner.address()]);
    guest.run(&["pull", &name]);
    guest.daemon().stop();
    owner.daemon().stop();
    damage(&ours, &layer[MB..MB + 1000]);
    damage(&theirs, &layer[2 * MB + 500_000..2 * MB + 501_000]);
    // Each listens elsewhere after a restart, and the guest is the one who dials.
    owner.restart();
    drop(guest);
    let guest = Node::start_on(&theirs, &["--peer", &owner.address()]);
    cidery_tests::process::wait_for("the two to meet", || (owner.json(&["status"])["peers"] == 1).then_some(()));
    let done = owner.json(&["scrub"]);
    assert_eq!((list(&done, "repaired").len(), list(&done, "damaged").len()), (1, 0), "{done}");
    let blob = http::get(&format!("http://{}/v2/app/blobs/{}", owner.http, http::digest(&layer)));
    assert!(blob.whole && blob.body == layer);
    let done = guest.json(&["scrub"]);
    assert_eq!((list(&done, "repaired").len(), list(&done, "damaged").len()), (1, 0), "{done}");
    assert_eq!(list(&owner.json(&["scrub"]), "repaired").len() + list(&guest.json(&["scrub"]), "repaired").len(), 0);
    drop(guest);
    damage(&theirs, &layer[2 * MB + 500_000..2 * MB + 501_000]);
    let guest = Node::start_on(&theirs, &["--peer", &owner.address()]);
    let pulled =
        http::get(&format!("http://{}/v2/{}/blobs/{}", guest.http, name.replace(":1", ""), http::digest(&layer)));
    assert!(pulled.whole && pulled.body == layer);
    assert_eq!(list(&guest.json(&["scrub"]), "damaged").len(), 0);
}
