//! Posting to an endpoint, over HTTP or HTTPS.

use super::{config::Hook, envelope::MEDIA_TYPE};
use anyhow::{Context as _, Result, bail};
use axum::{
    body::Bytes,
    http::{HeaderValue, Request, StatusCode, header},
};
use cidery_node::Hosts;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};
use tower::Service;

/// What is read of an answer, so that its connection can be used again.
const MAX_ANSWER: usize = 64 << 10;
/// How long a connection waits for the next event.
const IDLE: Duration = Duration::from_secs(30);

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt may do better.
    Passing(String),
    /// The endpoint has read it, and does not want it.
    Refused(StatusCode),
}

/// One endpoint's client.
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    hook: Hook,
}

impl Client {
    /// Sends nothing yet.
    pub fn new(hook: Hook, hosts: Arc<Hosts>) -> Result<Self> {
        let mut http = HttpConnector::new_with_resolver(Resolver(hosts));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(hook.timeout));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls(&hook)?).https_or_http().enable_http1();
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(1).pool_timer(hyper_util::rt::TokioTimer::new());
        Ok(Self { http: builder.build(https.wrap_connector(http)), hook })
    }

    /// Posts one envelope.
    pub async fn post(&self, body: Bytes) -> Result<(), Failure> {
        match tokio::time::timeout(self.hook.timeout, self.attempt(body)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Passing(format!("no answer within {:?}", self.hook.timeout))),
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<(), Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = axum::http::Method::POST;
        *request.uri_mut() = self.hook.url.clone();
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        let agent = HeaderValue::from_static(concat!("cidery/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        request.headers_mut().extend(self.hook.headers.clone());
        let answer = self.http.request(request).await.map_err(|error| Failure::Passing(chain(&error)))?;
        let status = answer.status();
        // If there is more, the connection ends with it.
        let _ = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        match status {
            _ if status.is_success() => Ok(()),
            // What the event itself is to blame for; everything else somebody may be about to put right.
            StatusCode::BAD_REQUEST
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Refused(status)),
            _ => Err(Failure::Passing(format!("it answers {status}"))),
        }
    }
}

/// Trusts those that this machine trusts, and whom the hook names.
fn tls(hook: &Hook) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if hook.url.scheme_str() == Some("https") {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if let Some(path) = &hook.ca {
            let what = || format!("the certificates in {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(what)? {
                roots.add(certificate.with_context(what)?).with_context(what)?;
            }
        }
        if roots.is_empty() {
            bail!("this machine trusts nobody: install ca-certificates, or name a file with ca = \"FILE\"");
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

/// An error and what lies behind it: the first one alone says only that it failed.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Looks hosts up without the C library, which a static binary cannot use for that.
#[derive(Clone)]
struct Resolver(Arc<Hosts>);

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let hosts = self.0.clone();
        Box::pin(async move {
            let found = hosts.lookup(name.as_str()).await.map_err(io::Error::other)?;
            // The connector puts the port in.
            Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}
