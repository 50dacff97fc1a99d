//! Fetchers that keep what they fetch.

use async_trait::async_trait;
use bytes::Bytes;
use cidery_core::{Cid, FetchError, Fetcher, Hold};
use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc};

/// Keeps each block from before it is fetched: one that is here may be about to go.
pub(crate) struct Keeper<F: ?Sized> {
    pub hold: Arc<dyn Hold>,
    pub fetcher: Arc<F>,
}

#[async_trait]
impl<F: Fetcher + ?Sized> Fetcher for Keeper<F> {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.hold.keep(cid);
        self.fetcher.fetch(cid).await
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        self.hold.keep(cid);
        self.fetcher.local(cid)
    }
}

/// Remembers what was fetched.
pub(super) struct Recorder {
    fetcher: Arc<dyn Fetcher>,
    seen: Mutex<HashSet<Cid>>,
}

impl Recorder {
    pub(super) fn new(fetcher: Arc<dyn Fetcher>) -> Self {
        Self { fetcher, seen: Mutex::default() }
    }

    /// What was fetched so far, in the order of the CIDs.
    pub(super) fn blocks(&self) -> Vec<Cid> {
        let mut blocks: Vec<Cid> = self.seen.lock().iter().copied().collect();
        blocks.sort_unstable();
        blocks
    }
}

#[async_trait]
impl Fetcher for Recorder {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        let bytes = self.fetcher.fetch(cid).await?;
        self.seen.lock().insert(*cid);
        Ok(bytes)
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        let found = self.fetcher.local(cid)?;
        if found.is_some() {
            self.seen.lock().insert(*cid);
        }
        Ok(found)
    }
}
