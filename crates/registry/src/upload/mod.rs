//! Uploads: values that end in a commit or are cancelled.
//!
//! ```text
//!   socket ──► batches of 512 KiB ──┬─► whole-blob sha256        (blocking thread)
//!                                   └─► leaves ──► pack          (blocking thread)
//! ```
//!
//! There is no temporary copy: leaves go into the store as they fill. An upload that was cut off keeps
//! what arrived. One that was saved survives a restart at the leaf boundary it then had ([`save`]
//! says when that is). Its sha256 is computed again from the stored leaves when it is touched again.

mod engine;
mod error;
mod ingest;
mod leave;
mod record;
mod save;

pub use save::OpenUploads;

use crate::{
    config::Config,
    patience::{Patience, Pressure},
    tree::{Blob, TreeError},
};
use axum::body::Body;
use cidery_core::{Blockstore, Digest, Hold, Namespace, RepositoryName, RootStore, StoreError};
use engine::Work;
pub use error::UploadError;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::spawn_blocking,
};

/// How long a request waits for the one before it on the same upload: the rest of a cut connection
/// is still being stored when its client comes back.
const HANDOVER: Duration = Duration::from_secs(1);

/// One upload.
pub struct Upload {
    id: String,
    namespace: Namespace,
    repository: RepositoryName,
    /// Bytes that are stored or will be at the next leaf.
    received: AtomicU64,
    /// The leaf boundary up to which a restart would know it; 0: not saved.
    saved: AtomicU64,
    touched: Mutex<SystemTime>,
    /// Its client was cut off for being slow, and did not come back yet.
    stalled: AtomicBool,
    work: Arc<AsyncMutex<Work>>,
    /// What it has put into the store.
    hold: Arc<dyn Hold>,
}

impl Upload {
    /// Its id, which is part of its path.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// As [`Upload::received`], after the rest of a request that was cut off is counted.
    pub async fn settled(&self) -> u64 {
        let _ = tokio::time::timeout(HANDOVER, self.work.lock()).await;
        self.touch();
        self.received()
    }

    /// After a failure of the store, the upload stands where it was last known to be good.
    fn settle(&self, work: &Work) {
        if let Work::Dormant(saved) = work {
            self.received.store(record::boundary(saved), Ordering::Release);
        }
    }

    fn touch(&self) {
        *self.touched.lock() = SystemTime::now();
    }

    fn idle(&self) -> Duration {
        self.touched.lock().elapsed().unwrap_or_default()
    }

    async fn lock(&self) -> Result<OwnedMutexGuard<Work>, UploadError> {
        self.touch();
        self.stalled.store(false, Ordering::Release);
        let work = tokio::time::timeout(HANDOVER, self.work.clone().lock_owned()).await;
        match work {
            Err(_) => Err(UploadError::Busy),
            Ok(work) if work.is_ended() => Err(UploadError::Ended),
            Ok(work) => Ok(work),
        }
    }
}

/// The uploads that are open.
pub struct Uploads {
    open: Mutex<HashMap<String, Arc<Upload>>>,
    blocks: Arc<dyn Blockstore>,
    roots: Arc<dyn RootStore>,
    limit: usize,
    expiry: Duration,
    patience: Patience,
    pressure: Arc<Pressure>,
}

/// Where a chunk says it belongs, and how long it is, if it says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offset {
    /// Where it begins.
    pub at: Option<u64>,
    /// Its length in bytes.
    pub length: Option<u64>,
}

impl Uploads {
    /// Takes up those that were saved. Call it from a blocking thread.
    pub fn load(
        config: &Config,
        pressure: Arc<Pressure>,
        blocks: Arc<dyn Blockstore>,
        roots: Arc<dyn RootStore>,
    ) -> Result<Arc<Self>, StoreError> {
        let mut open = HashMap::new();
        for saved in roots.uploads()? {
            match record::read(&saved, blocks.hold()) {
                Ok(upload) if upload.idle() < config.upload_expiry => {
                    open.insert(saved.id, Arc::new(upload));
                }
                Ok(_) => roots.drop_upload(&saved.id)?,
                Err(error) => {
                    tracing::warn!(id = saved.id, %error, "a saved upload cannot be used, and is dropped");
                    roots.drop_upload(&saved.id)?;
                }
            }
        }
        let (limit, expiry) = (config.max_uploads, config.upload_expiry);
        let patience = Patience::new(config.stall_timeout, pressure.clone());
        Ok(Arc::new(Self { open: Mutex::new(open), blocks, roots, limit, expiry, patience, pressure }))
    }

