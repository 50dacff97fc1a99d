//! Honest peers: everything arrives, once.

use crate::harness::*;
use cidery_core::Session as _;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes() {
    let (a, b) = (Node::new().await, Node::new().await);
    let blocks = blocks(1, 64, 256 << 10);
    a.add(&blocks);
    b.connect(&a).await;
    let session = b.session(&blocks[0]);
    fetch_all(&session, &blocks, 16).await;
    let stats = b.bitswap.stats();
    assert_eq!((stats.blocks_received, stats.duplicate_blocks, stats.rejected_blocks), (64, 0, 0));
    assert_eq!(session.received(), 64 * (256 << 10));
    assert_eq!(a.bitswap.stats().blocks_sent, 64);
    assert!(blocks.iter().all(|block| b.has(block.cid())), "fetched blocks are stored");
}
