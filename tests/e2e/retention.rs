//! Tags that never change and tags that go, by the configuration file of a real node.

use cidery_tests::{
    Node,
    docker::noise,
    http,
    process::{run_err, text},
};
use serde_json::Value;
use std::{fs, path::Path, process::Command, thread, time::Duration};
use tempfile::TempDir;

const MB: usize = 1_000_000;

fn configured(directory: &Path, rules: &str) -> String {
    let path = directory.join("config.toml");
    fs::write(&path, rules).unwrap();
    text(&path).to_owned()
}

/// An image that nothing else shares anything with; its manifest's digest.
fn push(node: &Node, repository: &str, tag: &str) -> String {
    // Each at a moment of its own.
    thread::sleep(Duration::from_millis(3));
    http::push_image(&node.http, repository, tag, &[noise(&format!("{repository}:{tag}"), 0, MB)])
}

fn status(node: &Node, repository: &str, reference: &str) -> u16 {
    http::get(&format!("http://{}/v2/{repository}/manifests/{reference}", node.http)).status
}

fn tags(node: &Node, repository: &str) -> Vec<String> {
    let list = http::get(&format!("http://{}/v2/{repository}/tags/list", node.http)).json();
    serde_json::from_value(list["tags"].clone()).unwrap()
}

fn names(done: &Value) -> Vec<&str> {
    done["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect()
}

const RULES: &str = r#"
history = 1

[[tags]]
repositories = ["team/**"]
tags = ["v*", "!v*-rc*"]
immutable = true

[[retention]]
repositories = ["ci/**"]
tags = ["*"]
keep-last = 2
keep = ["latest"]
"#;

#[test]
fn tags_go_by_when_they_were_pushed_whatever_happens_in_between() {
    let directory = TempDir::with_prefix("cidery-retention-").unwrap();
    let config = configured(directory.path(), RULES);
    let mut node = Node::start(&["--config", &config]);
    let digests: Vec<String> = ["a", "b", "c", "latest"].iter().map(|tag| push(&node, "ci/app", tag)).collect();
    // Pushed again as it was, it is new; and of that no state is kept but the last.
    push(&node, "ci/app", "a");
    // A backup and a node without its index know it too.
    let (backup, restored) = (directory.path().join("backup"), directory.path().join("restored"));
    node.run(&["backup", text(&backup)]);
    assert!(
        Command::new("cp").args(["-a", "--sparse=always", text(&backup), text(&restored)]).status().unwrap().success()
    );
    for lost_index in [false, true] {
        node.daemon().stop();
        if lost_index {
            fs::remove_dir_all(node.data().join("index")).unwrap();
        }
        node.restart();
        let dry = node.json(&["retention", "--dry-run"]);
        assert_eq!(names(&dry), ["ci/app:b"], "{dry}");
        assert_eq!((&dry["dry_run"], &dry["covered"]), (&true.into(), &4.into()));
        assert_eq!(dry["tags"][0]["digest"], digests[1]);
        assert_eq!(dry["manifests"][0]["digest"], digests[1]);
        assert_eq!(tags(&node, "ci/app").len(), 4);
    }
    node.daemon().kill();
    node.restart();
    let said = node.run(&["retention", "--dry-run"]);
    assert!(said.contains("ci/app:b ") && said.contains("would go   1 tag, 1 manifest"), "{said}");
    let said = node.run(&["retention"]);
    assert!(said.contains("ci/app:b ") && said.contains("removed    1 tag, 1 manifest"), "{said}");
    assert_eq!(tags(&node, "ci/app"), ["a", "c", "latest"]);
    assert_eq!(status(&node, "ci/app", &digests[1]), 404);
    assert!(names(&node.json(&["retention"])).is_empty());
    // Its layers go as after any delete.
    let done = node.json(&["gc", "--all"]);
    let freed = done["freed_bytes"].as_u64().unwrap();
    assert!((MB as u64..MB as u64 * 3 / 2).contains(&freed), "{done}");

    let copy = Node::start_on(&restored, &["--config", &config]);
    assert_eq!(names(&copy.json(&["retention"])), ["ci/app:b"]);
    assert_eq!(tags(&copy, "ci/app"), ["a", "c", "latest"]);
}

#[test]
fn the_node_does_it_by_itself_and_tells() {
    let directory = TempDir::with_prefix("cidery-retention-").unwrap();
    let audit = directory.path().join("audit.jsonl");
    let config = configured(
        directory.path(),
        "[[retention]]\nrepositories = [\"ci/*\"]\ntags = [\"*\"]\nkeep-younger = \"1s\"\n",
    );
    let node = Node::start(&["--config", &config, "--audit-log", text(&audit)]);
    push(&node, "ci/app", "old");
    push(&node, "team/app", "old");
    thread::sleep(Duration::from_millis(1100));
    push(&node, "ci/app", "new");
    let done = node.json(&["retention"]);
    assert_eq!(names(&done), ["ci/app:old"]);
    assert_eq!((tags(&node, "ci/app"), tags(&node, "team/app")), (vec!["new".to_owned()], vec!["old".to_owned()]));
    let told = || {
        let text = fs::read_to_string(&audit).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["via"] == "retention").collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    while told().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(20));
    }
    let told = told();
    assert_eq!((told[0]["action"].as_str(), told[0]["kind"].as_str()), (Some("delete"), Some("tag")));
    assert_eq!((&told[0]["name"], &told[0]["tags"][0]), (&"ci/app".into(), &"old".into()));
    assert_eq!((told[1]["kind"].as_str(), &told[1]["digest"]), (Some("manifest"), &done["manifests"][0]["digest"]));
}

