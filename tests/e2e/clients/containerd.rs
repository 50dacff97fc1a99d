//! containerd, with `ctr`; and as kubelets use it, with the node as a mirror.

use super::{digest, image, layout, layout_that_runs};
use cidery_tests::{
    Client, Containerd, Node,
    image::{Layer, Layout},
    process::text,
    stock::{Dns, records},
};
use std::fs;

#[test]
fn pushes_pulls_and_runs() {
    let Some(containerd) = Containerd::start() else { return };
    let Some((layout, pushed)) = layout_that_runs("containerd") else { return };
    let node = Node::start(&[]);
    let archive = containerd.directory().join("image.tar");
    layout.archive(&archive);
    let name = format!("{}/team/app:v1", node.host());
    let base = name.trim_end_matches(":v1");
    containerd.run(&["images", "import", "--base-name", base, text(&archive)]);
    containerd.run(&["images", "push", "--plain-http", &name]);
    assert_eq!(digest(&node, "team/app", "v1"), Some(pushed.clone()));
    assert_eq!(image(&node, "team/app", "v1").len(), 5);

    containerd.forget();
    containerd.run(&["images", "pull", "--plain-http", &name]);
    assert_eq!(containerd.digest(&name), Some(pushed.clone()));
    assert_eq!(containerd.greeting(&name), "containerd");
    // What it knows to be in one repository it has mounted into another.
    let again = format!("{}/team/again:v2", node.host());
    containerd.run(&["images", "tag", &name, &again]);
    containerd.run(&["images", "push", "--plain-http", &again]);
    assert_eq!(image(&node, "team/again", "v2"), image(&node, "team/app", "v1"));

    containerd.forget();
    let by_digest = format!("{base}@{pushed}");
    containerd.run(&["images", "pull", "--plain-http", &by_digest]);
    assert_eq!(containerd.digest(&by_digest), Some(pushed));
    let missing = containerd.run_err(&["images", "pull", "--plain-http", &format!("{base}:v3")]);
    assert!(missing.contains("not found"), "{missing}");
}

#[test]
fn pushes_and_pulls_all_platforms() {
    let Some(containerd) = Containerd::start() else { return };
    let node = Node::start(&[]);
    let mut layout = Layout::default();
    let images = ["amd64", "arm64"].map(|arch| layout.image(arch, arch, &[Layer::gzip(&[("arch", arch.as_bytes())])]));
    let index = layout.index(&images);
    layout.tag("v1", &index);
    let archive = containerd.directory().join("index.tar");
    layout.archive(&archive);
    let name = format!("{}/team/all:v1", node.host());
    let base = name.trim_end_matches(":v1");
    containerd.run(&["images", "import", "--all-platforms", "--base-name", base, text(&archive)]);
    containerd.run(&["images", "push", "--plain-http", &name]);
    assert_eq!(image(&node, "team/all", "v1").len(), 7);
    containerd.forget();
    containerd.run(&["images", "pull", "--plain-http", "--all-platforms", &name]);
    assert_eq!(containerd.run(&["content", "ls", "--quiet"]).lines().count(), 7);
}

/// A registry's images, asked of the node instead: with the registry's name in `?ns=`.
#[test]
fn pulls_through_the_node_as_a_mirror() {
    let (Some(containerd), Some(skopeo)) = (Containerd::start(), Client::packaged("skopeo")) else { return };
    let here = Node::start(&[]);
    let (layout, pushed) = layout("mirrored");
    super::skopeo::push(&skopeo, &layout, "v1", &format!("{}/team/app:v1", here.host()));
    let hosts = containerd.directory().join("hosts");
    let write = |registry: &str, content: &str| {
        fs::create_dir_all(hosts.join(registry)).unwrap();
        fs::write(hosts.join(registry).join("hosts.toml"), content).unwrap();
    };
    let pull = |name: &str| {
        containerd.forget();
        let said = containerd.said(&["images", "pull", "--hosts-dir", text(&hosts), name]);
        assert_eq!(containerd.digest(name), Some(pushed.clone()), "{said}");
        said
    };

    // As `docs/clients.md` has it: first, what was pushed here under a registry's own paths.
    let toml = |node: &Node| super::page::blocks("containerd", "toml", &node.host());
    write("images.test", &toml(&here)[0]);
    let said = pull("images.test/team/app:v1");
    let asked = |host: &str, path: &str| format!("http://{host}/v2/{path}/manifests/v1?ns=images.test");
    assert!(said.contains(&asked(&here.host(), "team/app")), "{said}");
    assert!(said.contains("/blobs/sha256:") && !said.contains("https://images.test/v2/"), "{said}");

    // Then what its owner published, by root and by domain, through another node.
    let published = here.json(&["publish"]);
    let Some(dns) = Dns::start(&records(&published, "images.test")) else { return };
    let there = Node::start(&["--dns", &dns.address, "--peer", &here.address()]);
    for prefix in [published["root"].as_str().unwrap(), "images.test"] {
        write("images.test", &toml(&there)[1].replace("images.example.com", prefix));
        let said = pull("images.test/team/app:v1");
        assert!(said.contains(&asked(&there.host(), &format!("{prefix}/team/app"))), "{said}");
        assert!(!said.contains("https://images.test/v2/"), "{said}");
    }
}
