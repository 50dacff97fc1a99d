//! Fetchers that remember small blocks in a [`NodeCache`].

use super::NodeCache;
use async_trait::async_trait;
use cidery_core::{Blockstore, Bytes, Cid, FetchError, Fetcher, identity_bytes};
use std::sync::Arc;

/// For async tasks: what is cached is local, and the store behind it is read on blocking threads.
pub(super) struct Cached {
    pub inner: Arc<dyn Fetcher>,
    pub cache: Arc<NodeCache>,
}

#[async_trait]
impl Fetcher for Cached {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        if let Some(bytes) = self.local(cid)? {
            return Ok(bytes);
        }
        let (inner, wanted) = (self.inner.clone(), *cid);
        let local = tokio::task::spawn_blocking(move || inner.local(&wanted)).await;
        // It fails only when the runtime is going down (or the store panicked, which is logged).
        let bytes = match local.map_err(|_| FetchError::Closed)?? {
            Some(bytes) => bytes,
            None => self.inner.fetch(cid).await?,
        };
        self.cache.insert_node(cid, &bytes);
        Ok(bytes)
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        Ok(identity_bytes(cid).map(Bytes::copy_from_slice).or_else(|| self.cache.node(cid)))
    }
}

/// For blocking threads: the store alone, never the network.
pub(super) struct Local {
    pub blocks: Arc<dyn Blockstore>,
    pub cache: Arc<NodeCache>,
}

#[async_trait]
impl Fetcher for Local {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.local(cid)?.ok_or(FetchError::NotFound(*cid))
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        if let Some(bytes) = identity_bytes(cid).map(Bytes::copy_from_slice).or_else(|| self.cache.node(cid)) {
            return Ok(Some(bytes));
        }
        let bytes = self.blocks.get(cid)?;
        if let Some(bytes) = &bytes {
            self.cache.insert_node(cid, bytes);
        }
        Ok(bytes)
    }
}
