//! Images without HTTP: opened for an export, or fetched whole into this node.

use crate::{
    error::Error,
    names,
    registry::{Inner, Opened, Registry, Source},
    stream::{self, Verify},
    tree::{Blob, Manifest, Snapshot, TreeError, manifest::Parsed},
};
use cidery_core::{Cid, Digest, Fetcher, Hold, Reference, RepositoryName, Scope, ports::HoldingFetcher};
use cidery_unixfs::FileReader;
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc};

/// Manifests of one image that are followed: an index of indexes of images, hostile or not.
const MANIFESTS: usize = 1024;

/// Bytes of them: all are in memory at once, with what they refer to.
const MANIFEST_BYTES: usize = 64 << 20;

/// Blobs that are fetched at once.
const BLOBS: usize = 3;

/// How far a pull has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of manifests and blobs that are here and checked or being checked.
    pub bytes: u64,
    /// Bytes of the image, as far as its manifests are known.
    pub total: u64,
    /// Blobs that are complete.
    pub blobs: usize,
    /// Blobs of the image, as far as its manifests are known.
    pub total_blobs: usize,
}

/// A pulled image: every byte is here and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The digest of the manifest or index that the name stands for.
    pub digest: Digest,
    /// Bytes of all manifests and blobs, each once.
    pub bytes: u64,
    /// Blobs, manifests not counted.
    pub blobs: usize,
}

/// Adds up what several blobs tell, and tells it on.
struct Counter<P>(Mutex<(Progress, P)>);

impl<P: FnMut(Progress)> Counter<P> {
    fn new(start: Progress, mut tell: P) -> Self {
        tell(start);
        Self(Mutex::new((start, tell)))
    }

    fn add(&self, bytes: u64, blobs: usize) {
        let (now, tell) = &mut *self.0.lock();
        now.bytes += bytes;
        now.blobs += blobs;
        tell(*now);
    }

    fn now(&self) -> Progress {
        self.0.lock().0
    }
}

/// An image's manifests, each once, its own first.
pub(crate) struct Manifests {
    pub all: Vec<Arc<Manifest>>,
    pub blobs: Vec<(Digest, u64)>,
    /// Manifests that an index refers to and the repository does not hold.
    pub missing: Vec<Digest>,
}

impl Registry {
    /// Opens an image by the name that follows the host in a pull: `app`, `example.com/app:1`,
    /// `<cid>/app@sha256:…`. The caller is the owner of this node.
    ///
    /// # Errors
    /// When the name is none, or stands for nothing now. Whether the image is there shows the
    /// snapshot.
    pub async fn open_image(&self, name: &str) -> Result<(Snapshot, RepositoryName, Reference), Error> {
        let (opened, reference) = self.inner.find(name).await?;
        Ok((opened.snapshot(), opened.named.repository, reference))
    }

    /// As [`Registry::open_image`], with what fetches the blobs' blocks: this node's store for an
    /// image of its own, which collections leave whole while that lives, else the session of the root.
    ///
    /// # Errors
    /// As [`Registry::open_image`].
    pub async fn open_image_with_blobs(
        &self,
        name: &str,
    ) -> Result<(Snapshot, RepositoryName, Reference, Arc<dyn Fetcher>), Error> {
        let (opened, reference) = self.inner.find(name).await?;
        let hold = self.inner.blocks.hold();
        let snapshot = opened.held_snapshot(&*hold);
        let fetcher = Arc::new(HoldingFetcher { fetcher: self.inner.fetcher(&opened), hold });
        Ok((snapshot, opened.named.repository, reference, fetcher))
    }

    /// Fetches every manifest and blob of an image, for all platforms, into this node, and checks
    /// them. Dropping the future stops it.
    ///
    /// # Errors
    /// When the name stands for nothing, something it needs cannot be had, or is not what it is named by.
    pub async fn pull(&self, name: &str, progress: impl FnMut(Progress) + Send) -> Result<Pulled, Error> {
        let inner = &self.inner;
        let (opened, reference) = inner.find(name).await?;
        let (snapshot, fetcher) = (opened.snapshot(), inner.fetcher(&opened));
        let image = Wanted { name, opened: &opened, reference: &reference, snapshot, fetcher, hold: None };
        let fetched = inner.fetch_image(&image, progress).await?;
        Ok(Pulled { digest: fetched.digest, bytes: fetched.bytes, blobs: fetched.blobs.len() })
    }
}

/// An image that is to be fetched, and how.
pub(crate) struct Wanted<'a> {
    pub name: &'a str,
    pub opened: &'a Opened,
    pub reference: &'a Reference,
    pub snapshot: Snapshot,
    pub fetcher: Arc<dyn Fetcher>,
    /// What keeps it, if the caller does not leave that to the cache.
    pub hold: Option<Arc<dyn Hold>>,
}

/// An image that was fetched.
pub(crate) struct Fetched {
    /// Of the manifest or index that the name stands for.
    pub digest: Digest,
    /// Of all manifests and blobs, each once.
    pub bytes: u64,
    /// All that are no manifests, by digest.
    pub blobs: Vec<Blob>,
}

