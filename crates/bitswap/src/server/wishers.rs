//! Who wishes for a block: an index over all peers' lists.

use crate::short;
use cidery_core::Multihash;
use libp2p::PeerId;
use std::collections::HashMap;

/// Keyed by a part of the hash, peers by number, to stay small under a flood. It may name a peer too
/// many: the peer's own list decides.
#[derive(Default)]
pub(super) struct Wishers {
    by_block: HashMap<u64, Vec<u32>>,
    peers: HashMap<u32, PeerId>,
    next: u32,
    total: usize,
}

impl Wishers {
    /// Gives a peer its number.
    pub(super) fn enter(&mut self, peer: PeerId) -> u32 {
        while self.peers.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.peers.insert(self.next, peer);
        self.next
    }

    /// A peer is gone, and its wishes were removed.
    pub(super) fn exit(&mut self, number: u32) {
        self.peers.remove(&number);
    }

    pub(super) fn add(&mut self, hash: &Multihash, number: u32) {
        self.by_block.entry(short(hash)).or_default().push(number);
        self.total += 1;
    }

    pub(super) fn remove(&mut self, hash: &Multihash, number: u32) {
        let key = short(hash);
        let Some(numbers) = self.by_block.get_mut(&key) else { return };
        if let Some(at) = numbers.iter().position(|other| *other == number) {
            numbers.swap_remove(at);
            self.total -= 1;
        }
        if numbers.is_empty() {
            self.by_block.remove(&key);
        }
    }

    /// The peers that may wish for a block.
    pub(super) fn of(&self, hash: &Multihash) -> Vec<PeerId> {
        let numbers = self.by_block.get(&short(hash)).into_iter().flatten();
        numbers.filter_map(|number| self.peers.get(number)).copied().collect()
    }

    /// Wishes of all peers.
    pub(super) fn total(&self) -> usize {
        self.total
    }
}
