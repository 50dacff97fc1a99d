//! A real containerd, with a store of its own, and `ctr` to speak to it.

use crate::process::{Daemon, component, root, run, run_err, run_said, text, wait_for};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

/// A running containerd.
pub struct Containerd {
    _daemon: Daemon,
    directory: TempDir,
}

impl Containerd {
    /// Starts one; `None` where there is none to start.
    pub fn start() -> Option<Self> {
        let (containerd, _) = (component("containerd", "containerd")?, component("ctr", "containerd")?);
        if !root() {
            return None;
        }
        let directory = TempDir::with_prefix("cidery-containerd-").unwrap();
        let at = |name: &str| text(&directory.path().join(name)).to_owned();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("sock")
        );
        fs::write(at("config.toml"), config).unwrap();
        let daemon = Daemon::start(Command::new(containerd).args(["--config", &at("config.toml")]));
        let containerd = Self { _daemon: daemon, directory };
        let answers = || containerd.ctr(&["version"]).output().unwrap().status.success().then_some(());
        wait_for("containerd's start", answers);
        Some(containerd)
    }

    /// A directory for whatever it needs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it listens, as `CONTAINERD_ADDRESS` has it.
    pub fn address(&self) -> String {
        text(&self.directory.path().join("sock")).to_owned()
    }

    /// A ctr command against it.
    pub fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.args(["--debug", "--address", &self.address()]).args(arguments);
        // Where the tests' own directory lies on an overlay there can be no other.
        command.env("CONTAINERD_SNAPSHOTTER", "native");
        command
    }

    /// Runs a ctr command.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.ctr(arguments))
    }

    /// Runs a ctr command; everything it said, its requests included.
    pub fn said(&self, arguments: &[&str]) -> String {
        run_said(&mut self.ctr(arguments))
    }

    /// Runs a ctr command that must fail.
    pub fn run_err(&self, arguments: &[&str]) -> String {
        run_err(&mut self.ctr(arguments))
    }

    /// The digest that an image's name stands for, if it is here.
    pub fn digest(&self, image: &str) -> Option<String> {
        let images = self.run(&["images", "ls", &format!("name=={image}")]);
        let line = images.lines().find(|line| line.starts_with(image))?.to_owned();
        line.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned)
    }

    /// Forgets every image.
    pub fn forget(&self) {
        for image in self.run(&["images", "ls", "--quiet"]).lines() {
            self.run(&["images", "rm", "--sync", image]);
        }
        assert_eq!(self.run(&["content", "ls", "--quiet"]), "", "something is still here");
    }

    /// Runs an image, and gives what it prints.
    pub fn greeting(&self, image: &str) -> String {
        let runc = component("runc", "runc").expect("containerd depends on it");
        self.run(&["run", "--rm", "--runc-binary", text(&runc), image, "greeting"]).trim().to_owned()
    }
}