    /// Opens one.
    pub fn start(&self, namespace: &Namespace, repository: &RepositoryName) -> Result<Arc<Upload>, UploadError> {
        let mut open = self.open.lock();
        if open.len() >= self.limit && !self.make_room(&mut open) {
            self.pressure.note("uploads", self.limit);
            return Err(UploadError::TooMany(self.limit));
        }
        let upload = Arc::new(Upload {
            id: format!("{:032x}", rand::random::<u128>()),
            namespace: namespace.clone(),
            repository: repository.clone(),
            received: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            touched: Mutex::new(SystemTime::now()),
            stalled: AtomicBool::new(false),
            work: Arc::new(AsyncMutex::new(Work::Dormant(Vec::new()))),
            hold: self.blocks.hold(),
        });
        open.insert(upload.id.clone(), upload.clone());
        Ok(upload)
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Finds one. Ids are only good in the repository they were given out for.
    pub fn get(&self, namespace: &Namespace, repository: &RepositoryName, id: &str) -> Option<Arc<Upload>> {
        let upload = self.open.lock().get(id).cloned()?;
        (upload.namespace == *namespace && upload.repository == *repository).then_some(upload)
    }

    /// Appends a body. Goes on to the end of what arrived even when the caller is dropped.
    /// Gives the bytes received so far.
    pub async fn append(
        self: &Arc<Self>,
        upload: &Arc<Upload>,
        offset: Offset,
        body: Body,
    ) -> Result<u64, UploadError> {
        let (this, upload) = (self.clone(), upload.clone());
        tokio::spawn(async move {
            let mut work = upload.lock().await?;
            let taken = this.ingest(&upload, &mut work, offset, body).await;
            upload.settle(&work);
            // Also what arrived before a connection broke.
            this.save(&upload, &mut work, save::SAVE_EVERY).await?;
            taken.map(|()| upload.received())
        })
        .await?
    }

    /// Appends the last chunk, compares the digest, and gives the blob to `link`, which makes it durable.
    pub async fn finish<F>(
        self: &Arc<Self>,
        upload: &Arc<Upload>,
        offset: Offset,
        body: Body,
        digest: Digest,
        link: impl FnOnce(Blob) -> F + Send + 'static,
    ) -> Result<Blob, UploadError>
    where
        F: Future<Output = Result<(), TreeError>> + Send,
    {
        let (this, upload) = (self.clone(), upload.clone());
        tokio::spawn(async move { this.close(&upload, offset, body, digest, link).await }).await?
    }

    /// A blob in one request: an upload that nobody can go on with.
    pub async fn whole<F>(
        self: &Arc<Self>,
        (namespace, repository): (&Namespace, &RepositoryName),
        body: Body,
        digest: Digest,
        link: impl FnOnce(Blob) -> F + Send + 'static,
    ) -> Result<Blob, UploadError>
    where
        F: Future<Output = Result<(), TreeError>> + Send,
    {
        let upload = self.start(namespace, repository)?;
        let this = self.clone();
        tokio::spawn(async move {
            let done = this.close(&upload, Offset::default(), body, digest, link).await;
            if done.is_err() {
                this.forget(&upload);
            }
            done
        })
        .await?
    }

    async fn close<F>(
        &self,
        upload: &Upload,
        offset: Offset,
        body: Body,
        digest: Digest,
        link: impl FnOnce(Blob) -> F + Send,
    ) -> Result<Blob, UploadError>
    where
        F: Future<Output = Result<(), TreeError>> + Send,
    {
        let mut work = upload.lock().await?;
        let done = match self.ingest(upload, &mut work, offset, body).await {
            Ok(()) => self.commit(upload, &mut work, digest, link).await,
            Err(error) => Err(error),
        };
        upload.settle(&work);
        if work.is_ended() {
            self.forget(upload);
        }
        done
    }

    /// Cancels one.
    pub async fn cancel(&self, upload: &Upload) -> Result<(), UploadError> {
        let mut work = upload.lock().await?;
        *work = Work::Ended;
        drop(work);
        self.forget(upload);
        Ok(())
    }

    fn forget(&self, upload: &Upload) {
        self.open.lock().remove(&upload.id);
        self.drop_record(upload);
    }

    fn drop_record(&self, upload: &Upload) {
        if upload.saved.load(Ordering::Acquire) > 0 {
            let (roots, id) = (self.roots.clone(), upload.id.clone());
            // Nobody waits for it: after a crash the record is only one more upload to expire.
            spawn_blocking(move || {
                if let Err(error) = roots.drop_upload(&id) {
                    tracing::warn!(id, %error, "a finished upload could not be forgotten");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
