//! skopeo.

use super::{digest, image, layout};
use cidery_tests::{Client, Node, image::Layout, process::text};

/// skopeo, which needs no policy of this machine's.
pub fn skopeo(client: &Client, arguments: &[&str]) -> String {
    client.run(&[&["--insecure-policy"], arguments].concat())
}

/// Pushes what a layout has under a tag, byte for byte.
pub fn push(client: &Client, layout: &Layout, tag: &str, to: &str) {
    let from = format!("oci:{}:{tag}", text(layout.path()));
    skopeo(
        client,
        &["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &format!("docker://{to}")],
    );
}

#[test]
fn copies_in_and_out_lists_and_deletes() {
    let Some(client) = Client::packaged("skopeo") else { return };
    let node = Node::start(&[]);
    let (layout, pushed) = layout("skopeo");
    let first = format!("docker://{}/team/app:v1", node.host());
    push(&client, &layout, "v1", first.trim_start_matches("docker://"));
    assert_eq!(digest(&node, "team/app", "v1"), Some(pushed.clone()));
    assert_eq!(image(&node, "team/app", "v1").len(), 4);

    // Out, and in again elsewhere.
    skopeo(&client, &["copy", "--preserve-digests", "--src-tls-verify=false", &first, "dir:out"]);
    let second = format!("docker://{}/team/copy:v2", node.host());
    skopeo(&client, &["copy", "--preserve-digests", "--dest-tls-verify=false", "dir:out", &second]);
    assert_eq!(image(&node, "team/copy", "v2"), image(&node, "team/app", "v1"));
    let seen = skopeo(&client, &["inspect", "--tls-verify=false", &second]);
    assert!(seen.contains(&pushed) && seen.contains("\"Layers\""), "{seen}");
    assert!(skopeo(&client, &["inspect", "--tls-verify=false", "--config", &second]).contains("echo skopeo"));

    // As Docker's own media types, and from one repository to another, where the layers already are.
    let docker = format!("docker://{}/team/app:v2s2", node.host());
    skopeo(&client, &["copy", "--format=v2s2", "--src-tls-verify=false", "--dest-tls-verify=false", &first, &docker]);
    let third = format!("docker://{}/team/mounted:v3", node.host());
    skopeo(&client, &["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &second, &third]);
    assert_eq!(image(&node, "team/mounted", "v3"), image(&node, "team/app", "v1"));

    let tags = skopeo(&client, &["list-tags", "--tls-verify=false", first.trim_end_matches(":v1")]);
    let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["v1", "v2s2"]));

    skopeo(&client, &["delete", "--tls-verify=false", &third]);
    assert_eq!(digest(&node, "team/mounted", &pushed), None);
    assert!(!node.run(&["images"]).contains("mounted"));
    assert_eq!(digest(&node, "team/copy", "v2"), Some(pushed));
}

/// `skopeo sync`, as mirrors are filled.
#[test]
fn synchronizes_a_repository() {
    let Some(client) = Client::packaged("skopeo") else { return };
    let node = Node::start(&[]);
    let mut layout = Layout::default();
    for tag in ["1.0", "1.1", "2.0"] {
        let image = layout.image("amd64", tag, &super::layers(tag));
        layout.tag(tag, &image);
        push(&client, &layout, tag, &format!("{}/team/app:{tag}", node.host()));
    }
    let from = format!("{}/team/app", node.host());
    let to = format!("{}/mirror", node.host());
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let sync = ["sync", "--preserve-digests", "--src=docker", "--dest=docker"];
    skopeo(&client, &[&sync[..], &insecure[..], &[from.as_str(), to.as_str()]].concat());
    for tag in ["1.0", "1.1", "2.0"] {
        assert_eq!(image(&node, "mirror/app", tag), image(&node, "team/app", tag), "{tag}");
    }
}
