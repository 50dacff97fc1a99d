//! Telling the DHTs what this node has.
//!
//! Keys lie on a circle of hashes. One look-up finds the peers around a key, which are the right ones
//! for the keys beside it as well: those that are due go to them together, as many on one stream as
//! there are (the "provide sweep" of deployed nodes). New keys are due at once, all of them every 22 h.
//! A peer of the local DHT that connects is told directly: it may have restarted, or be the first.

use super::{
    keyspace::{Point, REPLICAS, distance, nearest, place, place_of, range, shared_bits},
    lapsed::Lapsed,
};
use crate::{
    address::Dht,
    announce::MAX_KEYS,
    dht::{self, Batch, Routing},
    swarm::Swarm,
};
use cidery_core::Cid;
use libp2p::{
    Multiaddr, PeerId,
    kad::{PeerInfo, ProviderRecord, RecordKey, store::RecordStore},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Records are good for 48 h; deployed nodes renew them after 22.
const RENEW: Duration = Duration::from_secs(22 * 3600);
/// Keys that become due this soon go along with a neighbour that is due now.
const ALONG: Duration = Duration::from_secs(3600);
/// Regions looked up at a time, in each DHT.
const REGIONS: usize = 4;
/// Wait before another try when no peer answered, or none is known.
const RETRY: Duration = Duration::from_secs(30);
/// A routing table that just got its first peers fills up for this long before it is used.
const GATHER: Duration = Duration::from_millis(500);
/// Keys sent after one look-up; what is left of a crowded region is looked up again.
const REGION_KEYS: usize = 4_096;
/// Work that telling a new peer may be (keys × peers compared); beyond it the peer waits for the sweep.
const INTRODUCTION: usize = 2_000_000;
/// Keys on one stream.
const BATCH: usize = 2_048;
/// Roots provided because they were downloaded.
const MAX_DOWNLOADS: usize = 1_024;

/// Keys that a namespace provides from now on, and such that it provides no more. A namespace adds each
/// once, and takes away what it added.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) added: Vec<(Point, RecordKey)>,
    pub(crate) gone: Vec<Point>,
}

struct Entry {
    key: RecordKey,
    due: [Instant; 2],
    /// The namespaces that want it provided, and one for a download.
    holders: usize,
}

/// What is provided, and when it is due.
pub(crate) struct Provider {
    downloads: VecDeque<(Instant, Point)>,
    lapsed: Lapsed,
    /// When a peer of the local DHT was told last.
    introduced: Option<Instant>,
    entries: BTreeMap<Point, Entry>,
    due: [BTreeSet<(Instant, Point)>; 2],
    paused: [Option<Instant>; 2],
    regions: HashMap<u64, (Dht, Point)>,
    count: u64,
}

