//! One connected peer as the client sees it: what it was told we want, what it owes, how fast it is.

use super::recent::Recent;
use crate::{
    Config,
    api::SessionId,
    slot::PeerSlot,
    wire::{Entry, Version, WANT_HAVE},
};
use bytes::Bytes;
use cidery_core::{Cid, Multihash};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Whether a peer speaks Bitswap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// Nothing is known yet: worth a try.
    Unknown,
    /// It lists the protocol, or it was negotiated.
    Yes,
    /// Negotiation failed.
    No,
}

/// What is asked about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Have,
    Block,
}

#[derive(Debug)]
struct Desired {
    cid: Cid,
    kind: Kind,
    priority: i32,
}

/// A block size to plan with before one was seen, in bytes.
const ASSUMED_BLOCK: f64 = (256 << 10) as f64;
/// A rate to plan with before one was measured, in bytes per second.
const ASSUMED_RATE: f64 = (8 << 20) as f64;
/// Seconds that a peer which let others down is expected to need, beside what was measured before.
const LET_DOWN: f64 = 10.0;
/// Rates are measured over at least this long.
const RATE_SPAN: Duration = Duration::from_millis(100);

pub(super) struct Peer {
    pub slot: Arc<PeerSlot>,
    pub support: Support,
    /// `None` until negotiated.
    pub version: Option<Version>,
    pub shunned_until: Option<Instant>,
    /// After a stall it gets nothing while others can do the work.
    pub slow_until: Option<Instant>,
    pub sessions: Vec<SessionId>,
    /// Want-blocks it owes, in the order they were asked.
    pub outstanding: BTreeMap<u64, Multihash>,
    /// Since when it owes something without a pause.
    pub busy_since: Instant,
    /// When it last answered something that was asked: with a block, or otherwise.
    pub answered_at: Instant,
    /// When it last sent a wanted block.
    pub supplied_at: Instant,
    /// Others were asked for what it owed and gave no sign of, and it has sent nothing since.
    pub let_down: bool,
    /// Wanted blocks received from it.
    pub blocks: u64,
    pub bytes: u64,
    /// What was asked of it and is settled: late blocks among these are duplicates, not offences.
    pub settled: Recent,
    /// What its wantlist of ours should hold.
    desired: HashMap<Multihash, Desired>,
    haves: usize,
    /// What it holds as far as was sent.
    sent: HashMap<Multihash, (Cid, Kind)>,
    dirty: VecDeque<Multihash>,
    is_dirty: HashSet<Multihash>,
    /// The next message replaces the whole wantlist.
    full: bool,
    average_block: f64,
    rate: Option<f64>,
    rate_bytes: u64,
    rate_since: Instant,
    latency: Duration,
    /// The want-block asked while it owed nothing: its answer takes one round trip.
    probe: Option<u64>,
}

impl Peer {
    pub(super) fn new(slot: Arc<PeerSlot>, now: Instant) -> Self {
        Self {
            slot,
            support: Support::Unknown,
            version: None,
            shunned_until: None,
            slow_until: None,
            sessions: Vec::new(),
            outstanding: BTreeMap::new(),
            busy_since: now,
            answered_at: now,
            supplied_at: now,
            let_down: false,
            blocks: 0,
            bytes: 0,
            settled: Recent::new(2_048),
            desired: HashMap::new(),
            haves: 0,
            sent: HashMap::new(),
            dirty: VecDeque::new(),
            is_dirty: HashSet::new(),
            full: false,
            average_block: ASSUMED_BLOCK,
            rate: None,
            rate_bytes: 0,
            rate_since: now,
            latency: Duration::from_millis(1),
            probe: None,
        }
    }

    /// Whether anything may be asked of it.
    pub(super) fn usable(&self, now: Instant) -> bool {
        self.support != Support::No && self.shunned_until.is_none_or(|until| until <= now)
    }

