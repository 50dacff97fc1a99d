//! What one peer wants of us.

use crate::{
    Config,
    slot::PeerSlot,
    wire::{DONT_HAVE, Presence},
};
use bytes::Bytes;
use cidery_core::{Cid, Multihash};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not looked up yet.
    Fresh,
    /// Being looked up; `again`: something changed meanwhile.
    Looking { again: bool },
    /// Not here, or not to be shown: the peer gets it if that changes.
    Absent,
    /// To be sent.
    Queued { size: u64 },
    /// Being read, then sent.
    Reading,
}

pub(super) struct Wish {
    pub cid: Cid,
    pub priority: i32,
    pub order: u64,
    /// The block, not only whether it is here.
    pub block: bool,
    pub send_dont_have: bool,
    pub state: State,
}

pub(super) struct Ledger {
    pub slot: Arc<PeerSlot>,
    /// Its number among those who wish.
    pub number: u32,
    pub wishes: HashMap<Multihash, Wish>,
    /// To be looked up; stale entries are skipped.
    pub fresh: VecDeque<Multihash>,
    /// Answers to be sent.
    presences: VecDeque<Presence>,
    /// Blocks to be sent, highest priority first, then in the order they were asked for.
    blocks: BTreeSet<(Reverse<i32>, u64, Multihash)>,
    pub pending_bytes: u64,
    pub looking: bool,
    pub blocks_sent: u64,
    pub bytes_sent: u64,
}

impl Ledger {
    pub(super) fn new(slot: Arc<PeerSlot>, number: u32) -> Self {
        Self {
            slot,
            number,
            wishes: HashMap::new(),
            fresh: VecDeque::new(),
            presences: VecDeque::new(),
            blocks: BTreeSet::new(),
            pending_bytes: 0,
            looking: false,
            blocks_sent: 0,
            bytes_sent: 0,
        }
    }

    /// Says whether the connection is still needed.
    pub(super) fn refresh(&self) {
        self.slot.serving.store(!self.wishes.is_empty() || !self.presences.is_empty(), Relaxed);
    }

    pub(super) fn has_presences(&self) -> bool {
        !self.presences.is_empty()
    }

    pub(super) fn has_blocks(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Whether so many answers wait that nothing more is taken on: the peer does not read them.
    pub(super) fn is_clogged(&self, config: &Config) -> bool {
        self.presences.len() >= config.max_wantlist
    }

    pub(super) fn answer(&mut self, cid: &Cid, have: bool) {
        let kind = if have { 0 } else { DONT_HAVE };
        self.presences.push_back(Presence { cid: Bytes::from(cid.to_bytes()), kind });
    }

    pub(super) fn take_presences(&mut self, most: usize) -> Vec<Presence> {
        let most = most.min(self.presences.len());
        self.presences.drain(..most).collect()
    }

    /// Takes a wish out, wherever it stands.
    pub(super) fn remove(&mut self, hash: &Multihash) -> Option<Wish> {
        let wish = self.wishes.remove(hash)?;
        self.unqueue(hash, &wish);
        Some(wish)
    }

    fn unqueue(&mut self, hash: &Multihash, wish: &Wish) {
        if let State::Queued { size } = wish.state
            && self.blocks.remove(&(Reverse(wish.priority), wish.order, *hash))
        {
            self.pending_bytes -= size;
        }
    }

    /// Puts a wish in the queue for sending.
    pub(super) fn queue(&mut self, hash: &Multihash, size: u64) {
        if let Some(wish) = self.wishes.get_mut(hash) {
            wish.state = State::Queued { size };
            self.blocks.insert((Reverse(wish.priority), wish.order, *hash));
            self.pending_bytes += size;
        }
    }

    /// Has a wish looked up (again).
    pub(super) fn renew(&mut self, hash: &Multihash) {
        if let Some(wish) = self.wishes.get_mut(hash) {
            match &mut wish.state {
                State::Looking { again } => *again = true,
                state => {
                    *state = State::Fresh;
                    self.fresh.push_back(*hash);
                }
            }
        }
    }

    /// The next blocks to read: one large one, or small ones up to about `target` bytes, within
    /// `room` unless nothing is being read.
    pub(super) fn take_blocks(&mut self, target: u64, room: u64, first: bool) -> (Vec<Cid>, u64) {
        let (mut cids, mut total) = (Vec::new(), 0);
        while let Some(next @ (_, _, hash)) = self.blocks.first().copied() {
            let Some(wish) = self.wishes.get_mut(&hash) else {
                self.blocks.remove(&next);
                continue;
            };
            let State::Queued { size } = wish.state else {
                self.blocks.remove(&next);
                continue;
            };
            let fits = total + size <= room || (first && cids.is_empty());
            if !fits || (!cids.is_empty() && total + size > target) {
                break;
            }
            self.blocks.remove(&next);
            wish.state = State::Reading;
            self.pending_bytes -= size;
            total += size;
            cids.push(wish.cid);
        }
        (cids, total)
    }

    /// The wishes that may be dropped to make room, best last: for blocks that are not here, then
    /// those of low priority, then those that came late.
    pub(super) fn victims(&self) -> Vec<Multihash> {
        let mut all: Vec<_> = self
            .wishes
            .iter()
            .map(|(hash, wish)| (wish.state != State::Absent, wish.priority, Reverse(wish.order), *hash))
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().map(|(.., hash)| hash).collect()
    }

    /// Drops `victim` for a wish of this priority, if it is for a block that is not here or of lower priority.
    pub(super) fn evict(&mut self, victim: &Multihash, priority: i32) -> Option<Wish> {
        let wish = self.wishes.get(victim)?;
        (wish.state == State::Absent || wish.priority < priority).then(|| self.remove(victim)).flatten()
    }

    /// Keeps stale entries from piling up while nobody takes lookups.
    pub(super) fn trim(&mut self, config: &Config) {
        if self.fresh.len() > 2 * config.max_wantlist {
            let mut seen = HashSet::new();
            let wishes = &self.wishes;
            self.fresh
                .retain(|hash| wishes.get(hash).is_some_and(|wish| wish.state == State::Fresh) && seen.insert(*hash));
        }
    }
}