fn index(dht: Dht) -> usize {
    match dht {
        Dht::Local => 0,
        Dht::Wide => 1,
    }
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self {
            downloads: VecDeque::new(),
            lapsed: Lapsed::new(MAX_KEYS),
            introduced: None,
            entries: BTreeMap::new(),
            due: Default::default(),
            paused: Default::default(),
            regions: HashMap::new(),
            count: 0,
        }
    }

    /// Follows what a namespace provides.
    pub(crate) fn change(&mut self, swarm: &mut Swarm, change: Change) {
        for point in change.gone {
            self.release(swarm, point);
        }
        for (point, key) in change.added {
            self.hold(swarm, point, key);
        }
    }

    /// Provides a root that is being downloaded, for as long as a record holds.
    pub(crate) fn downloaded(&mut self, swarm: &mut Swarm, root: &Cid) {
        if cidery_core::identity_bytes(root).is_some() {
            return;
        }
        let key = RecordKey::from(root.hash().to_bytes());
        let point = place(&key);
        if self.downloads.iter().any(|(_, known)| *known == point) {
            return;
        }
        self.downloads.push_back((Instant::now(), point));
        self.hold(swarm, point, key);
        if self.downloads.len() > MAX_DOWNLOADS {
            self.forget_oldest_download(swarm);
        }
    }

    fn forget_oldest_download(&mut self, swarm: &mut Swarm) {
        if let Some((_, point)) = self.downloads.pop_front() {
            self.release(swarm, point);
        }
    }

    fn hold(&mut self, swarm: &mut Swarm, point: Point, key: RecordKey) {
        if let Some(entry) = self.entries.get_mut(&point) {
            entry.holders += 1;
            return;
        }
        let now = Instant::now();
        let due = self.lapsed.take(&point).map_or([now; 2], |(gone, mut due)| {
            if self.introduced.is_some_and(|at| at >= gone) {
                // Whoever joined meanwhile was not told.
                due[index(Dht::Local)] = now;
            }
            due
        });
        let own = *swarm.local_peer_id();
        for dht in Dht::BOTH {
            // So that whoever asks this node itself is answered; the DHT fills in the addresses.
            let mut record = ProviderRecord::new(key.clone(), own, Vec::new());
            record.expires = None;
            // Own records are never refused.
            let _ = dht::kad_of(swarm, dht).store_mut().add_provider(record);
            self.due[index(dht)].insert((due[index(dht)], point));
        }
        self.entries.insert(point, Entry { key, due, holders: 1 });
    }

    fn release(&mut self, swarm: &mut Swarm, point: Point) {
        let Some(entry) = self.entries.get_mut(&point) else { return };
        entry.holders -= 1;
        if entry.holders > 0 {
            return;
        }
        let Some(entry) = self.entries.remove(&point) else { return };
        let own = *swarm.local_peer_id();
        for dht in Dht::BOTH {
            dht::kad_of(swarm, dht).store_mut().remove_provider(&entry.key, &own);
            self.due[index(dht)].remove(&(entry.due[index(dht)], point));
        }
        self.lapsed.remember(Instant::now(), point, entry.due);
    }

    /// Looks up the regions of keys that are due.
    pub(crate) fn tick(
        &mut self,
        swarm: &mut Swarm,
        routing: &mut Routing,
        addresses: impl Fn(&Swarm, Dht) -> Vec<Multiaddr>,
        now: Instant,
    ) {
        while self.downloads.front().is_some_and(|(since, _)| now - *since > RENEW) {
            self.forget_oldest_download(swarm);
        }
        self.lapsed.tick(now);
        for dht in Dht::BOTH {
            let at = index(dht);
            if self.paused[at].is_some_and(|until| until > now)
                || self.due[at].first().is_none_or(|(due, _)| *due > now)
            {
                continue;
            }
            if addresses(swarm, dht).is_empty() || dht::table(swarm, dht).is_empty() {
                self.paused[at] = Some(now + RETRY);
                continue;
            }
            while self.regions.values().filter(|(of, _)| *of == dht).count() < REGIONS {
                let Some((due, point)) = self.due[at].first().copied().filter(|(due, _)| *due <= now) else { break };
                let Some(entry) = self.entries.get_mut(&point) else {
                    self.due[at].remove(&(due, point));
                    continue;
                };
                // If the look-up is lost it comes again.
                reschedule(&mut self.due[at], entry, at, point, now + 4 * RETRY);
                self.count += 1;
                self.regions.insert(self.count, (dht, point));
                routing.find_region(swarm, dht, entry.key.as_ref(), self.count);
            }
        }
    }

    /// The peers around a key: sends them that key and its neighbours.
    pub(crate) fn on_region(
        &mut self,
        swarm: &mut Swarm,
        region: u64,
        peers: Vec<PeerInfo>,
        addresses: Vec<Multiaddr>,
    ) {
        let Some((dht, centre)) = self.regions.remove(&region) else { return };
        tracing::debug!(?dht, peers = peers.len(), "a region was looked up");
        let (at, now) = (index(dht), Instant::now());
        if peers.is_empty() || addresses.is_empty() {
            // Nobody answers for this key, so nobody will for the others.
            if let Some(entry) = self.entries.get_mut(&centre) {
                reschedule(&mut self.due[at], entry, at, centre, now);
            }
            self.paused[at] = Some(now + RETRY);
            return;
        }
        let places: Vec<(Point, usize)> =
            peers.iter().enumerate().map(|(i, peer)| (place_of(&peer.peer_id), i)).collect();
        // All peers that share more bits with the centre than the farthest of these do are among them.
        let farthest = places.iter().map(|(place, _)| shared_bits(place, &centre)).min().unwrap_or(0);
        let bits = if peers.len() < REPLICAS { 0 } else { (farthest + 1).min(256) };
        let (first, last) = range(&centre, bits);
        let mut batches: Vec<Vec<Vec<u8>>> = vec![Vec::new(); peers.len()];
        let mut room = REGION_KEYS;
        for (point, entry) in self.entries.range_mut(first..=last) {
            // The centre was put off when its look-up began.
            if *point != centre && (entry.due[at] > now + ALONG || room == 0) {
                continue;
            }
            room = room.saturating_sub(1);
            for i in nearest(point, &places) {
                batches[i].push(entry.key.to_vec());
            }
            reschedule(&mut self.due[at], entry, at, *point, now + RENEW);
        }
        if let Some(entry) = self.entries.get_mut(&centre) {
            reschedule(&mut self.due[at], entry, at, centre, now + RENEW);
        }
        let addresses: Arc<[Multiaddr]> = addresses.into();
        for (peer, keys) in peers.into_iter().zip(batches) {
            send(swarm, dht, peer.peer_id, &peer.addrs, &keys, &addresses);
        }
    }

    /// A peer of the local DHT connected: tells it the keys that it is among the nearest for.
    pub(crate) fn introduce(&mut self, swarm: &mut Swarm, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.wake(Dht::Local);
        self.introduced = Some(Instant::now());
        let mut others: HashSet<PeerId> = dht::table(swarm, Dht::Local).into_iter().collect();
        others.insert(peer);
        if others.len() * self.entries.len() > INTRODUCTION {
            return;
        }
        let places: Vec<(Point, usize)> = others.iter().enumerate().map(|(i, peer)| (place_of(peer), i)).collect();
        let own = place_of(&peer);
        let keys: Vec<_> = self
            .entries
            .iter()
            .filter(|(point, _)| {
                let mine = distance(point, &own);
                places.iter().filter(|(place, _)| distance(point, place) < mine).count() < REPLICAS
            })
            .map(|(_, entry)| entry.key.to_vec())
            .collect();
        send(swarm, Dht::Local, peer, &[], &keys, &addresses.into());
    }

    /// A routing table has a new peer: what waited for one need not wait longer.
    pub(crate) fn wake(&mut self, dht: Dht) {
        let soon = Instant::now() + GATHER;
        if let Some(paused) = &mut self.paused[index(dht)] {
            *paused = soon.min(*paused);
        }
    }
}

