//! Flags over environment over a small TOML file over defaults, turned into usable values in one step.

mod access;
mod explain;
mod tags;

use crate::{
    cli::{self, Switch},
    listener::{self, ClientMode, Listener},
    ops::{
        lines::Destination,
        webhook::{Hook, Webhook},
    },
    units::{Size, Time, an_address},
};
use anyhow::{Context, Result, bail};
use cidery_registry::{TagRules, tree::Platform};
use serde::Deserialize;
use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

/// The configuration file. Its keys are the flags' names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct File {
    /// Where it is, for messages.
    #[serde(skip)]
    path: Option<PathBuf>,
    data: Option<PathBuf>,
    #[serde(deserialize_with = "an_address")]
    http: Option<SocketAddr>,
    #[serde(deserialize_with = "an_address")]
    metrics: Option<SocketAddr>,
    access_log: Option<Destination>,
    audit_log: Option<Destination>,
    webhook: Vec<Webhook>,
    swarm: Vec<String>,
    peer: Vec<String>,
    bootstrap: Vec<String>,
    mdns: Option<Switch>,
    #[serde(deserialize_with = "an_address")]
    dns: Option<SocketAddr>,
    hosts: Vec<String>,
    cache_limit: Option<Size>,
    store_limit: Option<Size>,
    reserve: Option<Size>,
    history: Option<NonZeroUsize>,
    upload_expiry: Option<Time>,
    blob_expiry: Option<Time>,
    require_references: Option<bool>,
    require_platforms: Vec<String>,
    deletes: Option<bool>,
    read_only: Option<bool>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    tls_client: Option<ClientMode>,
    cors: Vec<String>,
    max_connections: Option<NonZeroUsize>,
    max_uploads: Option<NonZeroUsize>,
    max_downloads: Option<NonZeroUsize>,
    header_timeout: Option<Time>,
    stall_timeout: Option<Time>,
    search_timeout: Option<Time>,
    htpasswd: Option<PathBuf>,
    anonymous_pull: Option<bool>,
    trusted_proxies: Vec<String>,
    insecure_auth: Option<bool>,
    auth_challenge: Option<access::Scheme>,
    groups: cidery_access::Groups,
    access: Vec<cidery_access::Rule>,
    tags: Vec<tags::Tags>,
    retention: Vec<tags::Keep>,
}

impl File {
    /// Names the file in an error that only it can be to blame for.
    fn named<T>(&self, read: Result<T>) -> Result<T> {
        match &self.path {
            Some(path) => read.with_context(|| path.display().to_string()),
            None => read,
        }
    }
}

/// What every command needs, and the file for what only some do.
pub struct Settings {
    /// The data directory.
    pub data: PathBuf,
    file: File,
}

/// How the public network is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// Through the well-known nodes.
    Default,
    /// Not at all.
    None,
    /// Through these.
    Addresses(Vec<String>),
}

/// What `serve` runs with.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    pub data: PathBuf,
    pub http: SocketAddr,
    /// A listener for monitoring alone.
    pub metrics: Option<SocketAddr>,
    pub access_log: Option<Destination>,
    pub audit_log: Option<Destination>,
    pub webhooks: Vec<Hook>,
    pub swarm: Vec<String>,
    pub peers: Vec<String>,
    pub bootstrap: Bootstrap,
    pub mdns: bool,
    pub dns: Option<SocketAddr>,
    /// Names, besides localhost, under which the registry may be addressed.
    pub hosts: Vec<String>,
    pub cache_limit: Option<u64>,
    pub store_limit: Option<u64>,
    /// `None` for what suits the file system.
    pub reserve: Option<u64>,
    pub history: usize,
    pub upload_expiry: Duration,
    pub blob_expiry: Duration,
    pub require_references: bool,
    pub require_platforms: Vec<Platform>,
    pub deletes: bool,
    pub read_only: bool,
    pub listener: Listener,
    /// Accounts and rights.
    pub access: cidery_access::Config,
    /// Tags that never change, and tags that go.
    pub tag_rules: TagRules,
}

const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
/// The states of a namespace that are kept.
const DEFAULT_HISTORY: usize = 32;
/// When an upload, or a blob that no manifest named, is given up.
const DEFAULT_EXPIRY: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_SWARM: [&str; 2] = ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"];
const DEFAULT_SWARM_V6: [&str; 2] = ["/ip6/::/tcp/4001", "/ip6/::/udp/4001/quic-v1"];

impl Settings {
    /// Reads the file and decides where the data is.
    pub fn load(global: &cli::Global) -> Result<Self> {
        let file = match &global.config {
            Some(path) => read(path)?,
            None => match default_config() {
                Some(path) if path.exists() => read(&path)?,
                _ => File::default(),
            },
        };
        let data = match global.data.clone().or_else(|| file.data.clone()).or_else(default_data) {
            Some(data) => data,
            None => bail!("no home directory to keep data in: name one with --data DIR"),
        };
        Ok(Self { data, file })
    }

