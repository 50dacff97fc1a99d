//! The records a node keeps for others, in memory and bounded. Called on the swarm's task, so never slow.

use libp2p::{
    PeerId,
    identity::PublicKey,
    kad::{
        ProviderRecord, Record, RecordKey,
        store::{Error, RecordStore, Result},
    },
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, hash_map},
    time::{Duration, Instant},
};

/// Providers kept of one key (Kademlia's k).
const PROVIDERS_PER_KEY: usize = 20;
/// Addresses kept of one provider.
const ADDRESSES_PER_PROVIDER: usize = 8;
/// Value records kept.
const VALUES: usize = 1_024;
/// Bytes of one value (an IPNS record has at most 10 KiB).
const MAX_VALUE: usize = 10 << 10;
/// Longest key: `/ipns/` and a multihash with a 64-byte digest, generously.
const MAX_KEY: usize = 128;
/// How long a provider's addresses are believed; after that the provider alone is.
const ADDRESS_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Provider and value records with an upper bound on each. When it is full the oldest record goes.
pub(crate) struct Records {
    own: PeerId,
    limit: usize,
    clock: u64,
    providers: HashMap<RecordKey, Vec<Kept>>,
    /// Other nodes' records by age.
    ages: BTreeMap<u64, (RecordKey, PeerId)>,
    values: HashMap<RecordKey, Record>,
}

struct Kept {
    record: ProviderRecord,
    /// Its place in `ages`; this node's own records have none and are bounded by who makes them.
    age: Option<u64>,
    at: Instant,
}

impl Records {
    pub(crate) fn new(own: PeerId, limit: usize) -> Self {
        Self { own, limit, clock: 0, providers: HashMap::new(), ages: BTreeMap::new(), values: HashMap::new() }
    }

    /// Whether a value may be stored or believed: only `/pk/` records, whose key says what they must be.
    /// `/ipns/` ones are refused until there is somebody here who can check their signatures.
    pub(crate) fn value_holds(record: &Record) -> bool {
        let Some(hash) = record.key.as_ref().strip_prefix(b"/pk/") else { return false };
        record.value.len() <= MAX_VALUE
            && PublicKey::try_decode_protobuf(&record.value).is_ok_and(|key| key.to_peer_id().to_bytes() == hash)
    }

    /// How many records of other nodes' are kept.
    #[cfg(test)]
    fn foreign(&self) -> usize {
        self.ages.len()
    }

