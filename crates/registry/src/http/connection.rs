//! One connection: TLS if there is any, then HTTP/1.1 or HTTP/2, with an end to everything that could wait
//! for its client for ever.

use super::{
    MAX_HEADERS,
    activity::{Activity, Verdict, Watched},
    deadline::WriteDeadline,
    fault::Fault,
    refused,
    tls::{H2, Tls},
};
use crate::patience::Patience;
use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use socket2::SockRef;
use std::{convert::Infallible, fmt, io, net::SocketAddr, pin::pin, time::Duration};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

/// How long a client that is only told why it is not served may take to ask and to read the answer.
const REFUSAL: Duration = Duration::from_secs(5);

/// How long a TLS handshake may take, unless a request's head must come even sooner.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the requests of an HTTP/2 connection that was told to end may go on.
const LEAVING: Duration = Duration::from_secs(10);

/// Requests that one HTTP/2 connection may have open; clients keep further ones to themselves.
const STREAMS: u32 = 32;

/// What may be on its way to this side without having been read, of one request and of all of a connection.
const WINDOWS: (u32, u32) = (1 << 20, 2 << 20);

/// What hyper keeps of one answer.
const SEND_BUFFER: usize = 256 << 10;

/// The first byte of a TLS record that begins a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// What hyper keeps of a head before it answers 431 by itself; less than that gets an answer in JSON.
const HEAD_BUFFER: usize = 2 * MAX_HEADERS;

/// What is known of a connection besides its other end, which is `ConnectInfo<SocketAddr>`: an extension of every
/// request that came over a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// Whether it is encrypted, up to here.
    pub tls: bool,
}

impl Connection {
    /// Whether nobody in between can read what is sent.
    pub fn is_private(self) -> bool {
        self.tls || self.local.ip().to_canonical().is_loopback()
    }
}

/// What connections have in common.
pub struct Terms {
    pub app: Router,
    pub tls: Option<Tls>,
    /// How long a request's head may take.
    pub header: Duration,
    pub patience: Patience,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// HTTP where TLS was expected.
    NotTls(TcpStream),
}

impl Terms {
    /// Serves a connection to its end.
    pub async fn serve(&self, stream: TcpStream, peer: SocketAddr, mut stopping: watch::Receiver<bool>) {
        let local = match stream.local_addr() {
            Ok(local) => local,
            Err(error) => return tracing::debug!(%peer, %error, "a connection broke before it began"),
        };
        let (plain, secure) = (Connection { local, tls: false }, Connection { local, tls: true });
        let transport = tokio::select! {
            transport = self.accept(stream) => transport,
            // There is nothing under way yet.
            () = stopped(&mut stopping) => return,
        };
        match transport {
            Ok(Transport::Plain(stream)) => self.http1(stream, peer, plain, stopping).await,
            Ok(Transport::Tls(stream)) if stream.get_ref().1.alpn_protocol() == Some(H2) => {
                self.http2(*stream, peer, secure, stopping).await;
            }
            Ok(Transport::Tls(stream)) => self.http1(*stream, peer, secure, stopping).await,
            Ok(Transport::NotTls(stream)) => tell(stream, Fault::NotTls).await,
            Err(error) => tracing::debug!(%peer, %error, "a TLS connection was not made"),
        }
    }

    /// Tells a client that there is no room for it.
    pub async fn refuse(&self, stream: TcpStream, peer: SocketAddr) {
        match self.accept(stream).await {
            Ok(Transport::Plain(stream)) => tell(stream, Fault::Overloaded).await,
            Ok(Transport::Tls(stream)) if stream.get_ref().1.alpn_protocol() == Some(H2) => {
                tell_http2(*stream, Fault::Overloaded).await;
            }
            Ok(Transport::Tls(stream)) => tell(*stream, Fault::Overloaded).await,
            Ok(Transport::NotTls(stream)) => tell(stream, Fault::NotTls).await,
            Err(error) => tracing::debug!(%peer, %error, "a TLS connection was not made"),
        }
    }

