//! Images that are not all here, and registries that take only some of what is sent.

use cidery_tests::{
    Node,
    content::Content,
    http::{self, digest},
    process::{run_err, wait_for},
};
use tempfile::TempDir;

/// An image with two layers, of which only the first is pushed; its manifest, and the digest of the other.
fn push_sparse(node: &Node) -> (Vec<u8>, String) {
    let (config, here, missing) = (b"{}".to_vec(), b"here".to_vec(), b"missing".to_vec());
    for blob in [&config, &here] {
        assert_eq!(http::push_blob(&node.http, "app", blob), 201);
    }
    let layers: Vec<_> = [&here, &missing].into_iter().map(|layer| (digest(layer), layer.len())).collect();
    (http::manifest((&digest(&config), config.len()), &layers), digest(&missing))
}

#[test]
fn an_incomplete_image_is_shown_and_never_passed_on_as_whole() {
    let mut node = Node::start(&[]);
    let (manifest, missing) = push_sparse(&node);
    assert_eq!(http::push_manifest(&node.http, "app", "1", &manifest).status, 201);
    assert_eq!(node.json(&["images"])[0]["missing"], serde_json::json!([missing]));
    let shown = node.run(&["images"]);
    assert!(shown.contains("(incomplete: 1 missing)"), "{shown}");
    let directory = TempDir::new().unwrap();
    let dest = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for format in ["oci", "docker", "registry"] {
        let said = run_err(&mut node.command(&["export", "app:1", &dest(format), "--format", format]));
        assert!(said.contains(&missing), "{format}: {said}");
    }
    for command in [&["pull", "app:1"][..], &["pin", "add", "app:1"]] {
        let said = run_err(&mut node.command(command));
        assert!(said.contains(&missing) && said.contains("incomplete"), "{command:?}: {said}");
    }
    // It is public like any other, as far as it goes.
    let root = node.publish();
    let peer = Node::with_peer(&node.address());
    let at = |what: &str| format!("http://{}/v2/{root}/app/{what}", peer.http);
    assert_eq!(http::get(&at("manifests/1")).body, manifest);
    assert_eq!(http::get(&at(&format!("blobs/{}", digest(b"here")))).body, b"here");
    assert_eq!(http::get(&at(&format!("blobs/{missing}"))).status, 404);

    // The rest comes after a restart and, as it is named, outlives a collection of what is not.
    node.daemon().stop();
    node.restart();
    assert_eq!(http::push_blob(&node.http, "app", b"missing"), 201);
    assert_eq!(http::push_blob(&node.http, "app", b"nobody's"), 201);
    node.run(&["gc", "--all"]);
    let blob = |digest: &str| http::get(&format!("http://{}/v2/app/blobs/{digest}", node.http));
    assert_eq!(blob(&missing).body, b"missing");
    assert_eq!(blob(&digest(b"nobody's")).status, 404);
    assert_eq!(node.json(&["images"])[0]["missing"], serde_json::json!([]));
    node.run(&["export", "app:1", &dest("whole")]);
}

/// An image's manifest that names one layer which is not pushed.
fn name(node: &Node, repository: &str, layer: &[u8]) {
    assert_eq!(http::push_blob(&node.http, repository, b"{}"), 201);
    let manifest = http::manifest((&digest(b"{}"), 2), &[(digest(layer), layer.len())]);
    assert_eq!(http::push_manifest(&node.http, repository, "1", &manifest).status, 201);
}

#[test]
fn what_is_missing_comes_from_whoever_has_it_by_its_digest_alone() {
    let (large, private) = (Content::new("1", (5 << 20) + 3).bytes(), Content::new("2", 3 << 20).bytes());
    let origin = Node::start(&[]);
    http::push_image(&origin.http, "theirs", "1", std::slice::from_ref(&large));
    origin.publish();
    // Pushed and in no image: it is nobody's business.
    assert_eq!(http::push_blob(&origin.http, "theirs", &private), 201);
    let node = Node::with_peer(&origin.address());
    let blob = |name: &str, data: &[u8]| format!("http://{}/v2/{name}/blobs/{}", node.http, digest(data));
    name(&node, "mine", &large);
    name(&node, "other", &private);
    assert_eq!(http::head(&blob("mine", &large)).status, 404);
    let got = http::get(&blob("mine", &large));
    assert_eq!((got.status, got.whole), (200, true));
    assert!(got.body == large);
    assert_eq!(http::get(&blob("other", &private)).status, 404);
    let missing = |name: &str| {
        let images = node.json(&["images"]);
        let image = images.as_array().unwrap().iter().find(|image| image["name"] == format!("{name}:1")).unwrap();
        image["missing"].as_array().unwrap().len()
    };
    assert_eq!((missing("mine"), missing("other")), (0, 1));
    // It is this node's own from now on.
    drop(origin);
    node.run(&["gc", "--all"]);
    assert!(http::get(&blob("mine", &large)).body == large);
    let part = http::get_with(&blob("mine", &large), &[("range", "bytes=5242880-")]);
    assert_eq!((part.status, &part.body[..]), (206, &large[5 << 20..]));
}

#[test]
fn what_is_not_published_is_found_by_no_digest() {
    let large = Content::new("3", 2 << 20).bytes();
    let origin = Node::start(&[]);
    http::push_image(&origin.http, "theirs", "1", std::slice::from_ref(&large));
    let node = Node::with_peer(&origin.address());
    name(&node, "mine", &large);
    let blob = format!("http://{}/v2/mine/blobs/{}", node.http, digest(&large));
    assert_eq!(http::get(&blob).status, 404);
    origin.publish();
    assert!(http::get(&blob).body == large);
}

/// Who has it is nobody's peer, and is found by the record of the digest.
#[test]
fn a_digest_is_found_over_a_third_node() {
    let large = Content::new("4", 2 << 20).bytes();
    let middle = Node::start(&[]);
    let origin = Node::with_peer(&middle.address());
    http::push_image(&origin.http, "theirs", "1", std::slice::from_ref(&large));
    origin.publish();
    let node = Node::with_peer(&middle.address());
    name(&node, "mine", &large);
    let blob = format!("http://{}/v2/mine/blobs/{}", node.http, digest(&large));
    // The record may take a moment to get there.
    wait_for("what the record leads to", || (http::get(&blob).body == large).then_some(()));
}

#[test]
fn what_a_registry_takes_is_set_by_flags() {
    let node = Node::start(&["--require-references"]);
    let (manifest, missing) = push_sparse(&node);
    let refused = http::push_manifest(&node.http, "app", "1", &manifest);
    assert_eq!((refused.status, refused.code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(refused.json()["errors"][0]["detail"], missing);
    assert_eq!(http::push_blob(&node.http, "app", b"missing"), 201);
    assert_eq!(http::push_manifest(&node.http, "app", "1", &manifest).status, 201);

    let node = Node::start(&["--deletes=false"]);
    http::push_image(&node.http, "app", "1", &[]);
    assert_eq!(http::delete(&format!("http://{}/v2/app/manifests/1", node.http)).status, 405);

    let node = Node::start(&["--read-only"]);
    let refused = http::open_upload(&node.http, "app").unwrap_err();
    assert_eq!((refused.status, refused.code().as_str()), (405, "UNSUPPORTED"));
    assert_eq!(http::get(&format!("http://{}/v2/", node.http)).status, 200);
    let said = run_err(&mut Node::serve(node.data(), &["--require-platforms", "linux"]));
    assert!(said.contains("linux/amd64"), "{said}");
}