impl Inner {
    /// Fetches all manifests and blobs of an image and checks them; those of an owned namespace were checked when
    /// they were pushed.
    pub(crate) async fn fetch_image(
        &self,
        image: &Wanted<'_>,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Fetched, Error> {
        let (name, repository, snapshot) = (image.name, &image.opened.named.repository, &image.snapshot);
        let manifests = manifests(snapshot, repository, image.reference, name).await?;
        if matches!(image.opened.source, Source::Owned(..)) {
            // All at once, where it costs nothing.
            let digests = missing_blobs(snapshot, repository, &manifests.blobs).await?;
            if !digests.is_empty() {
                return Err(Error::Incomplete { name: name.to_owned(), digests });
            }
        }
        let own: u64 = manifests.all.iter().map(|manifest| manifest.bytes.len() as u64).sum();
        let claimed: u64 = manifests.blobs.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size));
        let counter = Counter::new(
            Progress { bytes: own, total: own.saturating_add(claimed), blobs: 0, total_blobs: manifests.blobs.len() },
            progress,
        );
        let blobs = Mutex::new(Vec::with_capacity(manifests.blobs.len()));
        let (counter, blobs) = (&counter, &blobs);
        let fetch = |digest: Digest| async move {
            let missing = || Error::NoBlob { name: name.to_owned(), digest: digest.clone() };
            let blob = snapshot.blob(repository, &digest).await?.ok_or_else(missing)?;
            if let Some(hold) = &image.hold {
                hold.keep_all(&blob.cid);
            }
            blobs.lock().push(blob.clone());
            match &image.opened.source {
                Source::Owned(..) => counter.add(blob.size, 0),
                Source::Foreign(_) => {
                    let file = FileReader::open(image.fetcher.clone(), blob.cid).await?;
                    let verify = Verify { blob, verdicts: self.verdicts.clone() };
                    stream::verify(file, verify, self.config.window, |bytes| counter.add(bytes, 0)).await?;
                }
            }
            counter.add(0, 1);
            Ok::<_, Error>(())
        };
        let digests: Vec<_> = manifests.blobs.iter().map(|(digest, _)| Ok(digest.clone())).collect();
        futures::stream::iter(digests).try_for_each_concurrent(BLOBS, fetch).await?;
        let digest = manifests.all.first().map(|manifest| manifest.digest.clone());
        let digest = digest.ok_or_else(|| no_manifest(name, image.reference))?;
        let mut blobs = std::mem::take(&mut *blobs.lock());
        blobs.sort_unstable_by(|one, other| one.digest.cmp(&other.digest));
        Ok(Fetched { digest, bytes: counter.now().bytes, blobs })
    }

    pub(crate) async fn find(&self, name: &str) -> Result<(Opened, Reference), Error> {
        let (name, reference) = names::image(name)?;
        let opened = self.open(self.name(name)?, Scope::Owner).await?;
        Ok((opened, reference))
    }

    /// The same fetcher, which keeps all that is below `root` for as long as it lives.
    pub fn holding(&self, fetcher: Arc<dyn Fetcher>, root: &Cid) -> Arc<dyn Fetcher> {
        let hold = self.blocks.hold();
        hold.keep_all(root);
        Arc::new(HoldingFetcher { fetcher, hold })
    }

    /// What reads the blobs of a repository.
    pub fn fetcher(&self, opened: &Opened) -> Arc<dyn Fetcher> {
        match &opened.source {
            Source::Owned(..) => self.local.clone(),
            Source::Foreign(root) => root.fetcher.clone(),
        }
    }
}

/// The manifest that `reference` stands for, and all below it; all of them must be there.
async fn manifests(
    snapshot: &Snapshot,
    repository: &RepositoryName,
    reference: &Reference,
    name: &str,
) -> Result<Manifests, Error> {
    let found = walk(snapshot, repository, reference, name).await?;
    if found.missing.is_empty() {
        return Ok(found);
    }
    Err(Error::Incomplete { name: name.to_owned(), digests: found.missing })
}

/// The manifest that `reference` stands for, and what is there of those below it.
pub(crate) async fn walk(
    snapshot: &Snapshot,
    repository: &RepositoryName,
    reference: &Reference,
    name: &str,
) -> Result<Manifests, Error> {
    let mut found = Manifests { all: Vec::new(), blobs: Vec::new(), missing: Vec::new() };
    let (mut seen, mut open, mut size) = (HashSet::new(), vec![reference.clone()], 0);
    while let Some(reference) = open.pop() {
        if found.all.len() == MANIFESTS {
            let detail = format!("the image has more than {MANIFESTS} manifests");
            return Err(TreeError::Malformed { path: repository.to_string(), detail }.into());
        }
        let manifest = snapshot.manifest(repository, &reference).await?;
        let manifest = match (manifest, &reference) {
            (Some(manifest), _) => manifest,
            (None, Reference::Digest(digest)) if !found.all.is_empty() => {
                if seen.insert(digest.clone()) {
                    found.missing.push(digest.clone());
                }
                continue;
            }
            (None, _) => return Err(no_manifest(name, &reference)),
        };
        if !seen.insert(manifest.digest.clone()) {
            continue;
        }
        size += manifest.bytes.len();
        if size > MANIFEST_BYTES {
            let (size, limit) = (size as u64, MANIFEST_BYTES as u64);
            return Err(TreeError::TooLarge { what: "what the image has of manifests", size, limit }.into());
        }
        if let Some(parsed) = Parsed::stored(&manifest) {
            for blob in parsed.required_blobs() {
                if seen.insert(blob.digest.clone()) {
                    found.blobs.push((blob.digest.clone(), blob.size));
                }
            }
            open.extend(parsed.manifests.iter().rev().map(|child| Reference::Digest(child.digest.clone())));
        }
        found.all.push(manifest);
    }
    Ok(found)
}

/// Those of an image's blobs that the repository does not hold.
async fn missing_blobs(
    snapshot: &Snapshot,
    repository: &RepositoryName,
    blobs: &[(Digest, u64)],
) -> Result<Vec<Digest>, TreeError> {
    let mut missing = Vec::new();
    for (digest, _) in blobs {
        if snapshot.blob(repository, digest).await?.is_none() {
            missing.push(digest.clone());
        }
    }
    Ok(missing)
}

fn no_manifest(name: &str, reference: &Reference) -> Error {
    Error::NoManifest { name: name.to_owned(), reference: reference.to_string() }
}
