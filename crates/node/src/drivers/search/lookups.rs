//! Looking for providers of keys in the DHTs.
//!
//! Look-ups are shared: searches that want the same key wait for one, and what it found (or that it
//! found nothing) holds for a second.

use super::{Searches, Tools};
use crate::{address::Dht, dht};
use libp2p::{Multiaddr, PeerId};
use std::time::{Duration, Instant};

/// How long the outcome of a look-up holds, absence included.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// Look-ups at a time; a search beyond that makes do with the peers that are there.
const MAX_LOOKUPS: usize = 256;

/// A look-up of one key in both DHTs.
pub(super) struct Lookup {
    key: Vec<u8>,
    open: usize,
    found: Vec<PeerId>,
    pub(super) finished: Option<Instant>,
}

impl Searches {
    /// Looks for providers of the root, then of what is wanted, in both DHTs.
    pub(super) fn look_up(&mut self, tools: &mut Tools<'_>, id: u64, now: Instant) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        (search.looked, search.again) = (now, false);
        let mut keys = vec![search.root.hash().to_bytes()];
        for cid in &search.wanted {
            let key = cid.hash().to_bytes();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        for key in keys {
            let shared = self.lookups.iter().find(|(_, lookup)| lookup.key == key);
            if let Some((lookup, state)) = shared {
                let (lookup, open, found) = (*lookup, state.open > 0, state.found.clone());
                if open && let Some(search) = self.searches.get_mut(&id) {
                    search.lookups.insert(lookup);
                }
                for peer in found {
                    let addresses = dht::known(tools.swarm, peer);
                    self.dial(tools, id, peer, addresses);
                }
            } else if self.lookups.len() < MAX_LOOKUPS {
                let lookup = self.next();
                for dht in Dht::BOTH {
                    tools.routing.find_providers(tools.swarm, dht, &key, lookup);
                }
                self.lookups.insert(lookup, Lookup { key, open: 2, found: Vec::new(), finished: None });
                if let Some(search) = self.searches.get_mut(&id) {
                    search.lookups.insert(lookup);
                }
            }
        }
    }

    pub(super) fn waiting_for(&self, lookup: u64) -> Vec<u64> {
        self.searches.iter().filter(|(_, search)| search.lookups.contains(&lookup)).map(|(id, _)| *id).collect()
    }

    /// A look-up found a provider.
    pub(crate) fn on_provider(
        &mut self,
        tools: &mut Tools<'_>,
        lookup: u64,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
    ) {
        let Some(state) = self.lookups.get_mut(&lookup) else { return };
        if state.found.contains(&peer) {
            return;
        }
        state.found.push(peer);
        addresses.retain(|address| self.surroundings.allow(address));
        addresses.extend(dht::known(tools.swarm, peer));
        for id in self.waiting_for(lookup) {
            self.dial(tools, id, peer, addresses.clone());
        }
    }

    /// A look-up is over in one of the DHTs.
    pub(crate) fn on_lookup_over(&mut self, lookup: u64) {
        let Some(state) = self.lookups.get_mut(&lookup) else { return };
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            state.finished = Some(Instant::now());
            for search in self.searches.values_mut() {
                search.lookups.remove(&lookup);
            }
        }
    }
}
