//! Names among hints, made into addresses: so that what they stand for is judged before it is dialled.

use crate::naming::{DnsConfig, Naming, Servers};
use cidery_core::NetworkError;
use futures::{StreamExt, stream};
use libp2p::{Multiaddr, multiaddr::Protocol};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// Look-ups at a time, for one list of hints.
const CONCURRENT: usize = 8;
/// Addresses taken of one name.
const MAX_ADDRESSES: usize = 4;
/// All of it takes no longer than this; what is there by then is used.
const DEADLINE: Duration = Duration::from_secs(4);

/// Resolves the names in multiaddrs.
#[derive(Clone)]
pub(crate) struct Expander {
    naming: Arc<Naming>,
    servers: Arc<Servers>,
}

/// Whether an address starts with a name.
pub(crate) fn is_named(text: &str) -> bool {
    ["/dns/", "/dns4/", "/dns6/", "/dnsaddr/"].iter().any(|prefix| text.starts_with(prefix))
}

impl Expander {
    pub(crate) fn new(naming: Arc<Naming>, config: &DnsConfig) -> Result<Self, NetworkError> {
        let servers = Servers::new(config, |options| {
            options.timeout = Duration::from_secs(2);
            options.attempts = 1;
        })?;
        Ok(Self { naming, servers: Arc::new(servers) })
    }

    /// What these addresses stand for: each starts with an IP address. Not judged yet.
    pub(crate) async fn expand(&self, named: Vec<String>) -> Vec<String> {
        let mut found = Vec::new();
        let work = async {
            let listed = stream::iter(named)
                .map(|address| async move { self.naming.dnsaddr(&address).await })
                .buffer_unordered(CONCURRENT);
            let listed: Vec<String> = listed.flat_map(stream::iter).take(CONCURRENT * MAX_ADDRESSES).collect().await;
            let mut resolved = stream::iter(listed)
                .map(|address| async move { self.resolve(&address).await })
                .buffer_unordered(CONCURRENT);
            while let Some(addresses) = resolved.next().await {
                found.extend(addresses);
            }
        };
        if tokio::time::timeout(DEADLINE, work).await.is_err() {
            tracing::debug!("names among hints took too long");
        }
        found
    }

    async fn resolve(&self, text: &str) -> Vec<String> {
        let Ok(address) = text.parse::<Multiaddr>() else { return Vec::new() };
        let (name, wanted): (_, fn(&IpAddr) -> bool) = match address.iter().next() {
            Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => return vec![text.to_owned()],
            Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
            Some(Protocol::Dns4(name)) => (name.into_owned(), IpAddr::is_ipv4),
            Some(Protocol::Dns6(name)) => (name.into_owned(), IpAddr::is_ipv6),
            _ => return Vec::new(),
        };
        // The final dot keeps this machine's search list out of it.
        let name = format!("{}.", name.trim_end_matches('.'));
        match self.servers.resolver().lookup_ip(name).await {
            Ok(answer) => answer
                .iter()
                .filter(wanted)
                .take(MAX_ADDRESSES)
                .filter_map(|ip| address.replace(0, |_| Some(ip.into())).map(|address| address.to_string()))
                .collect(),
            Err(error) => {
                tracing::debug!(%error, address = text, "a hint's name does not resolve");
                Vec::new()
            }
        }
    }
}
