//! Where a request comes from, when proxies stand in between.

use ipnet::IpNet;
use std::{net::IpAddr, str::FromStr};

/// Proxies whose word about who calls is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Reads networks (`10.0.0.0/8`) and addresses.
    ///
    /// # Errors
    /// A message that names the wrong one.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let one = |text: &str| {
            IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from)).map_err(|_| {
                format!("{text:?} is no network: trusted-proxies takes networks like \"10.0.0.0/8\", or addresses")
            })
        };
        texts.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is one of theirs.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address that a request comes from: that of the connection or, as far as trusted proxies say so, the
    /// rightmost one of `X-Forwarded-For` that is none of theirs. What stands left of it anybody can write.
    pub fn source<'a>(&self, peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut source = peer.to_canonical();
        for text in forwarded_for.rev().flat_map(|header| header.rsplit(',')) {
            if !self.trust(source) {
                break;
            }
            let Some(next) = address(text.trim()) else { break };
            source = next;
        }
        source
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(peer: &str, headers: &[&str]) -> String {
        let proxies = Proxies::read(["10.0.0.0/8", "192.0.2.9", "fd00::/8"]).expect("networks");
        proxies.source(peer.parse().expect("an address"), headers.iter().copied()).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(source("198.51.100.1", &["203.0.113.5"]), "198.51.100.1");
        assert_eq!(source("10.1.2.3", &["203.0.113.5"]), "203.0.113.5");
        assert_eq!(source("::ffff:10.1.2.3", &["203.0.113.5:4711"]), "203.0.113.5");
        assert_eq!(source("fd00::1", &["[2001:db8::1]:80"]), "2001:db8::1");
        // The client wrote the first two itself.
        assert_eq!(source("10.1.2.3", &["127.0.0.1, 10.0.0.1", "203.0.113.5, 192.0.2.9"]), "203.0.113.5");
        assert_eq!(source("10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(source("10.1.2.3", &["10.0.0.7"]), "10.0.0.7");
        // What is no address ends the chain.
        assert_eq!(source("10.1.2.3", &["203.0.113.5, unknown, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        assert!(Proxies::read(["10.0.0.0/33"]).is_err_and(|error| error.contains("10.0.0.0/33")));
        assert!(Proxies::read(["proxy.lan"]).is_err());
        assert!(!Proxies::default().trust([127, 0, 0, 1].into()));
    }
}
