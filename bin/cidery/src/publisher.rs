//! Joins the two ports that publishing needs: whenever a published root changes, the network is
//! told what this node has. The journal decides what is public; this only spreads the word.

use anyhow::Result;
use cidery_core::{Cid, Fetcher, Namespace, Network, RootStore, ports::LocalFetcher};
use std::{collections::HashSet, sync::Arc};
use tokio::sync::watch;

/// The most records one namespace announces; beyond it, the root alone leads to the rest.
const MAX_ANNOUNCED: usize = 200_000;

/// Keeps one namespace announced.
pub struct Publisher {
    pub namespace: Namespace,
    pub roots: Arc<dyn RootStore>,
    pub network: Arc<dyn Network>,
    pub blocks: Arc<LocalFetcher>,
}

/// Runs until the tree's writer is gone.
pub async fn run(publisher: Arc<Publisher>, mut changes: watch::Receiver<Option<Cid>>) {
    loop {
        changes.borrow_and_update();
        if let Err(error) = publisher.announce().await {
            tracing::warn!(namespace = %publisher.namespace, "announcing failed, the next push tries again: {error:#}");
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Publisher {
    /// Announces what is public now, if anything is.
    pub async fn announce(&self) -> Result<()> {
        let published = self.state()?;
        let records = match published {
            Some(root) => self.records(root).await,
            None => Vec::new(),
        };
        Ok(self.network.provide(&self.namespace, records).await?)
    }

    fn state(&self) -> Result<Option<Cid>> {
        Ok(self.roots.state(&self.namespace)?.published.map(|publication| publication.root))
    }

    /// The root first, then the root of every blob and manifest below it.
    async fn records(&self, root: Cid) -> Vec<Cid> {
        let mut records = vec![root];
        let mut seen = HashSet::from([root]);
        if let Err(error) = self.blob_roots(&root, &mut records, &mut seen).await {
            tracing::warn!(namespace = %self.namespace, "only part of the tree is announced: {error:#}");
        }
        records
    }

    async fn blob_roots(&self, root: &Cid, records: &mut Vec<Cid>, seen: &mut HashSet<Cid>) -> Result<()> {
        let fetcher: &dyn Fetcher = &*self.blocks;
        let Some(blobs) = cidery_unixfs::resolve(fetcher, root, &["docker", "registry", "v2", "blobs"]).await? else {
            return Ok(());
        };
        for algorithm in cidery_unixfs::list(fetcher, &blobs.cid).await? {
            for prefix in cidery_unixfs::list(fetcher, &algorithm.cid).await? {
                for blob in cidery_unixfs::list(fetcher, &prefix.cid).await? {
                    if let Some(data) = cidery_unixfs::lookup(fetcher, &blob.cid, "data").await?
                        && records.len() < MAX_ANNOUNCED
                        && seen.insert(data.cid)
                    {
                        records.push(data.cid);
                    }
                }
            }
        }
        Ok(())
    }
}
