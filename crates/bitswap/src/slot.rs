//! What the engines and the tasks of one peer's connections share without a lock.

use libp2p::PeerId;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
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
    /// Milliseconds after `born` when bytes last came in, whole messages or not.
    heard: AtomicU64,
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
        })
    }

    /// Bytes came in.
    pub(crate) fn hear(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Relaxed);
    }

    /// When bytes last came in.
    pub(crate) fn heard(&self) -> Instant {
        self.born + std::time::Duration::from_millis(self.heard.load(Relaxed))
    }
}
