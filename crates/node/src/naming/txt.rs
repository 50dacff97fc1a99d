//! TXT records over hickory.

use super::{DnsConfig, servers::Servers};
use cidery_core::NetworkError;
use hickory_resolver::{
    config::ResolverOpts,
    net::{DnsError, NetError},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
};
use std::time::Duration;

/// One attempt of a query, retransmissions over UDP and the change to TCP included.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Attempts after the first.
const RETRIES: usize = 1;
/// Records of one answer that are looked at.
const MAX_RECORDS: usize = 256;
/// Steps of a CNAME chain that are followed within an answer.
const MAX_CNAMES: usize = 8;

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

impl TxtClient {
    pub(super) fn new(config: &DnsConfig) -> Result<Self, NetworkError> {
        let tune = |options: &mut ResolverOpts| {
            options.timeout = ATTEMPT;
            options.attempts = RETRIES;
            options.edns0 = true;
            // Whole resolutions are cached, not records: see the cache beside this file.
            options.cache_size = 0;
        };
        Ok(Self { servers: Servers::new(config, tune)? })
    }

    /// The TXT records of a fully qualified name without its final dot. Takes at most two attempts of 3 s.
    pub(super) async fn lookup(&self, name: &str) -> Result<Texts, Miss> {
        let name = fqdn(name)?;
        let resolver = self.servers.resolver();
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
