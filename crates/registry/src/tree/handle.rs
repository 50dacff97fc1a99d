//! The handle to a namespace's one writer.

use super::{Blob, NodeCache, Snapshot, TreeError};
use cidery_core::{Blockstore, Bytes, Cid, Digest, Namespace, Reference, RepositoryName, RootStore, Tag};
use std::sync::Arc;
use tokio::sync::watch;

/// The handle to the one writer of an owned namespace; clones share it. The writer stops when the
/// last handle is dropped.
#[derive(Clone)]
pub struct Tree;

/// A manifest to put into a repository.
#[derive(Debug, Clone)]
pub struct Push {
    /// The manifest's digest, if the client named it, or a tag for it.
    pub reference: Reference,
    /// Further tags (`?tag=…`).
    pub tags: Vec<Tag>,
    /// The Content-Type header.
    pub media_type: Option<String>,
    /// The manifest, byte for byte.
    pub bytes: Bytes,
    /// What to do about references to what the repository does not hold.
    pub missing: Missing,
}

/// What to do about a manifest's references to what its repository does not hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Missing {
    /// Refuse the manifest ([`TreeError::ManifestBlobUnknown`]).
    #[default]
    Refuse,
    /// Accept a sparse image or index.
    Accept,
}

/// What a manifest commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The manifest's digest.
    pub digest: Digest,
    /// The digest of its subject, if it has one (`OCI-Subject`).
    pub subject: Option<Digest>,
    /// The namespace's root that holds it.
    pub root: Cid,
}

/// An image whose blobs are stored already, to be linked in one commit.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Blobs that are in the store, each complete.
    pub blobs: Vec<Blob>,
    /// Manifests, in any order.
    pub manifests: Vec<ImageManifest>,
    /// Tags, and the manifest each stands for.
    pub tags: Vec<(Tag, Digest)>,
}

/// A manifest of an [`Image`].
#[derive(Debug, Clone)]
pub struct ImageManifest {
    /// Its digest; the bytes are checked against it.
    pub digest: Digest,
    /// Its media type, if known otherwise than from its bytes.
    pub media_type: Option<String>,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Tree {
    /// Opens a namespace: its root and its unfolded links come from `roots`.
    pub async fn open(
        _namespace: Namespace,
        _blocks: Arc<dyn Blockstore>,
        _roots: Arc<dyn RootStore>,
    ) -> Result<Self, TreeError> {
        Err(TreeError::Closed)
    }

    /// The current state: the root, and the links that are not yet part of it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::foreign(unreachable(), Cid::default(), &[], Arc::new(NodeCache::default()))
    }

    /// Links a stored blob into a repository. Durable on return; no root is made.
    pub async fn link_blob(&self, _repository: &RepositoryName, _blob: &Blob) -> Result<(), TreeError> {
        Err(TreeError::Closed)
    }

    /// [`Tree::push`] with one reference.
    pub async fn put_manifest(
        &self,
        _repository: &RepositoryName,
        _reference: &Reference,
        _media_type: Option<&str>,
        _bytes: Bytes,
    ) -> Result<Put, TreeError> {
        Err(TreeError::Closed)
    }

    /// Commits a manifest, its tags, and the repository's links. Durable on return.
    pub async fn push(&self, _repository: &RepositoryName, _push: Push) -> Result<Put, TreeError> {
        Err(TreeError::Closed)
    }

    /// Links an image whose blobs are stored already, in one commit. Gives the root.
    pub async fn adopt(&self, _repository: &RepositoryName, _image: Image) -> Result<Cid, TreeError> {
        Err(TreeError::Closed)
    }

    /// Removes a tag; `false` if there is none. Its manifest stays.
    pub async fn delete_tag(&self, _repository: &RepositoryName, _tag: &Tag) -> Result<bool, TreeError> {
        Err(TreeError::Closed)
    }

    /// Removes a manifest and the tags that stand for it; `false` if there is none.
    pub async fn delete_manifest(&self, _repository: &RepositoryName, _digest: &Digest) -> Result<bool, TreeError> {
        Err(TreeError::Closed)
    }

    /// Removes a blob from a repository; `false` if it is not there.
    pub async fn delete_blob(&self, _repository: &RepositoryName, _digest: &Digest) -> Result<bool, TreeError> {
        Err(TreeError::Closed)
    }

    /// The current root, and every later one.
    pub fn roots(&self) -> watch::Receiver<Option<Cid>> {
        watch::channel(None).1
    }
}

fn unreachable() -> Arc<dyn cidery_core::Fetcher> {
    Arc::new(cidery_core::ports::LocalFetcher(Arc::new(cidery_core::memory::MemoryStore::new())))
}
