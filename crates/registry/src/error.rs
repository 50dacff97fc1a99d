//! What can go wrong with the registry outside a request.

use crate::{
    foreign::BadBlob,
    ops::NoRoom,
    tree::{TreeError, list},
};
use cidery_core::{Digest, NameError, Namespace, ResolveError, StoreError};
use cidery_unixfs::UnixfsError;
use std::time::Duration;
use thiserror::Error;

/// The registry could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The store could not be read.
    #[error("the store could not be read")]
    Store(#[from] StoreError),
    /// A namespace's tree could not be opened.
    #[error("the tree of namespace {namespace} could not be opened")]
    Tree {
        /// The namespace.
        namespace: Namespace,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// A thread of the runtime failed.
    #[error("a task of the registry failed")]
    Task(#[from] tokio::task::JoinError),
}

/// An image could not be listed, opened or fetched.
#[derive(Debug, Error)]
pub enum Error {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The name stands for nothing, or nobody can say for what.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The tree behind the name could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A blob's file could not be read.
    #[error(transparent)]
    Unixfs(#[from] UnixfsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob's bytes are not the ones it is named by.
    #[error(transparent)]
    BadBlob(#[from] BadBlob),
    /// There is no such image.
    #[error("{name} has no manifest {reference}")]
    NoManifest {
        /// The repository's name.
        name: String,
        /// The tag or digest.
        reference: String,
    },
    /// An image whose manifests refer to what its repository does not hold.
    #[error("{name} is incomplete: its manifests refer to what the repository does not hold: {}", list(.digests))]
    Incomplete {
        /// The repository's name.
        name: String,
        /// All that is missing.
        digests: Vec<Digest>,
    },
    /// A manifest refers to a blob that its repository does not link.
    #[error("{name} does not hold blob {digest}, which its manifest refers to")]
    NoBlob {
        /// The repository's name.
        name: String,
        /// The blob.
        digest: Digest,
    },
    /// Peers name files for it, and none of them came in time.
    #[error(
        "{digest} was looked for among peers for {} s, and what they name did not come in time: try again, or have it \
         pushed",
        waited.as_secs()
    )]
    NotInTime {
        /// What was looked for.
        digest: Digest,
        /// For how long.
        waited: Duration,
    },
    /// Somebody who must be told of it cannot be: then it is not done.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Too much else is on its way; later there may be room.
    #[error("too many blobs are on their way; come back in a moment")]
    Busy,
    /// A thread of the runtime failed.
    #[error("a task of the registry failed")]
    Task(#[from] tokio::task::JoinError),
}
