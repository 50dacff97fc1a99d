//! Which DNS servers are asked: one that was named, or the system's, which are followed as they change.
//! Never getaddrinfo, which a static binary cannot use.

use super::DnsConfig;
use cidery_core::NetworkError;
use hickory_resolver::{
    TokioResolver,
    config::{CLOUDFLARE, ConnectionConfig, NameServerConfig, QUAD9, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    system_conf::parse_resolv_conf,
};
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};
use tracing::{info, warn};

/// How often the system's configuration is looked at: it changes when a laptop changes its network.
const CONFIG_CHECK: Duration = Duration::from_secs(5);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What one user of a resolver asks of it.
type Tune = fn(&mut ResolverOpts);

/// Gives resolvers that ask the servers of the moment.
pub(crate) struct Servers(Kind);

enum Kind {
    Fixed(TokioResolver),
    System(Mutex<System>),
}

impl Servers {
    pub(crate) fn new(config: &DnsConfig, tune: Tune) -> Result<Self, NetworkError> {
        Ok(Self(match config.server {
            Some(_) => Kind::Fixed(build(name_servers(config), tune)?),
            None => Kind::System(Mutex::new(System::new(RESOLV_CONF.into(), tune)?)),
        }))
    }

    /// For one look-up; the next may need another.
    pub(crate) fn resolver(&self) -> TokioResolver {
        match &self.0 {
            Kind::Fixed(resolver) => resolver.clone(),
            Kind::System(system) => {
                let mut system = system.lock();
                system.refresh(Instant::now());
                system.resolver.clone()
            }
        }
    }
}

/// The servers to ask, as they are configured now: for others who resolve names.
pub(crate) fn name_servers(config: &DnsConfig) -> Vec<NameServerConfig> {
    config.server.map_or_else(|| system_servers(Path::new(RESOLV_CONF)), |server| vec![fixed(server)])
}

fn build(servers: Vec<NameServerConfig>, tune: Tune) -> Result<TokioResolver, NetworkError> {
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    // The hosts file is this machine's business, not a stranger's.
    options.use_hosts_file = ResolveHosts::Never;
    tune(options);
    builder.build().map_err(|error| NetworkError::Failed(format!("the DNS client can't be set up: {error}")))
}

/// The servers that a `resolv.conf` names, as it is now and as it becomes.
pub(super) struct System {
    path: PathBuf,
    tune: Tune,
    resolver: TokioResolver,
    checked: Instant,
    version: Option<Version>,
}

/// What tells one state of a file from another.
type Version = (SystemTime, u64);

impl System {
    pub(super) fn new(path: PathBuf, tune: Tune) -> Result<Self, NetworkError> {
        let version = version(&path);
        let resolver = build(system_servers(&path), tune)?;
        Ok(Self { path, tune, resolver, checked: Instant::now(), version })
    }

    /// Reads the file again if it changed, looking now and then only. Says whether it was read.
    pub(super) fn refresh(&mut self, now: Instant) -> bool {
        if now < self.checked + CONFIG_CHECK {
            return false;
        }
        self.checked = now;
        let version = version(&self.path);
        if version == self.version {
            return false;
        }
        self.version = version;
        match build(system_servers(&self.path), self.tune) {
            Ok(resolver) => {
                info!(path = %self.path.display(), "the DNS servers changed");
                self.resolver = resolver;
            }
            Err(error) => warn!(%error, "keeping the earlier DNS servers"),
        }
        true
    }
}

/// One server on any port, and nothing else.
fn fixed(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = server.port();
            connection
        })
        .collect();
    NameServerConfig::new(server.ip(), true, connections)
}

/// The servers that the file names; public ones if it is missing or names none.
pub(super) fn system_servers(path: &Path) -> Vec<NameServerConfig> {
    let parsed = std::fs::read(path).map_err(NetError::from).and_then(parse_resolv_conf);
    match parsed {
        Ok((config, _)) if !config.name_servers().is_empty() => config.name_servers().to_vec(),
        other => {
            let reason = other.err().map_or_else(|| "it names no server".to_owned(), |error| error.to_string());
            warn!(path = %path.display(), %reason, "asking public DNS servers (quad9.net, cloudflare-dns.com)");
            QUAD9.udp_and_tcp().chain(CLOUDFLARE.udp_and_tcp()).collect()
        }
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
