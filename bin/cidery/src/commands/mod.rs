//! The commands that talk to a running node, and those that change its accounts, whether it runs or not.

mod backup;
pub mod bar;
mod du;
mod export;
mod files;
mod gc;
mod images;
mod import;
mod pin;
mod publish;
mod pull;
mod purge;
mod retention;
mod scrub;
mod status;
mod user;

use crate::{
    cli::{Command, Json},
    control::client::Client,
    settings::Settings,
};
use anyhow::{Result, bail};
use serde::Serialize;
use std::time::Duration;

/// Runs one.
pub async fn run(command: Command, settings: &Settings) -> Result<()> {
    if let Command::User(options) = command {
        return user::run(options, &settings.data);
    }
    let mut node = Client::connect(&settings.data).await?;
    match command {
        Command::Serve(_) | Command::User(_) => unreachable!("main runs serve itself, and user needs no node"),
        Command::Status(Json { json }) => status::run(&mut node, json).await,
        Command::Publish(options) => publish::publish(&mut node, options).await,
        Command::Unpublish(options) => publish::unpublish(&mut node, options).await,
        Command::Images(Json { json }) => images::run(&mut node, json).await,
        Command::Pull(options) => pull::run(&mut node, options).await,
        Command::Pin(options) => pin::run(&mut node, options).await,
        Command::Export(options) => export::run(&mut node, options).await,
        Command::Import(options) => import::run(&mut node, options).await,
        Command::Gc(options) => gc::run(&mut node, options).await,
        Command::Retention(options) => retention::run(&mut node, options).await,
        Command::Purge(options) => purge::run(&mut node, options).await,
        Command::Du(Json { json }) => du::run(&mut node, json).await,
        Command::Backup(options) => backup::run(&mut node, options).await,
        Command::Scrub(options) => scrub::run(&mut node, options).await,
    }
}

/// Refuses an image's name with the host that a `docker pull` has in front: names here begin after it.
fn without_host(name: &str) -> Result<()> {
    let port = |port: &str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    match name.split_once('/') {
        Some((host, rest)) if host.rsplit_once(':').is_some_and(|(_, text)| port(text)) => {
            bail!("{name} begins with a host: leave it out, as in {rest}")
        }
        _ => Ok(()),
    }
}

/// Seconds as people read them.
fn time(seconds: f64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis((seconds * 1000.0) as u64))
}

fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
