//! TXT records over hickory: the only place that speaks DNS. Never getaddrinfo, which a static binary
//! cannot use.

use super::DnsConfig;
use cidery_core::NetworkError;
use hickory_resolver::{
    TokioResolver,
    config::{CLOUDFLARE, ConnectionConfig, NameServerConfig, QUAD9, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};
use tracing::{info, warn};

/// One attempt of a query, retransmissions over UDP and the change to TCP included.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Attempts after the first.
const RETRIES: usize = 1;
/// How often the system's configuration is looked at: it changes when a laptop changes its network.
const CONFIG_CHECK: Duration = Duration::from_secs(5);
/// Records of one answer that are looked at.
const MAX_RECORDS: usize = 256;
/// Steps of a CNAME chain that are followed within an answer.
const MAX_CNAMES: usize = 8;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The texts at one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    /// One per record, its character-strings joined; what is not UTF-8 is left out.
    pub(super) texts: Vec<String>,
    /// How long all of them may be kept.
    pub(super) ttl: Duration,
}

/// Why there are no texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The name exists and has no TXT record.
    NoRecord,
    /// The server won't answer for this name. A statement about the name, not a passing failure.
    Refused,
    /// No answer, or none that can be used; the text says what went wrong.
    Failed(String),
    /// The name cannot be asked for at all.
    Unaskable(String),
}

/// Asks for TXT records.
pub(super) struct TxtClient {
    servers: Servers,
}

enum Servers {
    Fixed(TokioResolver),
    System(Mutex<System>),
}

impl TxtClient {
    pub(super) fn new(config: &DnsConfig) -> Result<Self, NetworkError> {
        let servers = match config.server {
            Some(_) => Servers::Fixed(build(name_servers(config))?),
            None => Servers::System(Mutex::new(System::new(RESOLV_CONF.into())?)),
        };
        Ok(Self { servers })
    }

    fn resolver(&self) -> TokioResolver {
        match &self.servers {
            Servers::Fixed(resolver) => resolver.clone(),
            Servers::System(system) => {
                let mut system = system.lock();
                system.refresh(Instant::now());
                system.resolver.clone()
            }
        }
    }

    /// The TXT records of a fully qualified name without its final dot. Takes at most two attempts of 3 s.
    pub(super) async fn lookup(&self, name: &str) -> Result<Texts, Miss> {
        let name = fqdn(name)?;
        let resolver = self.resolver();
        let deadline = ATTEMPT * (RETRIES as u32 + 1);
        match tokio::time::timeout(deadline, resolver.lookup(name.clone(), RecordType::TXT)).await {
            Ok(Ok(lookup)) => texts(&name, lookup.answers()),
            Ok(Err(error)) => Err(miss(&error)),
            Err(_) => Err(Miss::Failed(format!("no DNS server answered within {} s", deadline.as_secs()))),
        }
    }
}

fn fqdn(name: &str) -> Result<Name, Miss> {
    let mut name = Name::from_ascii(name).map_err(|error| Miss::Unaskable(error.to_string()))?;
    // Without this the search list of resolv.conf would be tried.
    name.set_fqdn(true);
    Ok(name)
}

fn build(servers: Vec<NameServerConfig>) -> Result<TokioResolver, NetworkError> {
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = ATTEMPT;
    options.attempts = RETRIES;
    options.edns0 = true;
    options.use_hosts_file = ResolveHosts::Never;
    // Whole resolutions are cached, not records: see the cache beside this file.
    options.cache_size = 0;
    builder.build().map_err(|error| NetworkError::Failed(format!("the DNS client can't be set up: {error}")))
}

/// The servers to ask, as they are configured now: for others who resolve names.
pub(crate) fn name_servers(config: &DnsConfig) -> Vec<NameServerConfig> {
    config.server.map_or_else(|| system_servers(Path::new(RESOLV_CONF)), |server| vec![fixed(server)])
}

/// The servers that a `resolv.conf` names, as it is now and as it becomes.
pub(super) struct System {
    path: PathBuf,
    resolver: TokioResolver,
    checked: Instant,
    version: Option<Version>,
}

/// What tells one state of a file from another.
type Version = (SystemTime, u64);

impl System {
    pub(super) fn new(path: PathBuf) -> Result<Self, NetworkError> {
        let version = version(&path);
        let resolver = build(system_servers(&path))?;
        Ok(Self { path, resolver, checked: Instant::now(), version })
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
        match build(system_servers(&self.path)) {
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

/// The texts that belong to `name`, through CNAMEs: an answer may carry records of other names.
fn texts(name: &Name, answers: &[Record]) -> Result<Texts, Miss> {
    let answers = &answers[..answers.len().min(MAX_RECORDS)];
    let mut owner = name;
    let mut ttl = u32::MAX;
    for _ in 0..MAX_CNAMES {
        let next = answers.iter().filter(|record| record.name == *owner).find_map(|record| match &record.data {
            RData::CNAME(target) => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, its_ttl)) = next else { break };
        ttl = ttl.min(its_ttl);
        owner = target;
    }
    let mut texts = Vec::new();
    let mut found = false;
    for record in answers.iter().filter(|record| record.name == *owner) {
        if let RData::TXT(txt) = &record.data {
            found = true;
            ttl = ttl.min(record.ttl);
            texts.extend(String::from_utf8(txt.txt_data.concat()));
        }
    }
    if found { Ok(Texts { texts, ttl: Duration::from_secs(ttl.into()) }) } else { Err(Miss::NoRecord) }
}

fn miss(error: &NetError) -> Miss {
    match error {
        error if error.is_nx_domain() => Miss::NoName,
        NetError::Dns(DnsError::NoRecordsFound(_)) => Miss::NoRecord,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused | ResponseCode::NotImp)) => Miss::Refused,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            Miss::Failed("the DNS server answered SERVFAIL: it could not reach the domain's own servers".into())
        }
        NetError::Dns(DnsError::ResponseCode(code)) => Miss::Failed(format!("the DNS server answered: {code}")),
        NetError::Timeout => Miss::Failed("no DNS server answered in time".into()),
        NetError::Proto(error) => Miss::Failed(format!("the DNS server's answer can't be read: {error}")),
        other => Miss::Failed(format!("the DNS query failed: {other}")),
    }
}
