//! Why a node does not start.

use std::io;
use thiserror::Error;

/// A node could not start. The text says what to change.
#[derive(Debug, Error)]
pub enum StartError {
    /// Something else listens there.
    #[error("{address} is in use by another program: stop it, or choose another address to listen on")]
    InUse {
        /// The multiaddr that was asked for.
        address: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {detail}")]
    Listen {
        /// The multiaddr that was asked for.
        address: String,
        /// Why.
        detail: String,
    },
    /// A multiaddr in the configuration that is not one.
    #[error("{address:?} is not a multiaddr that can be used: {detail}")]
    Address {
        /// As it was given.
        address: String,
        /// Why not.
        detail: String,
    },
    /// The system lacks something the node needs.
    #[error("the node cannot start: {0}")]
    System(#[source] io::Error),
}
