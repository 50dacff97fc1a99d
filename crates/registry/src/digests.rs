//! Which file holds a digest, for peers that ask: below what is published, and of what came from peers itself.

use crate::{
    foreign::Verdicts,
    purge::was_purged,
    registry::Registry,
    tree::{NodeCache, Snapshot},
};
use async_trait::async_trait;
use cidery_core::{
    BlobFile, Bytes, Cid, Digest, Digests, FetchError, Fetcher, MAX_FILES, PublicBlocks, RootStore, StoreError,
    identity_bytes,
};
use cidery_unixfs::FileReader;
use futures::executor::block_on;
use std::sync::Arc;

impl Registry {
    /// What this node may tell peers of digests. It reads by way of `public` alone, so it says of nothing else.
    pub fn digests(&self, public: Arc<dyn PublicBlocks>) -> Arc<dyn Digests> {
        let (roots, verdicts) = (self.inner.roots.clone(), self.inner.verdicts.clone());
        Arc::new(PublicDigests { roots, public: Arc::new(PublicFetcher(public)), verdicts })
    }
}

struct PublicDigests {
    roots: Arc<dyn RootStore>,
    public: Arc<PublicFetcher>,
    /// Knows the files that were fetched and checked.
    verdicts: Arc<Verdicts>,
}

impl PublicDigests {
    /// The file below a published root. A tree that can't be read has none.
    fn published(&self, root: Cid, digest: &Digest) -> Option<Cid> {
        // Nothing is remembered: what is public may become private.
        let tree = Snapshot::foreign(self.public.clone(), root, &[], Arc::new(NodeCache::none()));
        let found = block_on(tree.file(digest));
        found.inspect_err(|error| tracing::debug!(%root, %error, "a published tree is not read")).ok().flatten()
    }

    fn shown(&self, digest: &Digest, cid: Cid) -> Option<BlobFile> {
        if self.roots.is_forgotten(&cid) || self.verdicts.of(digest, &cid) == Some(false) {
            return None;
        }
        let file = block_on(FileReader::open(self.public.clone(), cid)).ok()?;
        Some(BlobFile { cid, size: file.size() })
    }
}

impl Digests for PublicDigests {
    fn files(&self, digest: &Digest) -> Result<Vec<BlobFile>, StoreError> {
        let mut cids = Vec::new();
        for namespace in self.roots.namespaces()? {
            if let Some(published) = self.roots.state(&namespace)?.published {
                cids.extend(self.published(published.root, digest));
            }
        }
        // An own one that was pushed again since is another matter.
        if !was_purged(&*self.roots, digest) {
            cids.extend(self.verdicts.holders(digest));
        }
        let mut files: Vec<BlobFile> = Vec::new();
        for cid in cids {
            if files.len() < MAX_FILES && files.iter().all(|file| file.cid != cid) {
                files.extend(self.shown(digest, cid));
            }
        }
        Ok(files)
    }
}

/// Reads what peers may see.
struct PublicFetcher(Arc<dyn PublicBlocks>);

#[async_trait]
impl Fetcher for PublicFetcher {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.local(cid)?.ok_or(FetchError::NotFound(*cid))
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        if let Some(bytes) = identity_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        Ok(self.0.public_get(cid)?)
    }
}
