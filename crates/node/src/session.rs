//! A session as the rest of the program sees it: Bitswap's, with the search for peers begun early where
//! there are hints, and the announcement of what it downloads.

use crate::{drivers::search::Sessions, worker::Command};
use async_trait::async_trait;
use cidery_core::{Bytes, Cid, FetchError, Fetcher, PublicBlocks, Session};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::sleep};

/// A block that is here, or that a connected peer has at hand, has come by then.
const AT_HAND: Duration = Duration::from_millis(30);

pub(crate) struct NodeSession {
    pub(crate) inner: cidery_bitswap::Session,
    pub(crate) root: Cid,
    pub(crate) sessions: Sessions,
    pub(crate) public: Arc<dyn PublicBlocks>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) announced: AtomicBool,
    /// The search for peers has begun, or need not begin early: there are no hints.
    pub(crate) searching: Arc<AtomicBool>,
}

impl NodeSession {
    /// Fetches, and does not wait with the hints for what the connected peers say: they are raced, and one
    /// of those peers may never answer.
    async fn race(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        let mut fetch = self.inner.fetch(cid);
        if !self.searching.load(Relaxed) {
            tokio::select! {
                biased;
                result = &mut fetch => return result,
                () = sleep(AT_HAND) => self.search(*cid),
            }
        }
        fetch.await
    }

    /// Begins the search for peers, once, and only if the block is not here: a slow disk is no reason to
    /// go to the network.
    fn search(&self, cid: Cid) {
        if self.searching.swap(true, Relaxed) {
            return;
        }
        let (inner, searching, commands) = (self.inner.clone(), self.searching.clone(), self.commands.clone());
        tokio::task::spawn_blocking(move || {
            // What goes wrong with the store, the fetch itself reports.
            let absent = matches!(inner.local(&cid), Ok(None));
            if !absent || commands.try_send(Command::Search(inner.id(), cid)).is_err() {
                searching.store(false, Relaxed);
            }
        });
    }

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
        let bytes = self.race(cid).await?;
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
