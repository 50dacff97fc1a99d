//! Which public address this node has, as others see it.
//!
//! A peer says where it saw this node come from, or where it reached it. Several in different networks
//! that agree make an address worth announcing. Only those that dialled in from outside show that it can
//! be reached; then the node serves the wide-area DHT.

use super::listen;
use crate::{
    address::{Dht, ip, is_loopback, is_public, peer_of},
    dht,
    swarm::Swarm,
};
use libp2p::{Multiaddr, PeerId};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// Networks that must agree. One hoster's worth of liars is one network.
const WITNESSES: usize = 3;
/// Addresses that are counted; a node behind a symmetric NAT is told a new one by everybody.
const MAX_ADDRESSES: usize = 64;
/// Addresses that are announced.
const MAX_ANNOUNCED: usize = 4;

/// The part of an address that costs something to change.
type Net = [u8; 4];

#[derive(Default)]
struct Witnesses {
    saw: HashSet<Net>,
    reached: HashSet<Net>,
}

/// What was said so far.
#[derive(Default)]
pub(crate) struct Observed {
    addresses: HashMap<Multiaddr, Witnesses>,
}

impl Observed {
    /// A peer at `remote` says it sees this node at `observed`. `dialled_in`: it opened the connection.
    /// Gives the address if that settles that it can be reached from outside.
    pub(crate) fn witness(&mut self, remote: &Multiaddr, observed: &Multiaddr, dialled_in: bool) -> Option<Multiaddr> {
        let net = net(ip(remote).filter(|_| is_public(remote))?);
        if !is_public(observed) || observed.iter().count() > 3 {
            return None;
        }
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(observed) {
            let least =
                self.addresses.iter().min_by_key(|(_, seen)| seen.saw.len()).map(|(address, _)| address.clone());
            self.addresses.remove(&least?);
        }
        let witnesses = self.addresses.entry(observed.clone()).or_default();
        if witnesses.saw.len() < 2 * WITNESSES {
            witnesses.saw.insert(net);
        }
        let settled = dialled_in && witnesses.reached.len() < WITNESSES && witnesses.reached.insert(net);
        (settled && witnesses.reached.len() == WITNESSES).then(|| observed.clone())
    }

    /// Takes back what is known of addresses that are not this machine's any more. Without any that it can
    /// be reached at, the node does not serve the wide-area DHT.
    pub(crate) fn forget(&mut self, swarm: &mut Swarm, lost: impl Fn(IpAddr) -> bool) {
        let lost = |address: &Multiaddr| ip(address).is_some_and(&lost);
        self.addresses.retain(|address, _| !lost(address));
        let reached: Vec<Multiaddr> = swarm.external_addresses().filter(|address| lost(address)).cloned().collect();
        for address in &reached {
            swarm.remove_external_address(address);
        }
        if !reached.is_empty() && swarm.external_addresses().next().is_none() {
            dht::set_reachable(swarm, false);
        }
    }

    /// The addresses that enough agree on, the surest first.
    pub(crate) fn agreed(&self) -> Vec<Multiaddr> {
        let mut agreed: Vec<_> = self.addresses.iter().filter(|(_, seen)| seen.saw.len() >= WITNESSES).collect();
        agreed.sort_by_key(|(address, seen)| (usize::MAX - seen.saw.len(), address.to_string()));
        agreed.into_iter().take(MAX_ANNOUNCED).map(|(address, _)| address.clone()).collect()
    }
}

/// The addresses that this node's provider records carry in a DHT. Loopback only where there is nothing
/// else: it means another machine to everybody who is not on this one.
pub(crate) fn announced(swarm: &Swarm, observed: &Observed, dht: Dht) -> Vec<Multiaddr> {
    let mut addresses = listen::addresses(swarm);
    if dht == Dht::Wide {
        addresses.extend(observed.agreed());
    }
    addresses.retain(|address| dht.holds(address));
    if addresses.iter().any(|address| !is_loopback(address)) {
        addresses.retain(|address| !is_loopback(address));
    }
    let own = *swarm.local_peer_id();
    let mut plain: Vec<Multiaddr> = addresses.into_iter().map(|address| without_peer(address, own)).collect();
    plain.dedup();
    plain.truncate(16);
    plain
}

