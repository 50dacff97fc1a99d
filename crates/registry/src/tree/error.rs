//! What can go wrong with a tree. The HTTP side maps each variant by one table.

use super::manifest::ManifestError;
use cidery_core::{CommitError, Digest, FetchError, RepositoryName, StoreError, Tag};
use cidery_unixfs::UnixfsError;
use std::sync::Arc;
use thiserror::Error;

/// Why a tree could not be read or changed. Clonable, because one failed commit fails its whole group.
#[derive(Debug, Clone, Error)]
pub enum TreeError {
    /// The manifest cannot be accepted as it is; the text says what to change (`MANIFEST_INVALID`).
    #[error(transparent)]
    ManifestInvalid(Arc<ManifestError>),
    /// The manifest refers to blobs or manifests that its repository does not hold (`MANIFEST_BLOB_UNKNOWN`).
    #[error("the manifest refers to {} that the repository does not hold: {}", plural(.digests), list(.digests))]
    ManifestBlobUnknown {
        /// All that are missing.
        digests: Vec<Digest>,
    },
    /// It stays as long as a manifest of its repository refers to it (405).
    #[error("{digest} is in use: a manifest of {repository} refers to it, delete that first")]
    InUse {
        /// The repository.
        repository: RepositoryName,
        /// What was to be deleted.
        digest: Digest,
    },
    /// The push would change what it may not (`DENIED`).
    #[error("{0}")]
    NotAllowed(String),
    /// The push would let an immutable tag stand for something else (`TAG_INVALID`). Clients look for these words.
    #[error(
        "the image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because the \
         tag is immutable: push another tag"
    )]
    Immutable {
        /// The repository's full name.
        repository: String,
        /// The tag.
        tag: Tag,
    },
    /// An immutable tag stays, and so does what it stands for (405).
    #[error("{repository}:{tag} is an immutable tag: neither it nor the manifest that it stands for can be deleted")]
    Undeletable {
        /// The repository's full name.
        repository: String,
        /// The tag.
        tag: Tag,
    },
    /// Larger than what is accepted or read (413 for a push).
    #[error("{what} has {size} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes do not have the digest they were named by (`DIGEST_INVALID` for a push).
    #[error("the bytes named {expected} have the digest {actual}")]
    DigestMismatch {
        /// The name.
        expected: Digest,
        /// What was computed.
        actual: Digest,
    },
    /// The tree is not a registry's storage directory, or not a valid one, at this place.
    #[error("the tree is malformed at {path}: {detail}")]
    Malformed {
        /// Path below the tree's root.
        path: String,
        /// What was found.
        detail: String,
    },
    /// A rule of retention cannot be carried out in a repository; the text says why, and what to do.
    #[error("{0}")]
    NotRetained(String),
    /// A block could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A UnixFS node is not what it must be.
    #[error(transparent)]
    Unixfs(UnixfsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root was replaced behind the writer's back, time and again.
    #[error(transparent)]
    Commit(Arc<CommitError>),
    /// The tree's writer has stopped.
    #[error("the tree is closed")]
    Closed,
}

fn plural(digests: &[Digest]) -> &'static str {
    if digests.len() == 1 { "a digest" } else { "digests" }
}

/// At most eight of them: a manifest can name thousands.
pub(crate) fn list(digests: &[Digest]) -> String {
    let mut text = digests.iter().take(8).map(Digest::as_str).collect::<Vec<_>>().join(", ");
    if digests.len() > 8 {
        text.push_str(&format!(" and {} more", digests.len() - 8));
    }
    text
}

impl TreeError {
    pub(super) fn malformed(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), detail: detail.into() }
    }
}

impl From<ManifestError> for TreeError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::TooLarge { size } => {
                Self::TooLarge { what: "the manifest", size, limit: super::MAX_MANIFEST as u64 }
            }
            error => Self::ManifestInvalid(Arc::new(error)),
        }
    }
}

impl From<UnixfsError> for TreeError {
    fn from(error: UnixfsError) -> Self {
        match error {
            UnixfsError::Fetch(error) => Self::Fetch(error),
            UnixfsError::Store(error) => Self::Store(error),
            error => Self::Unixfs(error),
        }
    }
}

impl From<CommitError> for TreeError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => Self::Store(error),
            error => Self::Commit(Arc::new(error)),
        }
    }
}
