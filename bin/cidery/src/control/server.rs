//! The node's side of the control socket: the routes, and the short commands.

use super::{
    long, pin, retention,
    types::{Image, NamespaceStatus, PublishRequest, Published, Status, UnpublishRequest},
    upkeep, zone,
};
use crate::{line::one_line, publisher::Publisher};
use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::{self, DefaultBodyLimit},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cidery_blockstore::DiskStore;
use cidery_core::{Blockstore, Namespace, PublishMode, RootStore};
use cidery_node::Node;
use cidery_registry::{
    Registry,
    ops::{Action, Event, Origin, Target},
};
use std::{
    fs,
    future::Future,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UnixListener, task::spawn_blocking};

/// The most names a publication lists; the rest is pulled by the same pattern.
const LISTED: usize = 20;

/// What the handlers work with.
#[derive(Clone)]
pub struct State {
    pub registry: Registry,
    pub node: Node,
    pub store: DiskStore,
    pub blocks: Arc<dyn Blockstore>,
    pub roots: Arc<dyn RootStore>,
    pub publisher: Arc<Publisher>,
    /// The data directory.
    pub data: PathBuf,
    /// When a blob that no manifest names goes.
    pub blob_expiry: Duration,
}

/// The socket, bound and not yet served.
pub struct Control(UnixListener);

impl Control {
    /// Binds it. The caller holds the data directory's lock, so an old socket is a dead one's.
    pub fn bind(data: &Path) -> Result<Self> {
        let what = || format!("the control socket in {}", data.display());
        let (_directory, path) = super::socket_path(data).with_context(what)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(what),
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(what)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(what)?;
        Ok(Self(listener))
    }

    /// Serves until `stop`.
    pub async fn serve(self, state: State, stop: impl Future<Output = ()> + Send + 'static) {
        let routes = Router::new()
            .route("/status", get(status))
            .route("/images", get(images))
            .route("/publish", post(publish))
            .route("/unpublish", post(unpublish))
            .route("/pull", post(long::pull))
            .route("/pin/add", post(pin::add))
            .route("/pin/rm", post(pin::remove))
            .route("/pin/ls", get(pin::list))
            .route("/export", post(long::export))
            .route("/import", post(long::import))
            .route("/gc", post(upkeep::collect))
            .route("/retention", post(retention::run))
            .route("/backup", post(upkeep::backup))
            .route("/purge", post(upkeep::purge))
            .route("/du", post(upkeep::usage))
            .route("/scrub", post(upkeep::scrub))
            // Imports are streamed and as large as they are.
            .layer(DefaultBodyLimit::disable())
            .with_state(state);
        if let Err(error) = axum::serve(self.0, routes).with_graceful_shutdown(stop).await {
            tracing::error!("the control socket failed: {error}");
        }
    }
}

/// An error, as one line of text.
pub struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::UNPROCESSABLE_ENTITY, one_line(&self.0)).into_response()
    }
}

/// Something that a command did, now.
pub(super) fn by_command(action: Action, targets: Vec<Target>) -> Event {
    Event::new(action, targets, Origin::Control)
}

pub(super) type Answer<T> = Result<Json<T>, Failure>;

async fn status(extract::State(state): extract::State<State>) -> Answer<Status> {
    let (roots, blocks) = (state.roots.clone(), state.blocks.clone());
    let (namespaces, stats) = spawn_blocking(move || -> Result<_> {
        let mut names = roots.namespaces()?;
        if !names.contains(&Namespace::local()) {
            names.push(Namespace::local());
        }
        let row = |name: Namespace| -> Result<NamespaceStatus> {
            let state = roots.state(&name)?;
            Ok(NamespaceStatus {
                name: name.to_string(),
                root: state.root.map(|entry| entry.cid.to_string()),
                published: state.published.map(|publication| publication.root.to_string()),
            })
        };
        Ok((names.into_iter().map(row).collect::<Result<Vec<_>>>()?, blocks.stats()))
    })
    .await??;
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        peer_id: state.node.peer_id(),
        addresses: state.node.addresses().await,
        peers: state.node.peers().await,
        namespaces,
        blocks: stats.blocks,
        bytes: stats.bytes,
    }))
}

async fn images(extract::State(state): extract::State<State>) -> Answer<Vec<Image>> {
    let images = state.registry.images().await?.into_iter().map(|image| Image {
        name: image.name,
        digest: image.digest.map(|digest| digest.to_string()),
        bytes: image.bytes,
        pushed: humantime::format_rfc3339_seconds(image.pushed).to_string(),
        namespace: image.namespace.to_string(),
        missing: image.missing.iter().map(ToString::to_string).collect(),
        damaged: image.damaged,
    });
    Ok(Json(images.collect()))
}

async fn publish(
    extract::State(state): extract::State<State>,
    Json(request): Json<PublishRequest>,
) -> Answer<Published> {
    let namespace: Namespace = request.namespace.parse()?;
    let room = state.registry.observers().room().await?;
    let (roots, name, once) = (state.roots.clone(), namespace.clone(), request.once);
    let root = spawn_blocking(move || -> Result<_> {
        let entry = roots
            .state(&name)?
            .root
            .with_context(|| format!("namespace {name} has nothing to publish yet: push an image first"))?;
        roots.publish(&name, if once { PublishMode::Once(entry.cid) } else { PublishMode::Continuous })?;
        // A push may have come between; what is public is what the journal says now.
        Ok(roots.state(&name)?.published.map_or(entry.cid, |publication| publication.root))
    })
    .await??;
    room.tell(by_command(Action::Publish, vec![Target::named(namespace.as_str())]));
    state.publisher.announce().await?;
    let names = state.registry.image_names(&namespace, LISTED).await?;
    Ok(Json(Published {
        pull: names.iter().map(|name| format!("localhost:5000/{root}/{name}")).collect(),
        txt: zone::records("example.com", &root, &state.node.addresses().await),
        namespace: namespace.to_string(),
        root: root.to_string(),
        ipns: None,
    }))
}

async fn unpublish(extract::State(state): extract::State<State>, Json(request): Json<UnpublishRequest>) -> Answer<()> {
    let namespace: Namespace = request.namespace.parse()?;
    let room = state.registry.observers().room().await?;
    let (roots, name) = (state.roots.clone(), namespace.clone());
    spawn_blocking(move || -> Result<()> {
        if roots.state(&name)?.published.is_none() {
            anyhow::bail!("namespace {name} is not published");
        }
        Ok(roots.unpublish(&name)?)
    })
    .await??;
    room.tell(by_command(Action::Unpublish, vec![Target::named(namespace.as_str())]));
    state.publisher.announce().await?;
    Ok(Json(()))
}
