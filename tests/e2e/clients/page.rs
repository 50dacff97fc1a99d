//! `docs/clients.md`, run as it is written.

use super::{digest, image, layout};
use cidery_tests::{
    Client, Containerd, Engine, Node,
    client::PLACES,
    component,
    docker::noise,
    http,
    process::{root, text},
};
use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const PAGE: &str = include_str!("../../../docs/clients.md");

/// The blocks of a language in a section of the page, for a node's registry.
pub fn blocks(section: &str, language: &str, host: &str) -> Vec<String> {
    let blocks = cidery_tests::page::blocks(PAGE, section, language);
    blocks.iter().map(|block| block.replace("localhost:5000", host)).collect()
}

/// Whoever follows the page: in a directory of his own, with the programs that it names.
pub struct Reader {
    home: TempDir,
    variables: BTreeMap<&'static str, String>,
    pub node: Node,
}

impl Reader {
    /// With these programs; `None` where one is missing.
    fn start(programs: &[(&str, &str)]) -> Option<Self> {
        Self::of(programs, || Node::start(&[]))
    }

    /// The same, with a node of another kind.
    pub fn of(programs: &[(&str, &str)], node: impl FnOnce() -> Node) -> Option<Self> {
        let home = TempDir::with_prefix("cidery-reader-").unwrap();
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, package) in programs {
            // What is built for the tests has a release in its name.
            symlink(component(name, package)?, bin.join(name)).unwrap();
        }
        let path = format!("{}:{}", text(&bin), env::var("PATH").unwrap());
        let variables = BTreeMap::from([("PATH", path), ("HOME", text(home.path()).to_owned())]);
        Some(Self { home, variables, node: node() })
    }

    pub fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.insert(variable, value.into());
        self
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs lines, and stops at the first that fails.
    pub fn sh(&self, lines: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-euc", lines]).current_dir(self.home.path());
        for variable in PLACES {
            shell.env_remove(variable);
        }
        cidery_tests::run(shell.envs(&self.variables))
    }

    /// Runs what a section shows.
    fn follow(&self, section: &str) -> String {
        let blocks = blocks(section, "sh", &self.node.host());
        blocks.iter().map(|block| self.sh(block)).collect()
    }

    /// An image layout named `hello`, with `1` in it; its digest.
    fn layout(&self, seed: &str) -> String {
        let mut made = cidery_tests::image::Layout::default();
        let image = made.image("amd64", seed, &super::layers(seed));
        made.tag("1", &image);
        copy(made.path(), &self.at("hello"));
        cidery_tests::image::name(&image)
    }

    fn has(&self, name: &str, reference: &str) -> bool {
        digest(&self.node, name, reference).is_some()
    }
}

fn copy(from: &Path, to: &Path) {
    cidery_tests::run(Command::new("cp").args(["--recursive", text(from), text(to)]));
}

#[test]
fn docker() {
    let Some(engine) = Engine::start() else { return };
    let Some(reader) = Reader::start(&[("docker", "docker.io")]) else { return };
    let reader = reader.with("DOCKER_HOST", engine.address());
    engine.build("hello", "as-written", &[3_000]);
    reader.follow("docker");
    let name = format!("{}/team/hello:1", reader.node.host());
    assert_eq!(engine.greeting(&name), "as-written");
    assert_eq!(image(&reader.node, "team/hello", "1").len(), 4);
}

#[test]
fn containerd() {
    let Some(containerd) = Containerd::start() else { return };
    let Some(reader) = Reader::start(&[("ctr", "containerd")]) else { return };
    let reader = reader.with("CONTAINERD_ADDRESS", containerd.address()).with("CONTAINERD_SNAPSHOTTER", "native");
    let (layout, pushed) = layout("as-written");
    layout.archive(&reader.at("image.tar"));
    reader.sh("ctr images import --base-name hello image.tar && ctr images tag hello:v1 hello");
    let [push_and_pull, mirrored] = <[String; 2]>::try_from(blocks("containerd", "sh", &reader.node.host())).unwrap();
    reader.sh(&push_and_pull);
    assert_eq!(digest(&reader.node, "team/hello", "1"), Some(pushed.clone()));

    // The first hosts.toml of the page: the others are in `containerd`, where there is somebody to pull from.
    containerd.forget();
    let hosts = reader.at("certs.d/registry.example.com");
    fs::create_dir_all(&hosts).unwrap();
    fs::write(hosts.join("hosts.toml"), &blocks("containerd", "toml", &reader.node.host())[0]).unwrap();
    let here = text(&reader.at("certs.d")).to_owned();
    reader.sh(&mirrored.replace("/etc/containerd/certs.d", &here));
    assert_eq!(containerd.digest("registry.example.com/team/hello:1"), Some(pushed));
}

