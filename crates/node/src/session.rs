//! A session as the rest of the program sees it: Bitswap's, and the announcement of what it downloads.

use crate::{drivers::search::Sessions, worker::Command};
use async_trait::async_trait;
use cidery_core::{Bytes, Cid, FetchError, Fetcher, PublicBlocks, Session};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::sync::mpsc;

pub(crate) struct NodeSession {
    pub(crate) inner: cidery_bitswap::Session,
    pub(crate) root: Cid,
    pub(crate) sessions: Sessions,
    pub(crate) public: Arc<dyn PublicBlocks>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) announced: AtomicBool,
}

impl NodeSession {
    /// Once the first block came from a peer, others may find the root here as well: from the start of a
    /// download, not from its end. Only what peers may see is ever announced.
    fn announce(&self) {
        if self.inner.received() == 0 || self.announced.swap(true, Relaxed) {
            return;
        }
        let (public, root, commands) = (self.public.clone(), self.root, self.commands.clone());
        tokio::task::spawn_blocking(move || match public.public_size(&root) {
            // When the worker has more to do than it can, one announcement less does no harm.
            Ok(Some(_)) => drop(commands.try_send(Command::Downloading(root))),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a download is not announced"),
        });
    }
}

#[async_trait]
impl Fetcher for NodeSession {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        let bytes = self.inner.fetch(cid).await?;
        self.announce();
        Ok(bytes)
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        self.inner.local(cid)
    }
}

impl Session for NodeSession {
    fn received(&self) -> u64 {
        self.inner.received()
    }
}

impl Drop for NodeSession {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.inner.id());
    }
}
