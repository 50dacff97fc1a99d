//! The listener: bounded connections, of which those that have no place wait for one, and an orderly end.

use super::{
    connection::{Terms, stopped},
    tls::Tls,
};
use crate::{places::Places, registry::Inner};
use axum::Router;
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// How long requests may go on after the listener was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How long accepting rests when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// Connections that may wait for a place at once, or be told that there is none. Further ones are not accepted.
const LOBBY: usize = 128;

/// What the listener's connections share.
struct Host {
    terms: Terms,
    /// Places of connections that are served.
    places: Places,
}

/// Serves `app` until `shutdown`, then gives open requests a moment to finish.
pub async fn serve(
    registry: Arc<Inner>,
    app: Router,
    listener: TcpListener,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (limit, header) = (registry.config.max_connections, registry.config.header_timeout);
    let places = Places::new("connections", limit, registry.config.queue_timeout, registry.pressure.clone());
    let patience = registry.patience();
    let host = Arc::new(Host { terms: Terms { app, tls, header, patience }, places });
    let accepting = Arc::new(Semaphore::new(limit.saturating_add(LOBBY).min(Semaphore::MAX_PERMITS)));
    // Closed when the last connection is gone; its value turns true when they are to stop.
    let (stop, stopping) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = async {
                // Never closed while `accepting` is held here.
                let permit = accepting.clone().acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((listener.accept().await?, permit))
            } => accepted,
        };
        match accepted {
            Ok(((stream, peer), permit)) => {
                let (host, stopping) = (host.clone(), stopping.clone());
                tokio::spawn(async move {
                    host.admit(stream, peer, stopping).await;
                    drop(permit);
                });
            }
            // What concerns one connection, or passes when others end.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop((listener, stopping));
    // There may be nobody left to tell.
    let _ = stop.send(true);
    if tokio::time::timeout(GRACE, stop.closed()).await.is_err() {
        tracing::info!("requests that were still under way are cut off");
    }
    Ok(())
}

impl Host {
    async fn admit(&self, stream: TcpStream, peer: SocketAddr, mut stopping: watch::Receiver<bool>) {
        let place = tokio::select! {
            place = self.places.take() => place,
            // Nobody who has not been served yet is waited for.
            () = stopped(&mut stopping) => return,
        };
        match place {
            Some(_place) => self.terms.serve(stream, peer, stopping).await,
            None => self.terms.refuse(stream, peer).await,
        }
    }
}
