//! Addresses of hosts that the operator names: as other programs of this machine would find them, by the hosts file
//! and then by DNS.

use crate::naming::{DnsConfig, Servers};
use cidery_core::NetworkError;
use hickory_resolver::config::ResolveHosts;
use std::net::{IpAddr, SocketAddr};

/// Looks hosts up.
pub struct Hosts(Servers);

impl Hosts {
    /// At a DNS server, or at the system's, which are followed as they change.
    ///
    /// # Errors
    /// [`NetworkError::Failed`] if the DNS client cannot be set up.
    pub fn new(dns: Option<SocketAddr>) -> Result<Self, NetworkError> {
        let servers =
            Servers::new(&DnsConfig { server: dns }, |options| options.use_hosts_file = ResolveHosts::Always)?;
        Ok(Self(servers))
    }

    /// A host's addresses; an address is its own.
    ///
    /// # Errors
    /// [`NetworkError::Failed`] if it has none, or nobody answers.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, NetworkError> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        let found = self.0.resolver().lookup_ip(host).await;
        let found = found.map_err(|error| NetworkError::Failed(format!("{host:?} has no address: {error}")))?;
        Ok(found.iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_this_machine_need_no_server() {
        let hosts = Hosts::new(Some(([127, 0, 0, 1], 9).into())).unwrap();
        for (host, expected) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
            assert_eq!(hosts.lookup(host).await.unwrap(), [expected.parse::<IpAddr>().unwrap()]);
        }
        assert!(hosts.lookup("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
    }
}
