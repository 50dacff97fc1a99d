//! Whether there is room for more: in the store by its limit, and on the disk by the reserve.

use super::Inner;
use cidery_core::{Block, Origin, StoreError, codec};
use parking_lot::Mutex;
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

/// How old an answer of the file system may be.
const FRESH: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Room(Mutex<Option<(Instant, u64)>>);

impl Inner {
    /// Refuses a new block where it would go into the reserve or over the limit. Reads go on, and so does
    /// deleting: it makes a new root, and needs its nodes before it gives room back; blobs are refused by
    /// their leaves. Pulls go on for a while: what they cache makes room soon, and may use half of the
    /// reserve until then.
    pub(super) fn check_space(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        let is_own_node = block.cid().codec() == codec::DAG_PB && origin == Origin::Pushed;
        // Nobody is refused by an answer that was good a moment ago.
        if is_own_node || self.room_missing() == 0 || self.ask_again() && self.room_missing() == 0 {
            return Ok(());
        }
        self.make_room();
        if matches!(origin, Origin::Peer | Origin::Upstream) && self.free() > self.options.reserve / 2 {
            return Ok(());
        }
        tracing::debug!(?origin, "a block was refused: there is no room");
        Err(StoreError::Full { what: "more blocks: the store is at its limit, or the disk at its reserve" })
    }

    /// By how many bytes there is too little.
    pub(super) fn room_missing(&self) -> u64 {
        let limit = self.options.store_limit.unwrap_or(u64::MAX);
        let over = self.bytes.load(Relaxed).saturating_sub(limit);
        over.max(self.options.reserve.saturating_sub(self.free()))
    }

    /// Forgets what the file system said.
    fn ask_again(&self) -> bool {
        self.room.0.lock().take().is_some()
    }

    /// Bytes that the file system has free, a moment ago at most.
    pub(super) fn free(&self) -> u64 {
        let mut known = self.room.0.lock();
        if let Some((at, free)) = *known
            && at.elapsed() < FRESH
        {
            return free;
        }
        // Where nobody can say, writing will.
        let free = self.disk.free().unwrap_or(u64::MAX);
        *known = Some((Instant::now(), free));
        free
    }
}
