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
    images: Mutex<Images>,
}

#[derive(Default)]
struct Images {
    known: VecDeque<Image>,
    /// The id of the next one.
    next: u64,
}

struct Image {
    /// An image that was forgotten and seen again is another one: those who held the first must not
    /// count in the second.
    id: u64,
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
        let images = &mut *images;
        let (images, next) = (&mut images.known, &mut images.next);
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
        *next += 1;
        images.push_back(Image {
            id: *next,
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
        let mut images = Vec::new();
        for image in self.0.images.lock().known.iter_mut() {
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
                    let work = fetch(self.0.clone(), image.repository.clone(), image.id);
                    image.task = Some(tokio::spawn(work).abort_handle());
                }
                images.push(image.id);
            }
        }
        Client { inner: self.0.clone(), digest: digest.clone(), images }
    }
}

/// One client's whole-blob stream.
pub struct Client {
    inner: Arc<Inner>,
    digest: Digest,
    images: Vec<u64>,
}

impl Fate for Client {
    fn ended(&mut self, whole: bool) {
        for id in self.images.iter().copied() {
            self.inner.with(id, |image| {
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
                let (inner, visit) = (self.inner.clone(), image.visit);
                // Without a runtime nothing is being fetched either.
                let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
                runtime.spawn(async move {
                    tokio::time::sleep(inner.linger).await;
                    inner.with(id, |image| {
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
    /// `None` for one that was forgotten.
    fn with<T>(&self, id: u64, look: impl FnOnce(&mut Image) -> T) -> Option<T> {
        self.images.lock().known.iter_mut().find(|image| image.id == id).map(look)
    }

    fn next(&self, id: u64) -> Option<Digest> {
        self.with(id, |image| {
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

async fn fetch(inner: Arc<Inner>, repository: RepositoryName, id: u64) {
    let next = || inner.next(id);
    futures::stream::iter(std::iter::from_fn(next))
        .for_each_concurrent(inner.streams, |digest| {
            let (inner, repository) = (&inner, &repository);
            async move {
                match inner.blob(repository, &digest).await {
                    Ok(()) => {
                        inner.with(id, |image| image.complete.insert(digest));
                    }
                    // Whoever wants it will ask again and be told.
                    Err(error) => tracing::debug!(%digest, %error, "a blob could not be fetched ahead"),
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{NodeCache, manifest::media_type};
    use bytes::Bytes;
    use cidery_core::{Block, memory::MemoryStore, ports::LocalFetcher};
    use sha2::{Digest as _, Sha256};

    fn image(n: usize) -> (Manifest, Digest) {
        let blob = Digest::sha256(&Sha256::digest(n.to_be_bytes()).into());
        let descriptor = serde_json::json!({ "mediaType": "application/x", "digest": blob, "size": 1 });
        let body = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor, "layers": [],
        });
        let bytes = Bytes::from(body.to_string());
        let digest = Digest::sha256(&Sha256::digest(&bytes).into());
        (Manifest { digest, media_type: media_type::OCI_MANIFEST.into(), bytes }, blob)
    }

    #[tokio::test]
    async fn a_client_of_a_forgotten_image_does_not_count_in_its_successor() {
        let store = Arc::new(MemoryStore::new());
        let fetcher: Arc<dyn Fetcher> = Arc::new(LocalFetcher(store.clone()));
        let root = *Block::raw(&b"x"[..]).cid();
        let snapshot = Snapshot::foreign(fetcher.clone(), root, &[], Arc::new(NodeCache::none()));
        let ahead = Ahead::new(snapshot, fetcher, Arc::new(Verdicts::new(store)), &Config::default());
        let name: RepositoryName = "app".parse().unwrap();
        // All of them busy: the first is the one that goes.
        let mut clients = Vec::new();
        for n in 0..=IMAGES {
            let (manifest, blob) = image(n);
            ahead.saw(&name, &manifest);
            clients.push(ahead.streaming(&name, &blob));
        }
        let (manifest, blob) = image(0);
        ahead.saw(&name, &manifest);
        let mut second = ahead.streaming(&name, &blob);
        let count = || {
            let images = ahead.0.images.lock();
            images.known.iter().find(|image| image.manifest == manifest.digest).map(|image| image.clients)
        };
        assert_eq!(count(), Some(1));
        for mut client in clients {
            client.ended(true);
        }
        assert_eq!(count(), Some(1));
        second.ended(true);
        assert_eq!(count(), Some(0));
    }
}
