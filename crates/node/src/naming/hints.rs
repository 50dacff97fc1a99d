//! Which of the multiaddrs that a name's owner recommends are worth a dial. Hints come from strangers:
//! they may name this node itself, its neighbours' machines, or nothing at all.

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::{Iter, Protocol},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hints that are used of one name, at most.
pub(crate) const MAX_HINTS: usize = 16;
/// Hints that are looked at before giving up on finding [`MAX_HINTS`] usable ones.
const MAX_LOOKED_AT: usize = 128;
/// Characters of one hint: a relayed address with two long peer ids is under 300.
pub(super) const MAX_HINT_LEN: usize = 512;

/// Where this node stands, as far as hints are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach<'a> {
    /// This node, which is never dialled.
    pub(crate) own_peer: PeerId,
    /// Addresses of this node's network interfaces: a private range that none of them is in is out of reach.
    pub(crate) interfaces: &'a [IpAddr],
    /// Whether this node listens on loopback; only then may its peers be there too.
    pub(crate) loopback: bool,
}

/// The hints that can be dialled and that a stranger may make this node dial, in their order, without
/// repetition, at most [`MAX_HINTS`].
///
/// Kept are `/<host>/tcp/<port>/p2p/<id>` and `/<host>/udp/<port>/quic-v1/p2p/<id>`, also through one
/// relay, and `/dnsaddr/<host>/p2p/<id>`. A host is an IP address that [`Reach`] allows, or a DNS name.
/// What a DNS name stands for is not known here: expand `/dnsaddr/` first ([`super::Naming::dnsaddr`]),
/// so that what it hides is looked at as well.
pub(crate) fn usable_hints(hints: &[String], reach: &Reach<'_>) -> Vec<Multiaddr> {
    let mut usable: Vec<Multiaddr> = Vec::new();
    for hint in hints.iter().take(MAX_LOOKED_AT) {
        if usable.len() == MAX_HINTS {
            break;
        }
        if let Some(address) = parse_hint(hint)
            && is_usable(&address, reach)
            && !usable.contains(&address)
        {
            usable.push(address);
        }
    }
    usable
}

/// A hint's multiaddr, if it is one, not too long, and ends in `/p2p/<id>`.
pub(super) fn parse_hint(text: &str) -> Option<Multiaddr> {
    if text.len() > MAX_HINT_LEN {
        return None;
    }
    let address: Multiaddr = text.parse().ok()?;
    matches!(address.iter().last(), Some(Protocol::P2p(_))).then_some(address)
}

pub(crate) fn is_usable(address: &Multiaddr, reach: &Reach<'_>) -> bool {
    let mut parts = address.iter();
    if !host_and_transport(&mut parts, reach) {
        return false;
    }
    // Exactly one peer, or a relay and the peer behind it.
    let Some(Protocol::P2p(first)) = parts.next() else { return false };
    let relayed = match (parts.next(), parts.next()) {
        (None, _) => true,
        (Some(Protocol::P2pCircuit), Some(Protocol::P2p(target))) => target != reach.own_peer && target != first,
        _ => false,
    };
    first != reach.own_peer && relayed && parts.next().is_none()
}

/// Takes the host and a transport this node speaks from the front of an address.
fn host_and_transport(parts: &mut Iter<'_>, reach: &Reach<'_>) -> bool {
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip_allowed(IpAddr::V4(ip), reach),
        Some(Protocol::Ip6(ip)) => ip_allowed(IpAddr::V6(ip), reach),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => dns_allowed(&name, reach),
        Some(Protocol::Dnsaddr(name)) => return dns_allowed(&name, reach),
        _ => false,
    };
    host && match parts.next() {
        Some(Protocol::Tcp(port)) => port != 0,
        Some(Protocol::Udp(port)) => port != 0 && matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    }
}

pub(crate) fn ip_allowed(ip: IpAddr, reach: &Reach<'_>) -> bool {
    match scope(ip) {
        Scope::Global => true,
        Scope::Loopback => reach.loopback,
        Scope::Private(range) => reach.interfaces.iter().any(|own| scope(*own) == Scope::Private(range)),
        Scope::Never => false,
    }
}

