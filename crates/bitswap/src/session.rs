//! A session: the way callers fetch.

use crate::{api::SessionId, client::Added, shared::Shared};
use async_trait::async_trait;
use cidery_core::{
    BlockError, Bytes, Cid, FetchError, Fetcher, Multihash, Scope, StoreError, hash_allowed, identity_bytes,
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A session over related blocks. Clones share it; dropping the last one ends it.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    id: SessionId,
    scope: Scope,
    received: Arc<AtomicU64>,
    shared: Arc<Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.client.lock().end(self.id, Instant::now());
    }
}

impl Session {
    pub(crate) fn open(shared: &Arc<Shared>, root: Cid, scope: Scope) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = SessionId(NEXT.fetch_add(1, Relaxed));
        let received = Arc::new(AtomicU64::new(0));
        shared.client.lock().open(id, root, received.clone(), Instant::now());
        Self(Arc::new(Inner { id, scope, received, shared: shared.clone() }))
    }

    /// Its id, as events carry it.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// [`Fetcher::local`] on a blocking thread.
    async fn look(&self, cid: Cid) -> Result<Option<Bytes>, FetchError> {
        let permit = self.0.shared.lookups.clone().acquire_owned().await.map_err(|_| FetchError::Closed)?;
        let session = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let found = session.local(&cid);
            drop(permit);
            found
        });
        // It ends early only when the runtime stops, or when the store panicked.
        looked.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(FetchError::Closed),
        })
    }
}

/// A place in the queue of those who wait for a block; dropping it leaves the queue.
struct Place {
    shared: Arc<Shared>,
    hash: Multihash,
    id: u64,
    receiver: oneshot::Receiver<Result<Bytes, FetchError>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    async fn wait(mut self) -> Result<Bytes, FetchError> {
        (&mut self.receiver).await.unwrap_or(Err(FetchError::Closed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After an answer there is no such want, or none with this waiter.
        self.shared.client.lock().leave(&self.hash, self.id, Instant::now());
    }
}

#[async_trait]
impl Fetcher for Session {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        let hash = *cid.hash();
        if !hash_allowed(&hash) {
            return Err(BlockError::Hash { cid: *cid, code: hash.code(), len: hash.size() }.into());
        }
        let Inner { id: session, shared, .. } = &*self.0;
        let place = |id, receiver, permit| Place { shared: shared.clone(), hash, id, receiver, _permit: permit };
        let joined = shared.client.lock().join(*session, cid, Instant::now());
        if let Some((id, receiver)) = joined {
            return place(id, receiver, None).wait().await;
        }
        let mut looked_again = false;
        loop {
            if let Some(bytes) = self.look(*cid).await? {
                return Ok(bytes);
            }
            let permit = shared.wants.clone().acquire_owned().await.map_err(|_| FetchError::Closed)?;
            let added = shared.client.lock().want(*session, cid, looked_again, Instant::now());
            match added {
                Added::Wait(id, receiver) => return place(id, receiver, Some(permit)).wait().await,
                // Between the look and now; or it is here, but not for this scope.
                Added::Arrived => looked_again = true,
                Added::Closed => return Err(FetchError::Closed),
            }
        }
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        let found = match self.0.scope {
            // What was deleted is not here in a name that is not a current root's.
            Scope::Owner if self.0.shared.store.is_withdrawn(cid) => Ok(None),
            Scope::Owner => self.0.shared.store.get(cid),
            Scope::Public => self.0.shared.public.public_get(cid),
        };
        match found {
            // Peers may have it, and when it is put again the store repairs it.
            Err(StoreError::Corrupt { detail, .. }) => {
                tracing::warn!(%cid, detail, "a damaged block is fetched again");
                Ok(None)
            }
            found => Ok(found?),
        }
    }
}

impl cidery_core::Session for Session {
    fn received(&self) -> u64 {
        self.0.received.load(Relaxed)
    }
}

/// A time limit that passed, as the error of a stream.
pub(crate) fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}
