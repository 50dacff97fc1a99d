//! The clients people use, against one node: docker is in `journey`.

use cidery_tests::{Engine, Node, component, run};
use std::process::Command;
use tempfile::TempDir;

/// skopeo copies in and out, inspects and deletes.
#[test]
fn skopeo() {
    let Some(skopeo) = component("skopeo", "skopeo") else { return };
    let Some(engine) = Engine::start() else { return };
    let node = Node::start(&[]);
    let image = format!("{}/team/app:v1", node.host());
    engine.build(&image, "skopeo", &[2 << 20]);
    engine.run(&["push", "-q", &image]);

    let directory = TempDir::new().unwrap();
    let layout = format!("oci:{}:v1", directory.path().join("layout").display());
    let skopeo = |arguments: &[&str]| run(Command::new(&skopeo).args(["--insecure-policy"]).args(arguments));
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{image}"), &layout]);
    let second = format!("docker://{}/team/copy:v2", node.host());
    skopeo(&["copy", "--dest-tls-verify=false", &layout, &second]);
    assert!(skopeo(&["inspect", "--tls-verify=false", &second]).contains("\"Layers\""));
    assert!(skopeo(&["list-tags", "--tls-verify=false", second.trim_end_matches(":v2")]).contains("v2"));
    // From one repository to another, where the layers already are.
    let third = format!("docker://{}/team/mounted:v3", node.host());
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &second, &third]);
    skopeo(&["delete", "--tls-verify=false", &third]);
    assert!(!node.run(&["images"]).contains("mounted"));
}

/// podman and buildah push and pull.
#[test]
fn podman_and_buildah() {
    let (Some(podman), Some(buildah)) = (component("podman", "podman"), component("buildah", "buildah")) else {
        return;
    };
    if !cidery_tests::process::root() {
        return;
    }
    let node = Node::start(&[]);
    let (storage, runroot) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let command = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["--root", storage.path().to_str().unwrap(), "--runroot", runroot.path().to_str().unwrap()]);
        run(command.args(["--storage-driver", "vfs"]).args(arguments))
    };
    let image = format!("{}/made/with-buildah:1", node.host());
    let container = command(&buildah, &["from", "scratch"]);
    let file = storage.path().join("payload");
    std::fs::write(&file, cidery_tests::docker::noise("podman", 0, 1_500_000)).unwrap();
    command(&buildah, &["add", container.trim(), file.to_str().unwrap(), "/payload"]);
    command(&buildah, &["commit", container.trim(), &image]);
    command(&buildah, &["push", "--tls-verify=false", &image]);
    command(&podman, &["rmi", "--all", "--force"]);
    command(&podman, &["pull", "--tls-verify=false", &image]);
    let again = format!("{}/made/with-podman:1", node.host());
    command(&podman, &["tag", &image, &again]);
    command(&podman, &["push", "--tls-verify=false", &again]);
    assert!(node.run(&["images"]).contains("made/with-podman:1"));
}
