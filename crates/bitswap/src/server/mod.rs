//! The server's state: who wants what of us, and what is ready to go out. No I/O: lookups and reads
//! happen on blocking threads, whose results are handed in.
//!
//! A wish is looked up first, then answered (HAVE, DONT_HAVE) or queued for sending. Each peer's
//! writer takes blocks from its own queue, one message after the other as its stream takes them; it
//! reads further ahead only as far as its peer drains and as all writers' common allowance reaches. A
//! peer that does not read holds one message, and no other peer waits for it. What is shared is waited
//! for in turn and never held while writing: the threads that read. What is not here, or not public, stays on
//! the peer's list and is looked up again when it arrives: refusing looks like not having.

mod ledger;
mod wishers;

use crate::{
    Config, FLOOR_WANTLIST,
    api::Stats,
    slot::PeerSlot,
    wire::{Entry, Presence, WANT_HAVE, Wantlist},
};
use cidery_core::{Cid, MAX_BLOCK, Multihash, identity_bytes};
use ledger::{Ledger, State, Wish};
use libp2p::PeerId;
use std::{collections::HashMap, sync::Arc};
use wishers::Wishers;

/// Wishes looked up in one go.
const LOOKUP_BATCH: usize = 256;
/// Answers in one message.
const MAX_PRESENCES: usize = 4_096;

pub(crate) struct Server {
    config: Arc<Config>,
    ledgers: HashMap<PeerId, Ledger>,
    wishers: Wishers,
    order: u64,
    blocks_sent: u64,
    bytes_sent: u64,
}

