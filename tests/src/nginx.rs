//! A real nginx.

use crate::process::{Daemon, component, text};
use std::{fs, net::TcpStream, path::Path, process::Command};
use tempfile::TempDir;

/// A running nginx, one worker a core, with a directory of its own.
pub struct Nginx {
    daemon: Daemon,
    directory: TempDir,
    /// Where it listens, address and port.
    pub address: String,
}

impl Nginx {
    /// What is to be installed.
    pub const PACKAGE: &str = "nginx-light";

    /// Serves what `http` says: the inside of the block of that name, in which something listens on `address`.
    /// `None` where there is no nginx.
    pub fn start(address: &str, http: &str) -> Option<Self> {
        let program = component("nginx", Self::PACKAGE)?;
        let directory = TempDir::with_prefix("cidery-nginx-").unwrap();
        let at = |name: &str| text(&directory.path().join(name)).to_owned();
        let config = format!(
            "daemon off; user root; worker_processes auto; pid {pid}; error_log {log} warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{\naccess_log off; client_body_temp_path {tmp}; proxy_temp_path {tmp};\n\
             fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n{http}\n}}\n",
            pid = at("pid"),
            log = at("error.log"),
            tmp = at("tmp"),
        );
        fs::write(directory.path().join("nginx.conf"), config).unwrap();
        let daemon = Daemon::start(Command::new(program).args(["-c", &at("nginx.conf")]));
        let mut nginx = Self { daemon, directory, address: address.to_owned() };
        crate::process::wait_for("nginx", || {
            assert!(nginx.daemon.exited().is_none(), "{}{}", nginx.daemon.log(), nginx.warnings());
            TcpStream::connect(address).ok()
        });
        Some(nginx)
    }

    /// What it warned of so far.
    pub fn warnings(&self) -> String {
        let read = |log: &Path| fs::read_to_string(log).unwrap_or_default();
        read(&self.directory.path().join("error.log"))
    }

    /// Peak resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.daemon.peak_memory()
    }
}
