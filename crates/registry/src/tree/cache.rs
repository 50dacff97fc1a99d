//! What was read from trees, by CID: immutable, so never stale, and bounded by bytes.

use super::{Blob, Descriptor, Manifest, repositories::Children, tagged::Targets};
use cidery_core::{Bytes, Cid, Digest, Reference, RepositoryName, Tag};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    mem::size_of,
    sync::Arc,
};

/// Nodes, tag lists and resolved references of immutable trees, for all who may read them.
///
/// A cache answers whoever holds it: readers that may see different things (the owner of a store,
/// and the public) must not share one.
pub struct NodeCache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

/// What is kept. The `Cid` in a key is that of the directory the answer was read below.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A small block.
    Node(Cid),
    /// A tags directory's names, sorted.
    Tags(Cid),
    /// A reference below a storage directory.
    Manifest(Cid, RepositoryName, Reference),
    /// A blob below a storage directory.
    Blob(Cid, RepositoryName, Digest),
    /// A subject's referrers below a storage directory.
    Referrers(Cid, RepositoryName, Digest),
    /// A file's size.
    Size(Cid),
    /// A tag's directory.
    Targets(Cid),
    /// A directory between the repositories.
    Children(Cid),
}

#[derive(Clone)]
pub(super) enum Value {
    Node(Bytes),
    Tags(Arc<[Tag]>),
    Manifest(Arc<Manifest>),
    Blob(Blob),
    Referrers(Arc<[Descriptor]>),
    Size(u64),
    Targets(Targets),
    Children(Children),
}

/// Two generations: what was used since the last turn, and what was used before it. A turn drops
/// the older one. As good as least-recently-used here, at the cost of a hash map.
#[derive(Default)]
struct Shard {
    young: HashMap<Key, (Value, usize)>,
    old: HashMap<Key, (Value, usize)>,
    young_bytes: usize,
    limit: usize,
}

const SHARDS: usize = 4;

impl Default for NodeCache {
    /// 16 MiB.
    fn default() -> Self {
        Self::new(16 << 20)
    }
}

impl NodeCache {
    /// A cache of at most about `bytes` bytes. It takes no memory until it is used.
    pub fn new(bytes: usize) -> Self {
        let shard = || Mutex::new(Shard { limit: bytes / SHARDS / 2, ..Shard::default() });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher: RandomState::new() }
    }

    /// A cache that keeps nothing, for readers whose permission may end at any time.
    pub fn none() -> Self {
        Self::new(0)
    }

    /// Forgets everything, for when its readers may not see any more what they saw before.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            *shard = Shard { limit: shard.limit, ..Shard::default() };
        }
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    pub(super) fn get(&self, key: &Key) -> Option<Value> {
        let mut shard = self.shard(key).lock();
        if let Some((value, _)) = shard.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = shard.old.remove_entry(key)?;
        shard.insert(key, value.clone(), weight);
        Some(value)
    }

    pub(super) fn insert(&self, key: Key, value: Value) {
        let weight = key.weight() + value.weight() + size_of::<(Key, Value)>() * 2;
        let mut shard = self.shard(&key).lock();
        // One huge entry must not empty the cache.
        if weight <= shard.limit / 2 {
            shard.insert(key, value, weight);
        }
    }

    pub(super) fn node(&self, cid: &Cid) -> Option<Bytes> {
        match self.get(&Key::Node(*cid)) {
            Some(Value::Node(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Large leaves pass by: they are file content, not tree.
    pub(super) fn insert_node(&self, cid: &Cid, bytes: &Bytes) {
        const LEAF: usize = 64 << 10;
        if cid.codec() == cidery_core::codec::DAG_PB || bytes.len() <= LEAF {
            // A copy, so that a small node does not keep a large buffer alive.
            self.insert(Key::Node(*cid), Value::Node(Bytes::copy_from_slice(bytes)));
        }
    }

    /// Bytes held now, by the cache's own count.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let held = |map: &HashMap<Key, (Value, usize)>| map.values().map(|(_, weight)| weight).sum::<usize>();
        self.shards.iter().map(|shard| shard.lock()).map(|shard| held(&shard.young) + held(&shard.old)).sum()
    }
}

impl Shard {
    fn insert(&mut self, key: Key, value: Value, weight: usize) {
        if self.young_bytes + weight > self.limit {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.old.remove(&key);
        self.young_bytes += weight;
        if let Some((_, before)) = self.young.insert(key, (value, weight)) {
            self.young_bytes -= before;
        }
    }
}

impl Key {
    fn weight(&self) -> usize {
        match self {
            Self::Node(_) | Self::Tags(_) | Self::Size(_) | Self::Targets(_) | Self::Children(_) => 0,
            Self::Manifest(_, name, reference) => {
                name.as_str().len()
                    + match reference {
                        Reference::Tag(tag) => tag.as_str().len(),
                        Reference::Digest(digest) => digest.as_str().len(),
                    }
            }
            Self::Blob(_, name, digest) | Self::Referrers(_, name, digest) => {
                name.as_str().len() + digest.as_str().len()
            }
        }
    }
}

impl Value {
    /// A manifest under several references is counted once for each: the bound errs to the safe side.
    fn weight(&self) -> usize {
        match self {
            Self::Node(bytes) => bytes.len(),
            Self::Tags(tags) => tags.iter().map(|tag| tag.as_str().len() + size_of::<Tag>() + 16).sum(),
            Self::Manifest(manifest) => manifest.bytes.len() + manifest.media_type.len() + size_of::<Manifest>() + 128,
            Self::Blob(blob) => blob.digest.as_str().len(),
            Self::Referrers(list) => list.iter().map(Descriptor::weight).sum(),
            Self::Size(_) => 0,
            Self::Children(children) => children.weight(),
            Self::Targets(targets) => targets.current.iter().chain(&*targets.ever).map(digest_weight).sum(),
        }
    }
}

fn digest_weight(digest: &Digest) -> usize {
    digest.as_str().len() + size_of::<Digest>() + 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = NodeCache::new(1 << 20);
        let node = |n: u32| Block::raw([&n.to_be_bytes()[..], &[0; 1000]].concat());
        let favourite = node(u32::MAX);
        cache.insert_node(favourite.cid(), favourite.data());
        for n in 0..10_000 {
            let block = node(n);
            cache.insert_node(block.cid(), block.data());
            assert_eq!(cache.node(favourite.cid()).as_ref(), Some(favourite.data()), "after {n}");
        }
        assert!(cache.bytes() <= 1 << 20, "{}", cache.bytes());
        assert!(cache.bytes() >= 1 << 18, "{}", cache.bytes());
        assert_eq!(cache.node(node(0).cid()), None);
        cache.clear();
        assert_eq!((cache.node(favourite.cid()), cache.bytes()), (None, 0));
        cache.insert_node(favourite.cid(), favourite.data());
        assert!(cache.node(favourite.cid()).is_some());
    }

    #[test]
    fn large_leaves_pass_by() {
        let cache = NodeCache::default();
        let leaf = Block::raw(vec![1; 100 << 10]);
        cache.insert_node(leaf.cid(), leaf.data());
        assert_eq!((cache.node(leaf.cid()), cache.bytes()), (None, 0));
    }

    #[test]
    fn none_keeps_nothing() {
        let (cache, empty) = (NodeCache::none(), Block::raw(Vec::new()));
        cache.insert_node(empty.cid(), empty.data());
        assert_eq!((cache.node(empty.cid()), cache.bytes()), (None, 0));
    }
}
