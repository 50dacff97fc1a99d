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
    /// Address and port.
    pub address: String,
}

impl Dns {
    /// Serves TXT records, each an owner and a value.
    pub fn start(records: &[(&str, &str)]) -> Option<Self> {
        let program = component("dnsmasq", "dnsmasq")?;
        let port = free_port();
        let mut command = Command::new(program);
        command
            .args(["--no-daemon", "--no-resolv", "--no-hosts", "--no-ping", "--log-facility=-", "--user=root"])
            .args(["--conf-file=/dev/null", "--pid-file=", "--bind-interfaces", "--listen-address=127.0.0.1"])
            .args([format!("--port={port}"), "--local=/test/".into(), "--local=/example/".into()]);
        for (owner, value) in records {
            // A comma separates character-strings; quotes keep one together.
            command.arg(format!("--txt-record={owner},\"{}\"", value.replace('"', "\\\"")));
        }
        let mut daemon = Daemon::start(&mut command);
        daemon.wait_for_line("started");
        Some(Self { _daemon: daemon, address: format!("127.0.0.1:{port}") })
    }
}
