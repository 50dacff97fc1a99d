//! The swarm: transports and behaviours, with their limits.

mod keep;

use crate::{
    Limits, StartError,
    address::{Dht, Surroundings},
    dht::{Records, Scoped, Sender},
    digest,
    naming::{DnsConfig, name_servers},
};
use keep::Keep;
use libp2p::{
    PeerId, SwarmBuilder, connection_limits, dns, identify, identity::Keypair, mdns, memory_connection_limits, noise,
    ping, swarm::NetworkBehaviour, swarm::behaviour::toggle::Toggle, tcp, tls, yamux,
};
use std::{net::SocketAddr, num::NonZeroU8, time::Duration};

/// From the dial to the end of the handshakes; also for those who dial this node.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection that nobody uses is closed after this, so that look-ups do not fill the node with them.
/// Configured peers' connections are kept, and those of nearby ones and of peers found for sessions.
const IDLE: Duration = Duration::from_secs(20);
/// Addresses of one peer dialled at a time: one that hangs does not delay the others.
const DIALS_PER_PEER: NonZeroU8 = NonZeroU8::new(8).expect("not zero");
/// Streams that a peer opens and does not finish negotiating.
const NEGOTIATING: usize = 128;

pub(crate) type Swarm = libp2p::Swarm<Behaviour>;

/// Everything the node speaks. The limits come first, because the first refusal counts.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    memory: Toggle<memory_connection_limits::Behaviour>,
    pub(crate) keep: Keep,
    pub(crate) bitswap: cidery_bitswap::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) local: Scoped,
    pub(crate) wide: Scoped,
    pub(crate) sender: Sender,
    pub(crate) digest: digest::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// What the swarm is made of.
pub(crate) struct Parts {
    pub(crate) key: Keypair,
    pub(crate) bitswap: cidery_bitswap::Behaviour,
    pub(crate) surroundings: Surroundings,
    pub(crate) mdns: bool,
    pub(crate) dns: Option<SocketAddr>,
    pub(crate) limits: Limits,
}

/// Builds it; it listens nowhere yet.
pub(crate) fn build(parts: Parts) -> Result<Swarm, StartError> {
    let system = |error: Box<dyn std::error::Error + Send + Sync>| StartError::System(std::io::Error::other(error));
    let servers = name_servers(&DnsConfig { server: parts.dns });
    let mut options = dns::ResolverOpts::default();
    options.timeout = Duration::from_secs(3);
    options.attempts = 1;
    let Parts { key, bitswap, surroundings, mdns, limits, .. } = parts;
    // TLS before noise: it moves more bytes a second where both ends have it.
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), (tls::Config::new, noise::Config::new), yamux::Config::default)
        .map_err(|error| system(error.into()))?
        .with_quic()
        .with_dns_config(dns::ResolverConfig::from_name_servers(servers), options)
        .with_behaviour(|key| behaviour(key, bitswap, surroundings, mdns, &limits))
        .map_err(|error| system(error.to_string().into()))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE)
                .with_dial_concurrency_factor(DIALS_PER_PEER)
                .with_max_negotiating_inbound_streams(NEGOTIATING)
        })
        .with_connection_timeout(HANDSHAKE)
        .build();
    Ok(swarm)
}

fn behaviour(
    key: &Keypair,
    bitswap: cidery_bitswap::Behaviour,
    surroundings: Surroundings,
    with_mdns: bool,
    limits: &Limits,
) -> Behaviour {
    let own = PeerId::from(key.public());
    let agent = concat!("cidery/", env!("CARGO_PKG_VERSION")).to_owned();
    let identify = identify::Config::new("ipfs/0.1.0".into(), key.public())
        .with_agent_version(agent)
        .with_push_listen_addr_updates(true)
        // What a stranger says of its addresses goes where it is checked, not into every dial.
        .with_cache_size(0);
    let scoped = |dht: Dht| Scoped::new(dht, surroundings.clone(), Records::new(own, limits.provider_records));
    let mdns = with_mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), own)).and_then(|made| {
        made.inspect_err(|error| tracing::warn!(%error, "nodes on this network can't be found: no multicast DNS")).ok()
    });
    // In a bare chroot there is no /proc to read it from, and asking for it would warn at every connection.
    let memory_known = std::path::Path::new("/proc/self/statm").exists();
    let memory = memory_known.then(|| memory_connection_limits::Behaviour::with_max_bytes(limits.memory));
    Behaviour {
        limits: connection_limits::Behaviour::new(
            connection_limits::ConnectionLimits::default()
                .with_max_pending_incoming(Some(limits.pending_incoming))
                .with_max_pending_outgoing(Some(limits.pending_outgoing))
                .with_max_established_incoming(Some(limits.incoming))
                .with_max_established_outgoing(Some(limits.outgoing))
                .with_max_established_per_peer(Some(limits.per_peer)),
        ),
        memory: memory.into(),
        keep: Keep::default(),
        bitswap,
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new()),
        local: scoped(Dht::Local),
        wide: scoped(Dht::Wide),
        sender: Sender::new(own),
        digest: digest::behaviour(),
        mdns: mdns.into(),
    }
}

/// A swarm that listens nowhere, with nothing in its store.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn idle() -> Swarm {
    let key = Keypair::generate_ed25519();
    let surroundings = Surroundings::new(key.public().to_peer_id());
    let store = std::sync::Arc::new(cidery_core::memory::MemoryStore::new());
    let (bitswap, _) = cidery_bitswap::new(cidery_bitswap::Config::default(), store.clone(), store);
    let dns = Some("127.0.0.1:1".parse().unwrap());
    build(Parts { key, bitswap, surroundings, mdns: false, dns, limits: Limits::default() }).unwrap()
}
