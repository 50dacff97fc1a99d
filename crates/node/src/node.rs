//! The handle.

use crate::{Config, StartError};
use async_trait::async_trait;
use cidery_core::{
    Blockstore, Cid, ForeignName, Namespace, Network, NetworkError, PublicBlocks, ResolveError, Resolved, Session,
    SessionSpec,
};
use std::sync::Arc;

/// A running node. Clones are the same node; it stops when the last handle and session are gone.
#[derive(Clone)]
pub struct Node {
    peer_id: Arc<str>,
}

impl Node {
    /// Starts a node; it is listening when this returns.
    pub async fn start(
        config: Config,
        _store: Arc<dyn Blockstore>,
        _public: Arc<dyn PublicBlocks>,
    ) -> Result<Node, StartError> {
        Ok(Self { peer_id: config.identity.peer_id().into() })
    }

    /// The node's peer id in base58.
    pub fn peer_id(&self) -> String {
        self.peer_id.to_string()
    }

    /// Where it can be dialled: multiaddrs ending in `/p2p/<peer id>`, loopback included.
    pub async fn addresses(&self) -> Vec<String> {
        Vec::new()
    }

    /// How many peers it is connected to.
    pub async fn peers(&self) -> usize {
        0
    }

    /// Connects to a peer once, and says whether that worked.
    pub async fn connect(&self, _addr: &str) -> Result<(), NetworkError> {
        Err(NetworkError::Closed)
    }

    /// Tells peers that wait for these blocks that they are here now.
    pub fn announce(&self, _cids: &[Cid]) {}

    /// Stops it; returns when its sockets are closed.
    pub async fn shutdown(&self) {}
}

#[async_trait]
impl Network for Node {
    fn session(&self, _spec: SessionSpec) -> Arc<dyn Session> {
        unreachable!("no swarm yet")
    }

    async fn resolve(&self, _name: &ForeignName) -> Result<Resolved, ResolveError> {
        unreachable!("no naming yet")
    }

    async fn provide(&self, _namespace: &Namespace, _roots: Vec<Cid>) -> Result<(), NetworkError> {
        Err(NetworkError::Closed)
    }
}
