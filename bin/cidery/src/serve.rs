//! The node: opens store, swarm and registry, joins them, and runs until told to stop.

use crate::{
    commands::bar::{self, count},
    control::server::Control,
    ops::{around::Around, lines::Lines, records::Records, webhook::Source},
    publisher::{self, Publisher},
    settings::{Bootstrap, ServeSettings},
};
use anyhow::{Context, Result, bail};
use cidery_access::Access;
use cidery_blockstore::{DiskStore, Options};
use cidery_core::{Blockstore, Namespace, Network, PublicBlocks, RootStore};
use cidery_node::{Config as NodeConfig, Identity, Node};
use cidery_registry::{Config as RegistryConfig, Registry};
use std::{fs, io, net::SocketAddr, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
};

/// The file with the node's key, in the data directory.
pub const IDENTITY: &str = "identity";

/// The file with this node's own accounts, in the data directory.
pub const USERS: &str = "users";

/// The file with the key that bearer tokens are signed with, in the data directory.
pub const TOKEN_KEY: &str = "token-key";

/// How long requests that are under way may take to end after the first signal.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs the node; `requests` is the access log.
pub async fn run(mut settings: ServeSettings, requests: Option<Arc<Lines>>) -> Result<()> {
    crate::limits::raise_open_files();
    if let Err(error) = crate::allocator::keep_tidy() {
        tracing::debug!(%error, "memory is not given back");
    }
    let tls = match &settings.listener.tls {
        Some(files) => Some(files.open().await?),
        None => None,
    };
    // The port first: the likeliest thing to be wrong, and nothing is touched yet.
    let listener = TcpListener::bind(settings.http).await.with_context(|| in_use(settings.http))?;
    let monitoring = match settings.metrics {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| monitoring_in_use(address))?),
        None => None,
    };
    // Port 0 stands for whichever is free.
    settings.metrics = monitoring.as_ref().map(TcpListener::local_addr).transpose()?;
    let store = open_store(&settings).await?;
    let blocks: Arc<dyn Blockstore> = Arc::new(store.clone());
    let roots: Arc<dyn RootStore> = Arc::new(store.clone());
    let public: Arc<dyn PublicBlocks> = Arc::new(store.clone());

    let node = Node::start(node_config(&settings)?, blocks.clone(), public)
        .await
        .context("starting the swarm (--swarm, --peer and --bootstrap take multiaddrs like /ip4/192.0.2.7/tcp/4001)")?;
    let network: Arc<dyn Network> = Arc::new(node.clone());
    let accounts = settings.access.clone();
    let accounts = Arc::new(spawn_blocking(move || Access::open(accounts)).await?.context("the accounts")?);
    let source = Source { address: listener.local_addr()?.to_string(), instance: node.peer_id() };
    let records = Records::open(&settings, requests, source)?;
    records.reopen_on_hangup()?;
    let around = Around::new(node.clone(), store.clone(), records.clone());
    let config = registry_config(&settings, accounts.clone(), around, &records);
    let registry = Registry::open(config, blocks.clone(), roots.clone(), network.clone()).await?;
    node.answer_with(registry.digests(Arc::new(store.clone())));

    let announcer = Arc::new(Publisher::new(Namespace::local(), roots.clone(), network, blocks.clone()));
    let (stop, stopping) = watch::channel(false);
    let control = Control::bind(&settings.data)?;
    let address = listener.local_addr()?;
    introduce(&settings, address, &node, &store, &accounts).await;
    // Until the very end: it is what says that the node is stopping.
    let monitoring = monitoring.map(|listener| tokio::spawn(monitor(registry.clone(), listener)));

    if let Some(tree) = registry.tree(announcer.namespace()) {
        tokio::spawn(publisher::run(announcer.clone(), tree.roots()));
    }
    let state = crate::control::server::State {
        registry: registry.clone(),
        node: node.clone(),
        store: store.clone(),
        blocks,
        roots,
        publisher: announcer,
        data: settings.data.clone(),
        blob_expiry: settings.blob_expiry,
    };
    let control = tokio::spawn(control.serve(state, stopped(stopping.clone())));
    if let Some((files, tls)) = settings.listener.tls.clone().zip(tls.clone()) {
        tokio::spawn(async move {
            if let Err(error) = files.watch(tls).await {
                tracing::warn!(%error, "the TLS files are not watched: restart the node when they change");
            }
        });
    }
    let serving = async {
        match tls {
            Some(tls) => registry.serve_tls(listener, tls, stopped(stopping)).await,
            None => registry.serve(listener, stopped(stopping)).await,
        }
    };
    tokio::pin!(serving);

    let (mut signals, mut hurry) = (Signals::new()?, false);
    let result = tokio::select! {
        result = &mut serving => result.context("serving"),
        () = signals.next() => {
            tracing::info!("stopping: waiting for requests under way; a second signal stops at once");
            // Nobody listening any more is fine: then there is nothing to stop.
            let _ = stop.send(true);
            tokio::select! {
                result = tokio::time::timeout(DRAIN, &mut serving) => match result {
                    Ok(result) => result.context("serving"),
                    Err(_) => {
                        tracing::warn!("requests still under way after {DRAIN:?} were cut off");
                        Ok(())
                    }
                },
                () = signals.next() => {
                    hurry = true;
                    Ok(())
                }
            }
        }
    };
    control.abort();
    records.close(hurry).await;
    if let Some(monitoring) = monitoring {
        monitoring.abort();
    }
    node.shutdown().await;
    spawn_blocking(move || store.close()).await?.context("closing the store")?;
    result
}

