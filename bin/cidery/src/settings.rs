//! Flags over environment over a small TOML file over defaults, turned into usable values in one step.

mod access;
mod tags;

use crate::{
    cli::{self, Switch},
    listener::{self, ClientMode, Listener},
    ops::{
        lines::Destination,
        webhook::{Hook, Webhook},
    },
    units::{Size, Time},
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
    data: Option<PathBuf>,
    http: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    access_log: Option<Destination>,
    audit_log: Option<Destination>,
    webhook: Vec<Webhook>,
    swarm: Vec<String>,
    peer: Vec<String>,
    bootstrap: Vec<String>,
    mdns: Option<Switch>,
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
    anonymous_pull: bool,
    trusted_proxies: Vec<String>,
    insecure_auth: bool,
    auth_challenge: Option<access::Scheme>,
    groups: cidery_access::Groups,
    access: Vec<cidery_access::Rule>,
    tags: Vec<tags::Tags>,
    retention: Vec<tags::Keep>,
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
        Ok(ServeSettings {
            data: self.data,
            http: flags.http.or(self.file.http).unwrap_or(DEFAULT_HTTP),
            metrics: flags.metrics.or(self.file.metrics),
            access_log: flags.access_log.or(self.file.access_log),
            audit_log: flags.audit_log.or(self.file.audit_log),
            webhooks: self.file.webhook.into_iter().zip(1..).map(|(hook, n)| hook.check(n)).collect::<Result<_>>()?,
            swarm: if swarm.is_empty() { default_swarm() } else { swarm },
            peers: first(flags.peer, self.file.peer),
            bootstrap: bootstrap(first(flags.bootstrap, self.file.bootstrap))?,
            mdns: flags.mdns.or(self.file.mdns).unwrap_or(Switch::On) == Switch::On,
            dns: flags.dns.or(self.file.dns),
            hosts: self.file.hosts,
            cache_limit: flags.cache_limit.or(self.file.cache_limit).map(|size| size.0),
            store_limit: flags.store_limit.or(self.file.store_limit).map(|size| size.0),
            reserve: flags.reserve.or(self.file.reserve).map(|size| size.0),
            history: flags.history.or(self.file.history).map_or(DEFAULT_HISTORY, NonZeroUsize::get),
            upload_expiry: flags.upload_expiry.or(self.file.upload_expiry).map_or(DEFAULT_EXPIRY, |time| time.0),
            access,
            tag_rules,
            blob_expiry: flags.blob_expiry.or(self.file.blob_expiry).map_or(DEFAULT_EXPIRY, |time| time.0),
            require_references: flags.require_references.or(self.file.require_references).unwrap_or(false),
            require_platforms: platforms(first(flags.require_platforms, self.file.require_platforms))?,
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
    parse(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

/// The parser shows the line and a caret, over several lines; an error here is one line.
fn parse(text: &str) -> Result<File> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("line {line}: {}", error.message().replace('\n', " "))
    })
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
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings { data: "d".into(), file: toml::from_str(text).expect("valid") }
    }

    #[test]
    fn defaults_are_safe() {
        let serve = settings("").serve(cli::Serve::default()).expect("valid");
        assert!(serve.http.ip().is_loopback());
        assert_eq!(serve.http.port(), 5000);
        assert!(serve.swarm.iter().all(|address| address.contains("/4001")));
        assert_eq!(serve.bootstrap, Bootstrap::Default);
        assert_eq!((serve.cache_limit, serve.store_limit, serve.reserve, serve.history), (None, None, None, 32));
        assert_eq!((serve.upload_expiry, serve.blob_expiry), (DEFAULT_EXPIRY, DEFAULT_EXPIRY));
    }

    #[test]
    fn limits_come_from_the_flag_or_the_file() {
        let file = "cache-limit = \"50GiB\"\nstore-limit = 1000\nreserve = \"0\"\nhistory = 5\nupload-expiry = \"2h\"\n\
                    blob-expiry = \"30m\"";
        let serve = settings(file).serve(cli::Serve::default()).expect("valid");
        assert_eq!((serve.cache_limit, serve.store_limit, serve.reserve), (Some(50 << 30), Some(1000), Some(0)));
        assert_eq!((serve.history, serve.upload_expiry.as_secs(), serve.blob_expiry.as_secs()), (5, 7200, 1800));
        let flags = cli::Serve { cache_limit: Some(Size(7)), history: NonZeroUsize::new(1), ..Default::default() };
        let serve = settings(file).serve(flags).expect("valid");
        assert_eq!((serve.cache_limit, serve.store_limit, serve.history), (Some(7), Some(1000), 1));
        for wrong in ["history = 0", "cache-limit = \"50 gigs\"", "reserve = -1", "blob-expiry = \"soon\""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_file_has_the_listeners_keys() {
        let file = "tls-cert = \"c\"\ntls-key = \"k\"\ntls-client-ca = \"a\"\ntls-client = \"optional\"\n\
                    cors = [\"https://ui.example\"]\nmax-connections = 7\nmax-uploads = 5\nmax-downloads = 6\n\
                    header-timeout = \"5s\"\nstall-timeout = \"1m\"\nsearch-timeout = \"2m\"";
        let listener = settings(file).serve(cli::Serve::default()).expect("valid").listener;
        assert_eq!(listener.tls.expect("there is TLS").clients, Some(("a".into(), false)));
        assert_eq!(listener.cors.len(), 1);
        assert_eq!(
            (listener.max_connections, listener.max_uploads, listener.max_downloads),
            (Some(7), Some(5), Some(6))
        );
        let seconds = [listener.header_timeout, listener.stall_timeout, listener.search_timeout];
        assert_eq!(seconds.map(|time| time.map(|time| time.as_secs())), [Some(5), Some(60), Some(120)]);
        for wrong in ["max-uploads = 0", "tls-client = \"maybe\"", "cors = \"https://ui.example\"", "stall-timeout = 5"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_is_told_what_happens() {
        let file = "metrics = \"127.0.0.1:9100\"\naccess-log = \"stderr\"\naudit-log = \"/a\"\n\
                    [[webhook]]\nurl = \"https://a.example/\"\n[[webhook]]\nurl = \"http://b.example/\"";
        let serve = settings(file).serve(cli::Serve::default()).expect("valid");
        assert_eq!(serve.metrics.map(|address| address.port()), Some(9100));
        assert_eq!(serve.access_log, Some(Destination::Stderr));
        assert_eq!(serve.webhooks.iter().map(Hook::host).collect::<Vec<_>>(), ["a.example", "b.example"]);
        let flags = cli::Serve { audit_log: Some(Destination::File("/b".into())), ..Default::default() };
        assert_eq!(settings(file).serve(flags).expect("valid").audit_log, Some(Destination::File("/b".into())));
        let wrong =
            settings("[[webhook]]\nurl = \"https://a/\"\n[[webhook]]\nurl = \"b\"").serve(cli::Serve::default());
        assert!(wrong.is_err_and(|error| format!("{error:#}").starts_with("webhook 2: ")));
        let none = settings("").serve(cli::Serve::default()).expect("valid");
        assert!(none.metrics.is_none() && none.access_log.is_none() && none.audit_log.is_none());
    }

    #[test]
    fn a_flag_beats_the_file() {
        let file = "http = \"127.0.0.1:1\"\npeer = [\"/ip4/1.1.1.1/tcp/1\"]\nmdns = \"off\"\nbootstrap = [\"none\"]";
        let from_file = settings(file).serve(cli::Serve::default()).expect("valid");
        assert_eq!((from_file.http.port(), from_file.mdns), (1, false));
        assert_eq!(from_file.bootstrap, Bootstrap::None);
        let flags = cli::Serve {
            http: Some(([127, 0, 0, 1], 2).into()),
            mdns: Some(Switch::On),
            peer: vec!["/ip4/2.2.2.2/tcp/2".into()],
            ..Default::default()
        };
        let serve = settings(file).serve(flags).expect("valid");
        assert_eq!((serve.http.port(), serve.mdns, serve.peers.len()), (2, true, 1));
        assert!(serve.peers[0].contains("2.2.2.2"));
    }

    #[test]
    fn what_is_taken_over_http() {
        let serve = settings("").serve(cli::Serve::default()).expect("valid");
        assert_eq!((serve.require_references, serve.deletes, serve.read_only), (false, true, false));
        let file = "require-references = true\nrequire-platforms = [\"linux/amd64\", \"linux/arm/v7\"]\ndeletes = false\n\
                    read-only = true";
        let serve = settings(file).serve(cli::Serve::default()).expect("valid");
        assert_eq!((serve.require_references, serve.deletes, serve.read_only), (true, false, true));
        assert_eq!(serve.require_platforms[1].variant.as_deref(), Some("v7"));
        let flags = cli::Serve { require_references: Some(false), deletes: Some(true), ..Default::default() };
        let serve = settings(file).serve(flags).expect("valid");
        assert_eq!((serve.require_references, serve.deletes, serve.read_only), (false, true, true));
        assert!(settings("require-platforms = [\"linux\"]").serve(cli::Serve::default()).is_err());
    }

    #[test]
    fn what_is_blank_names_nothing() {
        let blank = || vec![String::new(), " ".into()];
        let flags = cli::Serve { swarm: blank(), peer: blank(), bootstrap: blank(), ..Default::default() };
        let serve = settings("bootstrap = [\"none\"]").serve(flags).expect("valid");
        assert_eq!((serve.swarm, serve.peers, serve.bootstrap), (default_swarm(), vec![], Bootstrap::None));
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        let error = parse("mdns = \"on\"\nhtttp = \"127.0.0.1:1\"").err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.starts_with("line 2: ") && !text.contains('\n')));
        assert!(bootstrap(vec!["defualt".into()]).is_err());
        assert!(bootstrap(vec!["none".into(), "/ip4/1.1.1.1".into()]).is_err());
    }
}
