//! What the engines and the tasks of one peer's connections share without a lock.

use libp2p::PeerId;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// One connected peer. Lives as long as one of its connections.
#[derive(Debug)]
pub(crate) struct PeerSlot {
    pub peer: PeerId,
    /// Tells the writer that there is something to send.
    pub work: Notify,
    /// We want something of it: keep the connection.
    pub wanted: AtomicBool,
    /// It wants something of us: keep the connection.
    pub serving: AtomicBool,
    born: Instant,
    /// Milliseconds after `born` when bytes of a large frame last came in.
    heard: AtomicU64,
    /// The same of the first such bytes since the last block that was wanted; 0: none since.
    unproven: AtomicU64,
}

impl PeerSlot {
    pub(crate) fn new(peer: PeerId) -> Arc<Self> {
        Arc::new(Self {
            peer,
            work: Notify::new(),
            wanted: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            born: Instant::now(),
            heard: AtomicU64::new(0),
            unproven: AtomicU64::new(0),
        })
    }

    /// Bytes of a large frame came in: of a block, one hopes.
    pub(crate) fn hear(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.heard.store(now, Relaxed);
        if self.unproven.load(Relaxed) == 0 {
            self.unproven.store(now, Relaxed);
        }
    }

    /// A block that was wanted came in.
    pub(crate) fn prove(&self) {
        self.unproven.store(0, Relaxed);
    }

    /// When bytes last came in that may be a part of a block. They count for `limit` after the last
    /// block that was wanted: nobody gains time by sending something else.
    pub(crate) fn heard(&self, limit: Duration) -> Instant {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let heard = match self.unproven.load(Relaxed) {
            0 => self.heard.load(Relaxed),
            unproven => self.heard.load(Relaxed).min(unproven.saturating_add(limit)),
        };
        self.born + Duration::from_millis(heard)
    }
}
