//! Damaged blocks, from whoever has them.

use super::server::State;
use cidery_core::{Bytes, Cid, FetchError, Network, Scope, SessionSpec};
use cidery_node::Node;
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, time::timeout};

/// How long one block may take.
const WAIT: Duration = Duration::from_secs(10);
/// Waited so long in vain altogether, nobody is asked any more: a whole damaged pack must not take days.
const PATIENCE: Duration = Duration::from_secs(60);

/// The peers of this node, for work on another thread.
pub struct Peers {
    node: Node,
    handle: Handle,
    /// Who pulled this has more of what is here.
    published: Option<Cid>,
    in_vain: Mutex<Duration>,
}

impl Peers {
    pub fn new(state: &State, handle: &Handle) -> Self {
        let published = |namespace| state.roots.state(&namespace).ok()?.published.map(|publication| publication.root);
        let published = state.registry.namespaces().into_iter().find_map(published);
        Self { node: state.node.clone(), handle: handle.clone(), published, in_vain: Mutex::default() }
    }

    /// Fetches a block that cannot be read here. Blocks for a while.
    pub fn fetch(&self, cid: &Cid) -> Option<Bytes> {
        let mut in_vain = self.in_vain.lock().ok()?;
        if *in_vain >= PATIENCE {
            return None;
        }
        let started = Instant::now();
        let fetched = self.handle.block_on(async {
            // Nobody to ask, nor to ask who has it.
            if self.node.peers().await == 0 {
                return Ok(Err(FetchError::NotFound(*cid)));
            }
            let root = self.published.unwrap_or(*cid);
            let session = self.node.session(SessionSpec { root, hints: Vec::new(), scope: Scope::Owner });
            timeout(WAIT, session.fetch(cid)).await
        });
        match fetched {
            Ok(Ok(bytes)) => Some(bytes),
            Ok(Err(error)) => {
                tracing::debug!(%cid, %error, "nobody has a damaged block");
                *in_vain += started.elapsed();
                None
            }
            Err(_) => {
                *in_vain += started.elapsed();
                None
            }
        }
    }
}
