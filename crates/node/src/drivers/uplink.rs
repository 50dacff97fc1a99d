//! Which way this machine's traffic leaves. When that changes, it moved to another network, and what was
//! known of its public addresses is wrong; interfaces that come and go beside it (containers, IPv6
//! privacy addresses) mean nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses that nobody has (RFC 5737, RFC 3849), so that nothing but a default route leads there.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Where traffic to the outside leaves from, for IPv4 and IPv6; `None` where there is no route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Uplink([Option<IpAddr>; 2]);

impl Uplink {
    /// As the system would route now. Sends nothing.
    pub(crate) fn now() -> Self {
        Self(OUTSIDE.map(|outside| source(outside).ok().map(network)))
    }

    /// Which public addresses are not this machine's any more, when `next` is the uplink now and the
    /// address `gone`, if any, has just vanished from an interface.
    pub(crate) fn lost(self, next: Self, gone: Option<IpAddr>) -> impl Fn(IpAddr) -> bool {
        let left = [0, 1].map(|family| self.0[family].is_some() && self.0[family] != next.0[family]);
        move |ip| gone == Some(ip) || left[usize::from(ip.is_ipv6())]
    }
}

/// The address that a datagram to `outside` would carry.
fn source(outside: IpAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if outside.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // For a datagram socket this is a look at the routing table.
    socket.connect(SocketAddr::new(outside, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// What stays the same in one network: the address itself, or the /64 that privacy addresses share.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn uplink(v4: &str, v6: &str) -> Uplink {
        Uplink([v4, v6].map(|text| text.parse().ok().map(network)))
    }

    #[test]
    fn only_a_change_of_the_uplink_counts() {
        let home = uplink("192.168.1.5", "2a00::1:5");
        let (v4, v6) = (ip("8.8.8.8"), ip("2a00::1:7"));
        // A container's bridge, a privacy address.
        for gone in [None, Some(ip("172.17.0.1")), Some(ip("2a00::1:5"))] {
            let lost = home.lost(uplink("192.168.1.5", "2a00::1:6"), gone);
            assert!(!lost(v4) && !lost(v6), "{gone:?}");
        }
        // The address itself.
        let lost = home.lost(home, Some(v6));
        assert!(!lost(v4) && lost(v6));
        // Another network, or none, for one of the two.
        for next in [uplink("192.168.9.5", "2a00::1:5"), uplink("", "2a00::1:5")] {
            let lost = home.lost(next, None);
            assert!(lost(v4) && !lost(v6));
        }
        let lost = home.lost(uplink("192.168.1.5", "2a00:0:0:1::5"), None);
        assert!(!lost(v4) && lost(v6));
        // A first route makes nothing wrong.
        let lost = Uplink::default().lost(home, None);
        assert!(!lost(v4) && !lost(v6));
    }
}
