//! Fetching the other blobs of an image whose pull has begun.
//!
//! An image is known once its manifest was read through this root. Its other blobs are fetched from
//! the first whole-blob stream on; they go on for a while after the last stream ended whole, and
//! stop at once when the last one was cut off.

use super::Verdicts;
use crate::{
    config::Config,
    stream::Fate,
    tree::{Manifest, Snapshot, manifest::Parsed},
};
use cidery_core::{Digest, Fetcher, RepositoryName};
use cidery_unixfs::FileReader;
use futures::StreamExt;
use parking_lot::Mutex;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Semaphore, task::AbortHandle};

/// Images that are remembered per root.
const IMAGES: usize = 64;

/// Blobs of one image that are fetched ahead.
const BLOBS: usize = 512;

/// The images of one root, and what is fetched for them.
#[derive(Clone)]
pub struct Ahead(Arc<Inner>);

struct Inner {
    snapshot: Snapshot,
    fetcher: Arc<dyn Fetcher>,
    verdicts: Arc<Verdicts>,
    window: usize,
    streams: usize,
    linger: Duration,
    /// Over all images of this root.
    permits: Semaphore,
    images: Mutex<VecDeque<Image>>,
}

struct Image {
    repository: RepositoryName,
    manifest: Digest,
    blobs: Vec<Digest>,
    /// Blobs that were read to their end, by a client or ahead of one.
    complete: HashSet<Digest>,
    /// Blobs that need not be begun now: complete ones, and those under way.
    taken: HashSet<Digest>,
    /// Clients that stream one of its blobs.
    clients: usize,
    /// Counts up whenever a client comes, so that an old linger does not stop a new pull.
    visit: u64,
    task: Option<AbortHandle>,
}

impl Ahead {
    pub(super) fn new(snapshot: Snapshot, fetcher: Arc<dyn Fetcher>, verdicts: Arc<Verdicts>, config: &Config) -> Self {
        Self(Arc::new(Inner {
            snapshot,
            fetcher,
            verdicts,
            window: config.sibling_window,
            streams: config.sibling_streams,
            linger: config.sibling_linger,
            permits: Semaphore::new(config.sibling_streams),
            images: Mutex::default(),
        }))
    }

    /// Remembers what an image consists of. An index says nothing about what will be pulled.
    pub fn saw(&self, repository: &RepositoryName, manifest: &Manifest) {
        let Some(parsed) = Parsed::stored(manifest).filter(|parsed| parsed.manifests.is_empty()) else { return };
        let mut images = self.0.images.lock();
        if images.iter().any(|image| image.manifest == manifest.digest && image.repository == *repository) {
            return;
        }
        if images.len() >= IMAGES {
            let idle = images.iter().position(|image| image.clients == 0).unwrap_or(0);
            if let Some(task) = images.remove(idle).and_then(|image| image.task) {
                task.abort();
            }
        }
        let mut blobs: Vec<_> = parsed.required_blobs().take(BLOBS).map(|blob| blob.digest.clone()).collect();
        let mut seen = HashSet::new();
        blobs.retain(|digest| seen.insert(digest.clone()));
        images.push_back(Image {
            repository: repository.clone(),
            manifest: manifest.digest.clone(),
            blobs,
            complete: HashSet::new(),
            taken: HashSet::new(),
            clients: 0,
            visit: 0,
            task: None,
        });
    }

    /// A client streams all of a blob: what goes with it will be wanted next. Drop the result when
    /// the stream ends, after telling it how.
    pub fn streaming(&self, repository: &RepositoryName, digest: &Digest) -> Client {
        let mut manifests = Vec::new();
        for image in self.0.images.lock().iter_mut() {
            if image.repository == *repository && image.blobs.contains(digest) {
                image.clients += 1;
                image.visit += 1;
                let begin = image.task.as_ref().is_none_or(AbortHandle::is_finished);
                if begin {
                    // What an aborted task had taken is open again.
                    image.taken = image.complete.clone();
                }
                image.taken.insert(digest.clone());
                if begin {
                    let work = fetch(self.0.clone(), image.repository.clone(), image.manifest.clone());
                    image.task = Some(tokio::spawn(work).abort_handle());
                }
                manifests.push(image.manifest.clone());
            }
        }
        Client { inner: self.0.clone(), repository: repository.clone(), digest: digest.clone(), manifests }
    }
}

/// One client's whole-blob stream.
pub struct Client {
    inner: Arc<Inner>,
    repository: RepositoryName,
    digest: Digest,
    manifests: Vec<Digest>,
}

impl Fate for Client {
    fn ended(&mut self, whole: bool) {
        for manifest in &self.manifests {
            self.inner.with(&self.repository, manifest, |image| {
                image.clients -= 1;
                if whole {
                    image.complete.insert(self.digest.clone());
                }
                if image.clients > 0 {
                    return;
                }
                let Some(task) = image.task.clone().filter(|task| !task.is_finished()) else { return };
                if !whole {
                    task.abort();
                    return;
                }
                let (inner, repository, visit) = (self.inner.clone(), image.repository.clone(), image.visit);
                let manifest = manifest.clone();
                // Without a runtime nothing is being fetched either.
                let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
                runtime.spawn(async move {
                    tokio::time::sleep(inner.linger).await;
                    inner.with(&repository, &manifest, |image| {
                        if image.clients == 0 && image.visit == visit {
                            task.abort();
                        }
                    });
                });
            });
        }
    }
}

impl Inner {
    fn with<T>(&self, repository: &RepositoryName, manifest: &Digest, look: impl FnOnce(&mut Image) -> T) -> Option<T> {
        let mut images = self.images.lock();
        images.iter_mut().find(|image| image.manifest == *manifest && image.repository == *repository).map(look)
    }

    fn next(&self, repository: &RepositoryName, manifest: &Digest) -> Option<Digest> {
        self.with(repository, manifest, |image| {
            let next = image.blobs.iter().find(|digest| !image.taken.contains(*digest)).cloned()?;
            image.taken.insert(next.clone());
            Some(next)
        })
        .flatten()
    }

    async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), crate::error::Error> {
        // Closed never: the semaphore lives as long as `self`.
        let _permit = self.permits.acquire().await;
        let Some(blob) = self.snapshot.blob(repository, digest).await? else { return Ok(()) };
        // What was read whole once is here, or was evicted since, which its next reader will see.
        if self.verdicts.of(digest, &blob.cid).is_some() {
            return Ok(());
        }
        let file = FileReader::open(self.fetcher.clone(), blob.cid).await?;
        let size = file.size();
        let mut stream = file.read(0..size, self.window);
        while stream.next().await?.is_some() {}
        Ok(())
    }
}

async fn fetch(inner: Arc<Inner>, repository: RepositoryName, manifest: Digest) {
    let next = || inner.next(&repository, &manifest);
    futures::stream::iter(std::iter::from_fn(next))
        .for_each_concurrent(inner.streams, |digest| {
            let (inner, repository, manifest) = (&inner, &repository, &manifest);
            async move {
                match inner.blob(repository, &digest).await {
                    Ok(()) => {
                        inner.with(repository, manifest, |image| image.complete.insert(digest));
                    }
                    // Whoever wants it will ask again and be told.
                    Err(error) => tracing::debug!(%digest, %error, "a blob could not be fetched ahead"),
                }
            }
        })
        .await;
}
