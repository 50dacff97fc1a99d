//! Bitswap 1.2.0, with 1.1 and 1.0 as fallback, as a libp2p behaviour.
//!
//! ```text
//!  Session::fetch ──► client ──► writer ──► peer          (what is wanted)
//!                       ▲
//!  peer ──► reader ──► hash + store, blocking ──► server  (what arrives; who waits for it)
//!             │                                     │
//!             └──► server ──► look up, blocking ──► writer ──► peer   (what others want)
//! ```
//!
//! Two engines without I/O, `client` and `server`, hold all state, each behind a lock held for one
//! call. Each connection's handler runs the readers of its inbound streams and, on one connection
//! per peer, the writer, which pulls from the engines what its stream can take: there are no queues
//! of messages, and no block is read from the store before it can be written. The swarm's task sees
//! connections, events and a timer, never a message. Hashing and all use of the stores happen on
//! blocking threads, bounded in number.
//!
//! What peers may see is [`PublicBlocks`]' to say; refusing looks exactly like not having.

mod api;
mod behaviour;
mod buffers;
mod client;
mod config;
mod frames;
mod handler;
mod protocol;
mod reader;
mod server;
mod session;
mod shared;
mod slot;
mod wire;
mod writer;

pub use api::{Event, Misbehaviour, PeerStats, SessionId, Stats};
pub use behaviour::Behaviour;
pub use config::{Config, FLOOR_WANTLIST};
pub use handler::Handler;
pub use session::Session;

use cidery_core::{Blockstore, Cid, Multihash, PublicBlocks, Scope};
use libp2p::PeerId;
use shared::Shared;
use std::{sync::Arc, time::Instant};

/// Makes the behaviour for a swarm, and the handle to use it with. The swarm must run within a
/// tokio runtime.
pub fn new(config: Config, store: Arc<dyn Blockstore>, public: Arc<dyn PublicBlocks>) -> (Behaviour, Bitswap) {
    let shared = Shared::new(config, store, public);
    (Behaviour::new(shared.clone()), Bitswap(shared))
}

/// Eight bytes of a hash, for tables where a rare mistake does no harm. Digests have 20 or more.
fn short(hash: &Multihash) -> u64 {
    hash.digest().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// The handle: clone it freely.
#[derive(Clone)]
pub struct Bitswap(Arc<Shared>);

impl Bitswap {
    /// Opens a session for `root` and the blocks below it. Costs nothing until something is
    /// fetched that is not here.
    pub fn session(&self, root: Cid, scope: Scope) -> Session {
        Session::open(&self.0, root, scope)
    }

    /// Providers that were found for a session: connected, or soon to be.
    pub fn offer_peers(&self, session: SessionId, peers: Vec<PeerId>) {
        self.0.client.lock().offer(session, peers, Instant::now());
    }

    /// Routing is exhausted: wants for `cid` (for anything, if it is the session's root) that
    /// nobody has may fail with `NotFound` at their deadline.
    pub fn no_more_peers(&self, session: SessionId, cid: Cid) {
        self.0.client.lock().exhausted(session, &cid);
    }

    /// Blocks that became available by other ways than a session: serves peers that wait for them.
    pub fn announce(&self, cids: impl IntoIterator<Item = Cid>) {
        let mut server = self.0.server.lock();
        for cid in cids {
            server.arrived(cid.hash());
        }
    }

    /// Traffic and queues.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}
