//! What can go wrong with a tree. Errors keep their source and can be cloned, for single-flight callers.

use crate::wire::Defect;
use cidery_core::{Cid, FetchError, StoreError, dag::Malformed};
use std::{io, sync::Arc};
use thiserror::Error;

/// A tree cannot be read or written.
#[derive(Debug, Clone, Error)]
pub enum UnixfsError {
    /// A block could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A new block could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block's bytes are the right ones, but not a valid node.
    #[error("node {cid} is malformed: {defect}")]
    Malformed {
        /// The node.
        cid: Cid,
        /// What is wrong with it.
        #[source]
        defect: Defect,
    },
    /// A block whose links cannot be followed.
    #[error(transparent)]
    Links(Arc<Malformed>),
    /// Something else than a file stands where a file is needed.
    #[error("{cid} is not a file")]
    NotAFile {
        /// The node.
        cid: Cid,
    },
    /// Something else than a directory stands where a directory is needed.
    #[error("{cid} is not a directory")]
    NotADirectory {
        /// The node.
        cid: Cid,
    },
    /// A node of a kind or codec that is not read here.
    #[error("{cid} is of a kind that is not supported: {what}")]
    Unsupported {
        /// The node.
        cid: Cid,
        /// Its kind.
        what: &'static str,
    },
    /// More than the caller or this crate is willing to hold.
    #[error("{cid} has more than {limit} {what}")]
    TooMany {
        /// The node.
        cid: Cid,
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A name that cannot stand in a directory, or not on a disk.
    #[error("the name {name:?} cannot be used: {why}")]
    Name {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path with more components than are followed.
    #[error("a path has more than {limit} components")]
    Depth {
        /// How many are allowed.
        limit: usize,
    },
    /// Two names whose 64-bit hashes are equal cannot stand in one large directory.
    #[error("the name {name:?} has the same hash as another one in a large directory")]
    Collision {
        /// The name that came second.
        name: String,
    },
    /// A builder's saved state that is not understood.
    #[error("the saved state of a file cannot be used: {0}")]
    State(Defect),
    /// The file system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's word.
        #[source]
        source: Arc<io::Error>,
    },
}

impl UnixfsError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source: Arc::new(source) }
    }

    pub(crate) fn name(name: &str, why: &'static str) -> Self {
        Self::Name { name: name.chars().take(80).collect(), why }
    }
}

/// Gives a decoder's verdict the CID it is about.
pub(crate) trait About<T> {
    fn about(self, cid: &Cid) -> Result<T, UnixfsError>;
}

impl<T> About<T> for Result<T, Defect> {
    fn about(self, cid: &Cid) -> Result<T, UnixfsError> {
        self.map_err(|defect| UnixfsError::Malformed { cid: *cid, defect })
    }
}
