//! podman and buildah, which share a store.

use super::{digest, image, layout};
use cidery_tests::{Client, Node, docker::noise, process::root};
use std::{fs, path::Path};

/// Both, with one store; `None` where one is missing.
struct Pair {
    podman: Client,
    buildah: Client,
    store: [String; 6],
}

impl Pair {
    fn start() -> Option<Self> {
        let (podman, buildah) = (Client::packaged("podman")?, Client::packaged("buildah")?);
        if !root() {
            return None;
        }
        let (root, run) = (podman.at("store"), podman.at("run"));
        let store = ["--root".into(), root, "--runroot".into(), run, "--storage-driver".into(), "vfs".into()];
        Some(Self { podman, buildah, store })
    }

    fn podman(&self, arguments: &[&str]) -> String {
        self.on_the_store(&self.podman, arguments)
    }

    fn buildah(&self, arguments: &[&str]) -> String {
        self.on_the_store(&self.buildah, arguments)
    }

    fn on_the_store(&self, client: &Client, arguments: &[&str]) -> String {
        let store = self.store.iter().map(String::as_str);
        client.run(&store.chain(arguments.iter().copied()).collect::<Vec<_>>())
    }

    /// Builds an image with one file, for an architecture.
    fn build(&self, name: &str, architecture: &str, content: &[u8]) {
        let file = self.buildah.at("payload");
        fs::write(&file, content).unwrap();
        let container = self.buildah(&["from", "--arch", architecture, "scratch"]);
        self.buildah(&["add", container.trim(), &file, "/payload"]);
        self.buildah(&["config", "--arch", architecture, container.trim()]);
        self.buildah(&["commit", "--rm", container.trim(), name]);
    }

    /// The file, in an image that is here.
    fn content(&self, name: &str) -> Vec<u8> {
        let mounted = self.podman(&["image", "mount", name]);
        let content = fs::read(Path::new(mounted.trim()).join("payload")).unwrap();
        self.podman(&["image", "unmount", name]);
        content
    }
}

#[test]
fn push_pull_and_search() {
    let Some(pair) = Pair::start() else { return };
    let node = Node::start(&[]);
    let content = noise("podman", 0, 1_500_000);
    let first = format!("{}/made/with-buildah:1", node.host());
    pair.build(&first, "amd64", &content);
    pair.buildah(&["push", "--tls-verify=false", &first]);
    assert_eq!(image(&node, "made/with-buildah", "1").len(), 3);

    pair.podman(&["rmi", "--all", "--force"]);
    pair.podman(&["pull", "--tls-verify=false", &first]);
    assert!(pair.content(&first) == content);
    let second = format!("{}/made/with-podman:1", node.host());
    pair.podman(&["tag", &first, &second]);
    pair.podman(&["push", "--tls-verify=false", &second]);
    pair.podman(&["rmi", "--all", "--force"]);
    // By digest, and by the other program.
    let by_digest = format!("{}@{}", second.trim_end_matches(":1"), digest(&node, "made/with-podman", "1").unwrap());
    pair.buildah(&["pull", "--tls-verify=false", &by_digest]);
    assert!(pair.content(&by_digest) == content);

    // Search is the catalog, and a list of tags.
    let found = pair.podman(&["search", "--tls-verify=false", &format!("{}/made", node.host())]);
    assert!(found.contains("/made/with-buildah") && found.contains("/made/with-podman"), "{found}");
    pair.podman(&["push", "--tls-verify=false", &by_digest, &format!("docker://{second}.1")]);
    let tags = pair.podman(&["search", "--tls-verify=false", "--list-tags", second.trim_end_matches(":1")]);
    assert!(["1", "1.1"].iter().all(|tag| tags.lines().any(|line| line.ends_with(tag))), "{tags}");
    assert!(node.run(&["images"]).contains("made/with-podman:1.1"));
}

#[test]
fn push_and_pull_a_list_of_platforms() {
    let Some(pair) = Pair::start() else { return };
    let node = Node::start(&[]);
    let list = format!("{}/made/for-all:1", node.host());
    pair.podman(&["manifest", "create", "list"]);
    for architecture in ["amd64", "arm64"] {
        pair.build(architecture, architecture, architecture.as_bytes());
        pair.podman(&[
            "manifest",
            "add",
            "--arch",
            architecture,
            "list",
            &format!("containers-storage:localhost/{architecture}"),
        ]);
    }
    pair.podman(&["manifest", "push", "--all", "--tls-verify=false", "list", &format!("docker://{list}")]);
    // An index, and two images of a config and a layer.
    assert_eq!(image(&node, "made/for-all", "1").len(), 7);
    for architecture in ["arm64", "amd64"] {
        pair.podman(&["rmi", "--all", "--force"]);
        pair.podman(&["pull", "--tls-verify=false", "--arch", architecture, &list]);
        assert_eq!(pair.content(&list), architecture.as_bytes());
    }
}

/// What others pushed, podman unpacks.
#[test]
fn podman_pulls_what_others_pushed() {
    let (Some(pair), Some(skopeo)) = (Pair::start(), Client::packaged("skopeo")) else { return };
    let node = Node::start(&[]);
    let (layout, pushed) = layout("others");
    let name = format!("{}/from/others:v1", node.host());
    super::skopeo::push(&skopeo, &layout, "v1", &name);
    pair.podman(&["pull", "--tls-verify=false", &name]);
    assert_eq!(pair.podman(&["inspect", "--format", "{{.Digest}}", &name]).trim(), pushed);
}
