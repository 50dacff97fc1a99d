//! Fetching all that is below a CID.

use super::PinError;
use cidery_core::{Cid, Fetcher, PinError as NotKept, codec, dag};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

/// Blocks that are asked for at once.
const FETCHES: usize = 32;

/// Links that wait to be followed, some 100 MB of them: nodes that are all links are nobody's files.
const MAX_OPEN: usize = 1 << 20;

/// Fetches every block, each once, and tells how many are done and known of. How many bytes they are.
pub(super) async fn fetch(
    fetcher: &dyn Fetcher,
    root: Cid,
    withdrawn: impl Fn(&Cid) -> bool,
    mut tell: impl FnMut(u64, u64),
) -> Result<u64, PinError> {
    let wrong = |cid, detail: String| Err(PinError::Dag { cid, detail });
    let (key, mut seen) = (RandomState::new(), HashSet::new());
    // The last ones first: so few wait, however wide the tree is.
    let (mut open, mut running) = (vec![root], FuturesUnordered::new());
    let (mut done, mut bytes) = (0, 0);
    loop {
        while running.len() < FETCHES
            && let Some(cid) = open.pop()
        {
            if !matches!(cid.codec(), codec::RAW | codec::DAG_PB) {
                return wrong(cid, "it is neither a file nor a directory".into());
            }
            // Nobody is asked for what could not be pinned.
            if withdrawn(&cid) {
                return Err(PinError::NotKept { name: root.to_string(), source: NotKept::Withdrawn(cid) });
            }
            if seen.insert(key.hash_one((cid.codec(), cid.hash()))) {
                running.push(async move { (cid, fetcher.fetch(&cid).await) });
            }
        }
        let Some((cid, fetched)) = running.next().await else { return Ok(bytes) };
        let block = fetched?;
        done += 1;
        bytes += block.len() as u64;
        match dag::links(&cid, &block) {
            Ok(links) => open.extend(links),
            Err(error) => return wrong(cid, error.to_string()),
        }
        if open.len() > MAX_OPEN {
            return wrong(root, format!("more than {MAX_OPEN} links wait to be followed"));
        }
        tell(done, done + (running.len() + open.len()) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::{Block, Blockstore, Origin, memory::MemoryStore, ports::LocalFetcher, suite::node};
    use std::sync::Arc;

    #[tokio::test]
    async fn each_block_is_fetched_once_and_none_is_missing() {
        let store = MemoryStore::new();
        let leaves: Vec<Block> = (0..100_u8).map(|n| Block::raw(vec![n; 10])).collect();
        let cids: Vec<Cid> = leaves.iter().map(|leaf| *leaf.cid()).collect();
        let inner = node(&cids);
        let root = node(&[*inner.cid(), cids[0], *inner.cid()]);
        let size: usize = 100 * 10 + inner.data().len() + root.data().len();
        for block in leaves[1..].iter().chain([&inner, &root]) {
            store.put(block, Origin::Peer).unwrap();
        }
        let local = LocalFetcher(Arc::new(store.clone()));
        let missing = fetch(&local, *root.cid(), |_| false, |_, _| {}).await;
        assert!(matches!(&missing, Err(PinError::Fetch(_))), "{missing:?}");
        store.put(&leaves[0], Origin::Peer).unwrap();
        let mut last = (0, 0);
        let bytes = fetch(&local, *root.cid(), |_| false, |done, total| last = (done, total)).await.unwrap();
        assert_eq!((bytes, last), (size as u64, (102, 102)));
        let gone = fetch(&local, *root.cid(), |cid| *cid == cids[5], |_, _| {}).await;
        assert!(matches!(&gone, Err(PinError::NotKept { source: NotKept::Withdrawn(cid), .. }) if *cid == cids[5]));
        let other = Cid::new_v1(0x71, *root.cid().hash());
        assert!(matches!(fetch(&local, other, |_| false, |_, _| {}).await, Err(PinError::Dag { .. })));
    }
}
