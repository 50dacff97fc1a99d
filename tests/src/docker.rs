//! A real Docker engine, without a network of its own.

use crate::process::{Daemon, component, root, run, run_err, text, wait_for};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A running engine with a store of its own.
pub struct Engine {
    _daemon: Daemon,
    directory: TempDir,
}

impl Engine {
    /// Starts one; `None` where there is none to start.
    pub fn start() -> Option<Self> {
        let (dockerd, _) = (component("dockerd", "docker.io")?, component("docker", "docker.io")?);
        if !root() {
            return None;
        }
        let directory = TempDir::with_prefix("cidery-docker-").unwrap();
        let at = |name: &str| directory.path().join(name);
        let daemon = Daemon::start(
            Command::new(dockerd)
                .args(["--iptables=false", "--bridge=none", "--storage-driver=vfs"])
                .args(["--data-root", text(&at("data")), "--exec-root", text(&at("exec"))])
                .args(["--pidfile", text(&at("pid")), "-H", &format!("unix://{}", text(&at("sock")))]),
        );
        let engine = Self { _daemon: daemon, directory };
        wait_for("the engine's start", || engine.docker(&["version"]).output().unwrap().status.success().then_some(()));
        Some(engine)
    }

    /// Where it listens, as `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("unix://{}", text(&self.directory.path().join("sock")))
    }

    /// A docker command against it.
    pub fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.address()]).args(arguments);
        // Whoever runs the tests may be logged in somewhere: that is not ours to read.
        command.env("DOCKER_CONFIG", self.config()).env("DOCKER_BUILDKIT", "0");
        command
    }

    /// Where its user's logins are kept.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// Runs a docker command.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.docker(arguments))
    }

    /// Runs a docker command that must fail.
    pub fn run_err(&self, arguments: &[&str]) -> String {
        run_err(&mut self.docker(arguments))
    }

    /// Builds an image from scratch: a shell that prints `greeting`, and layers of pseudo-random
    /// bytes of these sizes.
    pub fn build(&self, tag: &str, greeting: &str, layers: &[usize]) {
        let context = TempDir::with_prefix("cidery-build-").unwrap();
        let shell = component("busybox", "busybox-static").expect("checked by the caller");
        fs::copy(shell, context.path().join("sh")).unwrap();
        let mut recipe = String::from("FROM scratch\nCOPY sh /bin/sh\n");
        for (n, size) in layers.iter().enumerate() {
            fs::write(context.path().join(format!("layer{n}")), noise(greeting, n, *size)).unwrap();
            recipe += &format!("COPY layer{n} /layer{n}\n");
        }
        recipe += &format!("CMD [\"/bin/sh\", \"-c\", \"echo {greeting}\"]\n");
        fs::write(context.path().join("Dockerfile"), recipe).unwrap();
        self.run(&["build", "-q", "-t", tag, text(context.path())]);
    }

    /// Forgets every image.
    pub fn forget(&self) {
        self.run(&["system", "prune", "--all", "--force"]);
    }

    /// Runs an image, and gives what it prints.
    pub fn greeting(&self, image: &str) -> String {
        self.run(&["run", "--rm", "--network", "none", image]).trim().to_owned()
    }
}

/// Bytes that do not compress, the same for the same arguments.
pub fn noise(seed: &str, n: usize, size: usize) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut block: [u8; 32] = Sha256::digest(format!("{seed}/{n}")).into();
    let mut out = Vec::with_capacity(size + 32);
    while out.len() < size {
        block = Sha256::digest(block).into();
        out.extend(block);
    }
    out.truncate(size);
    out
}

/// A path below a directory, as text.
pub fn below(directory: &Path, name: &str) -> (PathBuf, String) {
    let path = directory.join(name);
    let text = text(&path).to_owned();
    (path, text)
}
