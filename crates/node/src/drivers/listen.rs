//! Listening: every address that was asked for, or an error that says which one and why.

use crate::{
    StartError,
    address::{Transport, is_loopback, listen_parts, with_peer},
    swarm::Swarm,
};
use futures::StreamExt;
use libp2p::{Multiaddr, TransportError, core::transport::ListenerId, swarm::SwarmEvent};
use socket2::{Domain, Socket, Type};
use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// How long the expansion of a wildcard address may take. Without any interface it never happens.
const EXPANSION: Duration = Duration::from_millis(500);

/// Listens on all of them, and waits until the sockets are up and wildcards are expanded.
pub(crate) async fn listen(swarm: &mut Swarm, addresses: &[String]) -> Result<(), StartError> {
    let mut wildcards = HashSet::new();
    let mut silent = HashSet::new();
    for text in addresses {
        let refused = |detail: &str| StartError::Address { address: text.clone(), detail: detail.into() };
        let address: Multiaddr = text.parse().map_err(|error| refused(&format!("{error}")))?;
        let Some((ip, port, transport)) = listen_parts(&address) else {
            return Err(refused("listen on /ip4|ip6/<address>/tcp/<port> or /ip4|ip6/<address>/udp/<port>/quic-v1"));
        };
        claim(ip, port, transport).map_err(|error| failed(text, error))?;
        let id = swarm.listen_on(address).map_err(|error| match error {
            TransportError::Other(error) => failed(text, error),
            TransportError::MultiaddrNotSupported(_) => refused("no transport here listens on such an address"),
        })?;
        if ip.is_unspecified() {
            wildcards.insert(id)
        } else {
            silent.insert(id)
        };
    }
    let deadline = Instant::now() + EXPANSION;
    let mut bound: HashSet<ListenerId> = HashSet::new();
    while bound.len() < wildcards.len() + silent.len() {
        match timeout_at(deadline, swarm.select_next_some()).await {
            Ok(SwarmEvent::NewListenAddr { listener_id, address }) => {
                // Interfaces come one by one; loopback is on every machine and shows that the list came.
                if silent.contains(&listener_id) || is_loopback(&address) {
                    bound.insert(listener_id);
                }
            }
            Ok(SwarmEvent::ListenerClosed { listener_id, addresses, reason }) => {
                let address =
                    addresses.first().map_or_else(|| format!("listener {listener_id:?}"), ToString::to_string);
                let detail = reason.err().map_or_else(|| "it closed".to_owned(), |error| error.to_string());
                return Err(StartError::Listen { address, detail });
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Where the node can be dialled: nearest to others first, then loopback; TCP before QUIC.
pub(crate) fn addresses(swarm: &Swarm) -> Vec<Multiaddr> {
    let own = *swarm.local_peer_id();
    let mut addresses: Vec<Multiaddr> = swarm.external_addresses().chain(swarm.listeners()).cloned().collect();
    addresses.sort_by_key(|address| (is_loopback(address), is_quic(address)));
    let mut seen = HashSet::new();
    addresses
        .into_iter()
        .map(|address| with_peer(address, own))
        .filter(|address| seen.insert(address.clone()))
        .collect()
}

pub(crate) fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, libp2p::multiaddr::Protocol::QuicV1))
}

fn failed(address: &str, source: io::Error) -> StartError {
    let address = address.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { address, source },
        io::ErrorKind::AddrNotAvailable => {
            StartError::Listen { address, detail: "this machine has no interface with that address".into() }
        }
        io::ErrorKind::PermissionDenied => {
            StartError::Listen { address, detail: "ports below 1024 need a privilege; choose a higher one".into() }
        }
        _ => StartError::Listen { address, detail: source.to_string() },
    }
}

/// Whether the address is free. The transports do not tell: TCP shares its port with outgoing connections
/// and so, unasked, with any other program that does the same; QUIC hides the system's error.
fn claim(ip: IpAddr, port: u16, transport: Transport) -> io::Result<()> {
    let address = SocketAddr::new(ip, port);
    let kind = match transport {
        Transport::Tcp => Type::STREAM,
        Transport::Quic => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if transport == Transport::Tcp {
        // Connections of an earlier run that linger are no listener.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if transport == Transport::Tcp { socket.listen(1) } else { Ok(()) }
}
