//! Immutable reads over one root.

use super::{Blob, Descriptor, Manifest, NodeCache, TreeError};
use cidery_core::{Cid, Digest, Fetcher, Reference, RepositoryName, Tag};
use std::sync::Arc;

/// One root of a registry, owned or foreign; clones share it.
#[derive(Clone)]
pub struct Snapshot;

impl Snapshot {
    /// Somebody else's registry: the storage directory is at `path` below `root`, or below that at
    /// `docker/registry/v2` or one of the places where people add a stock registry's directory.
    ///
    /// `cache` must only be shared by readers that may see the same blocks.
    pub fn foreign(_fetcher: Arc<dyn Fetcher>, _root: Cid, _path: &[String], _cache: Arc<NodeCache>) -> Self {
        Self
    }

    /// The root; `None` for a namespace without commits.
    pub fn root(&self) -> Option<Cid> {
        None
    }

    /// Repositories after `after`, in byte order of their names, at most `limit`.
    pub async fn repositories(&self, _after: Option<&str>, _limit: usize) -> Result<Vec<RepositoryName>, TreeError> {
        Err(TreeError::Closed)
    }

    /// Tags after `after`, in byte order, at most `limit`; `None` if there is no such repository.
    pub async fn tags(
        &self,
        _repository: &RepositoryName,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Option<Vec<Tag>>, TreeError> {
        Err(TreeError::Closed)
    }

    /// A manifest by tag or digest. Its bytes were checked against its digest.
    pub async fn manifest(
        &self,
        _repository: &RepositoryName,
        _reference: &Reference,
    ) -> Result<Option<Arc<Manifest>>, TreeError> {
        Err(TreeError::Closed)
    }

    /// Where a blob's file is, and its size. The file's bytes were not checked against the digest.
    pub async fn blob(&self, _repository: &RepositoryName, _digest: &Digest) -> Result<Option<Blob>, TreeError> {
        Err(TreeError::Closed)
    }

    /// The manifests whose subject is `subject`, in order of their digests.
    pub async fn referrers(
        &self,
        _repository: &RepositoryName,
        _subject: &Digest,
        _artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, TreeError> {
        Err(TreeError::Closed)
    }

    /// Whether there is such a repository.
    pub async fn exists(&self, _repository: &RepositoryName) -> Result<bool, TreeError> {
        Err(TreeError::Closed)
    }
}
