//! One session per root: the cache of [`ForeignRoot`]s.

use super::{ForeignRoot, Verdicts, root::Cache};
use crate::{config::Config, tree::NodeCache};
use cidery_core::{Cid, Namespace, Network, Resolved, RootStore, Scope, SessionSpec};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    root: Cid,
    path: Vec<String>,
    scope: Scope,
}

/// The foreign roots that were used lately.
pub struct Roots {
    network: Arc<dyn Network>,
    /// Tells which roots were once this node's own.
    own: Arc<dyn RootStore>,
    open: Mutex<HashMap<Key, Arc<ForeignRoot>>>,
    /// What the owner read. The public's sessions have none: what peers may see can be made private
    /// again, so the store is asked each time.
    owner: Arc<NodeCache>,
    verdicts: Arc<Verdicts>,
    config: Config,
}

impl Roots {
    /// With nothing open.
    pub fn new(network: Arc<dyn Network>, own: Arc<dyn RootStore>, verdicts: Arc<Verdicts>, config: &Config) -> Self {
        let owner = Arc::new(NodeCache::new(config.node_cache));
        Self { network, own, open: Mutex::default(), owner, verdicts, config: config.clone() }
    }

    /// The session for what a name stands for.
    pub fn open(&self, resolved: Resolved, scope: Scope) -> Arc<ForeignRoot> {
        let key = Key { root: resolved.root, path: resolved.path, scope };
        let mut open = self.open.lock();
        if let Some(root) = open.get(&key)
            && resolved.hints.iter().all(|hint| root.hints.contains(hint))
        {
            root.touch();
            return root.clone();
        }
        if open.len() >= self.config.max_sessions {
            // Those who use it keep it; it only is no longer found here.
            let oldest = open.iter().max_by_key(|(_, root)| root.idle()).map(|(key, _)| key.clone());
            oldest.and_then(|key| open.remove(&key));
        }
        let cache = match scope {
            _ if self.is_own(&key.root) => Cache::OwnRoot(self.own.clone()),
            Scope::Owner => Cache::Shared(self.owner.clone()),
            Scope::Public => Cache::Shared(Arc::new(NodeCache::none())),
        };
        let spec = SessionSpec { root: key.root, hints: resolved.hints.clone(), scope };
        let session = self.network.session(spec);
        let verdicts = self.verdicts.clone();
        let root = ForeignRoot::new(session, key.root, &key.path, resolved.hints, cache, verdicts, &self.config);
        let root = Arc::new(root);
        open.insert(key, root.clone());
        root
    }

    fn is_own(&self, root: &Cid) -> bool {
        let once = |namespace: &Namespace| {
            let history = self.own.history(namespace, usize::MAX).unwrap_or_default();
            history.iter().any(|entry| entry.cid == *root)
        };
        self.own.namespaces().unwrap_or_default().iter().any(once)
    }

    /// Ends the sessions that nobody used for a while.
    pub fn expire(&self) {
        let idle = |root: &Arc<ForeignRoot>| Arc::strong_count(root) == 1 && root.idle() >= self.config.session_idle;
        // Sessions end outside the lock.
        let ended: Vec<_> = {
            let mut open = self.open.lock();
            let keys: Vec<_> = open.iter().filter(|(_, root)| idle(root)).map(|(key, _)| key.clone()).collect();
            keys.iter().filter_map(|key| open.remove(key)).collect()
        };
        if !ended.is_empty() {
            tracing::debug!(count = ended.len(), "ended idle sessions");
        }
    }
}