/// A name with a dot, and `localhost` where loopback is allowed: the search list of this machine's
/// resolver is not a stranger's business.
fn dns_allowed(name: &str, reach: &Reach<'_>) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return reach.loopback;
    }
    let label = |part: &str| {
        (1..=63).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    // A last label of digits is an IP address in disguise.
    let dotted = name.rsplit_once('.').is_some_and(|(_, top)| top.bytes().any(|c| c.is_ascii_alphabetic()));
    name.len() <= 253 && dotted && name.split('.').all(label)
}

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Global,
    Loopback,
    Private(Range),
    /// Nothing that answers: unspecified, multicast, broadcast, documentation, reserved.
    Never,
}

/// The ranges that mean another machine in every network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// 10.0.0.0/8
    Ten,
    /// 172.16.0.0/12
    SeventeenTwo,
    /// 192.168.0.0/16
    NineteenTwo,
    /// 100.64.0.0/10, behind a carrier's NAT
    Carrier,
    /// 198.18.0.0/15, benchmarking
    Benchmark,
    /// 169.254.0.0/16
    LinkLocal4,
    /// fe80::/10
    LinkLocal6,
    /// fc00::/7
    UniqueLocal,
    /// fec0::/10, deprecated
    SiteLocal,
}

pub(crate) fn scope(ip: IpAddr) -> Scope {
    match ip {
        IpAddr::V4(ip) => scope4(ip),
        IpAddr::V6(ip) => scope6(ip),
    }
}

fn scope4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [127, ..] => Scope::Loopback,
        [10, ..] => Scope::Private(Range::Ten),
        [172, 16..=31, ..] => Scope::Private(Range::SeventeenTwo),
        [192, 168, ..] => Scope::Private(Range::NineteenTwo),
        [100, 64..=127, ..] => Scope::Private(Range::Carrier),
        [198, 18..=19, ..] => Scope::Private(Range::Benchmark),
        [169, 254, ..] => Scope::Private(Range::LinkLocal4),
        [0 | 224.., ..] | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Scope::Never,
        _ => Scope::Global,
    }
}

