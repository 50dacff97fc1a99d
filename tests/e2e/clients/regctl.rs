//! regctl.

use super::{digest, image, layout};
use cidery_tests::{
    Client, Node,
    image::{Layer, Layout},
    process::text,
};
use std::fs;

/// regctl, that knows that the node speaks plain HTTP.
fn start(node: &Node) -> Option<Client> {
    let regctl = Client::built("regctl")?;
    regctl.run(&["registry", "set", "--tls=disabled", &node.host()]);
    Some(regctl)
}

#[test]
fn copies_with_referrers_lists_and_deletes() {
    let node = Node::start(&[]);
    let Some(regctl) = start(&node) else { return };
    let (layout, pushed) = layout("regctl");
    let first = format!("{}/team/app:v1", node.host());
    regctl.run(&["image", "copy", &format!("ocidir://{}:v1", text(layout.path())), &first]);
    assert_eq!(digest(&node, "team/app", "v1"), Some(pushed.clone()));
    assert_eq!(regctl.run(&["image", "digest", &first]).trim(), pushed);

    // Something that refers to it, and something that refers to that.
    fs::write(regctl.at("note"), "a note").unwrap();
    let put = |subject: &str, kind: &str| {
        regctl.run(&[
            "artifact",
            "put",
            "--subject",
            subject,
            "--artifact-type",
            kind,
            "--file",
            "note",
            "--by-digest",
            "--format",
            "{{ .Manifest.GetDescriptor.Digest }}",
        ])
    };
    put(&first, "application/vnd.test.bill");
    let listed =
        regctl.run(&["artifact", "list", "--format", "{{ range .Descriptors }}{{ println .Digest }}{{ end }}", &first]);
    let referrer = listed.trim().to_owned();
    let repository = first.trim_end_matches(":v1");
    put(&format!("{repository}@{referrer}"), "application/vnd.test.signature");
    let tree = regctl.run(&["artifact", "tree", &first]);
    assert!(tree.contains("application/vnd.test.bill") && tree.contains("application/vnd.test.signature"), "{tree}");

    let second = format!("{}/copied/app:v2", node.host());
    regctl.run(&["image", "copy", "--referrers", &first, &second]);
    assert_eq!(image(&node, "copied/app", "v2"), image(&node, "team/app", "v1"));
    let copied = regctl.run(&["artifact", "tree", &second]);
    assert!(
        copied.contains("application/vnd.test.bill") && copied.contains("application/vnd.test.signature"),
        "{copied}"
    );
    assert_eq!(regctl.lines(&["repo", "ls", &node.host()]), ["copied/app", "team/app"]);

    // Out as an archive, and in again.
    regctl.run(&["image", "export", &second, "image.tar"]);
    let third = format!("{}/restored/app:v3", node.host());
    regctl.run(&["image", "import", &third, "image.tar"]);
    assert_eq!(image(&node, "restored/app", "v3"), image(&node, "team/app", "v1"));
    let small = regctl.command(&["image", "get-file", &third, "/srv/name"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&small.stdout), "regctl");

    // One of two tags of the same image: the image and the other tag stay.
    regctl.run(&["image", "copy", &first, &format!("{repository}:stable")]);
    assert_eq!(regctl.lines(&["tag", "ls", repository]), ["stable", "v1"]);
    regctl.run(&["tag", "delete", &first]);
    assert_eq!(regctl.lines(&["tag", "ls", repository]), ["stable"]);
    assert_eq!(digest(&node, "team/app", "stable"), Some(pushed.clone()));
    regctl.run(&["manifest", "delete", &format!("{repository}@{pushed}")]);
    assert_eq!(digest(&node, "team/app", "stable"), None);
    regctl.run_err(&["manifest", "get", &format!("{repository}:stable")]);
}

/// A whole repository, with an index and a blob that is larger than one request of regctl's.
#[test]
fn copies_a_repository_in_chunks() {
    let node = Node::start(&[]);
    let Some(regctl) = start(&node) else { return };
    regctl.run(&["registry", "set", "--blob-chunk=1000000", "--blob-max=1000000", &node.host()]);
    let mut layout = Layout::default();
    let large = cidery_tests::docker::noise("chunks", 0, 3_300_000);
    let images = ["amd64", "arm64"].map(|arch| layout.image(arch, arch, &[Layer::gzip(&[(arch, &large)])]));
    let index = layout.index(&images);
    layout.tag("all", &index);
    layout.tag("one", &images[0]);
    let first = format!("{}/team/app", node.host());
    for tag in ["all", "one"] {
        regctl.run(&["image", "copy", &format!("ocidir://{}:{tag}", text(layout.path())), &format!("{first}:{tag}")]);
    }
    let second = format!("{}/copied/app", node.host());
    regctl.run(&["repo", "copy", &first, &second]);
    assert_eq!(regctl.lines(&["tag", "ls", &second]), ["all", "one"]);
    assert_eq!(image(&node, "copied/app", "all").len(), 7);
    assert!(image(&node, "copied/app", "one").is_subset(&image(&node, "copied/app", "all")));
}
