//! A copy of a running node, which starts.

use cidery_tests::{Node, docker::noise, http, process::run_err, process::text};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

fn status(node: &Node, path: &str) -> u16 {
    http::get(&format!("http://{}/v2/app/manifests/{path}", node.http)).status
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args(["-a", "--sparse=always", text(from), text(to)]).status().unwrap().success());
}

#[test]
fn a_backup_starts_with_all_that_was_acknowledged_before_it() {
    let node = Node::start(&[]);
    let home = TempDir::with_prefix("cidery-backup-").unwrap();
    let (backup, restored) = (home.path().join("backup"), home.path().join("restored"));
    let layer = noise("backup", 0, 3_000_000);
    http::push_image(&node.http, "app", "1", std::slice::from_ref(&layer));
    let first = node.json(&["backup", text(&backup)]);
    assert!(first["copied_bytes"].as_u64().unwrap() > layer.len() as u64, "{first}");
    http::push_image(&node.http, "app", "2", &[b"another".to_vec()]);
    // Only what came since is copied again.
    let second = node.json(&["backup", text(&backup)]);
    assert!(second["copied_bytes"].as_u64().unwrap() < 1_000_000, "{second}");
    http::push_image(&node.http, "app", "3", &[b"later".to_vec()]);

    copy(&backup, &restored);
    let id = |node: &Node| node.json(&["status"])["peer_id"].as_str().unwrap().to_owned();
    let identity = id(&node);
    drop(node);
    let again = Node::start_on(&restored, &[]);
    assert_eq!(id(&again), identity);
    assert_eq!(["1", "2", "3"].map(|tag| status(&again, tag)), [200, 200, 404]);
    let digest = http::digest(&layer);
    assert!(http::get(&format!("http://{}/v2/app/blobs/{digest}", again.http)).body == layer);
}

#[test]
fn a_directory_with_anything_else_is_refused_and_left_alone() {
    let node = Node::start(&[]);
    let home = TempDir::with_prefix("cidery-backup-").unwrap();
    fs::write(home.path().join("diary"), "dear diary").unwrap();
    let refused = |directory: &Path| run_err(&mut node.command(&["backup", text(directory)]));
    let said = refused(home.path());
    assert!(said.contains("diary") && said.lines().count() == 1, "{said}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let said = refused(&node.data().join("inside"));
    assert!(said.contains("inside the store itself"), "{said}");
}
