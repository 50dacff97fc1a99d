//! A registry tree that holds just one image: the namespace as it would be had nothing else ever
//! been pushed to it. Only its directories and links are made, in memory; its blobs stay where they are.

use super::{ArchiveError, export::Job, walk::Image};
use crate::tree::{self, ImageManifest, Tree};
use async_trait::async_trait;
use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, FetchError, Fetcher, Namespace, Origin, Reference, Stats, StoreError,
    codec, memory::MemoryStore,
};
use std::{collections::HashMap, sync::Arc};

/// The tree, and where its blocks are had.
pub(super) struct OneImage {
    pub(super) root: Cid,
    /// Bytes of content, as far as they are known beforehand.
    pub(super) bytes: u64,
    scratch: Arc<Scratch>,
}

impl OneImage {
    pub(super) fn build(job: &Job<'_>, image: Image) -> Result<Self, ArchiveError> {
        let bytes = image.bytes();
        let sizes = image.blobs.iter().filter(|b| b.cid.codec() == codec::RAW).map(|b| (b.cid, b.size)).collect();
        let scratch = Arc::new(Scratch { made: MemoryStore::new(), source: job.source.fetcher.clone(), sizes });
        let tags = match job.reference {
            Reference::Tag(tag) => vec![(tag.clone(), job.top.digest.clone())],
            Reference::Digest(_) => Vec::new(),
        };
        let root = job.handle.block_on(async {
            // The tree looks at the roots of files; from here on they are found without waiting.
            for blob in image.blobs.iter().filter(|blob| blob.cid.codec() != codec::RAW) {
                job.source.fetcher.fetch(&blob.cid).await?;
            }
            let manifests = image.manifests.iter().map(|manifest| ImageManifest {
                digest: manifest.digest.clone(),
                media_type: Some(manifest.media_type.clone()),
                bytes: manifest.bytes.clone(),
            });
            let adopted = tree::Image { blobs: image.blobs.clone(), manifests: manifests.collect(), tags };
            let roots = Arc::new(scratch.made.clone());
            let tree = Tree::open(Namespace::local(), scratch.clone(), roots).await?;
            Ok::<_, ArchiveError>(tree.adopt(job.repository, adopted).await?)
        })?;
        Ok(Self { root, bytes, scratch })
    }

    pub(super) fn fetcher(&self) -> Arc<dyn Fetcher> {
        self.scratch.clone()
    }
}

/// What was made for the tree, in front of what the image consists of.
struct Scratch {
    made: MemoryStore,
    source: Arc<dyn Fetcher>,
    /// Sizes of blobs that are single leaves: known without reading them.
    sizes: HashMap<Cid, u64>,
}

impl Blockstore for Scratch {
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        if let Some(size) = self.made.size(cid)?.or_else(|| self.sizes.get(cid).copied()) {
            return Ok(Some(size));
        }
        Ok(self.get(cid)?.map(|bytes| bytes.len() as u64))
    }

    fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        match Fetcher::local(self, cid) {
            Err(FetchError::Store(error)) => Err(error),
            found => Ok(found.unwrap_or_default()),
        }
    }

    fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError> {
        self.made.put(block, origin)
    }

    fn writer(&self, origin: Origin) -> Result<Box<dyn BlockWriter>, StoreError> {
        self.made.writer(origin)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.made.sync()
    }

    fn stats(&self) -> Stats {
        self.made.stats()
    }
}

#[async_trait]
impl Fetcher for Scratch {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        match self.made.get(cid)? {
            Some(bytes) => Ok(bytes),
            None => self.source.fetch(cid).await,
        }
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        match self.made.get(cid)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.source.local(cid),
        }
    }
}