#[test]
fn podman_and_buildah() {
    let Some(reader) = Reader::start(&[("podman", "podman"), ("buildah", "buildah")]) else { return };
    if !root() {
        return;
    }
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n",
        reader.at("store"),
        reader.at("run")
    );
    fs::write(reader.at("storage.conf"), storage).unwrap();
    let storage = text(&reader.at("storage.conf")).to_owned();
    let reader = reader.with("CONTAINERS_STORAGE_CONF", storage);
    fs::write(reader.at("payload"), noise("as-written", 0, 10_000)).unwrap();
    reader.sh("made=$(buildah from scratch); buildah add $made payload /payload; buildah commit --rm $made hello");
    let said = reader.follow("podman and buildah");
    assert!(said.contains("/team/hello"), "{said}");
    assert!(reader.has("team/hello", "1") && reader.has("team/hello", "2"));
}

#[test]
fn skopeo() {
    let Some(reader) = Reader::start(&[("skopeo", "skopeo")]) else { return };
    fs::create_dir_all(reader.at(".config/containers")).unwrap();
    let policy = "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}";
    fs::write(reader.at(".config/containers/policy.json"), policy).unwrap();
    reader.layout("skopeo-as-written");
    let said = reader.follow("skopeo");
    assert!(said.contains("\"Tags\""), "{said}");
    assert!(reader.at("copy/index.json").is_file() && !reader.has("team/hello", "1"));
}

#[test]
fn crane() {
    let Some(reader) = Reader::start(&[("crane", Client::HOW)]) else { return };
    let pushed = reader.layout("crane-as-written");
    let said = reader.follow("crane");
    assert!(said.contains("team/again"), "{said}");
    assert!(reader.at("copy/index.json").is_file() && !reader.has("team/hello", "1"));
    assert!(reader.has("team/hello", &pushed) && reader.has("team/again", "1"));
}

#[test]
fn oras() {
    let Some(reader) = Reader::start(&[("oras", Client::HOW)]) else { return };
    fs::write(reader.at("hello.txt"), "hello").unwrap();
    fs::write(reader.at("bill.json"), "{}").unwrap();
    let said = reader.follow("oras");
    assert!(said.contains("application/vnd.example.bill"), "{said}");
    assert_eq!(fs::read(reader.at("copy/hello.txt")).unwrap(), b"hello");
    let copied = digest(&reader.node, "team/again", "1").unwrap();
    assert!(!reader.has("team/hello", "1"));
    let url = format!("http://{}/v2/team/again/referrers/{copied}", reader.node.http);
    assert_eq!(http::get(&url).json()["manifests"].as_array().map(Vec::len), Some(1));
}

#[test]
fn regctl() {
    let Some(reader) = Reader::start(&[("regctl", Client::HOW)]) else { return };
    let pushed = reader.layout("regctl-as-written");
    reader.follow("regctl");
    assert!(reader.at("copy/index.json").is_file() && !reader.has("team/hello", "1"));
    assert!(reader.has("team/hello", &pushed) && reader.has("team/again", "1"));
}

#[test]
fn helm() {
    let Some(reader) = Reader::start(&[("helm", Client::HOW)]) else { return };
    fs::create_dir_all(reader.at("hello/templates")).unwrap();
    fs::write(reader.at("hello/Chart.yaml"), "apiVersion: v2\nname: hello\nversion: 0.1.0\n").unwrap();
    fs::write(reader.at("hello/templates/empty.yaml"), "kind: {{ .Release.Name }}\n").unwrap();
    let rendered = reader.follow("helm");
    assert!(rendered.contains("kind: there"), "{rendered}");
    assert!(reader.has("charts/hello", "0.1.0"));
}

#[test]
fn cosign() {
    let Some(reader) = Reader::start(&[("cosign", Client::HOW), ("skopeo", "skopeo")]) else { return };
    let pushed = reader.layout("cosign-as-written");
    let name = format!("{}/team/hello", reader.node.host());
    reader.sh(&format!(
        "skopeo --insecure-policy copy --dest-tls-verify=false --preserve-digests oci:hello:1 docker://{name}:1"
    ));
    let reader = reader.with("COSIGN_PASSWORD", "a password").with("IMAGE", format!("{name}@{pushed}"));
    let said = reader.follow("cosign");
    assert!(said.contains(&pushed), "{said}");
}