fn scope6(ip: Ipv6Addr) -> Scope {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        scope4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        // An IPv4 address in another dress reaches as far as that address: mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        [0xfe80..=0xfebf, ..] => Scope::Private(Range::LinkLocal6),
        [0xfec0..=0xfeff, ..] => Scope::Private(Range::SiteLocal),
        [0xfc00..=0xfdff, ..] => Scope::Private(Range::UniqueLocal),
        // Only 2000::/3 is given out, less the documentation prefix.
        [0x2001, 0xdb8, ..] => Scope::Never,
        [0x2000..=0x3fff, ..] => Scope::Global,
        _ => Scope::Never,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";
    const RELAY: &str = "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ";
    const OWN: &str = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";

    fn kept(hint: &str, interfaces: &[&str], loopback: bool) -> bool {
        let interfaces: Vec<IpAddr> = interfaces.iter().map(|ip| ip.parse().unwrap()).collect();
        let reach = Reach { own_peer: OWN.parse().unwrap(), interfaces: &interfaces, loopback };
        let hint = hint.replace("ID", PEER).replace("RELAY", RELAY).replace("OWN", OWN);
        !usable_hints(&[hint], &reach).is_empty()
    }

    #[test]
    fn addresses_that_anyone_may_be_sent_to() {
        for hint in [
            "/ip4/104.131.131.82/tcp/4001/p2p/ID",
            "/ip4/104.131.131.82/udp/4001/quic-v1/p2p/ID",
            "/ip6/2604:a880::1/tcp/4001/p2p/ID",
            "/dns4/node.example.com/tcp/4001/p2p/ID",
            "/dns/node.example.com/udp/4001/quic-v1/p2p/ID",
            "/dnsaddr/bootstrap.libp2p.io/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/p2p/RELAY/p2p-circuit/p2p/ID",
        ] {
            assert!(kept(hint, &[], false), "{hint}");
        }
    }

    #[test]
    fn addresses_of_the_wrong_shape() {
        for hint in [
            "",
            "nonsense",
            "/ip4/104.131.131.82/tcp/4001",
            "/p2p/ID",
            "/ip4/104.131.131.82/p2p/ID",
            "/ip4/104.131.131.82/tcp/0/p2p/ID",
            "/ip4/104.131.131.82/udp/4001/p2p/ID",
            "/ip4/104.131.131.82/udp/4001/quic/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/p2p/ID/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/p2p/ID/tcp/4002",
            "/ip4/104.131.131.82/tcp/4001/ip4/104.131.131.83/tcp/1/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/p2p/ID/p2p-circuit",
            "/ip4/104.131.131.82/tcp/4001/p2p-circuit/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/p2p/RELAY/p2p-circuit/p2p/RELAY/p2p-circuit/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/p2p/RELAY/p2p-circuit/p2p/RELAY",
            "/unix/%2Fvar%2Frun%2Fdocker.sock/p2p/ID",
            "/memory/1/p2p/ID",
            "/ip6zone/eth0/ip6/fe80::1/tcp/4001/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/ws/p2p/ID",
        ] {
            assert!(!kept(hint, &["10.0.0.1", "fe80::2"], true), "{hint}");
        }
        assert!(!kept(&format!("/dns4/{}.com/tcp/1/p2p/ID", "a.".repeat(250)), &[], true));
    }

    #[test]
    fn this_node_is_never_a_hint() {
        for hint in [
            "/ip4/104.131.131.82/tcp/4001/p2p/OWN",
            "/dnsaddr/example.com/p2p/OWN",
            "/ip4/104.131.131.82/tcp/4001/p2p/OWN/p2p-circuit/p2p/ID",
            "/ip4/104.131.131.82/tcp/4001/p2p/RELAY/p2p-circuit/p2p/OWN",
        ] {
            assert!(!kept(hint, &[], true), "{hint}");
        }
    }

    #[test]
    fn private_ranges_only_with_an_interface_in_them() {
        for (ip, interface) in [
            ("/ip4/10.1.2.3", "10.9.0.1"),
            ("/ip4/172.20.0.5", "172.16.0.1"),
            ("/ip4/192.168.7.5", "192.168.0.1"),
            ("/ip4/100.64.1.1", "100.127.0.1"),
            ("/ip4/169.254.1.1", "169.254.7.7"),
            ("/ip6/fe80::1", "fe80::9"),
            ("/ip6/fd00::1", "fd00::9"),
            ("/ip6/::ffff:10.1.2.3", "10.9.0.1"),
            ("/ip6/64:ff9b::a01:203", "10.9.0.1"),
            ("/ip6/2002:a01:203::1", "10.9.0.1"),
        ] {
            let hint = format!("{ip}/tcp/4001/p2p/ID");
            assert!(kept(&hint, &["8.8.8.8", interface], false), "{hint}");
            assert!(!kept(&hint, &[], true), "{hint}");
            assert!(!kept(&hint, &["8.8.8.8", "198.18.0.1", "fec0::1"], true), "{hint}");
        }
    }

    #[test]
    fn loopback_only_for_who_listens_there() {
        for host in ["/ip4/127.0.0.1", "/ip4/127.9.9.9", "/ip6/::1", "/ip6/::ffff:127.0.0.1", "/dns4/localhost"] {
            let hint = format!("{host}/tcp/4001/p2p/ID");
            assert!(kept(&hint, &[], true), "{hint}");
            assert!(!kept(&hint, &["127.0.0.1", "::1"], false), "{hint}");
        }
    }

    #[test]
    fn nothing_is_sent_where_nothing_answers() {
        for host in [
            "/ip4/0.0.0.0",
            "/ip4/224.0.0.251",
            "/ip4/255.255.255.255",
            "/ip4/240.0.0.1",
            "/ip4/192.0.2.1",
            "/ip6/::",
            "/ip6/ff02::1",
            "/ip6/2001:db8::1",
            "/ip6/::10.0.0.1",
            "/dns4/intranet",
            "/dns4/10.0.0.1",
            "/dns4/a b.com",
        ] {
            let hint = format!("{host}/tcp/4001/p2p/ID");
            assert!(!kept(&hint, &["10.0.0.1", "0.0.0.0", "ff02::1"], true), "{hint}");
        }
    }

    #[test]
    fn the_first_sixteen_different_ones_of_a_flood() {
        let mut hints = vec!["rubbish".to_owned(); 5];
        for port in 1..=1000 {
            hints.extend(vec![format!("/ip4/104.131.131.82/tcp/{port}/p2p/{PEER}"); 2]);
        }
        let reach = Reach { own_peer: OWN.parse().unwrap(), interfaces: &[], loopback: false };
        let usable = usable_hints(&hints, &reach);
        assert_eq!(usable.len(), MAX_HINTS);
        assert!(usable[15].to_string().contains("/tcp/16/"));
        assert!(usable_hints(&vec!["rubbish".to_owned(); 100_000], &reach).is_empty());
    }
}
