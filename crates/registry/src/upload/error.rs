//! Why uploads do not go on.

use crate::tree::TreeError;
use cidery_core::{Digest, StoreError};
use cidery_unixfs::UnixfsError;
use std::time::Duration;
use thiserror::Error;

/// Why an upload did not go on.
#[derive(Debug, Error)]
pub enum UploadError {
    /// There are too many.
    #[error("{0} uploads are open, which is the limit")]
    TooMany(usize),
    /// Another request is at it.
    #[error("another request is writing to this upload")]
    Busy,
    /// It was committed or cancelled meanwhile.
    #[error("the upload has ended")]
    Ended,
    /// The chunk does not begin where the upload ends.
    #[error("the chunk begins at {offset}, but {received} bytes were received")]
    Offset {
        /// Where it begins.
        offset: u64,
        /// Where it should.
        received: u64,
    },
    /// The chunk has another length than it said. What came of it is kept.
    #[error("the chunk was to have {said} bytes, and has {took}")]
    Length {
        /// What it said, in bytes.
        said: u64,
        /// What it has.
        took: u64,
    },
    /// The body ended early; what came before is kept.
    #[error("the body ended before it was complete; {received} bytes were received")]
    Broken {
        /// Bytes of the upload that are here.
        received: u64,
        /// What the connection said.
        #[source]
        source: axum::Error,
    },
    /// The client sent next to nothing for too long; what came before is kept.
    #[error("the client sent nothing, or next to nothing, for {0:?}")]
    Stalled(Duration),
    /// The bytes have another digest. The upload is cancelled.
    #[error("the uploaded content has the digest {actual}, not {expected}")]
    Digest {
        /// What the client said.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The store failed. The upload can be resumed at the last leaf boundary.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored leaves could not be read again.
    #[error(transparent)]
    Unixfs(#[from] UnixfsError),
    /// The blob could not be linked.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A thread failed.
    #[error("a task of the registry failed")]
    Task(#[from] tokio::task::JoinError),
}