    /// Whether it is known not to understand HAVE and DONT_HAVE.
    pub(super) fn is_old(&self) -> bool {
        self.version.is_some_and(|version| version < Version::V1_2)
    }

    /// Whether another want-block may be asked of it, after `streak` refusals in a row.
    pub(super) fn has_room(&self, config: &Config, streak: u32, now: Instant) -> bool {
        let most = config.peer_window as f64;
        let window = match self.rate {
            Some(rate) => (rate * config.peer_window_time.as_secs_f64()).min(most),
            None => most / 2.0,
        };
        let blocks = ((window / self.average_block) as usize).clamp(2, config.max_wants_per_peer);
        let blocks = (blocks >> (streak / 4).min(16)).max(1);
        self.outstanding.len() < blocks
            && self.desired.len() - self.haves < config.max_wants_per_peer
            && self.slow_until.is_none_or(|until| until <= now)
    }

    pub(super) fn has_room_for_have(&self, config: &Config) -> bool {
        self.haves < config.max_haves_per_peer
    }

    /// Seconds until everything it owes has probably come.
    pub(super) fn drain_time(&self) -> f64 {
        self.time_for(self.outstanding.len())
    }

    /// Seconds that it probably needs for so many blocks.
    pub(super) fn time_for(&self, blocks: usize) -> f64 {
        blocks as f64 * self.average_block / self.rate.unwrap_or(ASSUMED_RATE)
    }

    /// How long it owes something and gives no sign of it. Bytes that may be a part of a block are one.
    pub(super) fn quiet(&self, config: &Config, now: Instant) -> Duration {
        let sign = self.answered_at.max(self.busy_since).max(self.slot.heard(config.slow_frame));
        now.saturating_duration_since(sign)
    }

    /// Seconds until one more block from it would probably have come.
    pub(super) fn cost(&self) -> f64 {
        let doubt = if self.let_down { LET_DOWN } else { 0.0 };
        doubt
            + self.latency.as_secs_f64()
            + (self.outstanding.len() + 1) as f64 * self.average_block / self.rate.unwrap_or(ASSUMED_RATE)
    }

    /// It stalled: plan with a quarter of the speed.
    pub(super) fn slow_down(&mut self) {
        self.rate = Some(self.rate.unwrap_or(ASSUMED_RATE) / 4.0);
    }

    /// It now owes a block.
    pub(super) fn owes(&mut self, sequence: u64, hash: Multihash, now: Instant) {
        if self.outstanding.is_empty() {
            self.busy_since = now;
            self.rate_since = now;
            self.rate_bytes = 0;
            self.probe = Some(sequence);
        }
        self.outstanding.insert(sequence, hash);
    }

    /// It answered a want-block; `len` if with the block.
    pub(super) fn answered(&mut self, sequence: u64, len: Option<u64>, now: Instant) {
        self.outstanding.remove(&sequence);
        if self.probe == Some(sequence) {
            self.probe = None;
            self.latency = (self.latency + now.saturating_duration_since(self.busy_since)) / 2;
        }
        if let Some(len) = len {
            self.supplied(len, now);
        }
    }

    /// It sent a wanted block.
    pub(super) fn supplied(&mut self, len: u64, now: Instant) {
        self.answered_at = now;
        self.supplied_at = now;
        self.let_down = false;
        self.blocks += 1;
        self.bytes += len;
        self.average_block += (len.max(64) as f64 - self.average_block) / 8.0;
        self.rate_bytes += len;
        let span = now.saturating_duration_since(self.rate_since);
        if span >= RATE_SPAN {
            let seen = self.rate_bytes as f64 / span.as_secs_f64();
            self.rate = Some(self.rate.map_or(seen, |rate| (rate + seen) / 2.0).max(1.0));
            self.rate_since = now;
            self.rate_bytes = 0;
        }
    }