#[test]
fn an_immutable_tag_is_moved_by_nobody() {
    let directory = TempDir::with_prefix("cidery-retention-").unwrap();
    let config = configured(directory.path(), RULES);
    let mut node = Node::start(&["--config", &config]);
    let first = push(&node, "team/app", "v1");
    let second = push(&node, "other", "v1");
    let manifest = http::get(&format!("http://{}/v2/other/manifests/v1", node.http)).body;
    let (layout, again) = (directory.path().join("layout"), directory.path().join("again"));
    node.run(&["export", "other:v1", text(&layout)]);
    node.run(&["export", "team/app:v1", text(&again)]);
    for _ in 0..2 {
        let refused = http::push_manifest(&node.http, "team/app", "v1", &manifest);
        assert_eq!((refused.status, refused.code().as_str()), (400, "TAG_INVALID"));
        let said = run_err(&mut node.command(&["import", text(&layout), "--as", "team/app:v1"]));
        assert!(said.contains("cannot be overwritten because the tag is immutable"), "{said}");
        for reference in ["v1", &first] {
            let refused = http::delete(&format!("http://{}/v2/team/app/manifests/{reference}", node.http));
            assert_eq!(refused.status, 405);
        }
        // What it stands for already may come again.
        node.run(&["import", text(&again), "--as", "team/app:v1"]);
        node.restart();
    }
    let found = http::get(&format!("http://{}/v2/team/app/manifests/v1", node.http));
    assert_eq!(found.headers["docker-content-digest"], first);
    node.run(&["import", text(&layout), "--as", "team/app:v1-rc1"]);
    assert_eq!(status(&node, "team/app", &second), 200);
    assert!(node.run(&["purge", &first]).contains("team/app"));
    assert_eq!(tags(&node, "team/app"), ["v1-rc1"]);
}

#[test]
fn without_rules_nothing_goes_and_wrong_ones_stop_the_start() {
    let node = Node::start(&[]);
    push(&node, "ci/app", "a");
    assert!(node.run(&["retention"]).contains("[[retention]]"));
    assert_eq!(node.json(&["retention", "--dry-run"])["rules"], false);
    let directory = TempDir::with_prefix("cidery-retention-").unwrap();
    let data = directory.path().join("data");
    let config = configured(directory.path(), "[[retention]]\nrepositories = [\"ci/**\"]\ntags = [\"*\"]\n");
    let said = run_err(&mut Node::serve(&data, &["--config", &config]));
    assert!(said.contains("keep-last") && !data.exists(), "{said}");
}