    fn forget(&mut self, key: &RecordKey, peer: &PeerId) {
        let Some(kept) = self.providers.get_mut(key) else { return };
        if let Some(at) = kept.iter().position(|kept| kept.record.provider == *peer)
            && let Some(age) = kept.swap_remove(at).age
        {
            self.ages.remove(&age);
        }
        if kept.is_empty() {
            self.providers.remove(key);
        }
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = std::iter::Map<hash_map::Values<'a, RecordKey, Record>, fn(&'a Record) -> Cow<'a, Record>>;
    // This node's own records are announced by `provide`, not by the DHT's own job.
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.values.get(key).map(Cow::Borrowed)
    }

    fn put(&mut self, record: Record) -> Result<()> {
        if !Self::value_holds(&record) {
            return Err(Error::ValueTooLarge);
        }
        if self.values.len() >= VALUES && !self.values.contains_key(&record.key) {
            return Err(Error::MaxRecords);
        }
        self.values.insert(record.key.clone(), record);
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.values.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.values.values().map(Cow::Borrowed as fn(_) -> _)
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        if record.key.as_ref().len() > MAX_KEY {
            return Err(Error::ValueTooLarge);
        }
        record.addresses.truncate(ADDRESSES_PER_PROVIDER);
        let (key, peer) = (record.key.clone(), record.provider);
        self.forget(&key, &peer);
        let foreign = peer != self.own;
        if foreign {
            if self.ages.len() >= self.limit
                && let Some((_, (old_key, old_peer))) = self.ages.pop_first()
            {
                self.forget(&old_key, &old_peer);
            }
            let oldest = self
                .providers
                .get(&key)
                .filter(|kept| kept.len() >= PROVIDERS_PER_KEY)
                .and_then(|kept| kept.iter().filter(|kept| kept.age.is_some()).min_by_key(|kept| kept.age))
                .map(|kept| kept.record.provider);
            if let Some(oldest) = oldest {
                self.forget(&key, &oldest);
            }
            self.clock += 1;
            self.ages.insert(self.clock, (key.clone(), peer));
        }
        let age = foreign.then_some(self.clock);
        self.providers.entry(key).or_default().push(Kept { record, age, at: Instant::now() });
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let Some(kept) = self.providers.get(key) else { return Vec::new() };
        let mut records: Vec<_> = kept
            .iter()
            .map(|kept| {
                let mut record = kept.record.clone();
                if kept.at.elapsed() > ADDRESS_VALIDITY {
                    record.addresses.clear();
                }
                record
            })
            .collect();
        // The newest first: whoever announced last is the likeliest to be there.
        records.reverse();
        records
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        self.forget(key, peer);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    fn record(key: u32, provider: PeerId) -> ProviderRecord {
        ProviderRecord::new(
            RecordKey::new(&key.to_be_bytes()),
            provider,
            vec!["/ip4/8.8.8.8/tcp/1".parse().unwrap(); 50],
        )
    }

    #[test]
    fn a_flood_of_provider_records_stays_bounded_and_spares_own_ones() {
        let own = PeerId::random();
        let mut records = Records::new(own, 100);
        records.add_provider(record(7, own)).unwrap();
        let flooder = PeerId::random();
        for key in 1000..2000 {
            records.add_provider(record(key, flooder)).unwrap();
        }
        assert_eq!(records.foreign(), 100);
        assert_eq!(records.providers.len(), 101);
        assert_eq!(records.providers(&record(7, own).key).len(), 1);
        assert_eq!(records.providers(&record(1999, own).key)[0].addresses.len(), ADDRESSES_PER_PROVIDER);
        assert!(records.providers(&record(1000, own).key).is_empty(), "the oldest went");
    }

    #[test]
    fn one_key_keeps_twenty_providers_and_each_once() {
        let own = PeerId::random();
        let mut records = Records::new(own, 1000);
        records.add_provider(record(1, own)).unwrap();
        let peers: Vec<PeerId> = (0..50).map(|_| PeerId::random()).collect();
        for peer in peers.iter().chain(&peers[45..]) {
            records.add_provider(record(1, *peer)).unwrap();
        }
        let kept = records.providers(&record(1, own).key);
        assert_eq!(kept.len(), PROVIDERS_PER_KEY);
        assert!(kept.iter().any(|kept| kept.provider == own));
        assert_eq!(records.foreign(), PROVIDERS_PER_KEY - 1);
        for peer in &peers {
            records.remove_provider(&record(1, own).key, peer);
        }
        assert_eq!((records.foreign(), records.providers.len()), (0, 1));
    }

    #[test]
    fn values_are_stored_only_if_their_key_vouches_for_them() {
        let mut records = Records::new(PeerId::random(), 10);
        let key = Keypair::generate_ed25519().public();
        let name = |prefix: &str| RecordKey::from([prefix.as_bytes(), &key.to_peer_id().to_bytes()].concat());
        let value = key.encode_protobuf();
        assert!(records.put(Record::new(name("/pk/"), value.clone())).is_ok());
        assert!(records.get(&name("/pk/")).is_some());
        assert!(records.put(Record::new(name("/pk/"), b"other".to_vec())).is_err());
        assert!(records.put(Record::new(name("/ipns/"), value.clone())).is_err());
        assert!(records.put(Record::new(RecordKey::new(b"anything"), value)).is_err());
    }
}
