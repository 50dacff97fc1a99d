//! Joins the two ports that publishing needs: whenever a published root changes, the network is
//! told what this node has. The journal decides what is public; this only spreads the word.

use crate::line::one_line;
use anyhow::Result;
use cidery_core::{Blockstore, Cid, Digest, Fetcher, Namespace, Network, RootStore, ports::LocalFetcher};
use futures::executor::block_on;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
    time::sleep,
};

/// The most records one namespace announces; beyond it, the root alone leads to the rest.
const MAX_ANNOUNCED: usize = 200_000;
/// Pushes that follow each other closely are announced together.
const REST: Duration = Duration::from_secs(5);

/// Keeps one namespace announced.
pub struct Publisher {
    namespace: Namespace,
    roots: Arc<dyn RootStore>,
    network: Arc<dyn Network>,
    blocks: Arc<dyn Blockstore>,
    /// What was announced last, the root first. One announcement at a time: a late one must not
    /// bring back what was made private meanwhile.
    announced: Mutex<Vec<Cid>>,
}

/// Runs until the tree's writer is gone.
pub async fn run(publisher: Arc<Publisher>, mut changes: watch::Receiver<Option<Cid>>) {
    loop {
        changes.borrow_and_update();
        if let Err(error) = publisher.announce().await {
            tracing::warn!(namespace = %publisher.namespace, "announcing failed, the next push tries again: {}", one_line(&error));
        }
        sleep(REST).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Publisher {
    /// Nothing is announced yet.
    pub fn new(
        namespace: Namespace,
        roots: Arc<dyn RootStore>,
        network: Arc<dyn Network>,
        blocks: Arc<dyn Blockstore>,
    ) -> Self {
        Self { namespace, roots, network, blocks, announced: Mutex::default() }
    }

    /// The namespace it announces.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Announces what is public now, if that is not what was announced last. The root at once,
    /// beside what was public before it; then exactly the blobs and manifests below it.
    pub async fn announce(&self) -> Result<()> {
        let mut announced = self.announced.lock().await;
        loop {
            let published = self.published().await?;
            if announced.first() == published.as_ref() {
                return Ok(());
            }
            let Some(root) = published else {
                self.network.provide(&self.namespace, Vec::new()).await?;
                announced.clear();
                continue;
            };
            let before = announced.iter().copied().filter(|cid| *cid != root);
            *announced = [root].into_iter().chain(before).take(MAX_ANNOUNCED).collect();
            self.network.provide(&self.namespace, announced.clone()).await?;
            let records = self.records(root).await?;
            // The walk took its time: what it found is announced only if it is still what is public.
            if self.published().await? == Some(root) {
                self.network.provide(&self.namespace, records.clone()).await?;
                *announced = records;
            }
        }
    }

    async fn published(&self) -> Result<Option<Cid>> {
        let (roots, namespace) = (self.roots.clone(), self.namespace.clone());
        let state = spawn_blocking(move || roots.state(&namespace)).await??;
        Ok(state.published.map(|publication| publication.root))
    }

    /// The root first, then the root of every blob and manifest below it, and their digests. Reads the disk: on a
    /// blocking thread, where a local fetcher never waits.
    async fn records(&self, root: Cid) -> Result<Vec<Cid>> {
        let (blocks, namespace) = (LocalFetcher(self.blocks.clone()), self.namespace.clone());
        let walk = move || {
            let mut records = vec![root];
            if let Err(error) = block_on(blob_roots(&blocks, &root, &mut records)) {
                tracing::warn!(%namespace, "only part of the tree is announced: {}", one_line(&error));
            }
            records
        };
        Ok(spawn_blocking(walk).await?)
    }
}

/// Of each blob its file, and then, as far as there is room, its digest where that is another key: of what is no more
/// than a leaf it is the same.
async fn blob_roots(fetcher: &dyn Fetcher, root: &Cid, records: &mut Vec<Cid>) -> Result<()> {
    let mut digests = Vec::new();
    let walked = files(fetcher, root, records, &mut digests).await;
    digests.truncate(MAX_ANNOUNCED - records.len());
    records.append(&mut digests);
    walked
}

async fn files(fetcher: &dyn Fetcher, root: &Cid, records: &mut Vec<Cid>, digests: &mut Vec<Cid>) -> Result<()> {
    let mut seen = HashSet::from([*root]);
    let Some(blobs) = cidery_unixfs::resolve(fetcher, root, &["docker", "registry", "v2", "blobs"]).await? else {
        return Ok(());
    };
    for algorithm in cidery_unixfs::list(fetcher, &blobs.cid).await? {
        for prefix in cidery_unixfs::list(fetcher, &algorithm.cid).await? {
            for blob in cidery_unixfs::list(fetcher, &prefix.cid).await? {
                if records.len() == MAX_ANNOUNCED {
                    return Ok(());
                }
                if let Some(data) = cidery_unixfs::lookup(fetcher, &blob.cid, "data").await?
                    && seen.insert(data.cid)
                {
                    records.push(data.cid);
                    let digest: Option<Digest> = format!("{}:{}", algorithm.name, blob.name).parse().ok();
                    let key = digest.and_then(|digest| digest.raw_cid());
                    digests.extend(key.filter(|key| key.hash() != data.cid.hash()));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::{
        Block, BlockWriter, Origin, PublishMode, StoreError,
        memory::{MemoryStore, World},
    };
    use cidery_unixfs::{Change, FileBuilder, edit};

    struct Out<'a>(&'a MemoryStore);
    impl BlockWriter for Out<'_> {
        fn put(&mut self, block: &Block) -> Result<(), StoreError> {
            Blockstore::put(self.0, block, Origin::Pushed)
        }
    }

    /// A tree with one blob; the tree's root and the blob's, and the CID of the blob's digest.
    fn tree(store: &MemoryStore, bytes: &[u8]) -> (Cid, Cid, Cid) {
        let mut builder = FileBuilder::new();
        builder.write(bytes, &mut Out(store)).expect("memory");
        let file = builder.finish(&mut Out(store)).expect("memory");
        let key = *Block::raw(bytes.to_vec()).cid();
        let digest = Digest::from_multihash(key.hash()).expect("sha2-256");
        let hex = digest.hex();
        let path = ["docker", "registry", "v2", "blobs", "sha256", &hex[..2], hex, "data"].map(String::from).to_vec();
        let change = Change::Put { cid: file.cid, tsize: file.tsize };
        let fetcher = LocalFetcher(Arc::new(store.clone()));
        let root = block_on(edit(&fetcher, None, vec![(path, change)], &mut Out(store))).expect("memory");
        (root.cid, file.cid, key)
    }

    #[tokio::test]
    async fn only_what_is_public_is_announced() {
        let (store, world, local) = (MemoryStore::new(), World::new(), Namespace::local());
        let shared = Arc::new(store.clone());
        let network = Arc::new(world.join(store.clone()));
        let publisher = Publisher::new(local.clone(), shared.clone(), network, shared);
        let (root, blob, key) = tree(&store, b"blob");
        assert_eq!(blob, key);
        store.commit(&local, None, root, &[]).expect("memory");
        publisher.announce().await.expect("announced");
        assert!(world.provided(&local).is_empty(), "private");
        store.publish(&local, PublishMode::Continuous).expect("memory");
        publisher.announce().await.expect("announced");
        assert_eq!(world.provided(&local), [root, blob]);
        // What is more than a leaf is known by its digest too.
        let (next, other, key) = tree(&store, &[7; 3 << 20]);
        store.commit(&local, Some(root), next, &[]).expect("memory");
        publisher.announce().await.expect("announced");
        assert_eq!(world.provided(&local), [next, other, key]);
        store.unpublish(&local).expect("memory");
        publisher.announce().await.expect("announced");
        assert!(world.provided(&local).is_empty(), "private again");
    }
}
