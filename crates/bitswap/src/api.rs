//! The values that go in and out: session ids, events, statistics.

use cidery_core::Cid;
use libp2p::PeerId;
use std::fmt;

/// Names a session for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// What the swarm's owner is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session wants providers of `cid`; rate-limited per session. Answer with
    /// [`Bitswap::offer_peers`] or [`Bitswap::no_more_peers`].
    NeedPeers {
        /// The session.
        session: SessionId,
        /// What is wanted.
        cid: Cid,
    },
    /// The last handle of a session is gone.
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// A peer sent what nobody asked for, or what cannot be read.
    PeerMisbehaved {
        /// The peer.
        peer: PeerId,
        /// What it did.
        reason: Misbehaviour,
    },
}

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// A block that was not asked of it, or bytes that are no accepted block.
    UnrequestedBlock,
    /// A frame over the limit, or one that does not decode.
    BadMessage,
}

/// One peer's share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    /// The peer.
    pub peer: PeerId,
    /// Blocks sent to it.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Blocks received from it that were wanted.
    pub blocks_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

/// What went over the wire since the start, and what is queued now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Blocks received that were wanted.
    pub blocks_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Blocks received that had been asked for, but were here already.
    pub duplicate_blocks: u64,
    /// Their bytes.
    pub duplicate_bytes: u64,
    /// Blocks dropped because nobody had asked for them, or because they hash to something else.
    pub rejected_blocks: u64,
    /// Blocks wanted now.
    pub wants: usize,
    /// Sessions now.
    pub sessions: usize,
    /// Wants of peers now, over all peers.
    pub peer_wants: usize,
    /// Connected peers.
    pub peers: Vec<PeerStats>,
}
