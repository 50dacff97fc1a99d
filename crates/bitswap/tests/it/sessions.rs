//! Sessions: local first, deadlines, calls for providers, ends.

use crate::harness::*;
use cidery_bitswap::{Config, Event};
use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, FetchError, Multihash, Origin, PublicBlocks, Scope, Session as _,
    Stats, StoreError, codec, memory::MemoryStore,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

fn hasty() -> Config {
    Config { no_progress: Duration::from_millis(400), not_found_after: Duration::from_millis(200), ..Config::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_or_in_the_cid_needs_nobody() {
    let node = Node::new().await;
    let blocks = blocks(20, 3, 100);
    node.add(&blocks);
    let session = node.session(&blocks[0]);
    fetch_all(&session, &blocks, 3).await;
    let inline = Cid::new_v1(codec::RAW, Multihash::wrap(0, b"inline").unwrap());
    assert_eq!(fetch(&session, &inline).await.unwrap(), "inline");
    assert_eq!(session.received(), 0);
    let unknown = Cid::new_v1(codec::RAW, Multihash::wrap(0x9999, &[1; 32]).unwrap());
    assert!(matches!(fetch(&session, &unknown).await, Err(FetchError::Block(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_block_is_fetched_for_the_public_and_stays_private() {
    let (a, b) = (Node::new().await, Node::new().await);
    let block = &blocks(21, 1, 5_000)[0];
    a.add(std::slice::from_ref(block));
    b.store.put(block, Origin::Pushed).unwrap();
    let owner = b.bitswap.session(*block.cid(), Scope::Owner);
    assert_eq!(fetch(&owner, block.cid()).await.unwrap(), block.data());
    assert_eq!(a.bitswap.stats().blocks_sent, 0, "the owner has it already");
    b.connect(&a).await;
    let public = b.bitswap.session(*block.cid(), Scope::Public);
    for sent in 1..=2 {
        assert_eq!(fetch(&public, block.cid()).await.unwrap(), block.data());
        assert_eq!(a.bitswap.stats().blocks_sent, sent, "it came from the peer");
    }
    assert_eq!(b.store.public_get(block.cid()).unwrap(), None, "its origin is what it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_peers_providers_are_called_for_and_then_used() {
    let (a, mut b) = (Node::new().await, Node::new().await);
    let blocks = blocks(22, 10, 5_000);
    a.add(&blocks);
    let session = b.session(&blocks[0]);
    let id = session.id();
    let root = *blocks[0].cid();
    let first = fetch(&session, &root);
    let rest = fetch_all(&session, &blocks, 10);
    let (root_data, (), ()) = tokio::join!(first, rest, async {
        let Event::NeedPeers { session, cid } = b.event().await else { panic!("another event") };
        assert!(session == id && blocks.iter().any(|block| *block.cid() == cid));
        b.bitswap.offer_peers(id, vec![a.id]);
        a.dial(&b.address).await;
    });
    assert_eq!(root_data.unwrap(), blocks[0].data());
    assert!(b.events.try_recv().is_err(), "one call for all ten");
    drop(session);
    assert_eq!(b.event().await, Event::SessionEnded { session: id });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_connects_later_is_asked() {
    let (a, b) = (Node::new().await, Node::new().await);
    let blocks = blocks(23, 100, 500);
    a.add(&blocks);
    let session = b.session(&blocks[0]);
    tokio::join!(fetch_all(&session, &blocks, 100), b.connect(&a));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_it() {
    let (a, mut b) = (Node::new().await, Node::with(hasty()).await);
    b.connect(&a).await;
    let missing = Block::raw(&b"nobody has this"[..]);
    let session = b.session(&missing);
    let answer = tokio::join!(fetch(&session, missing.cid()), async {
        let Event::NeedPeers { session, cid } = b.event().await else { panic!("another event") };
        b.bitswap.no_more_peers(session, cid);
    });
    assert!(matches!(answer.0, Err(FetchError::NotFound(cid)) if cid == *missing.cid()), "{:?}", answer.0);
    assert_eq!((b.bitswap.stats().wants, a.bitswap.stats().blocks_sent), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes() {
    let node = Node::with(hasty()).await;
    let missing = Block::raw(&b"nobody is there"[..]);
    let started = Instant::now();
    let answer = fetch(&node.session(&missing), missing.cid()).await;
    assert!(matches!(answer, Err(FetchError::Stalled { waited, .. }) if waited >= hasty().no_progress), "{answer:?}");
    assert!(started.elapsed() < 10 * hasty().no_progress);
}

/// Takes blocks of up to 1,000 bytes, and panics at 3,000.
struct AlmostFull(MemoryStore);

impl Blockstore for AlmostFull {
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.0.size(cid)
    }
    fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.0.get(cid)
    }
    fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        assert!(block.data().len() < 3_000, "a store with a fault");
        if block.data().len() > 1_000 {
            return Err(StoreError::Full { what: "a test" });
        }
        self.0.put(block, origin)
    }
    fn writer(&self, origin: Origin) -> Result<Box<dyn BlockWriter>, StoreError> {
        self.0.writer(origin)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }
    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_cannot_be_stored_is_an_error_and_not_an_answer() {
    let (a, b) = (Node::new().await, Node::over(Config::default(), |store| Arc::new(AlmostFull(store))).await);
    let [small, large, huge] = &[900, 2_000, 3_000].map(|size| blocks(24, 1, size).remove(0));
    a.add(&[small.clone(), large.clone(), huge.clone()]);
    b.connect(&a).await;
    let session = b.session(large);
    let answer = fetch(&session, large.cid()).await;
    assert!(matches!(answer, Err(FetchError::Store(StoreError::Full { .. }))), "{answer:?}");
    let answer = fetch(&session, huge.cid()).await;
    assert!(matches!(answer, Err(FetchError::Store(StoreError::Io { .. }))), "{answer:?}");
    assert_eq!(fetch(&session, small.cid()).await.unwrap(), small.data(), "the session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_stops() {
    let node = Node::new().await;
    let missing = Block::raw(&b"too late"[..]);
    let session = node.session(&missing);
    let (answer, ()) = tokio::join!(fetch(&session, missing.cid()), async {
        while node.bitswap.stats().wants == 0 {
            tokio::task::yield_now().await;
        }
        node.stop();
    });
    assert!(matches!(answer, Err(FetchError::Closed)), "{answer:?}");
    assert!(matches!(fetch(&session, missing.cid()).await, Err(FetchError::Closed)));
}