fn reschedule(due: &mut BTreeSet<(Instant, Point)>, entry: &mut Entry, at: usize, point: Point, when: Instant) {
    due.remove(&(entry.due[at], point));
    entry.due[at] = when;
    due.insert((when, point));
}

fn send(
    swarm: &mut Swarm,
    dht: Dht,
    peer: PeerId,
    known: &[Multiaddr],
    keys: &[Vec<u8>],
    addresses: &Arc<[Multiaddr]>,
) {
    let mut at = dht::known(swarm, peer);
    at.extend(known.iter().filter(|address| dht.holds(address)).cloned());
    at.truncate(16);
    for keys in keys.chunks(BATCH) {
        let batch = Batch { dht, keys: keys.into(), addresses: addresses.clone() };
        swarm.behaviour_mut().sender.send(peer, at.clone(), batch);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_that_comes_back_is_due_when_it_would_have_been() {
        let (mut swarm, mut provider) = (crate::swarm::idle(), Provider::new());
        let key = RecordKey::new(b"abc");
        let at = place(&key);
        let add = || Change { added: vec![(at, key.clone())], gone: vec![] };
        let drop = || Change { added: vec![], gone: vec![at] };
        let stored = |swarm: &mut Swarm| dht::kad_of(swarm, Dht::Local).store_mut().providers(&key).len();
        // Two namespaces have it.
        provider.change(&mut swarm, add());
        provider.change(&mut swarm, add());
        provider.change(&mut swarm, drop());
        assert_eq!(stored(&mut swarm), 1);
        let later = Instant::now() + RENEW;
        for dht in [0, 1] {
            reschedule(&mut provider.due[dht], provider.entries.get_mut(&at).unwrap(), dht, at, later);
        }
        provider.change(&mut swarm, drop());
        assert_eq!((stored(&mut swarm), provider.due[0].len(), provider.due[1].len()), (0, 0, 0));
        provider.change(&mut swarm, add());
        assert_eq!(stored(&mut swarm), 1);
        assert_eq!(provider.due, [BTreeSet::from([(later, at)]), BTreeSet::from([(later, at)])]);
        // A neighbour that came in between does not have it.
        provider.change(&mut swarm, drop());
        provider.introduce(&mut swarm, PeerId::random(), vec![]);
        provider.change(&mut swarm, add());
        assert!(provider.due[index(Dht::Local)].first().unwrap().0 < later);
        assert_eq!(provider.due[index(Dht::Wide)].first().unwrap().0, later);
    }
}
