//! The registry itself: what its handlers, its listener and its owner share.

use crate::{
    config::Config,
    error::{Error, OpenError},
    foreign::{ForeignRoot, Roots, Verdicts},
    http::{self, Tls},
    lacking::{self, Standing},
    names::{self, Named, Space},
    ops::{Observers, metrics::Metrics},
    patience::{Patience, Pressure},
    places::Places,
    retention,
    rules::TagRules,
    tree::{Blob, Snapshot, Tree},
    upload::{OpenUploads, Uploads},
};
use cidery_core::{
    Blockstore, Fetcher, Hold, NameError, Namespace, Network, ResolveError, RootStore, Scope, ports::LocalFetcher,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::Semaphore, task::spawn_blocking};

/// How often expired and idle uploads, and idle sessions, are looked for, at least.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Large manifests that may be in memory while they arrive.
const LARGE_MANIFESTS: usize = 16;

/// All repositories are looked through for blobs that no manifest names this long after a start …
const FIRST_WHOLE: Duration = Duration::from_secs(600);
/// … and then this often; those that lose a manifest at once.
const WHOLE: Duration = Duration::from_secs(24 * 3600);

/// A registry over a store and a network. Clones share it; the last one to go ends its housekeeping.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: Config,
    pub blocks: Arc<dyn Blockstore>,
    pub roots: Arc<dyn RootStore>,
    pub network: Arc<dyn Network>,
    pub trees: BTreeMap<Namespace, Tree>,
    /// Reads what is here and never reaches out.
    pub local: Arc<dyn Fetcher>,
    pub foreign: Roots,
    pub verdicts: Arc<Verdicts>,
    pub uploads: Arc<Uploads>,
    /// Searches for what own manifests name and nobody pushed.
    pub lacking: Semaphore,
    /// What became of what peers said then.
    pub standing: Arc<Standing>,
    /// The one run of retention.
    pub retaining: Semaphore,
    /// What it did.
    pub retained: retention::Tally,
    /// Places of blobs that are on their way to clients.
    pub downloads: Places,
    /// Places of manifests that are large, and in memory while they arrive.
    pub large_manifests: Places,
    /// Whether clients wait for what others have.
    pub pressure: Arc<Pressure>,
    pub metrics: Arc<Metrics>,
    draining: AtomicBool,
}

/// A repository, found by its full name.
pub(crate) struct Opened {
    pub named: Named,
    pub source: Source,
}

/// Where a repository is read.
pub(crate) enum Source {
    Owned(Tree),
    Foreign(Arc<ForeignRoot>),
}

impl Opened {
    /// The state to read, as of now.
    pub fn snapshot(&self) -> Snapshot {
        match &self.source {
            Source::Owned(tree) => tree.snapshot(),
            Source::Foreign(root) => root.snapshot.clone(),
        }
    }

    /// The state to read, which `hold` keeps whole if it is an owned namespace's.
    pub fn held_snapshot(&self, hold: &dyn Hold) -> Snapshot {
        loop {
            let snapshot = self.snapshot();
            let root = matches!(self.source, Source::Owned(_)).then(|| snapshot.root()).flatten();
            let Some(root) = root else { return snapshot };
            hold.keep_all(&root);
            // It may have been replaced, and a collection begun, before it was held.
            if self.snapshot().root() == Some(root) {
                return snapshot;
            }
        }
    }
}

impl Registry {
    /// Opens the trees of all owned namespaces and takes up saved uploads.
    ///
    /// # Errors
    /// [`OpenError`] when the store cannot be read.
    pub async fn open(
        config: Config,
        blocks: Arc<dyn Blockstore>,
        roots: Arc<dyn RootStore>,
        network: Arc<dyn Network>,
    ) -> Result<Self, OpenError> {
        let pressure = Pressure::new();
        let (uploads, stored) = {
            let (config, blocks, roots) = (config.clone(), blocks.clone(), roots.clone());
            let pressure = pressure.clone();
            spawn_blocking(move || {
                Ok::<_, OpenError>((Uploads::load(&config, pressure, blocks, roots.clone())?, roots.namespaces()?))
            })
            .await??
        };
        let mut trees = BTreeMap::new();
        let owned: BTreeSet<_> = stored.into_iter().chain(config.namespaces.iter().cloned()).collect();
        for namespace in owned.into_iter().chain([Namespace::local()]) {
            if trees.contains_key(&namespace) {
                continue;
            }
            let rules = config.tag_rules.clone();
            let tree = Tree::open_with(namespace.clone(), blocks.clone(), roots.clone(), rules).await;
            let tree = tree.map_err(|source| OpenError::Tree { namespace: namespace.clone(), source })?;
            trees.insert(namespace, tree);
        }
        let verdicts = Arc::new(Verdicts::new(blocks.clone()));
        let foreign = Roots::new(network.clone(), roots.clone(), verdicts.clone(), &config);
        let local: Arc<dyn Fetcher> = Arc::new(LocalFetcher(blocks.clone()));
        let standing = Arc::new(Standing::new(network.clone()));
        let lacking = Semaphore::new(lacking::AT_ONCE);
        let places = |what, limit| Places::new(what, limit, config.queue_timeout, pressure.clone());
        let downloads = places("downloads", config.max_downloads);
        let large_manifests = places("places of large manifests", LARGE_MANIFESTS);
        let inner = Inner {
            config,
            blocks,
            roots,
            network,
            trees,
            local,
            foreign,
            verdicts,
            uploads,
            lacking,
            standing,
            retaining: Semaphore::new(1),
            retained: retention::Tally::default(),
            downloads,
            large_manifests,
            pressure,
            metrics: Arc::default(),
            draining: AtomicBool::new(false),
        };
        let inner = Arc::new(inner);
        // Never so often that it would be work.
        let period = inner.config.session_idle.clamp(Duration::from_millis(100), HOUSEKEEPING);
        tokio::spawn(housekeeping(Arc::downgrade(&inner), period));
        if inner.config.tag_rules.has_retention() {
            tokio::spawn(retention::run(Arc::downgrade(&inner), inner.config.retention_period));
        }
        Ok(Self { inner })
    }