impl Server {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, ledgers: HashMap::new(), wishers: Wishers::default(), order: 0, blocks_sent: 0, bytes_sent: 0 }
    }

    pub(crate) fn connected(&mut self, slot: Arc<PeerSlot>) {
        let number = self.wishers.enter(slot.peer);
        self.ledgers.insert(slot.peer, Ledger::new(slot, number));
    }

    pub(crate) fn disconnected(&mut self, id: &PeerId) {
        if let Some(ledger) = self.ledgers.remove(id) {
            for hash in ledger.wishes.keys() {
                self.wishers.remove(hash, ledger.number);
            }
            self.wishers.exit(ledger.number);
        }
    }

    /// A peer's wantlist, or changes to it.
    pub(crate) fn wantlist(&mut self, id: &PeerId, list: Wantlist) {
        let Some(ledger) = self.ledgers.get_mut(id) else { return };
        if list.full {
            for hash in ledger.wishes.keys().copied().collect::<Vec<_>>() {
                ledger.remove(&hash);
                self.wishers.remove(&hash, ledger.number);
            }
        }
        // Sorted once per message: a flood must not cost more than that.
        let mut victims = None;
        for entry in list.entries {
            let Some(cid) = self.config.acceptable(&entry) else { continue };
            if entry.cancel {
                if ledger.remove(cid.hash()).is_some() {
                    self.wishers.remove(cid.hash(), ledger.number);
                }
                continue;
            }
            let block = entry.want_type != WANT_HAVE;
            if let Some(wish) = ledger.wishes.get_mut(cid.hash()) {
                wish.send_dont_have |= entry.send_dont_have;
                let more = block && !wish.block;
                wish.block |= block;
                // Said again: answered again, unless an answer is on its way.
                if wish.state == State::Absent || (more && matches!(wish.state, State::Looking { .. })) {
                    ledger.renew(cid.hash());
                }
                continue;
            }
            if ledger.is_clogged(&self.config) {
                continue;
            }
            let crowded = self.wishers.total() >= self.config.max_wantlists;
            let most = if crowded { FLOOR_WANTLIST.min(self.config.max_wantlist) } else { self.config.max_wantlist };
            if ledger.wishes.len() >= most {
                let victims = victims.get_or_insert_with(|| ledger.victims());
                match victims.pop().and_then(|hash| ledger.evict(&hash, entry.priority)) {
                    Some(gone) => {
                        self.wishers.remove(gone.cid.hash(), ledger.number);
                        if gone.send_dont_have && gone.state != State::Absent {
                            ledger.answer(&gone.cid, false);
                        }
                    }
                    None => {
                        if entry.send_dont_have {
                            ledger.answer(&cid, false);
                        }
                        continue;
                    }
                }
            }
            self.order += 1;
            let wish = Wish {
                cid,
                priority: entry.priority,
                order: self.order,
                block,
                send_dont_have: entry.send_dont_have,
                state: State::Fresh,
            };
            ledger.wishes.insert(*cid.hash(), wish);
            ledger.fresh.push_back(*cid.hash());
            self.wishers.add(cid.hash(), ledger.number);
        }
        ledger.trim(&self.config);
        ledger.refresh();
        ledger.slot.work.notify_one();
    }

    /// A block is here now, or public now: those who wished for it may get it.
    pub(crate) fn arrived(&mut self, hash: &Multihash) {
        for id in self.wishers.of(hash) {
            if let Some(ledger) = self.ledgers.get_mut(&id)
                && let Some(State::Absent | State::Looking { .. }) = ledger.wishes.get(hash).map(|wish| wish.state)
            {
                ledger.renew(hash);
                ledger.slot.work.notify_one();
            }
        }
    }

    // ---- lookups --------------------------------------------------------------------------

    /// Wishes to look up now; one batch per peer at a time.
    pub(crate) fn take_lookups(&mut self, id: &PeerId) -> Vec<Cid> {
        let Some(ledger) = self.ledgers.get_mut(id).filter(|ledger| !ledger.looking) else { return Vec::new() };
        let mut cids = Vec::new();
        while cids.len() < LOOKUP_BATCH
            && let Some(hash) = ledger.fresh.pop_front()
        {
            if let Some(wish) = ledger.wishes.get_mut(&hash).filter(|wish| wish.state == State::Fresh) {
                wish.state = State::Looking { again: false };
                cids.push(wish.cid);
            }
        }
        ledger.looking = !cids.is_empty();
        cids
    }

    /// Sizes of what was looked up; `None` for what peers may not know of.
    pub(crate) fn looked_up(&mut self, id: &PeerId, found: Vec<(Cid, Option<u64>)>) {
        let Some(ledger) = self.ledgers.get_mut(id) else { return };
        ledger.looking = false;
        for (cid, size) in found {
            let hash = cid.hash();
            let Some(wish) = ledger.wishes.get_mut(hash) else { continue };
            let State::Looking { again } = wish.state else { continue };
            match size.filter(|size| *size <= MAX_BLOCK as u64) {
                Some(size) if wish.block || size <= self.config.have_replace => ledger.queue(hash, size),
                Some(_) => {
                    ledger.answer(&cid, true);
                    ledger.remove(hash);
                    self.wishers.remove(hash, ledger.number);
                }
                None => absent(ledger, hash, again),
            }
        }
        ledger.refresh();
        ledger.slot.work.notify_one();
    }

    // ---- sending --------------------------------------------------------------------------

    /// Blocks to read next, and their bytes: of at most `room` bytes, unless nothing is being read for
    /// the peer (`first`): it always gets one message.
    pub(crate) fn take_blocks(&mut self, id: &PeerId, room: u64, first: bool) -> Option<(Vec<Cid>, u64)> {
        let ledger = self.ledgers.get_mut(id)?;
        let (cids, bytes) = ledger.take_blocks(self.config.message_target as u64, room, first);
        (!cids.is_empty()).then_some((cids, bytes))
    }

    /// Whether the peer still wants a block that was read for it.
    pub(crate) fn still_wanted(&self, id: &PeerId, hash: &Multihash) -> bool {
        self.ledgers.get(id).and_then(|ledger| ledger.wishes.get(hash)).is_some_and(|wish| wish.state == State::Reading)
    }

    /// A block is about to go out.
    pub(crate) fn sent(&mut self, id: &PeerId, hash: &Multihash, len: u64) {
        self.blocks_sent += 1;
        self.bytes_sent += len;
        if let Some(ledger) = self.ledgers.get_mut(id) {
            ledger.blocks_sent += 1;
            ledger.bytes_sent += len;
            ledger.remove(hash);
            ledger.refresh();
            self.wishers.remove(hash, ledger.number);
        }
    }

    /// A block that was to be sent is not here any more, or not public any more.
    pub(crate) fn vanished(&mut self, id: &PeerId, hash: &Multihash) {
        if let Some(ledger) = self.ledgers.get_mut(id)
            && ledger.wishes.get(hash).is_some_and(|wish| wish.state == State::Reading)
        {
            absent(ledger, hash, false);
        }
    }

    /// The stream broke: what was being read for it is to be sent on the next.
    pub(crate) fn stream_closed(&mut self, id: &PeerId) {
        if let Some(ledger) = self.ledgers.get_mut(id) {
            let reading: Vec<Multihash> =
                ledger.wishes.iter().filter(|(_, wish)| wish.state == State::Reading).map(|(hash, _)| *hash).collect();
            for hash in reading {
                ledger.renew(&hash);
            }
        }
    }

    /// Answers for the next message, and the bytes that are still queued.
    pub(crate) fn fill(&mut self, id: &PeerId, presences: &mut Vec<Presence>) -> u64 {
        let Some(ledger) = self.ledgers.get_mut(id) else { return 0 };
        presences.extend(ledger.take_presences(MAX_PRESENCES));
        ledger.refresh();
        ledger.pending_bytes
    }

    /// Whether there is something to do for a peer.
    pub(crate) fn has_work(&self, id: &PeerId) -> bool {
        self.ledgers.get(id).is_some_and(|ledger| {
            ledger.has_presences() || ledger.pending_bytes > 0 || !ledger.fresh.is_empty() || ledger.has_blocks()
        })
    }

    pub(crate) fn add_stats(&self, stats: &mut Stats) {
        stats.blocks_sent = self.blocks_sent;
        stats.bytes_sent = self.bytes_sent;
        stats.peer_wants = self.ledgers.values().map(|ledger| ledger.wishes.len()).sum();
        for peer in &mut stats.peers {
            if let Some(ledger) = self.ledgers.get(&peer.peer) {
                peer.blocks_sent = ledger.blocks_sent;
                peer.bytes_sent = ledger.bytes_sent;
            }
        }
    }
}

/// A looked-up wish cannot be granted now; `again`: look once more, something changed meanwhile.
fn absent(ledger: &mut Ledger, hash: &Multihash, again: bool) {
    let Some(wish) = ledger.wishes.get_mut(hash) else { return };
    wish.state = State::Absent;
    if again {
        ledger.renew(hash);
        return;
    }
    let (cid, tell) = (wish.cid, std::mem::take(&mut wish.send_dont_have));
    if tell {
        ledger.answer(&cid, false);
    }
}

impl Config {
    /// The CID of an entry that may be wished for. Others are ignored, as deployed nodes do.
    fn acceptable(&self, entry: &Entry) -> Option<Cid> {
        if entry.cid.len() > self.max_cid {
            return None;
        }
        let cid = Cid::try_from(entry.cid.as_ref()).ok()?;
        identity_bytes(&cid).is_none().then_some(cid)
    }
}

#[cfg(test)]
mod tests;