    /// Puts a want on its wantlist.
    pub(super) fn desire(&mut self, hash: Multihash, cid: Cid, kind: Kind, priority: i32) {
        if let Some(old) = self.desired.insert(hash, Desired { cid, kind, priority })
            && old.kind == Kind::Have
        {
            self.haves -= 1;
        }
        if kind == Kind::Have {
            self.haves += 1;
        }
        self.touch(hash);
    }

    /// Takes a want off its wantlist, with a cancel if it was sent.
    pub(super) fn withdraw(&mut self, hash: &Multihash) {
        if self.forget(hash) && self.sent.contains_key(hash) {
            self.touch(*hash);
        }
    }

    /// It answered a want for good, and dropped it from its wantlist itself.
    pub(super) fn settle(&mut self, hash: &Multihash) {
        self.forget(hash);
        self.sent.remove(hash);
    }

    fn forget(&mut self, hash: &Multihash) -> bool {
        match self.desired.remove(hash) {
            Some(old) => {
                if old.kind == Kind::Have {
                    self.haves -= 1;
                }
                self.refresh();
                true
            }
            None => false,
        }
    }

    fn touch(&mut self, hash: Multihash) {
        if self.is_dirty.insert(hash) {
            self.dirty.push_back(hash);
        }
        self.refresh();
        self.slot.work.notify_one();
    }

    /// Everything on its wantlist.
    pub(super) fn desired(&self) -> Vec<Multihash> {
        self.desired.keys().copied().collect()
    }

    /// Whether anything is on its wantlist.
    pub(super) fn is_asked(&self) -> bool {
        !self.desired.is_empty()
    }

    /// Says whether the connection is still needed.
    pub(super) fn refresh(&self) {
        self.slot.wanted.store(!self.sessions.is_empty() || !self.desired.is_empty(), Relaxed);
    }

    /// Whether there is something to tell it.
    pub(super) fn has_news(&self) -> bool {
        self.full || !self.dirty.is_empty()
    }

    /// What was sent before may be lost: the next message replaces everything.
    pub(super) fn resend(&mut self) {
        self.full |= !self.sent.is_empty();
        self.sent.clear();
        self.is_dirty.clear();
        self.dirty.clear();
        let mut all: Vec<(i32, Multihash)> = self.desired.iter().map(|(hash, want)| (want.priority, *hash)).collect();
        all.sort_unstable_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        for (_, hash) in all {
            self.touch(hash);
        }
        if self.full {
            self.slot.work.notify_one();
        }
    }

    /// Moves at most `limit` changes into a message. Want-haves that the peer would take for
    /// want-blocks are given back instead.
    pub(super) fn fill(&mut self, limit: usize, full: &mut bool, entries: &mut Vec<Entry>) -> Vec<Multihash> {
        let mut unsaid = Vec::new();
        *full |= std::mem::take(&mut self.full);
        while entries.len() < limit
            && let Some(hash) = self.dirty.pop_front()
        {
            self.is_dirty.remove(&hash);
            match (self.desired.get(&hash), self.sent.get(&hash)) {
                (Some(want), _) if want.kind == Kind::Have && self.version.is_some_and(|v| v < Version::V1_2) => {
                    unsaid.push(hash);
                    self.forget(&hash);
                }
                (Some(want), sent) if sent.is_none_or(|(_, kind)| *kind != want.kind) => {
                    entries.push(Entry {
                        cid: Bytes::from(want.cid.to_bytes()),
                        priority: want.priority,
                        cancel: false,
                        want_type: if want.kind == Kind::Have { WANT_HAVE } else { 0 },
                        send_dont_have: true,
                    });
                    self.sent.insert(hash, (want.cid, want.kind));
                }
                (None, Some((cid, _))) => {
                    entries.push(Entry { cid: Bytes::from(cid.to_bytes()), cancel: true, ..Entry::default() });
                    self.sent.remove(&hash);
                }
                _ => {}
            }
        }
        unsaid
    }
}
