//! Immutable reads over one root.

use super::{
    Blob, Descriptor, Manifest, NodeCache, TreeError, fetch::Cached, overlay::Overlay, reader::Reader, view::View,
};
use cidery_core::{Cid, Digest, Fetcher, Reference, RepositoryName, RootStore, Tag};
use std::{
    collections::BTreeSet,
    ops::{Deref, Range},
    sync::Arc,
};

/// One root of a registry, owned or foreign, and the links that are not yet part of it; clones
/// share it.
#[derive(Clone)]
pub struct Snapshot {
    view: Arc<View>,
    overlay: Overlay,
}

/// Some of a repository's tags, in byte order.
pub struct TagPage {
    all: Arc<[Tag]>,
    range: Range<usize>,
}

impl Deref for TagPage {
    type Target = [Tag];
    fn deref(&self) -> &[Tag] {
        &self.all[self.range.clone()]
    }
}

impl Snapshot {
    /// Somebody else's registry: the storage directory is at `path` below `root`, or below that at
    /// `docker/registry/v2` or one of the places where people add a stock registry's directory.
    ///
    /// `cache` must only be shared by readers that may see the same blocks: it answers without
    /// asking the fetcher again.
    pub fn foreign(fetcher: Arc<dyn Fetcher>, root: Cid, path: &[String], cache: Arc<NodeCache>) -> Self {
        Self::read_only(fetcher, root, path, cache, None)
    }

    /// An earlier root of a namespace of one's own: as another's, and what `roots` have forgotten is not found.
    pub fn earlier(fetcher: Arc<dyn Fetcher>, root: Cid, path: &[String], roots: Arc<dyn RootStore>) -> Self {
        // What is withdrawn may change: nothing is remembered.
        Self::read_only(fetcher, root, path, Arc::new(NodeCache::none()), Some(roots))
    }

    fn read_only(
        fetcher: Arc<dyn Fetcher>,
        root: Cid,
        path: &[String],
        cache: Arc<NodeCache>,
        withdrawn: Option<Arc<dyn RootStore>>,
    ) -> Self {
        let reader = reader(fetcher, cache);
        Self { view: Arc::new(View::foreign(reader, root, path, withdrawn)), overlay: Overlay::default() }
    }

    /// The same root without the links that are no part of it, read by way of another fetcher, which is asked for
    /// all of it.
    pub fn through(&self, fetcher: Arc<dyn Fetcher>) -> Self {
        let view = self.view.read_by(reader(fetcher, Arc::new(NodeCache::none())));
        Self { view: Arc::new(view), overlay: Overlay::default() }
    }

    /// The directory that was named: the root, or what is at a path below it.
    pub async fn named(&self) -> Result<Option<Cid>, TreeError> {
        self.view.named().await
    }

    /// The file of a blob, whatever repository has it. Its bytes were not checked against the digest.
    pub async fn file(&self, digest: &Digest) -> Result<Option<Cid>, TreeError> {
        self.view.file(digest).await
    }

    pub(super) fn owned(view: Arc<View>, overlay: Overlay) -> Self {
        Self { view, overlay }
    }

    /// The root; `None` for a namespace without commits.
    pub fn root(&self) -> Option<Cid> {
        self.view.root
    }

    /// Repositories after `after`, in byte order of their names, at most `limit`. One whose first
    /// push is not complete is not among them.
    pub async fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, TreeError> {
        self.view.repositories(after, limit).await
    }

    /// Tags after `after`, in byte order, at most `limit`; `None` if there is no such repository.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, TreeError> {
        Ok(self.tag_page(repository, after, limit).await?.map(|page| page.to_vec()))
    }

    /// As [`Snapshot::tags`], without a copy of them.
    pub async fn tag_page(
        &self,
        repository: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<TagPage>, TreeError> {
        let all = match self.view.tags(repository).await? {
            Some(tags) => tags,
            None if self.exists(repository).await? => Arc::default(),
            None => return Ok(None),
        };
        let start = after.map_or(0, |after| all.partition_point(|tag| tag.as_str() <= after));
        let end = start.saturating_add(limit).min(all.len());
        Ok(Some(TagPage { all, range: start..end }))
    }

    /// A manifest by tag or digest. Its bytes were checked against its digest.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Arc<Manifest>>, TreeError> {
        self.view.manifest(repository, reference).await
    }

    /// What a tag stands for, whether that can be read or not.
    pub async fn target(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, TreeError> {
        self.view.target(repository, tag).await
    }

    /// Where a blob's file is, and its size. The file's bytes were not checked against the digest.
    pub async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Blob>, TreeError> {
        match self.overlay.get(repository, digest) {
            Some(blob) => Ok(Some(blob.clone())),
            None => self.view.blob(repository, digest).await,
        }
    }

    /// The manifests whose subject is `subject`, in order of their digests; with `artifact_type`
    /// only those of that type.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, TreeError> {
        let all = self.view.referrers(repository, subject).await?;
        let wanted = |found: &&Descriptor| artifact_type.is_none() || found.artifact_type.as_deref() == artifact_type;
        Ok(all.iter().filter(wanted).cloned().collect())
    }

    /// Every repository, those included that only have links.
    pub async fn all_repositories(&self) -> Result<BTreeSet<RepositoryName>, TreeError> {
        const PAGE: usize = 1000;
        let mut all: BTreeSet<RepositoryName> = self.overlay.repositories().cloned().collect();
        let mut last: Option<RepositoryName> = None;
        loop {
            let page = self.repositories(last.as_ref().map(RepositoryName::as_str), PAGE).await?;
            let Some(end) = page.last() else { return Ok(all) };
            last = Some(end.clone());
            all.extend(page);
        }
    }

    /// Whether there is such a repository, be it that only blobs were pushed to it so far.
    pub async fn exists(&self, repository: &RepositoryName) -> Result<bool, TreeError> {
        Ok(self.overlay.has(repository) || self.view.exists(repository).await?)
    }
}

fn reader(fetcher: Arc<dyn Fetcher>, cache: Arc<NodeCache>) -> Reader {
    Reader { fetcher: Arc::new(Cached { inner: fetcher, cache: cache.clone() }), cache, blocks: None }
}