    /// Completes the flags of `serve`.
    pub fn serve(mut self, flags: cli::Serve) -> Result<ServeSettings> {
        let access = access::read(&self.data, &flags, &mut self.file)?;
        let tag_rules = tags::read(&mut self.file)?;
        let hooks = std::mem::take(&mut self.file.webhook).into_iter().zip(1..);
        let webhooks = self.file.named(hooks.map(|(hook, n)| hook.check(n)).collect())?;
        // An environment variable that is empty, or ends in a comma, names nothing.
        let named = |flag: Vec<String>| flag.into_iter().filter(|value| !value.trim().is_empty()).collect::<Vec<_>>();
        let first =
            |flag: Vec<String>, file: Vec<String>| Some(named(flag)).filter(|flag| !flag.is_empty()).unwrap_or(file);
        let swarm = first(flags.swarm, self.file.swarm);
        let listener = listener::Flags {
            tls_cert: self.file.tls_cert,
            tls_key: self.file.tls_key,
            tls_client_ca: self.file.tls_client_ca,
            tls_client: self.file.tls_client,
            cors: self.file.cors,
            max_connections: self.file.max_connections,
            max_uploads: self.file.max_uploads,
            max_downloads: self.file.max_downloads,
            header_timeout: self.file.header_timeout,
            stall_timeout: self.file.stall_timeout,
            search_timeout: self.file.search_timeout,
        };
        let require_references = flags.require_references.or(self.file.require_references);
        let require_platforms = platforms(first(flags.require_platforms, self.file.require_platforms))?;
        if require_references.is_none() && !require_platforms.is_empty() {
            bail!("--require-platforms says what --require-references needs of an index: add that, too");
        }
        Ok(ServeSettings {
            data: self.data,
            http: flags.http.or(self.file.http).unwrap_or(DEFAULT_HTTP),
            metrics: flags.metrics.or(self.file.metrics),
            access_log: flags.access_log.or(self.file.access_log),
            audit_log: flags.audit_log.or(self.file.audit_log),
            webhooks,
            swarm: if swarm.is_empty() { default_swarm() } else { swarm },
            peers: first(flags.peer, self.file.peer),
            bootstrap: bootstrap(first(flags.bootstrap, self.file.bootstrap))?,
            mdns: flags.mdns.or(self.file.mdns).unwrap_or(Switch::On) == Switch::On,
            dns: flags.dns.or(self.file.dns),
            hosts: first(flags.hosts, self.file.hosts),
            cache_limit: flags.cache_limit.or(self.file.cache_limit).map(|size| size.0),
            store_limit: flags.store_limit.or(self.file.store_limit).map(|size| size.0),
            reserve: flags.reserve.or(self.file.reserve).map(|size| size.0),
            history: flags.history.or(self.file.history).map_or(DEFAULT_HISTORY, NonZeroUsize::get),
            upload_expiry: flags.upload_expiry.or(self.file.upload_expiry).map_or(DEFAULT_EXPIRY, |time| time.0),
            access,
            tag_rules,
            blob_expiry: flags.blob_expiry.or(self.file.blob_expiry).map_or(DEFAULT_EXPIRY, |time| time.0),
            require_references: require_references.unwrap_or(false),
            require_platforms,
            deletes: flags.deletes.or(self.file.deletes).unwrap_or(true),
            read_only: flags.read_only.or(self.file.read_only).unwrap_or(false),
            listener: flags.listener.over(listener).settle()?,
        })
    }
}

/// IPv6 only where the kernel has it: an address that is asked for must work.
fn default_swarm() -> Vec<String> {
    let v6 = std::fs::read("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.is_empty());
    let v6 = DEFAULT_SWARM_V6.into_iter().filter(|_| v6);
    DEFAULT_SWARM.into_iter().chain(v6).map(String::from).collect()
}

fn bootstrap(values: Vec<String>) -> Result<Bootstrap> {
    match values.as_slice() {
        [] => Ok(Bootstrap::Default),
        [one] if one == "default" => Ok(Bootstrap::Default),
        [one] if one == "none" => Ok(Bootstrap::None),
        _ => {
            if let Some(word) = values.iter().find(|value| !value.starts_with('/')) {
                bail!("--bootstrap takes default, none, or multiaddrs like /ip4/…/p2p/…, not {word:?} among others");
            }
            Ok(Bootstrap::Addresses(values))
        }
    }
}

fn platforms(values: Vec<String>) -> Result<Vec<Platform>> {
    let read = |value: &String| value.trim().parse().with_context(|| format!("--require-platforms {value}"));
    values.iter().map(read).collect()
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let file = parse(&text).with_context(|| format!("{} is not a valid configuration", path.display()))?;
    Ok(File { path: Some(path.to_owned()), ..file })
}

fn parse(text: &str) -> Result<File> {
    toml::from_str(text).map_err(|error| anyhow::anyhow!(explain::one_line(text, &error)))
}

fn home() -> Option<PathBuf> {
    env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}

fn base(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    set.or_else(|| home().map(|home| home.join(below_home)))
}

fn default_config() -> Option<PathBuf> {
    Some(base("XDG_CONFIG_HOME", ".config")?.join("cidery/config.toml"))
}

pub fn default_data() -> Option<PathBuf> {
    Some(base("XDG_DATA_HOME", ".local/share")?.join("cidery"))
}

#[cfg(test)]
mod tests;
