//! crane.

use super::{digest, image, layers, layout};
use cidery_tests::{
    Client, Node,
    image::{archive, gzip},
    process::text,
};
use std::{fs, process::Command};

#[test]
fn pushes_pulls_copies_lists_and_deletes() {
    let Some(crane) = Client::built("crane") else { return };
    let node = Node::start(&[]);
    let (layout, pushed) = layout("crane");
    let first = format!("{}/team/app:v1", node.host());
    let said = crane.run(&["push", text(layout.path()), &first]);
    assert!(said.contains(&pushed), "{said}");
    assert_eq!(crane.run(&["digest", &first]).trim(), pushed);
    assert_eq!(image(&node, "team/app", "v1").len(), 4);
    // Every layer is fetched, unpacked and hashed.
    crane.run(&["validate", "--remote", &first]);

    // Pulled as a layout and as an archive, each of which can be pushed again.
    crane.run(&["pull", "--format=oci", &first, "layout"]);
    crane.run(&["pull", &first, "image.tar"]);
    for (form, tag) in [("layout", "oci"), ("image.tar", "docker")] {
        let name = format!("{}/team/again:{tag}", node.host());
        crane.run(&["push", form, &name]);
        crane.run(&["validate", "--remote", &name]);
    }
    assert_eq!(digest(&node, "team/again", "oci"), Some(pushed.clone()));
    let config = crane.json(&["config", &format!("{}/team/again:docker", node.host())]);
    assert_eq!(config["config"]["Cmd"][2], "echo crane");

    // Copied, which mounts, and tagged, which uploads nothing.
    let second = format!("{}/team/copy:v2", node.host());
    crane.run(&["copy", &first, &second]);
    crane.run(&["tag", &second, "stable"]);
    assert_eq!(image(&node, "team/copy", "stable"), image(&node, "team/app", "v1"));
    assert_eq!(crane.lines(&["catalog", &node.host()]), ["team/again", "team/app", "team/copy"]);
    let repository = second.trim_end_matches(":v2");
    assert_eq!(crane.lines(&["ls", repository]), ["stable", "v2"]);

    // A tag alone, then the image: which takes the other tag with it.
    crane.run(&["delete", &second]);
    assert_eq!(crane.lines(&["ls", repository]), ["stable"]);
    crane.run(&["delete", &format!("{repository}@{pushed}")]);
    assert_eq!(digest(&node, "team/copy", "stable"), None);
    let missing = crane.run_err(&["pull", &second, "nothing.tar"]);
    assert!(missing.contains("MANIFEST_UNKNOWN") || missing.contains("NAME_UNKNOWN"), "{missing}");
    assert_eq!(digest(&node, "team/app", "v1"), Some(pushed));
}

#[test]
fn appends_layers_and_makes_an_index() {
    let Some(crane) = Client::built("crane") else { return };
    let node = Node::start(&[]);
    let (layout, _) = layout("base");
    let base = format!("{}/team/app:base", node.host());
    crane.run(&["push", text(layout.path()), &base]);
    let added = archive(&[("srv/added", b"by crane")]);
    fs::write(crane.at("added.tar.gz"), gzip(&added)).unwrap();
    let more = format!("{}/team/app:more", node.host());
    crane.run(&["append", "--base", &base, "--new_layer", "added.tar.gz", "--new_tag", &more]);
    assert_eq!(image(&node, "team/app", "more").len(), layers("base").len() + 3);
    // The file system, as the layers give it one after the other.
    crane.run(&["export", &more, "all.tar"]);
    let mut tar = Command::new("tar");
    let added = cidery_tests::run(tar.args(["--extract", "--to-stdout", "--file", &crane.at("all.tar"), "srv/added"]));
    assert_eq!(added, "by crane");

    let index = format!("{}/team/app:index", node.host());
    crane.run(&["index", "append", "--manifest", &base, "--manifest", &more, "--tag", &index]);
    let children = crane.json(&["manifest", &index]);
    assert_eq!(children["manifests"].as_array().unwrap().len(), 2);
    crane.run(&["copy", &index, &format!("{}/team/other:index", node.host())]);
    assert_eq!(image(&node, "team/other", "index"), image(&node, "team/app", "index"));
}
