//! Archives that skopeo makes are read here, and ours are read by skopeo. No network is used.

use super::support::{Layer, Node, sha256};
use crate::archive::Format;
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Whether skopeo is here; in CI it has to be.
fn skopeo_is_here() -> bool {
    let found = Command::new("skopeo").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skopeo is needed in CI: install it (apt install skopeo)");
    eprintln!("SKIPPED: skopeo is not installed, so archives were not exchanged with it");
    false
}

/// `skopeo copy` with everything it writes below `home`.
fn copy(home: &Path, options: &[&str], from: &str, to: &str) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--tmpdir"])
        .arg(home)
        .arg("copy")
        .args(options)
        .args([from, to])
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .current_dir(home)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo copy {from} {to}: {complaint}");
}

/// A layer that is a real tar, as tools that unpack it want.
fn layer(text: &str) -> Vec<u8> {
    super::support::tar_of(&[("hello.txt", text.as_bytes())])
}

fn node() -> (Node, super::support::Pushed) {
    let node = Node::new();
    let layers = [Layer::plain(&layer("plain")), Layer::gzip(&layer("gzip")), Layer::plain(&layer("plain"))];
    let pushed = node.push("team/app:v1", &layers);
    (node, pushed)
}

#[test]
fn skopeo_reads_what_is_exported() {
    if !skopeo_is_here() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (node, pushed) = node();
    std::fs::write(home.path().join("oci.tar"), node.export("team/app:v1", Format::Oci).unwrap().0).unwrap();
    std::fs::write(home.path().join("docker.tar"), node.export("team/app:v1", Format::Docker).unwrap().0).unwrap();
    copy(home.path(), &[], "oci-archive:oci.tar:v1", "dir:from-oci");
    assert_eq!(std::fs::read(home.path().join("from-oci/manifest.json")).unwrap(), pushed.manifest);
    copy(home.path(), &[], "docker-archive:docker.tar:team/app:v1", "oci:from-docker:x");
    let config = home.path().join("from-docker/blobs/sha256").join(sha256(&pushed.config).hex());
    // skopeo writes a docker image's config anew for OCI; what it says of the layers stays.
    if let Ok(config) = std::fs::read(config) {
        assert_eq!(config, pushed.config);
    }
    // And back from what skopeo made of it.
    copy(home.path(), &[], "docker-archive:docker.tar:team/app:v1", "docker-archive:again.tar:again:v2");
    let to = Node::new();
    let imported = to.import(&std::fs::read(home.path().join("again.tar")).unwrap()).unwrap();
    assert_eq!(imported[0].name, "again:v2");
}

#[test]
fn what_skopeo_makes_is_imported() {
    if !skopeo_is_here() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (from, pushed) = node();
    std::fs::write(home.path().join("oci.tar"), from.export("team/app:v1", Format::Oci).unwrap().0).unwrap();

    copy(home.path(), &["--preserve-digests"], "oci-archive:oci.tar:v1", "oci-archive:made.tar:localhost/team/app:v2");
    let to = Node::new();
    let imported = to.import(&std::fs::read(home.path().join("made.tar")).unwrap()).unwrap();
    assert_eq!((imported[0].name.as_str(), &imported[0].digest), ("team/app:v2", &pushed.digest));

    copy(home.path(), &[], "oci-archive:oci.tar:v1", "docker-archive:docker.tar:localhost/app:v3");
    let imported = to.import(&std::fs::read(home.path().join("docker.tar")).unwrap()).unwrap();
    assert_eq!(imported[0].name, "app:v3");

    // A layout that is a directory, as whoever has one would send it.
    copy(home.path(), &["--preserve-digests"], "oci-archive:oci.tar:v1", "oci:layout:v4");
    let layout = home.path().join("layout");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", &layout).unwrap();
    let imported = to.import_as(&builder.into_inner().unwrap(), Some("app")).unwrap();
    assert_eq!((imported[0].name.as_str(), &imported[0].digest), ("app:v4", &pushed.digest));
}

#[test]
fn every_platform_goes_through_skopeo() {
    if !skopeo_is_here() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (Node::new(), Node::new());
    let (digest, images) = from.push_index("app:1", &["amd64", "arm64"]);
    std::fs::write(home.path().join("oci.tar"), from.export("app:1", Format::Oci).unwrap().0).unwrap();
    copy(
        home.path(),
        &["--all", "--preserve-digests"],
        "oci-archive:oci.tar:1",
        "oci-archive:made.tar:localhost/app:2",
    );
    let imported = to.import(&std::fs::read(home.path().join("made.tar")).unwrap()).unwrap();
    assert_eq!((imported[0].name.as_str(), &imported[0].digest), ("app:2", &digest));
    for image in images {
        assert!(to.manifest(&format!("app@{}", image.digest)).is_some());
    }
}
