//! Programs that talk to registries, each with a home of its own: whoever runs the tests may be logged in
//! somewhere, and that is not ours to read.

use crate::process::{component, run, run_err, run_said, text};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Where programs look, if these are set, before they look at home.
pub const PLACES: [&str; 7] = [
    "DOCKER_CONFIG",
    "REGCTL_CONFIG",
    "REGISTRY_AUTH_FILE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// A client.
pub struct Client {
    program: PathBuf,
    home: TempDir,
}

impl Client {
    /// How one comes to a program that Debian does not have.
    pub const HOW: &str = "it with Go, as tests/run does";

    /// One that Debian has; `None` where it is not installed.
    pub fn packaged(name: &str) -> Option<Self> {
        Some(Self { program: component(name, name)?, home: TempDir::with_prefix("cidery-client-").unwrap() })
    }

    /// One that `tests/run` builds with Go; `None` where it is not.
    pub fn built(name: &str) -> Option<Self> {
        Some(Self { program: component(name, Self::HOW)?, home: TempDir::with_prefix("cidery-client-").unwrap() })
    }

    /// Where it starts, and keeps what it keeps.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path below that, as text.
    pub fn at(&self, name: &str) -> String {
        text(&self.home().join(name)).to_owned()
    }

    /// A command.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.home()).env("HOME", self.home());
        for variable in PLACES {
            command.env_remove(variable);
        }
        command
    }

    /// Runs a command; what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Runs a command; its lines.
    pub fn lines(&self, arguments: &[&str]) -> Vec<String> {
        self.run(arguments).lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Runs a command; everything it said.
    pub fn said(&self, arguments: &[&str]) -> String {
        run_said(&mut self.command(arguments))
    }

    /// Runs a command that prints JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.run(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"))
    }

    /// Runs a command that must fail; everything it said.
    pub fn run_err(&self, arguments: &[&str]) -> String {
        run_err(&mut self.command(arguments))
    }
}
