//! `cidery user`, and what `serve` is told of accounts.

use super::{Json, serve::truth};
use crate::units::Time;
use cidery_access::Rights;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args, Default)]
pub struct Accounts {
    /// A file of users and bcrypt hashes of their passwords, as `htpasswd -B` writes it
    #[arg(long, env = "CIDERY_HTPASSWD", value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// With accounts: let everybody pull everything, without a login
    #[arg(long, env = "CIDERY_ANONYMOUS_PULL", value_name = "BOOL", value_parser = truth())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous_pull: Option<bool>,
    /// A proxy, or a network of proxies, whose X-Forwarded-For is believed; may be repeated
    #[arg(long, env = "CIDERY_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',')]
    pub trusted_proxies: Vec<String>,
    /// Take passwords from other machines over connections that are not encrypted
    #[arg(long, env = "CIDERY_INSECURE_AUTH", value_name = "BOOL", value_parser = truth())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_auth: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user, or give one another password
    #[command(after_help = "\
Examples:
  cidery user add alice                                  asks twice
  cidery user add bot --password-stdin < password.txt    reads one line")]
    Add(UserAdd),
    /// Remove a user, with all tokens
    #[command(after_help = "\
Example:
  cidery user remove alice

Without any user left nobody can log in: the registry does not become open to everybody by that.")]
    Remove(UserRemove),
    /// The users of this node, without those of an htpasswd file
    #[command(after_help = "Example:\n  cidery user list --json | jq -r '.[].name'")]
    List(Json),
    /// Make, list or end long-lived tokens, which programs show in place of a password
    #[command(after_help = "\
Examples:
  cidery user token bot --name ci --expires 90days --rights pull
  docker login localhost:5000 -u bot --password-stdin < token.txt
  cidery user token bot --list
  cidery user token bot --revoke ci

A token is shown once, and is nowhere to be read again.")]
    Token(UserToken),
}

#[derive(Debug, Args)]
pub struct UserAdd {
    /// The user's name
    pub name: String,
    /// Read the password from standard input, one line, also on a terminal
    #[arg(long)]
    pub password_stdin: bool,
}

#[derive(Debug, Args)]
pub struct UserRemove {
    /// The user's name
    pub name: String,
}

#[derive(Debug, Args)]
pub struct UserToken {
    /// The user's name
    #[arg(value_name = "USER")]
    pub user: String,
    /// What the token is called [default: ci]
    #[arg(long, value_name = "LABEL", conflicts_with_all = ["list", "revoke"])]
    pub name: Option<String>,
    /// When it ends, e.g. 90days [default: never]
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["list", "revoke"])]
    pub expires: Option<Time>,
    /// What it is narrowed to: pull, create, overwrite, delete, push for create and overwrite [default: all that the
    /// user may]
    #[arg(long, value_name = "RIGHT", value_delimiter = ',', conflicts_with_all = ["list", "revoke"])]
    pub rights: Vec<Rights>,
    /// List the user's tokens
    #[arg(long, conflicts_with = "revoke")]
    pub list: bool,
    /// End the token of this name
    #[arg(long, value_name = "LABEL")]
    pub revoke: Option<String>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}
