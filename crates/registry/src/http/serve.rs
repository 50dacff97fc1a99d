//! The listener: HTTP/1.1 over TCP, with bounded connections, heads that must come in time,
//! answers that must be taken in time, and an orderly end.

use super::{Connection, deadline::WriteDeadline, router};
use crate::registry::Inner;
use axum::extract::ConnectInfo;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tower::ServiceExt;

/// How long requests may go on after the listener was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How long accepting rests when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a client may keep a connection waiting.
#[derive(Clone, Copy)]
struct Times {
    /// Until a request's head is here.
    header: Duration,
    /// Without taking a byte of what is sent.
    stall: Duration,
}

/// Serves until `shutdown`, then gives open requests a moment to finish.
pub async fn serve(registry: Arc<Inner>, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(registry.config.max_connections));
    let times = Times { header: registry.config.header_timeout, stall: registry.config.stall_timeout };
    let app = router(registry);
    // Closed when the last connection is gone; its value turns true when they are to stop.
    let (stop, stopping) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = async {
                // Never closed while `permits` is held here.
                let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((listener.accept().await?, permit))
            } => accepted,
        };
        match accepted {
            Ok(((stream, peer), permit)) => {
                let (app, stopping) = (app.clone(), stopping.clone());
                tokio::spawn(async move {
                    connection(app, stream, ConnectInfo(peer), times, stopping).await;
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

async fn connection(
    app: axum::Router,
    stream: TcpStream,
    peer: ConnectInfo<std::net::SocketAddr>,
    times: Times,
    mut stopping: watch::Receiver<bool>,
) {
    // Small answers would wait for the acknowledgement of the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let here = stream.local_addr().map(|local| Connection { local, tls: false });
    let Ok(here) = here else { return tracing::debug!("a connection broke before it began") };
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(here);
        app.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.header)
        .serve_connection(WriteDeadline::new(TokioIo::new(stream), times.stall), service);
    let mut connection = pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            changed = stopping.changed(), if !told => {
                told = true;
                // An error means that the listener is gone, which is as good as being told.
                let _ = changed;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
