//! One foreign root: its session and its snapshot.

use super::{Verdicts, ahead::Ahead};
use crate::{
    config::Config,
    tree::{NodeCache, Snapshot},
};
use async_trait::async_trait;
use bytes::Bytes;
use cidery_core::{Cid, FetchError, Fetcher, RootStore, Session};
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What may be remembered of a root.
pub(super) enum Cache {
    /// Whatever was read, beside what others remember.
    Shared(Arc<NodeCache>),
    /// It was once this node's own: nothing, since what was deleted there since is not served by its name.
    OwnRoot(Arc<dyn RootStore>),
}

/// A root that is somebody else's, as one scope sees it.
pub struct ForeignRoot {
    /// Reads it.
    pub snapshot: Snapshot,
    /// Fetches its blocks.
    pub fetcher: Arc<dyn Fetcher>,
    /// The images that are being pulled from it.
    pub ahead: Ahead,
    /// What the session was told.
    pub(super) hints: Vec<String>,
    used: Mutex<Instant>,
}

impl ForeignRoot {
    pub(super) fn new(
        session: Arc<dyn Session>,
        root: Cid,
        path: &[String],
        hints: Vec<String>,
        cache: Cache,
        verdicts: Arc<Verdicts>,
        config: &Config,
    ) -> Self {
        let fetcher: Arc<dyn Fetcher> = Arc::new(Waiting(session));
        let snapshot = match cache {
            Cache::Shared(cache) => Snapshot::foreign(fetcher.clone(), root, path, cache),
            Cache::OwnRoot(roots) => Snapshot::earlier(fetcher.clone(), root, path, roots),
        };
        let ahead = Ahead::new(snapshot.clone(), fetcher.clone(), verdicts, config);
        Self { snapshot, fetcher, ahead, hints, used: Mutex::new(Instant::now()) }
    }

    /// Somebody uses it now.
    pub fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    pub(super) fn idle(&self) -> Duration {
        self.used.lock().elapsed()
    }
}

/// A session that is only ever asked asynchronously: looking into the local store blocks, and
/// foreign trees are read on async tasks. The session itself looks there first.
struct Waiting(Arc<dyn Session>);

#[async_trait]
impl Fetcher for Waiting {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.0.fetch(cid).await
    }

    fn local(&self, _: &Cid) -> Result<Option<Bytes>, FetchError> {
        Ok(None)
    }
}
