//! How each client logs in over HTTPS, as `docs/clients.md` has it.

use super::{
    layout,
    page::{Reader, blocks},
};
use crate::accounts;
use cidery_tests::{Client, Containerd, Engine, Node, certificates::Authority, process::text};
use std::fs;
use tempfile::TempDir;

const SECTION: &str = "Logins, and HTTPS";
const PASSWORD: &str = "alice's password";

/// Whoever follows the page, with a node that alice may log in to, and what he needs to know of it.
fn reader(directory: &TempDir, programs: &[(&str, &str)]) -> Option<Reader> {
    let at = |name: &str| directory.path().join(name);
    let authority = Authority::new("ca");
    let reader = Reader::of(programs, || {
        accounts::add(&at("data"), "alice", PASSWORD);
        authority.server().write(&at("server.pem"), &at("server.key"));
        let (cert, key) = (at("server.pem"), at("server.key"));
        Node::start_on(
            &at("data"),
            &["--hosts", "registry.example.com", "--tls-cert", text(&cert), "--tls-key", text(&key)],
        )
    })?;
    fs::create_dir(reader.at("certs")).unwrap();
    authority.write(&reader.at("certs/ca.crt"));
    fs::write(reader.at("password"), PASSWORD).unwrap();
    Some(reader)
}

/// The lines of the page that a program is run by, for a registry. Some clients take `localhost` to have no TLS.
fn lines(program: &str, registry: &str) -> String {
    let [block] = <[String; 1]>::try_from(blocks(SECTION, "sh", "")).unwrap();
    let is_its = |line: &&str| line.split(' ').find(|word| !word.contains('=')) == Some(program);
    let lines: Vec<_> = block.lines().filter(is_its).collect();
    assert!(!lines.is_empty(), "{program}");
    lines.join("\n").replace("registry.example.com", registry)
}

/// What is done after the login, and only with it: it reads the tags.
const AFTER: [(&str, &str); 5] = [
    ("skopeo", "skopeo list-tags --cert-dir certs docker://NODE/team/hello"),
    ("crane", "SSL_CERT_FILE=certs/ca.crt crane ls NODE/team/hello"),
    ("oras", "oras repo tags --ca-file certs/ca.crt NODE/team/hello"),
    ("regctl", "regctl tag ls NODE/team/hello"),
    ("cosign", "SSL_CERT_FILE=certs/ca.crt cosign tree NODE/team/hello:v1"),
];

#[test]
fn programs_that_are_there_by_themselves() {
    let directory = TempDir::new().unwrap();
    let built = ["crane", "oras", "regctl", "helm", "cosign"].map(|name| (name, Client::HOW));
    let packaged = ["podman", "skopeo"].map(|name| (name, name));
    let Some(reader) = reader(&directory, &[&built[..], &packaged].concat()) else { return };
    let (layout, _) = layout("logins");
    for (program, _) in [&built[..], &packaged].concat() {
        // Each has a home of its own: some find each other's logins.
        let home = reader.at(&format!("of-{program}"));
        fs::create_dir(&home).unwrap();
        let at_home = |commands: &str| {
            let auth = format!("{}/auth.json", text(&home));
            let homes = format!("export HOME={0} XDG_RUNTIME_DIR={0} REGISTRY_AUTH_FILE={auth}", text(&home));
            reader.sh(&format!("{homes}\n{commands}"))
        };
        at_home(&lines(program, &reader.node.http));
        if program == "crane" {
            let push = format!("crane push {} {}/team/hello:v1", text(layout.path()), reader.node.http);
            at_home(&format!("SSL_CERT_FILE=certs/ca.crt {push}"));
        }
        if let Some((_, after)) = AFTER.iter().find(|(name, _)| *name == program) {
            let after = after.replace("NODE", &reader.node.http);
            assert!(at_home(&after).contains(if program == "cosign" { "team/hello" } else { "v1" }), "{program}");
            // Without the login it is refused.
            let refused =
                at_home(&format!("rm -rf {0}; mkdir {0}; if {after}; then echo it went well; fi", text(&home)));
            assert!(!refused.contains("it went well"), "{program}: {refused}");
        }
    }
}

#[test]
fn docker() {
    let Some(engine) = Engine::start() else { return };
    let directory = TempDir::new().unwrap();
    let Some(reader) = reader(&directory, &[("docker", "docker.io")]) else { return };
    let reader = reader.with("DOCKER_HOST", engine.address());
    let image = format!("{}/team/hello:1", reader.node.http);
    engine.build(&image, "logins", &[1000]);
    let said = reader.sh(&format!("if docker push -q {image}; then echo it went well; fi"));
    assert!(!said.contains("it went well"), "{said}");
    assert!(reader.sh(&lines("docker", &reader.node.http)).contains("Succeeded"));
    reader.sh(&format!("docker push -q {image}"));
}

#[test]
fn containerd() {
    let Some(containerd) = Containerd::start() else { return };
    let directory = TempDir::new().unwrap();
    let Some(reader) = reader(&directory, &[("ctr", "containerd")]) else { return };
    let reader = reader.with("CONTAINERD_ADDRESS", containerd.address()).with("CONTAINERD_SNAPSHOTTER", "native");
    let (layout, pushed) = layout("logins");
    layout.archive(&reader.at("image.tar"));
    reader.sh("ctr images import --base-name hello image.tar && ctr images tag hello:v1 hello");
    // On `localhost` it takes no TLS for granted: so it calls the node by its name, which is in no DNS.
    let name = format!("registry.example.com:{}", reader.node.http.rsplit(':').next().unwrap());
    fs::write(reader.at("hosts"), "127.0.0.1 localhost registry.example.com\n").unwrap();
    fs::write(reader.at("push"), lines("ctr", &name)).unwrap();
    reader.sh("unshare --mount sh -euc 'mount --bind hosts /etc/hosts; . ./push'");
    assert_eq!(reader.node.json(&["images"])[0]["digest"], pushed);
}
