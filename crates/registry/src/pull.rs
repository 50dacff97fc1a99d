//! Images without HTTP: opened for an export, or fetched whole into this node.

use crate::{
    error::Error,
    names,
    registry::{Inner, Opened, Registry, Source},
    stream::{self, Verify},
    tree::{Manifest, Snapshot, TreeError, manifest::Parsed},
};
use cidery_core::{Cid, Digest, Fetcher, Reference, RepositoryName, Scope, ports::HoldingFetcher};
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
        let fetcher = self.inner.fetcher(&opened);
        let Source::Owned(tree) = &opened.source else {
            return Ok((opened.snapshot(), opened.named.repository, reference, fetcher));
        };
        loop {
            let snapshot = tree.snapshot();
            let Some(root) = snapshot.root() else {
                return Ok((snapshot, opened.named.repository, reference, fetcher));
            };
            let fetcher = self.inner.holding(fetcher.clone(), &root);
            // It may have been replaced, and a collection begun, before it was held.
            if tree.snapshot().root() == Some(root) {
                return Ok((snapshot, opened.named.repository, reference, fetcher));
            }
        }
    }

    /// Fetches every manifest and blob of an image, for all platforms, into this node, and checks
    /// them. Dropping the future stops it.
    ///
    /// # Errors
    /// When the name stands for nothing, something it needs cannot be had, or is not what it is named by.
    pub async fn pull(&self, name: &str, progress: impl FnMut(Progress) + Send) -> Result<Pulled, Error> {
        let inner = &self.inner;
        let (opened, reference) = inner.find(name).await?;
        let (snapshot, repository) = (opened.snapshot(), &opened.named.repository);
        let manifests = manifests(&snapshot, repository, &reference, name).await?;
        let own: u64 = manifests.all.iter().map(|manifest| manifest.bytes.len() as u64).sum();
        let claimed: u64 = manifests.blobs.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size));
        let counter = Counter::new(
            Progress { bytes: own, total: own.saturating_add(claimed), blobs: 0, total_blobs: manifests.blobs.len() },
            progress,
        );
        let fetcher = inner.fetcher(&opened);
        let (source, counter, fetcher, snapshot) = (&opened.source, &counter, &fetcher, &snapshot);
        let fetch = |digest: Digest| async move {
            let missing = || Error::NoBlob { name: name.to_owned(), digest: digest.clone() };
            let blob = snapshot.blob(repository, &digest).await?.ok_or_else(missing)?;
            match source {
                // What was pushed was checked then.
                Source::Owned(..) => counter.add(blob.size, 0),
                Source::Foreign(_) => {
                    let file = FileReader::open(fetcher.clone(), blob.cid).await?;
                    let verify = Verify { blob, verdicts: inner.verdicts.clone() };
                    stream::verify(file, verify, inner.config.window, |bytes| counter.add(bytes, 0)).await?;
                }
            }
            counter.add(0, 1);
            Ok::<_, Error>(())
        };
        let digests: Vec<_> = manifests.blobs.iter().map(|(digest, _)| Ok(digest.clone())).collect();
        futures::stream::iter(digests).try_for_each_concurrent(BLOBS, fetch).await?;
        let now = counter.now();
        let digest = manifests.all.first().map(|manifest| manifest.digest.clone());
        let digest = digest.ok_or_else(|| no_manifest(name, &reference))?;
        Ok(Pulled { digest, bytes: now.bytes, blobs: now.blobs })
    }
}

impl Inner {
    async fn find(&self, name: &str) -> Result<(Opened, Reference), Error> {
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

/// The manifest that `reference` stands for, and all below it.
pub(crate) async fn manifests(
    snapshot: &Snapshot,
    repository: &RepositoryName,
    reference: &Reference,
    name: &str,
) -> Result<Manifests, Error> {
    let mut found = Manifests { all: Vec::new(), blobs: Vec::new() };
    let (mut seen, mut open, mut size) = (HashSet::new(), vec![reference.clone()], 0);
    while let Some(reference) = open.pop() {
        if found.all.len() == MANIFESTS {
            let detail = format!("the image has more than {MANIFESTS} manifests");
            return Err(TreeError::Malformed { path: repository.to_string(), detail }.into());
        }
        let manifest = snapshot.manifest(repository, &reference).await?;
        let manifest = manifest.ok_or_else(|| no_manifest(name, &reference))?;
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

fn no_manifest(name: &str, reference: &Reference) -> Error {
    Error::NoManifest { name: name.to_owned(), reference: reference.to_string() }
}
