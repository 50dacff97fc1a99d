//! Which multiaddrs concern which network, and which of those that strangers name are worth a dial.

use crate::naming::hints::{self, Reach, Scope, ip_allowed, scope};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use parking_lot::RwLock;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// The two DHTs of an IPFS node: one for the world, one for whoever shares a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Dht {
    /// `/ipfs/kad/1.0.0`: public addresses only.
    Wide,
    /// `/ipfs/lan/kad/1.0.0`: private and loopback addresses only.
    Local,
}

impl Dht {
    pub(crate) const BOTH: [Dht; 2] = [Dht::Local, Dht::Wide];

    /// Whether an address is of this DHT's network. Relayed addresses are of neither, and neither are
    /// names: what they stand for is not known.
    pub(crate) fn holds(self, address: &Multiaddr) -> bool {
        if address.iter().any(|part| matches!(part, Protocol::P2pCircuit)) {
            return false;
        }
        let scope = ip(address).map(scope);
        match self {
            Dht::Wide => scope == Some(Scope::Global),
            Dht::Local => matches!(scope, Some(Scope::Private(_) | Scope::Loopback)),
        }
    }
}

/// The IP address a multiaddr starts with.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    }
}

pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| scope(ip) == Scope::Loopback)
}

pub(crate) fn is_public(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| scope(ip) == Scope::Global)
}

/// The peer an address leads to: its last `/p2p/`.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The address with `/p2p/<peer>` at its end, once.
pub(crate) fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    // An address that names another peer already stays as it is, and fails the handshake.
    address.with_p2p(peer).unwrap_or_else(|address| address)
}

/// Where this node stands: its interfaces, and whether it listens on loopback. Shared by all who judge
/// addresses; the worker keeps it current.
#[derive(Clone)]
pub(crate) struct Surroundings(Arc<(PeerId, RwLock<State>)>);

#[derive(Default)]
struct State {
    interfaces: Vec<IpAddr>,
    loopback: bool,
}

impl Surroundings {
    pub(crate) fn new(own_peer: PeerId) -> Self {
        Self(Arc::new((own_peer, RwLock::default())))
    }

    pub(crate) fn own_peer(&self) -> PeerId {
        self.0.0
    }

    pub(crate) fn add_interface(&self, ip: IpAddr) {
        let mut state = self.0.1.write();
        if !state.interfaces.contains(&ip) {
            state.interfaces.push(ip);
        }
    }

    pub(crate) fn remove_interface(&self, ip: IpAddr) {
        self.0.1.write().interfaces.retain(|have| *have != ip);
    }

    pub(crate) fn set_loopback(&self, listens: bool) {
        self.0.1.write().loopback = listens;
    }

    fn with<T>(&self, judge: impl FnOnce(&Reach<'_>) -> T) -> T {
        let state = self.0.1.read();
        judge(&Reach { own_peer: self.0.0, interfaces: &state.interfaces, loopback: state.loopback })
    }

    /// Whether a stranger may make this node dial that address: public ones, private ranges that an
    /// interface is in, and loopback if this node listens there itself (several nodes on one machine).
    /// A name is never allowed: it may stand for any of these, so it is resolved first.
    pub(crate) fn allow(&self, address: &Multiaddr) -> bool {
        ip(address).is_some_and(|ip| self.with(|reach| ip_allowed(ip, reach)))
    }

    /// The hints worth a dial, at most 16 (see [`hints::usable_hints`]).
    pub(crate) fn usable_hints(&self, given: &[String]) -> Vec<Multiaddr> {
        self.with(|reach| hints::usable_hints(given, reach))
    }
}

/// The IP address and port of a listen address, with its transport's name; `None` if it is none that
/// this node can listen on.
pub(crate) fn listen_parts(address: &Multiaddr) -> Option<(IpAddr, u16, Transport)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let found = match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => (ip, port, Transport::Tcp),
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => (ip, port, Transport::Quic),
        _ => return None,
    };
    parts.next().is_none().then_some(found)
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Quic,
}

/// Whether an interface address is worth remembering: `0.0.0.0` says nothing.
pub(crate) fn is_specified(ip: IpAddr) -> bool {
    ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED) && !ip.is_unspecified()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_dht_holds_its_own_network() {
        for (address, wide, local) in [
            ("/ip4/8.8.8.8/tcp/1", true, false),
            ("/ip4/10.0.0.1/tcp/1", false, true),
            ("/ip4/127.0.0.1/udp/1/quic-v1", false, true),
            ("/ip6/fe80::1/tcp/1", false, true),
            ("/dns4/example.com/tcp/1", false, false),
            ("/ip4/0.0.0.0/tcp/1", false, false),
            ("/ip4/8.8.8.8/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN/p2p-circuit", false, false),
            ("/unix/x", false, false),
        ] {
            assert_eq!((Dht::Wide.holds(&at(address)), Dht::Local.holds(&at(address))), (wide, local), "{address}");
        }
    }

    #[test]
    fn strangers_cannot_send_this_node_into_networks_it_is_not_in() {
        let surroundings = Surroundings::new(PeerId::random());
        let private = at("/ip4/10.1.1.1/tcp/1");
        assert!(!surroundings.allow(&private) && !surroundings.allow(&at("/ip4/127.0.0.1/tcp/1")));
        surroundings.add_interface("10.9.9.9".parse().unwrap());
        surroundings.set_loopback(true);
        assert!(surroundings.allow(&private) && surroundings.allow(&at("/ip4/127.0.0.1/tcp/1")));
        surroundings.remove_interface("10.9.9.9".parse().unwrap());
        assert!(!surroundings.allow(&private));
        assert!(surroundings.allow(&at("/ip4/8.8.8.8/tcp/1")) && !surroundings.allow(&at("/unix/x")));
        assert!(!surroundings.allow(&at("/dns4/localhost/tcp/1")));
    }

    #[test]
    fn listen_addresses() {
        assert_eq!(listen_parts(&at("/ip4/0.0.0.0/tcp/4001")).unwrap().2, Transport::Tcp);
        assert_eq!(listen_parts(&at("/ip6/::/udp/4001/quic-v1")).unwrap().1, 4001);
        for bad in ["/dns4/a.b/tcp/1", "/ip4/0.0.0.0/udp/1", "/ip4/0.0.0.0/tcp/1/ws", "/ip4/0.0.0.0", "/unix/x"] {
            assert!(listen_parts(&at(bad)).is_none(), "{bad}");
        }
    }
}