/// The peer id stands beside the addresses in these records, not in them.
fn without_peer(mut address: Multiaddr, own: PeerId) -> Multiaddr {
    if peer_of(&address) == Some(own) {
        address.pop();
    }
    address
}

/// The /16 of an IPv4 address, the /32 of an IPv6 one.
fn net(ip: IpAddr) -> Net {
    match ip {
        IpAddr::V4(ip) => [4, 0, ip.octets()[0], ip.octets()[1]],
        IpAddr::V6(ip) => [ip.octets()[0], ip.octets()[1], ip.octets()[2], ip.octets()[3]],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn several_networks_must_agree() {
        let mut observed = Observed::default();
        let own = at("/ip4/8.8.8.8/tcp/4001");
        for liar in 1..=100 {
            observed.witness(&at(&format!("/ip4/1.1.{liar}.1/tcp/9")), &own, true);
        }
        observed.witness(&at("/ip4/10.0.0.1/tcp/9"), &own, true);
        observed.witness(&at("/ip4/2.2.2.2/tcp/9"), &own, false);
        assert!(observed.agreed().is_empty());
        assert_eq!(observed.witness(&at("/ip4/3.3.3.3/tcp/9"), &own, false), None);
        assert_eq!(observed.agreed(), std::slice::from_ref(&own));
        // Seen by three, reached by one: not known to be reachable.
        assert_eq!(observed.witness(&at("/ip4/4.4.4.4/tcp/9"), &own, true), None);
        assert_eq!(observed.witness(&at("/ip4/5.5.5.5/tcp/9"), &own, true), Some(own.clone()));
        assert_eq!(observed.witness(&at("/ip4/6.6.6.6/tcp/9"), &own, true), None, "once is enough");
    }

    #[test]
    fn private_addresses_are_no_business_of_the_world() {
        let mut observed = Observed::default();
        for n in 1..=9 {
            observed.witness(&at(&format!("/ip4/{n}.1.1.1/tcp/9")), &at("/ip4/10.0.0.1/tcp/4001"), true);
        }
        assert!(observed.agreed().is_empty());
    }

    #[test]
    fn a_symmetric_nat_stays_bounded() {
        let mut observed = Observed::default();
        for port in 1..=1000 {
            observed.witness(
                &at(&format!("/ip4/9.{}.1.1/tcp/9", port % 250)),
                &at(&format!("/ip4/8.8.8.8/tcp/{port}")),
                false,
            );
        }
        assert!(observed.addresses.len() <= MAX_ADDRESSES);
    }

    #[tokio::test]
    async fn what_is_lost_is_taken_back_and_nothing_else() {
        use libp2p::kad::Mode;
        let (mut swarm, mut observed) = (crate::swarm::idle(), Observed::default());
        let [v4, v6] = [at("/ip4/8.8.8.8/tcp/4001"), at("/ip6/2a00::7/tcp/4001")];
        for address in [&v4, &v6] {
            for n in 1..=3 {
                observed.witness(&at(&format!("/ip4/{n}.1.1.1/tcp/9")), address, true);
            }
            swarm.add_external_address(address.clone());
        }
        dht::set_reachable(&mut swarm, true);
        let state = |swarm: &mut Swarm, observed: &Observed| {
            let external: Vec<_> = swarm.external_addresses().cloned().collect();
            let mode = dht::kad_of(swarm, Dht::Wide).mode();
            (external.len(), observed.agreed().len(), mode)
        };
        observed.forget(&mut swarm, |_| false);
        assert_eq!(state(&mut swarm, &observed), (2, 2, Mode::Server));
        observed.forget(&mut swarm, |ip| ip.is_ipv6());
        assert_eq!(state(&mut swarm, &observed), (1, 1, Mode::Server));
        observed.forget(&mut swarm, |ip| ip.is_ipv4());
        assert_eq!(state(&mut swarm, &observed), (0, 0, Mode::Client));
    }
}
