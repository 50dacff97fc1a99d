//! A cidery node of one's own.

use crate::process::{Daemon, run, text};
use serde_json::Value;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The program under test: `CIDERY_BIN`, or the one that was built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("CIDERY_BIN") {
        return path.into();
    }
    let test = env::current_exe().unwrap();
    let beside = test.ancestors().nth(2).unwrap().join("cidery");
    assert!(beside.is_file(), "build it first (cargo build), or name it in CIDERY_BIN: {}", beside.display());
    beside
}

/// A command against the node that runs on this data directory.
pub fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--data", text(data)]);
    command
}

/// A running node: its own data directory, ports and identity; no bootstrap, no mDNS.
pub struct Node {
    data: Data,
    daemon: Option<Daemon>,
    arguments: Vec<String>,
    /// The registry's address, host and port.
    pub http: String,
}

enum Data {
    Own(TempDir),
    Given(PathBuf),
}

impl Node {
    /// Starts one with more arguments to `serve`.
    pub fn start(arguments: &[&str]) -> Self {
        Self::with(Data::Own(TempDir::with_prefix("cidery-test-").unwrap()), arguments)
    }

    /// Starts one on a data directory.
    pub fn start_on(data: &Path, arguments: &[&str]) -> Self {
        Self::with(Data::Given(data.to_owned()), arguments)
    }

    /// Starts one that stays connected to `peer`.
    pub fn with_peer(peer: &str) -> Self {
        Self::start(&["--peer", peer])
    }

    fn with(data: Data, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        let mut node = Self { data, daemon: None, arguments, http: String::new() };
        node.restart();
        node
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        match &self.data {
            Data::Own(directory) => directory.path(),
            Data::Given(path) => path,
        }
    }

    /// The command that starts it: port 0 everywhere unless the arguments say otherwise.
    pub fn serve(data: &Path, arguments: &[impl AsRef<str>]) -> Command {
        let mut command = Command::new(binary());
        command.args(["serve", "--data", text(data)]);
        let has = |flag: &str| arguments.iter().any(|argument| argument.as_ref() == flag);
        for (flag, value) in
            [("--http", "127.0.0.1:0"), ("--swarm", "/ip4/127.0.0.1/tcp/0"), ("--bootstrap", "none"), ("--mdns", "off")]
        {
            if !has(flag) {
                command.args([flag, value]);
            }
        }
        command.args(arguments.iter().map(AsRef::as_ref));
        command.env("CIDERY_LOG", "info");
        command
    }

    /// Starts it (again) and waits until it serves.
    pub fn restart(&mut self) {
        self.daemon = None;
        let mut daemon = Daemon::start(&mut Self::serve(self.data(), &self.arguments));
        daemon.wait_for_line("Next:");
        let log = daemon.log();
        let line = log.lines().find(|line| line.trim_start().starts_with("registry ")).unwrap();
        self.http = line.rsplit("://").next().unwrap().trim().to_owned();
        self.daemon = Some(daemon);
    }

    /// Its process.
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    /// A command against it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command(self.data(), arguments)
    }

    /// Runs a command against it.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Runs a command with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"))
    }

    /// Its first TCP multiaddr, ending in `/p2p/<id>`.
    pub fn address(&self) -> String {
        let status = self.json(&["status"]);
        let addresses = status["addresses"].as_array().unwrap().iter().filter_map(Value::as_str);
        addresses.into_iter().find(|address| address.contains("/tcp/")).unwrap().to_owned()
    }

    /// Publishes `local`; the root.
    pub fn publish(&self) -> String {
        self.json(&["publish"])["root"].as_str().unwrap().to_owned()
    }

    /// `localhost:<port>`, as docker wants it.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.http.rsplit(':').next().unwrap())
    }
}
