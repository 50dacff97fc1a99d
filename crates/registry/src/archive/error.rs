//! What can go wrong with an archive, in words for the person who reads them.

use crate::tree::TreeError;
use cidery_core::{Cid, Digest, FetchError, NameError, StoreError};
use cidery_unixfs::{UnixfsError, car};
use std::{io, sync::Arc};
use thiserror::Error;

/// Why an archive could not be written or read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// None of the kinds that are read.
    #[error("this is neither an OCI layout, a docker-archive nor a CAR: {found}")]
    Unrecognised {
        /// What was found instead.
        found: String,
    },
    /// The input ends in the middle of something.
    #[error("the archive is cut short: it ends inside {what}")]
    Truncated {
        /// What is incomplete.
        what: String,
    },
    /// A part that does not parse.
    #[error("{what} is malformed: {detail}")]
    Malformed {
        /// Which part.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A JSON document that does not parse.
    #[error("{what} is malformed: {source}")]
    Json {
        /// Which document.
        what: String,
        /// The parser's word.
        #[source]
        source: serde_json::Error,
    },
    /// An entry that no honest archive has.
    #[error("the entry {entry:?} is refused: {reason}")]
    Refused {
        /// Its name, shortened.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// More than is read or held in memory.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// What it is.
        what: String,
        /// The limit: bytes, or a count.
        limit: u64,
    },
    /// Content that is not what its name or a reference to it says.
    #[error("{what} should have the digest {expected}, and has {actual}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The digest it is known by.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// Content whose length is not the one that was stated.
    #[error("{what} should have {expected} bytes, and has {actual}")]
    SizeMismatch {
        /// Which content.
        what: String,
        /// Bytes stated.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// Parts of an image that are not there.
    #[error("{image} is incomplete: {} missing ({})", .missing.len(), shortened(.missing))]
    Missing {
        /// The image.
        image: String,
        /// Digests, or names of entries.
        missing: Vec<String>,
    },
    /// The archive says nothing an image could be called by.
    #[error("{what} has no name in the archive: give it one with --as NAME[:TAG]")]
    NeedsName {
        /// Which image.
        what: String,
    },
    /// One name for several images.
    #[error("the archive holds {count} images ({images}), which cannot all be {name}: leave out --as, or its tag")]
    Ambiguous {
        /// How many.
        count: usize,
        /// Their names.
        images: String,
        /// The name that was given.
        name: String,
    },
    /// There is no image to write or read.
    #[error("{image} does not exist here")]
    NotFound {
        /// The image.
        image: String,
    },
    /// The format cannot hold what was asked for.
    #[error("{0}")]
    Unsupported(String),
    /// An index without an image for a platform that can be run here.
    #[error("{image} has no image for {wanted}; it has {available}")]
    NoPlatform {
        /// The image.
        image: String,
        /// The platforms looked for.
        wanted: String,
        /// Those it has.
        available: String,
    },
    /// A name that is not valid here.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The CAR does not parse, or a block of it is not what its CID says.
    #[error(transparent)]
    Car(car::CarError),
    /// The CAR's root is no registry tree.
    #[error("the CAR's root {root} is {found}, not a registry tree; its blocks were kept as a cache")]
    NotARegistry {
        /// The root.
        root: Cid,
        /// What it is.
        found: String,
    },
    /// A block could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A UnixFS node is not what it must be.
    #[error(transparent)]
    Unixfs(Arc<UnixfsError>),
    /// The namespace's tree could not be read or changed.
    #[error(transparent)]
    Tree(Box<TreeError>),
    /// The input failed.
    #[error("the archive could not be read: {0}")]
    Read(#[source] io::Error),
    /// The output failed.
    #[error("the archive could not be written: {0}")]
    Write(#[source] io::Error),
}

impl ArchiveError {
    /// An error of the input, or of what stands between it and here.
    pub(super) fn from_input(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated { what: error.to_string() },
            Err(error) => Self::Read(error),
        }
    }

    pub(super) fn malformed(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), detail: detail.into() }
    }

    pub(super) fn json(what: &str, source: serde_json::Error) -> Self {
        Self::Json { what: what.into(), source }
    }
}

impl From<TreeError> for ArchiveError {
    fn from(error: TreeError) -> Self {
        Self::Tree(Box::new(error))
    }
}

impl From<UnixfsError> for ArchiveError {
    fn from(error: UnixfsError) -> Self {
        Self::Unixfs(Arc::new(error))
    }
}

/// At most six of them: a manifest can name thousands.
pub(super) fn shortened(items: &[String]) -> String {
    let mut text = items.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ");
    if items.len() > 6 {
        text.push_str(&format!(" and {} more", items.len() - 6));
    }
    text
}
