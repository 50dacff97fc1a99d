//! What can go wrong with pins.

use crate::Error;
use cidery_core::{Cid, FetchError, NameError, StoreError};
use thiserror::Error;

/// A pin could not be made, or taken back.
#[derive(Debug, Error)]
pub enum PinError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The image could not be found, or fetched whole.
    #[error(transparent)]
    Image(#[from] Error),
    /// A block of the tree could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is no tree of files and directories, or not a sane one.
    #[error("{cid} cannot be pinned: {detail}")]
    Dag {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        detail: String,
    },
    /// What was fetched is not kept.
    #[error("{name} cannot be pinned")]
    NotKept {
        /// What was to be pinned.
        name: String,
        /// Why.
        source: cidery_core::PinError,
    },
    /// There is no such pin.
    #[error("{0} is not pinned: `cidery pin ls` shows what is")]
    NotPinned(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of the runtime failed.
    #[error("a task of the registry failed")]
    Task(#[from] tokio::task::JoinError),
}
