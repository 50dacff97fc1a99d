//! A real Kubo on loopback: no bootstrap, no public routing, nothing automatic.

use crate::process::{Daemon, component, run, text};
use std::{path::PathBuf, process::Command};
use tempfile::TempDir;

/// A running Kubo.
pub struct Kubo {
    daemon: Daemon,
    repository: TempDir,
    program: PathBuf,
}

impl Kubo {
    /// Starts one; `None` where there is none.
    pub fn start() -> Option<Self> {
        let program = component("kubo", "Kubo with Go, as tests/run does, and name it in CIDERY_TEST_KUBO")?;
        let repository = TempDir::with_prefix("cidery-kubo-").unwrap();
        let ipfs = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.args(arguments).env("IPFS_PATH", repository.path());
            command
        };
        run(&mut ipfs(&["init", "--empty-repo", "--profile=test"]));
        for (key, value) in [
            ("Bootstrap", "[]"),
            ("AutoConf.Enabled", "false"),
            ("AutoTLS.Enabled", "false"),
            ("Routing.Type", "\"none\""),
            ("Routing.DelegatedRouters", "[]"),
            ("Ipns.DelegatedPublishers", "[]"),
            ("DNS.Resolvers", "{}"),
            ("Provide.Enabled", "false"),
            ("Discovery.MDNS.Enabled", "false"),
            ("Addresses.Swarm", "[\"/ip4/127.0.0.1/tcp/0\"]"),
            ("Addresses.API", "\"/ip4/127.0.0.1/tcp/0\""),
            ("Addresses.Gateway", "\"/ip4/127.0.0.1/tcp/0\""),
            ("Swarm.DisableNatPortMap", "true"),
            ("Swarm.RelayClient.Enabled", "false"),
        ] {
            run(&mut ipfs(&["config", "--json", key, value]));
        }
        let mut daemon = Daemon::start(&mut ipfs(&["daemon"]));
        daemon.wait_for_line("Daemon is ready");
        Some(Self { daemon, repository, program })
    }

    /// Peak resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.daemon.peak_memory()
    }

    /// An ipfs command against it.
    pub fn ipfs(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("IPFS_PATH", self.repository.path());
        command
    }

    /// Runs an ipfs command.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.ipfs(arguments))
    }

    /// Its multiaddr, ending in `/p2p/<id>`.
    pub fn address(&self) -> String {
        let id: serde_json::Value = serde_json::from_str(&self.run(&["id"])).unwrap();
        let addresses = id["Addresses"].as_array().unwrap();
        addresses.iter().filter_map(|a| a.as_str()).find(|a| a.contains("/tcp/")).unwrap().to_owned()
    }

    /// Adds a directory with Kubo's default import; the root CID as CIDv1 base32.
    pub fn add(&self, path: &std::path::Path) -> String {
        let root = self.run(&["add", "-r", "-Q", "--pin=true", text(path)]);
        self.run(&["cid", "base32", root.trim()]).trim().to_owned()
    }
}
