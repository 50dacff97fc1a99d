//! Other people's servers: the stock registry, and a DNS server.

use crate::{
    http,
    process::{Daemon, component, free_port, text, wait_for},
};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

/// Debian's `docker-registry`.
pub struct StockRegistry {
    daemon: Daemon,
    _directory: TempDir,
    /// Host and port.
    pub host: String,
}

impl StockRegistry {
    /// Serves a storage directory.
    pub fn start(storage: &Path) -> Option<Self> {
        let program = component("docker-registry", "docker-registry")?;
        let directory = TempDir::with_prefix("cidery-stock-").unwrap();
        let port = free_port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            text(storage)
        );
        let path = directory.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let daemon = Daemon::start(Command::new(program).args(["serve", text(&path)]));
        let host = format!("localhost:{port}");
        wait_for("the stock registry's start", || {
            (http::get(&format!("http://{host}/v2/")).status == 200).then_some(())
        });
        Some(Self { daemon, _directory: directory, host })
    }

    /// Peak resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.daemon.peak_memory()
    }
}

/// Debian's `dnsmasq`, answering for a few names only.
pub struct Dns {
    _daemon: Daemon,
    _directory: TempDir,
    /// Address and port.
    pub address: String,
}

impl Dns {
    /// Serves TXT records, each an owner and a value.
    pub fn start(records: &[(impl AsRef<str>, impl AsRef<str>)]) -> Option<Self> {
        let program = component("dnsmasq", "dnsmasq")?;
        let port = free_port();
        let directory = TempDir::with_prefix("cidery-dns-").unwrap();
        let config = directory.path().join("dnsmasq.conf");
        // In the file (not in arguments) quotes keep commas in one character-string.
        let lines = records.iter().map(|(owner, value)| {
            let (owner, value) = (owner.as_ref(), value.as_ref());
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("txt-record={owner},\"{value}\"\n")
        });
        fs::write(&config, lines.collect::<String>()).unwrap();
        let mut daemon = Daemon::start(
            Command::new(program)
                .args(["--no-daemon", "--no-resolv", "--no-hosts", "--no-ping", "--log-facility=-", "--user=root"])
                .args(["--pid-file=", "--bind-interfaces", "--listen-address=127.0.0.1", "--local=/test/"])
                .args([format!("--port={port}"), format!("--conf-file={}", text(&config))]),
        );
        daemon.wait_for_line("started");
        Some(Self { _daemon: daemon, _directory: directory, address: format!("127.0.0.1:{port}") })
    }
}

/// The records that `cidery publish --json` prints, set at a domain: owners and values.
pub fn records(published: &serde_json::Value, domain: &str) -> Vec<(String, String)> {
    let lines = published["txt"].as_array().unwrap().iter();
    let records = lines.map(|line| {
        let (owner, value) = line.as_str().unwrap().split_once(" 300 IN TXT ").unwrap();
        (owner.replace("example.com.", domain), value.trim_matches('"').replace("\\\"", "\""))
    });
    records.collect()
}
