//! What can be typed. Others script against these spellings: they do not change.

mod serve;
mod user;

pub use serve::Serve;
pub use user::{Accounts, User, UserAdd, UserRemove, UserToken};

use crate::units::Size;
use clap::{Args, Command as Definition, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::{env, path::PathBuf};

/// An IPFS node with an OCI registry inside: docker push here, docker pull anywhere.
#[derive(Debug, Parser)]
#[command(
    name = "cidery",
    version,
    propagate_version = true,
    after_help = "\
Example:
  cidery serve                              start the node, registry on 127.0.0.1:5000
  docker push localhost:5000/hello:1        push to it
  cidery publish                            make it public, and print how to pull it elsewhere"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What was typed, completed from the environment. Ends the program where that is not possible.
    pub fn read() -> Self {
        let matches = without_empty_variables(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// A variable that is set to nothing says nothing: it is as if it were not set.
fn without_empty_variables(definition: Definition) -> Definition {
    // A definition cannot take its variable back, but have another one, and none is called that.
    let heard = |name: &std::ffi::OsStr| env::var_os(name).is_none_or(|value| !value.is_empty());
    definition
        .mut_args(|arg| if arg.get_env().is_none_or(heard) { arg } else { arg.env("").hide_env(true) })
        .mut_subcommands(without_empty_variables)
}

/// Options every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The data directory [default: cidery in the user's data directory]
    #[arg(long, global = true, env = "CIDERY_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The configuration file [default: cidery/config.toml in the user's configuration directory, if it exists]
    #[arg(long, global = true, env = "CIDERY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

// There is one, and it is taken apart at once.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node: registry, swarm and store
    Serve(Serve),
    /// What the running node is and holds
    #[command(after_help = "Example:\n  cidery status --json | jq -r '.addresses[]'")]
    Status(Json),
    /// Make a namespace public, now and with every later push
    #[command(after_help = "\
Example:
  cidery publish              the root CID, the names to pull by, the TXT records for a domain
  cidery publish --once       only what is there now; later pushes stay private")]
    Publish(Publish),
    /// Make a namespace private again
    #[command(after_help = "Example:\n  cidery unpublish\n\nWhat others have fetched meanwhile stays with them.")]
    Unpublish(Unpublish),
    /// The images in this node's namespaces
    #[command(after_help = "Example:\n  cidery images --json | jq -r '.[].name'")]
    Images(Json),
    /// Fetch an image into the node, completely and verified
    #[command(after_help = "Example:\n  cidery pull example.com/app:1")]
    Pull(Pull),
    /// Keep an image or a tree on this node, whoever it came from
    #[command(
        subcommand,
        after_help = "\
Examples:
  cidery pin add example.com/team/app:1.0        fetch it, and keep it
  cidery pin ls
  cidery pin rm example.com/team/app:1.0         it is a cache again

What is pinned stays when the cache has to give way, when nobody else has it any more, and when it is deleted here; \
only `cidery purge` takes of it what it names. A pin makes nothing public."
    )]
    Pin(Pin),
    /// Write an image or a tree to a file or directory
    #[command(after_help = "\
Examples:
  cidery export hello:1 hello-layout                      an OCI layout in a directory
  cidery export hello:1 hello.tar --format docker         for docker load -i hello.tar
  cidery export <root cid> registry                       a storage directory the stock registry serves")]
    Export(Export),
    /// Bring an image in from a file: an OCI layout, a docker-archive tar, or a CAR
    #[command(after_help = "Example:\n  docker save hello:1 -o hello.tar && cidery import hello.tar --as hello:1")]
    Import(Import),
    /// Give back the space of what nothing needs any more
    #[command(after_help = "\
Examples:
  cidery gc
  cidery gc --all             also blobs that no manifest names, however new: not while somebody pushes

The node does this by itself too, a while after something was deleted. What is pushed or pulled meanwhile is \
safe. Interrupting the command leaves the node at it.")]
    Gc(Gc),
    /// Remove the tags that no rule of the configuration file keeps, now
    #[command(after_help = "\
Examples:
  cidery retention --dry-run        what would go, and when it was pushed
  cidery retention

A rule in the configuration file:
  [[retention]]
  repositories = [\"ci/**\"]
  tags = [\"*\"]
  keep-last = 10
  keep-younger = \"30days\"
  keep = [\"latest\", \"release-*\"]

The node does this by itself too, once an hour.")]
    Retention(Retention),
    /// Delete one blob or manifest everywhere, for good
    #[command(after_help = "\
Example:
  cidery purge sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

It leaves every repository of every namespace, and what earlier roots show; its bytes leave the disk, pinned or not, \
and pulls of it that are under way are cut off. Images that need it can't be pulled whole any more. What others have \
fetched stays with them.")]
    Purge(Purge),
    /// Copy everything while the node runs; again, only what came since
    #[command(after_help = "\
Example:
  cidery backup /mnt/backup/cidery

To restore, stop the node and start it on a copy of the backup: cidery serve --data COPY.")]
    Backup(Backup),
    /// Who may log in to the node's registry
    #[command(
        subcommand,
        after_help = "\
Examples:
  cidery user add alice                             asks for a password; from then on everybody has to log in
  docker login localhost:5000 -u alice
  cidery user token alice --name ci --rights pull   for a program: shown once, ended with --revoke ci

These work whether the node runs or not, and a running one heeds them within a second. Who may do what is in the \
configuration file; without rules every user may do everything. Commands of this program need no login."
    )]
    User(User),
    /// What takes the node's disk
    #[command(after_help = "Example:\n  cidery du --json | jq .dead_bytes        what `cidery gc` would give back")]
    Du(Json),
    /// Read every block, repair what is damaged, and name what cannot be repaired
    #[command(after_help = "\
Examples:
  cidery scrub
  cidery scrub --rate 500MiB        faster; pushes and pulls may have to wait for the disk

What only peers can repair they are asked for. Ends with an error if anything stays damaged.")]
    Scrub(Scrub),
}

/// on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// Also blobs that no manifest names and that are younger than --blob-expiry: a push under way may need them
    #[arg(long)]
    pub all: bool,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Retention {
    /// Only show what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Backup {
    /// A new or empty directory, or an earlier backup of this node
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Purge {
    /// What to delete, e.g. sha256:9f86d081…
    pub digest: String,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Publish {
    /// The namespace
    #[arg(default_value = "local")]
    pub namespace: String,
    /// Publish only the present state, not what is pushed later
    #[arg(long)]
    pub once: bool,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Unpublish {
    /// The namespace
    #[arg(default_value = "local")]
    pub namespace: String,
}

#[derive(Debug, Args)]
pub struct Pull {
    /// What follows the host in a docker pull, e.g. example.com/app:1
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum Pin {
    /// Fetch an image or a tree completely, and keep it until it is unpinned
    #[command(after_help = "\
Examples:
  cidery pin add example.com/team/app:1.0        an image, by any name that it can be pulled by
  cidery pin add bafy…                           all that is below a CID: a whole registry, a directory, a file

Of an image everything is kept that its manifests name, for all platforms, and the way to it: it can be pulled by \
the root that `cidery pin ls` shows. What the name stands for later is another image: run it again to keep that one \
instead. Until all of it is here nothing is pinned; interrupting the command gives it up. What was deleted on this \
node cannot be pinned.")]
    Add(PinAdd),
    /// Take a pin back: what nothing else needs is a cache again, or goes
    #[command(after_help = "Example:\n  cidery pin rm example.com/team/app:1.0")]
    Rm(PinRm),
    /// What is pinned
    #[command(after_help = "Example:\n  cidery pin ls --json | jq -r '.[].name'")]
    Ls(Json),
}

#[derive(Debug, Args)]
pub struct PinAdd {
    /// What follows the host in a docker pull, e.g. example.com/app:1, or a CID
    #[arg(value_name = "NAME|CID")]
    pub name: String,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PinRm {
    /// What was pinned
    #[arg(value_name = "NAME|CID")]
    pub name: String,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// An image's name, or a CID
    #[arg(value_name = "NAME|CID")]
    pub source: String,
    /// The file or directory to write; - for standard output
    pub dest: PathBuf,
    /// What to write [default: oci for a name, registry for a CID]
    #[arg(long)]
    pub format: Option<ExportFormat>,
}

#[derive(Debug, Args)]
pub struct Scrub {
    /// How much is read in a second at most; 0 for no limit
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub rate: Size,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The tree as it is: a storage directory for the stock registry
    Registry,
    /// An OCI image layout (a directory, or a tar if DEST ends in .tar)
    Oci,
    /// A tar for docker load
    Docker,
    /// A CARv1 file
    Car,
}

#[derive(Debug, Args)]
pub struct Import {
    /// An OCI layout (directory or tar), a docker-archive tar, or a CAR; - for standard input
    pub path: PathBuf,
    /// The name it gets here [default: the name it carries]
    #[arg(long = "as", value_name = "NAME[:TAG]")]
    pub name: Option<String>,
}

#[cfg(test)]
mod tests;
