//! oras: artifacts that are no images, and what refers to them.

use super::{digest, image};
use cidery_tests::{Client, Node, docker::noise, http};
use serde_json::{Value, json};
use std::fs;

/// The artifact types of what refers to a manifest, as oras sees it.
fn referrers(oras: &Client, name: &str) -> Vec<String> {
    let found = oras.json(&["discover", "--plain-http", "--format", "json", name]);
    let found = found["referrers"].as_array().cloned().unwrap_or_default();
    let mut types: Vec<_> = found.iter().map(|one| one["artifactType"].as_str().unwrap().to_owned()).collect();
    types.sort();
    types
}

#[test]
fn pushes_attaches_discovers_copies_and_deletes() {
    let Some(oras) = Client::built("oras") else { return };
    let node = Node::start(&[]);
    let content = noise("oras", 0, 1_200_000);
    fs::write(oras.at("model.bin"), &content).unwrap();
    fs::write(oras.at("empty"), "").unwrap();
    fs::write(oras.at("bill.json"), "{\"bill\": 1}").unwrap();
    fs::write(oras.at("note.txt"), "a note").unwrap();
    let first = format!("{}/team/model:v1", node.host());
    let kind = "application/vnd.test.model";
    oras.run(&["push", "--plain-http", "--artifact-type", kind, &first, "model.bin", "empty:text/plain"]);
    let pushed = digest(&node, "team/model", "v1").unwrap();
    // An empty config, the file, and one without a byte.
    assert_eq!(image(&node, "team/model", "v1").len(), 4);

    for (file, kind) in [("bill.json", "application/vnd.test.bill"), ("note.txt", "application/vnd.test.note")] {
        oras.run(&["attach", "--plain-http", "--artifact-type", kind, &first, file]);
    }
    assert_eq!(referrers(&oras, &first), ["application/vnd.test.bill", "application/vnd.test.note"]);
    // It asked the API for them: no tag stands in for it.
    assert_eq!(oras.lines(&["repo", "tags", "--plain-http", first.trim_end_matches(":v1")]), ["v1"]);
    let url = format!("http://{}/v2/team/model/referrers/{pushed}", node.http);
    let filtered = http::get(&format!("{url}?artifactType=application/vnd.test.note"));
    assert_eq!(filtered.headers["oci-filters-applied"], "artifactType");
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);

    oras.run(&["pull", "--plain-http", "--output", "pulled", &first]);
    assert!(fs::read(oras.at("pulled/model.bin")).unwrap() == content);
    assert_eq!(fs::read(oras.at("pulled/empty")).unwrap(), b"");

    // With everything that refers to it, to elsewhere here and to a directory and back.
    let second = format!("{}/copied/model:v2", node.host());
    let plain = ["--from-plain-http", "--to-plain-http"];
    oras.run(&[&["copy", "--recursive"], &plain[..], &[first.as_str(), second.as_str()]].concat());
    oras.run(&["copy", "--recursive", "--from-plain-http", "--to-oci-layout", &first, "kept:v1"]);
    let third = format!("{}/restored/model:v3", node.host());
    oras.run(&["copy", "--recursive", "--to-plain-http", "--from-oci-layout", "kept:v1", &third]);
    for (name, repository) in [(&second, "copied/model"), (&third, "restored/model")] {
        assert_eq!(referrers(&oras, name), referrers(&oras, &first), "{name}");
        assert_eq!(digest(&node, repository, &pushed), Some(pushed.clone()));
    }
    assert_eq!(
        oras.lines(&["repo", "ls", "--plain-http", &node.host()]),
        ["copied/model", "restored/model", "team/model"]
    );

    // What refers to it goes by its digest, and is found no more; then itself.
    let found = http::get(&url).json();
    let note: Vec<&Value> = found["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["artifactType"] != "application/vnd.test.bill")
        .collect();
    let note = format!("{}@{}", first.trim_end_matches(":v1"), note[0]["digest"].as_str().unwrap());
    oras.run(&["manifest", "delete", "--plain-http", "--force", &note]);
    assert_eq!(referrers(&oras, &first), ["application/vnd.test.bill"]);
    oras.run(&["manifest", "delete", "--plain-http", "--force", &first]);
    assert_eq!(digest(&node, "team/model", "v1"), None);
    assert_eq!(referrers(&oras, &second).len(), 2);
}

#[test]
fn blobs_tags_and_an_index() {
    let Some(oras) = Client::built("oras") else { return };
    let node = Node::start(&[]);
    let repository = format!("{}/team/parts", node.host());
    let content = noise("oras-blob", 0, 70_000);
    fs::write(oras.at("blob"), &content).unwrap();
    let name = format!("{repository}@{}", http::digest(&content));
    oras.run(&["blob", "push", "--plain-http", &name, "blob"]);
    oras.run(&["blob", "fetch", "--plain-http", "--output", "fetched", &name]);
    assert!(fs::read(oras.at("fetched")).unwrap() == content);
    oras.run(&["blob", "delete", "--plain-http", "--force", &name]);
    oras.run_err(&["blob", "fetch", "--plain-http", "--output", "again", &name]);

    for tag in ["one", "two"] {
        fs::write(oras.at(tag), tag).unwrap();
        oras.run(&["push", "--plain-http", "--artifact-type", "text/plain", &format!("{repository}:{tag}"), tag]);
    }
    oras.run(&["tag", "--plain-http", &format!("{repository}:one"), "latest", "1.0"]);
    oras.run(&["manifest", "index", "create", "--plain-http", &format!("{repository}:both"), "one", "two"]);
    assert_eq!(oras.lines(&["repo", "tags", "--plain-http", &repository]), ["1.0", "both", "latest", "one", "two"]);
    let index = oras.json(&["manifest", "fetch", "--plain-http", &format!("{repository}:both")]);
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    assert_eq!(index["manifests"][0]["digest"], json!(digest(&node, "team/parts", "1.0")));
    // An index, two manifests, the empty config that both have, and two files.
    assert_eq!(image(&node, "team/parts", "both").len(), 6);
}
