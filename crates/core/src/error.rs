//! What can go wrong behind each port. Errors keep their source; nobody parses their text.

use crate::{BlockError, Cid, Namespace};
use std::{io, sync::Arc, time::Duration};
use thiserror::Error;

/// The disk (or what stands for it) could not do what was asked. Clonable, because one failed
/// sync fails every commit that shared it.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// No room: the file system is full or a limit is reached. Reads go on.
    #[error("no space left for {what}")]
    Full {
        /// What was being written.
        what: &'static str,
    },
    /// A record whose checksum or header does not hold. It is not served.
    #[error("block {cid} is damaged on disk: {detail}")]
    Corrupt {
        /// The block.
        cid: Cid,
        /// What was found.
        detail: String,
    },
    /// Input or output failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the file's name.
        what: String,
        /// The system's word.
        #[source]
        source: Arc<io::Error>,
    },
    /// The index failed and could not be rebuilt.
    #[error("the index failed: {0}")]
    Index(String),
    /// The journal holds something that is not understood.
    #[error("the journal is not readable: {0}")]
    Journal(String),
    /// An earlier sync failed, so nothing later can be called durable. Reads go on.
    #[error("the store stopped taking writes after an earlier failure: {0}")]
    Poisoned(String),
}

impl StoreError {
    /// Wraps an I/O error; a full disk becomes [`StoreError::Full`].
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { what: "the data directory" },
            _ => Self::Io { what: what.into(), source: Arc::new(source) },
        }
    }
}

/// A root could not be committed.
#[derive(Debug, Clone, Error)]
pub enum CommitError {
    /// The namespace's root is not the expected one.
    #[error("the root of {namespace} changed meanwhile")]
    Conflict {
        /// The namespace.
        namespace: Namespace,
        /// Its root now.
        current: Option<Cid>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A pin could not be made, and nothing of it is kept.
#[derive(Debug, Clone, Error)]
pub enum PinError {
    /// Something that it keeps is not here.
    #[error("block {0} is not here")]
    Missing(Cid),
    /// Something that it keeps was deleted.
    #[error("{0} was deleted on this node")]
    Withdrawn(Cid),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A block could not be had.
#[derive(Debug, Clone, Error)]
pub enum FetchError {
    /// Nobody who was asked has it, and nobody more can be found; locally, it is not here.
    #[error("block {0} was not found")]
    NotFound(Cid),
    /// No first byte, or no progress, for this long.
    #[error("block {cid} did not arrive: no progress for {waited:?}")]
    Stalled {
        /// The block.
        cid: Cid,
        /// How long nothing came.
        waited: Duration,
    },
    /// The bytes that came are not the block.
    #[error(transparent)]
    Block(Arc<BlockError>),
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Closed,
}

impl From<BlockError> for FetchError {
    fn from(error: BlockError) -> Self {
        Self::Block(Arc::new(error))
    }
}

/// A name did not resolve to a root.
#[derive(Debug, Clone, Error)]
pub enum ResolveError {
    /// The name answers, but says nothing about a registry.
    #[error("{name} has no root: {detail}")]
    NotFound {
        /// The name.
        name: String,
        /// What to check, for the person who reads it.
        detail: String,
    },
    /// The name's records contradict each other or do not parse.
    #[error("the records of {name} cannot be used: {detail}")]
    Invalid {
        /// The name.
        name: String,
        /// Which record, and why.
        detail: String,
    },
    /// Nobody answered in time; the same name may resolve later.
    #[error("{name} could not be resolved now: {detail}")]
    Unavailable {
        /// The name.
        name: String,
        /// What was tried.
        detail: String,
    },
}

/// The network could not do what was asked.
#[derive(Debug, Clone, Error)]
pub enum NetworkError {
    /// An address, peer or key that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// It did not work out; it may later.
    #[error("{0}")]
    Failed(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Closed,
}