    async fn accept(&self, stream: TcpStream) -> io::Result<Transport> {
        // Small answers would wait for the acknowledgement of the ones before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        // What a client does not take stays with the kernel, for longer than the connection lasts here.
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(self.patience.stall() * 2)) {
            tracing::debug!(%error, "TCP_USER_TIMEOUT could not be set");
        }
        let Some(tls) = &self.tls else { return Ok(Transport::Plain(stream)) };
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if first != [TLS_HANDSHAKE] {
                return Ok(Transport::NotTls(stream));
            }
            Ok(Transport::Tls(Box::new(tls.acceptor().accept(stream).await?)))
        };
        tokio::time::timeout(self.header.min(HANDSHAKE), handshake).await?
    }

    async fn http1<S>(&self, stream: S, peer: SocketAddr, here: Connection, stopping: watch::Receiver<bool>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let app = self.app.clone();
        let service = service_fn(move |request| app.clone().oneshot(marked(request, peer, here)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header)
            .max_header_size(HEAD_BUFFER)
            .serve_connection(WriteDeadline::new(TokioIo::new(stream), &self.patience), service);
        drive(connection, stopping, std::future::pending()).await;
    }

    async fn http2(
        &self,
        stream: TlsStream<TcpStream>,
        peer: SocketAddr,
        here: Connection,
        stopping: watch::Receiver<bool>,
    ) {
        let (app, activity) = (self.app.clone(), Activity::new());
        let requests = activity.clone();
        let service = service_fn(move |request| {
            let (app, open) = (app.clone(), requests.begin());
            async move {
                let response = app.oneshot(marked(request, peer, here)).await?;
                Ok::<_, Infallible>(response.map(|body| Watched::new(body, open)))
            }
        });
        let connection =
            http2_builder().serve_connection(WriteDeadline::new(TokioIo::new(stream), &self.patience), service);
        let (idle, patience) = (self.header, self.patience.clone());
        let ended = async move {
            let mut tick = tokio::time::interval(patience.tick().min(idle / 4).max(Duration::from_millis(1)));
            loop {
                tick.tick().await;
                match activity.verdict(idle, &patience) {
                    Verdict::Busy => {}
                    verdict => return verdict,
                }
            }
        };
        drive(connection, stopping, ended).await;
    }
}

/// Until this side is to stop.
pub async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the listener is gone, which is as good as being told.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEAD_BUFFER as u32);
    builder
}

fn marked(request: Request<Incoming>, peer: SocketAddr, here: Connection) -> Request<Body> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(here);
    request
}

/// Runs a connection to its end. When this side is stopping, or nobody asks for anything, it ends with
/// the requests that are open; when a client holds an answer back it ends now.
async fn drive<C>(connection: C, mut stopping: watch::Receiver<bool>, ended: impl Future<Output = Verdict>)
where
    C: GracefulConnection,
    C::Error: fmt::Display,
{
    let mut connection = pin!(connection);
    let mut ended = pin!(ended);
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
            verdict = &mut ended => {
                if verdict == Verdict::Stuck {
                    tracing::debug!("a client took nothing of an answer, and was cut off");
                    return;
                }
                connection.as_mut().graceful_shutdown();
                // However it ends, it is over.
                let _ = tokio::time::timeout(LEAVING, connection).await;
                return;
            }
        }
    }
}

/// Answers the first request with a refusal, and ends.
async fn tell<S>(stream: S, fault: Fault)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let service =
        service_fn(move |request: Request<Incoming>| async move { Ok::<_, Infallible>(refused(request, fault)) });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_header_size(HEAD_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    brief(connection).await;
}

async fn tell_http2(stream: TlsStream<TcpStream>, fault: Fault) {
    let service =
        service_fn(move |request: Request<Incoming>| async move { Ok::<_, Infallible>(refused(request, fault)) });
    brief(http2_builder().serve_connection(TokioIo::new(stream), service)).await;
}

async fn brief<E: fmt::Display>(connection: impl Future<Output = Result<(), E>>) {
    if let Ok(Err(error)) = tokio::time::timeout(REFUSAL, connection).await {
        tracing::debug!(%error, "a connection broke before it was refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::Credentials, patience::Pressure};
    use axum::Extension;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsConnector,
        rustls::{
            ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, pem::PemObject},
        },
    };

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

    async fn said(Extension(here): Extension<Connection>) -> String {
        format!("{} {}", here.local.ip(), if here.tls { "tls" } else { "plain" })
    }

    /// A connection to a listener that answers whether it came over TLS.
    async fn connected(tls: Option<Tls>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let patience = Patience::new(Duration::from_secs(10), Pressure::new());
        let terms = Terms { app: Router::new().fallback(said), tls, header: Duration::from_secs(10), patience };
        let (stream_here, peer) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (_stop, stopping) = watch::channel(false);
            terms.serve(stream_here, peer, stopping).await;
        });
        stream
    }

    #[tokio::test]
    async fn requests_know_whether_they_came_over_tls() {
        let mut plain = connected(None).await;
        plain.write_all(ASK).await.unwrap();
        let mut text = String::new();
        plain.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("127.0.0.1 plain"), "{text}");

        let authority = cidery_tests::certificates::Authority::new("ca");
        let pair = authority.server();
        let (chain, key) = (pair.cert.into(), pair.key.into());
        let stream = connected(Some(Tls::new(&Credentials { chain, key, clients: None }).unwrap())).await;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(std::sync::Arc::new(client));
        let mut secure = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        secure.write_all(ASK).await.unwrap();
        let mut text = String::new();
        secure.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("127.0.0.1 tls"), "{text}");
    }
}
