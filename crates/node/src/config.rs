//! What a node is told when it starts. Whoever embeds it reads files and flags; this crate does not.

use crate::Identity;
use std::net::SocketAddr;

/// Where the first peers of the wide-area DHT come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Bootstrap {
    /// The public bootstrap peers that IPFS nodes share.
    #[default]
    Default,
    /// None: the node knows whom it is told, and whom it meets on its own network.
    None,
    /// These multiaddrs instead.
    Addresses(Vec<String>),
}

/// Everything a node needs to start.
#[derive(Debug)]
pub struct Config {
    /// Who it is.
    pub identity: Identity,
    /// Multiaddrs to listen on, e.g. `/ip4/0.0.0.0/tcp/4001`. Each must succeed.
    pub listen: Vec<String>,
    /// Multiaddrs of peers to stay connected to; sessions ask them first.
    pub peers: Vec<String>,
    /// First peers of the wide-area DHT.
    pub bootstrap: Bootstrap,
    /// Whether to find, and be found by, nodes on the same network (multicast DNS).
    pub mdns: bool,
    /// The only DNS server to ask; `None` for the system's, or public ones where it names none.
    pub dns: Option<SocketAddr>,
    /// What strangers may cost.
    pub limits: Limits,
}

impl Config {
    /// Defaults for this identity: TCP and QUIC on port 4001 of every interface, mDNS on, public bootstrap.
    pub fn new(identity: Identity) -> Self {
        let listen = ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"];
        Self {
            identity,
            listen: listen.map(String::from).into(),
            peers: Vec::new(),
            bootstrap: Bootstrap::Default,
            mdns: true,
            dns: None,
            limits: Limits::default(),
        }
    }
}

/// Bounds on connections and on what is kept on behalf of other nodes. Configured peers are exempt
/// from the connection limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections that came in.
    pub incoming: u32,
    /// Connections that were dialled.
    pub outgoing: u32,
    /// Connections to one peer.
    pub per_peer: u32,
    /// Incoming connections that are not authenticated yet.
    pub pending_incoming: u32,
    /// Dials under way.
    pub pending_outgoing: u32,
    /// No new connections while the process uses more memory than this, in bytes.
    pub memory: usize,
    /// Provider records kept for others, in each of the two DHTs.
    pub provider_records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            incoming: 192,
            outgoing: 320,
            per_peer: 4,
            pending_incoming: 64,
            pending_outgoing: 256,
            memory: 1 << 30,
            provider_records: 32_768,
        }
    }
}