async fn monitor(registry: Registry, listener: TcpListener) {
    if let Err(error) = registry.serve_operations(listener, std::future::pending()).await {
        tracing::error!(%error, "metrics are not served any more");
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A dropped sender means the same as the word.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn in_use(address: SocketAddr) -> String {
    format!(
        "cannot listen on {address} for the registry; if another program has it, choose another port, \
         e.g. --http 127.0.0.1:{}",
        address.port().checked_add(1).unwrap_or(5001)
    )
}

fn monitoring_in_use(address: SocketAddr) -> String {
    format!("cannot listen on {address} for metrics; if another program has it, choose another port with --metrics")
}

/// Makes the data directory, for this user only: it holds private images and a key.
pub fn make_data(data: &Path) -> Result<()> {
    if data.is_dir() {
        return Ok(());
    }
    if data.exists() {
        bail!("{} is not a directory: --data names one, made if it is not there", data.display());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("making the data directory {}", data.display()))
}

async fn open_store(settings: &ServeSettings) -> Result<DiskStore> {
    make_data(&settings.data)?;
    let data = settings.data.clone();
    let reserve = settings.reserve.map_or_else(|| cidery_blockstore::usual_reserve(&data), Ok);
    let options = Options {
        progress: Some(bar::rebuild()),
        cache_limit: settings.cache_limit,
        store_limit: settings.store_limit,
        reserve: reserve.with_context(|| format!("asking for the size of the disk that {} is on", data.display()))?,
        history: settings.history,
        beside: vec![IDENTITY.to_owned(), USERS.to_owned()],
        ..Default::default()
    };
    // What it finds wrong it logs.
    Ok(spawn_blocking(move || DiskStore::open(&data, options)).await??)
}

fn registry_config(settings: &ServeSettings, access: Arc<Access>, around: Around, records: &Records) -> RegistryConfig {
    settings.listener.apply(RegistryConfig {
        allowed_hosts: settings.hosts.clone(),
        access: Some(access),
        upload_expiry: settings.upload_expiry,
        blob_expiry: settings.blob_expiry,
        require_references: settings.require_references,
        require_platforms: settings.require_platforms.clone(),
        deletes: settings.deletes,
        read_only: settings.read_only,
        tag_rules: settings.tag_rules.clone(),
        surroundings: Some(Arc::new(around)),
        observers: records.observers(),
        ..Default::default()
    })
}

fn node_config(settings: &ServeSettings) -> Result<NodeConfig> {
    let path = settings.data.join(IDENTITY);
    let identity = Identity::load_or_create(&path).with_context(|| format!("the identity in {}", path.display()))?;
    Ok(NodeConfig {
        identity,
        listen: settings.swarm.clone(),
        peers: settings.peers.clone(),
        bootstrap: match &settings.bootstrap {
            Bootstrap::Default => cidery_node::Bootstrap::Default,
            Bootstrap::None => cidery_node::Bootstrap::None,
            Bootstrap::Addresses(list) => cidery_node::Bootstrap::Addresses(list.clone()),
        },
        mdns: settings.mdns,
        dns: settings.dns,
        limits: Default::default(),
    })
}

/// Says who it is, where it is, and what to type next.
async fn introduce(settings: &ServeSettings, http: SocketAddr, node: &Node, store: &DiskStore, access: &Access) {
    let stats = store.stats();
    let host = match http.ip() {
        // What listens everywhere listens here too.
        ip if ip.is_loopback() || ip.is_unspecified() => format!("localhost:{}", http.port()),
        _ => http.to_string(),
    };
    let data = match &settings.data {
        path if *path == crate::settings::default_data().unwrap_or_default() => String::new(),
        path => format!(" --data {}", path.display()),
    };
    println!("cidery {}", env!("CARGO_PKG_VERSION"));
    println!("  registry  {}://{http}", settings.listener.scheme());
    if let Some(address) = settings.metrics {
        println!("  metrics   http://{address}/metrics");
    }
    println!("  peer id   {}", node.peer_id());
    for address in node.addresses().await {
        println!("  address   {address}");
    }
    println!("  data      {}  ({})", settings.data.display(), count(stats.blocks, "block"));
    if access.is_required().await {
        match access.users() {
            0 => println!("  accounts  none: nobody can log in before `cidery user add NAME{data}`"),
            users => println!("  accounts  {users}  (docker login {host})"),
        }
        if !http.ip().is_loopback() && settings.listener.tls.is_none() && !access.is_insecure() {
            println!(
                "  note      passwords from other machines are taken over HTTPS only, unless insecure-auth = true"
            );
        }
    } else if !http.ip().is_loopback() {
        println!(
            "  note      whoever reaches {http} can pull every image here, unpublished ones too; pushes only from here"
        );
    }
    println!("Next: docker push {host}/hello:1, then `cidery publish{data}` to make it public.");
}

/// SIGINT and SIGTERM, one after the other.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