    /// The API without a listener. The extension `ConnectInfo<SocketAddr>` says who calls; without
    /// it the caller counts as this machine. [`Connection`](crate::Connection) says where he called, and whether
    /// that is encrypted.
    pub fn router(&self) -> axum::Router {
        http::router(self.inner.clone())
    }

    /// Serves HTTP/1.1 until `shutdown` resolves, then lets requests that are under way finish for
    /// a few seconds.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        self.serve_on(listener, None, shutdown).await
    }

    /// As [`Registry::serve`], but HTTP/1.1 and HTTP/2 over TLS.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve_tls(
        &self,
        listener: TcpListener,
        tls: Tls,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        self.serve_on(listener, Some(tls), shutdown).await
    }

    async fn serve_on(
        &self,
        listener: TcpListener,
        tls: Option<Tls>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let shutdown = async {
            shutdown.await;
            self.inner.draining.store(true, Relaxed);
        };
        let served = http::serve(self.inner.clone(), http::router(self.inner.clone()), listener, tls, shutdown).await;
        self.save_uploads().await;
        served
    }

    /// Serves `/healthz`, `/readyz` and `/metrics` alone, on a listener of their own, where anybody who reaches it
    /// may ask for metrics. Runs until `shutdown` resolves.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve_operations(
        &self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        http::serve(self.inner.clone(), http::operations(self.inner.clone()), listener, None, shutdown).await
    }

    /// Saves what open uploads received, so that the next start goes on at their last whole leaf.
    /// [`Registry::serve`] does it at its end; without it a restart may fall back by 64 MiB.
    pub async fn save_uploads(&self) {
        self.inner.uploads.save_now().await;
    }

    /// The uploads that are open now.
    pub fn open_uploads(&self) -> OpenUploads {
        self.inner.uploads.open()
    }

    /// Takes blobs that no manifest names out of all trees, and ends links that no manifest named within
    /// `age`, so that a collection can remove them. Done from time to time with [`Config::blob_expiry`].
    pub async fn tidy(&self, age: Duration) {
        self.inner.tidy(true, age).await;
    }

    /// The tree of an owned namespace.
    pub fn tree(&self, namespace: &Namespace) -> Option<Tree> {
        self.inner.trees.get(namespace).cloned()
    }

    /// Who is told of what is written: for what the owner does by other ways than HTTP.
    pub fn observers(&self) -> &Observers {
        &self.inner.config.observers
    }

    /// The rules about tags.
    pub fn tag_rules(&self) -> &TagRules {
        &self.inner.config.tag_rules
    }

    /// The namespaces this node owns, by name.
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.inner.trees.keys().cloned().collect()
    }
}

impl Inner {
    /// How long clients are borne with.
    pub fn patience(&self) -> Patience {
        Patience::new(self.config.stall_timeout, self.pressure.clone())
    }

    /// Whether it was told to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Makes links of blobs that lost their last manifest, and ends links that no manifest named within `age`.
    pub async fn tidy(&self, all: bool, age: Duration) {
        for tree in self.trees.values() {
            let unnamed = tree.unname_blobs(all).await;
            let expired = tree.expire_blobs(age).await;
            if let Err(error) = unnamed.and(expired) {
                tracing::warn!(namespace = %tree.namespace(), %error, "unused blobs could not be taken out");
            }
        }
    }

    /// Whether an own blob is here whole, as far as that is known. If not, it is to be pushed again.
    pub async fn has_whole(&self, blob: &Blob) -> Result<bool, Error> {
        if !self.blocks.knows_damage() {
            return Ok(true);
        }
        let (blocks, file) = (self.blocks.clone(), blob.cid);
        Ok(tokio::task::spawn_blocking(move || blocks.has_whole(&file)).await??)
    }

    /// Reads a full name by the rules of [`names`]. Touches nothing.
    pub fn name(&self, name: &str) -> Result<Named, NameError> {
        names::read(name, |namespace| self.trees.contains_key(namespace))
    }

    /// Finds what a name stands for. Only a foreign name reaches out.
    pub async fn open(&self, named: Named, scope: Scope) -> Result<Opened, ResolveError> {
        let source = match &named.space {
            Space::Owned(namespace) => match self.trees.get(namespace) {
                Some(tree) => Source::Owned(tree.clone()),
                None => {
                    // Names are only read as owned when there is a tree.
                    let (name, detail) = (namespace.to_string(), "it is not a namespace of this node".into());
                    return Err(ResolveError::NotFound { name, detail });
                }
            },
            Space::Foreign(name) => Source::Foreign(self.foreign.open(self.network.resolve(name).await?, scope)),
        };
        Ok(Opened { named, source })
    }
}

/// Ends when the registry is gone.
async fn housekeeping(registry: Weak<Inner>, period: Duration) {
    let mut next_whole = Instant::now() + FIRST_WHOLE;
    loop {
        tokio::time::sleep(period).await;
        let Some(registry) = registry.upgrade() else { return };
        registry.uploads.expire();
        registry.uploads.save_idle().await;
        let whole = Instant::now() >= next_whole;
        if whole {
            next_whole = Instant::now() + WHOLE;
        }
        registry.tidy(whole, registry.config.blob_expiry).await;
        registry.foreign.expire();
    }
}
