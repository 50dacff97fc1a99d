//! The HTTP API: checks, routes, handlers, replies.
//!
//! Every answer passes through [`dispatch`], so every answer has the API's version and a request id,
//! and every refusal, a panic included, is OCI error JSON.

mod activity;
mod auth;
mod connection;
mod cors;
mod deadline;
mod fault;
mod guard;
mod handlers;
mod leftover;
mod meter;
mod mode;
mod operations;
mod query;
mod range;
mod reply;
mod route;
mod serve;
mod telling;
mod tls;

use crate::{
    registry::{Inner, Opened, Source},
    tree::{Tree, TreeError},
};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    response::Response,
};
use cidery_access::Principal;
use cidery_core::{FetchError, Namespace, RepositoryName, ResolveError};
use cidery_unixfs::UnixfsError;
use fault::{ApiError, Fault, Reply};
use futures::FutureExt;
use guard::Caller;
use hyper::body::Incoming;
use meter::{Meter, Seen};
use query::Query;
use route::Route;
use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

pub use connection::Connection;
pub use cors::{Origin, OriginError};
pub use operations::router as operations;
pub use route::TOKEN;
pub use serve::serve;
pub use tls::{ClientCertificates, Credentials, Tls, TlsError};

/// Longest path and query: a name, two digests and a page's parameters fit many times.
const MAX_URI: usize = 4096;

/// Most bytes of request headers.
const MAX_HEADERS: usize = 32 << 10;

/// The API as a service.
pub fn router(registry: Arc<Inner>) -> Router {
    let pages = (!registry.config.cors.is_empty()).then(|| cors::layer(&registry.config.cors));
    Router::new().fallback(dispatch).with_state(registry).layer(tower::util::option_layer(pages))
}

/// What a handler knows of a request besides its route and body.
struct Context {
    registry: Arc<Inner>,
    caller: Caller,
    /// Who it is; `None` as long as nobody has to log in.
    who: Option<Principal>,
    method: Method,
    headers: HeaderMap,
    query: Query,
    /// The request's id.
    id: u64,
    /// The connection's other end.
    address: Option<SocketAddr>,
}

async fn dispatch(State(registry): State<Arc<Inner>>, request: Request) -> Response {
    let number = rand::random::<u64>();
    let id = format!("{number:016x}");
    // A panic spoils nothing that a later request sees: state is behind locks that are not poisoned,
    // and uploads fall back to their last saved state.
    let (meter, request) = Meter::begin(&registry, request, number);
    let answer = AssertUnwindSafe(answer(registry, request, number, meter.seen())).catch_unwind().await;
    let response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.respond(&id),
        Err(_) => ApiError::new(Fault::Internal, "a request panicked").respond(&id),
    };
    meter.answered(marked(response, &id))
}

/// The answer to a client that is not served.
fn refused(request: hyper::Request<Incoming>, fault: Fault) -> Response {
    let (parts, body) = request.into_parts();
    drop(leftover::drained(&parts.headers, Body::new(body)));
    let id = request_id();
    marked(ApiError::from(fault).respond(&id), &id)
}

fn request_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Adds what every answer has.
fn marked(mut response: Response, id: &str) -> Response {
    let headers = response.headers_mut();
    let version = HeaderName::from_static("docker-distribution-api-version");
    headers.insert(version, HeaderValue::from_static("registry/2.0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

async fn answer(registry: Arc<Inner>, request: Request, id: u64, seen: &Seen) -> Reply {
    let (parts, body) = request.into_parts();
    let body = leftover::drained(&parts.headers, body);
    check_sizes(&parts.uri, &parts.headers)?;
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
    let config = &registry.config;
    let caller = Caller::of(&parts, config.access.as_deref());
    caller.forwarded.into_iter().for_each(|address| seen.client(address));
    guard::check_headers(&caller, &parts.uri, &parts.headers, &config.allowed_hosts, &config.cors)?;
    // Before anybody is asked who he is: what watches a node has no account.
    if let Some(reply) = operations::beside(&registry, &caller, &parts.method, parts.uri.path(), seen).await {
        return reply;
    }
    let route = Route::parse(parts.uri.path())?;
    seen.endpoint(route.endpoint());
    let who = auth::identify(&registry, &caller, &parts.headers, &route).await?;
    match &who {
        Some(who) => seen.principal(who),
        None => caller.check_method(&parts.method)?,
    }
    mode::check(&registry.config, &route, &parts.method)?;
    let query = Query::of(&parts.uri);
    let (method, headers) = (parts.method, parts.headers);
    let cx = Context { registry, caller, who, method, headers, query, id, address };
    auth::authorize(&cx, &route)?;
    let reply = route_to(&cx, route, body).await;
    reply.iter().filter_map(|response| response.extensions().get()).for_each(|who| seen.principal(who));
    reply
}

async fn route_to(cx: &Context, route: Route, body: Body) -> Reply {
    let allow = route.allow();
    let method = cx.method.clone();
    match (route, &method) {
        (Route::Token, &Method::GET) => handlers::token::get(cx),
        (Route::Token, &Method::POST) => handlers::token::post(cx, body).await,
        (Route::Base, &Method::GET | &Method::HEAD) => handlers::base::get(),
        (Route::Catalog, &Method::GET | &Method::HEAD) => handlers::catalog::get(cx).await,
        (Route::Tags { name }, &Method::GET | &Method::HEAD) => handlers::tags::get(cx, &name).await,
        (Route::Referrers { name, digest }, &Method::GET | &Method::HEAD) => {
            handlers::referrers::get(cx, &name, &digest).await
        }
        (Route::Manifest { name, reference }, &Method::GET | &Method::HEAD) => {
            handlers::manifests::get(cx, &name, &reference).await
        }
        (Route::Manifest { name, reference }, &Method::PUT) => {
            handlers::manifests::put(cx, &name, &reference, body).await
        }
        (Route::Manifest { name, reference }, &Method::DELETE) => {
            handlers::manifests::delete(cx, &name, &reference).await
        }
        (Route::Blob { name, digest }, &Method::GET | &Method::HEAD) => handlers::blobs::get(cx, &name, &digest).await,
        (Route::Blob { name, digest }, &Method::DELETE) => handlers::blobs::delete(cx, &name, &digest).await,
        (Route::Uploads { name }, &Method::POST) => handlers::uploads::start(cx, &name, body).await,
        (Route::Upload { name, id }, &Method::GET) => handlers::uploads::status(cx, &name, &id).await,
        (Route::Upload { name, id }, &Method::PATCH) => handlers::uploads::append(cx, &name, &id, body).await,
        (Route::Upload { name, id }, &Method::PUT) => handlers::uploads::finish(cx, &name, &id, body).await,
        (Route::Upload { name, id }, &Method::DELETE) => handlers::uploads::cancel(cx, &name, &id).await,
        _ => Err(ApiError::from(Fault::MethodNotAllowed).with(header::ALLOW, HeaderValue::from_static(allow))),
    }
}

fn check_sizes(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    if uri.path().len() + uri.query().map_or(0, str::len) > MAX_URI {
        return Err(Fault::UriTooLong.into());
    }
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > MAX_HEADERS {
        return Err(Fault::HeadersTooLarge.into());
    }
    Ok(())
}

impl Context {
    /// Finds a repository to read. Only a foreign name reaches out.
    async fn read(&self, name: &str) -> Result<Opened, ApiError> {
        let named = self.registry.name(name)?;
        let rule = named.rule;
        self.registry.open(named, auth::scope(self)).await.map_err(|error| match error {
            ResolveError::Unavailable { .. } => error.into(),
            _ => ApiError::new(Fault::NameUnknown, format!("{error} ({name} was read by {rule})")),
        })
    }

    /// Finds a repository to write. Names that are somebody else's are refused.
    fn write(&self, name: &str) -> Result<(Namespace, Tree, RepositoryName), ApiError> {
        let named = self.registry.name(name)?;
        let tree = match &named.space {
            crate::names::Space::Owned(namespace) => {
                self.registry.trees.get(namespace).map(|tree| (namespace.clone(), tree.clone()))
            }
            crate::names::Space::Foreign(_) => None,
        };
        let (namespace, tree) = tree.ok_or_else(|| {
            let (space, rule) = (&named.space, named.rule);
            let message =
                format!("{space} is not a namespace of this node ({rule}): it can be pulled from, not written");
            ApiError::new(Fault::Denied, message)
        })?;
        Ok((namespace, tree, named.repository))
    }
}

/// A failure to read a tree: damage in one of this node's own is its own fault; in somebody else's
/// it is an answer. `missing` is what a block that nobody has means here.
fn unreadable(opened: &Opened, missing: Fault, error: TreeError) -> ApiError {
    if matches!(opened.source, Source::Owned(..)) {
        return match error {
            TreeError::Store(error) => error.into(),
            TreeError::Closed => error.into(),
            error => ApiError::from(Fault::Internal).because(error),
        };
    }
    match &error {
        TreeError::TooLarge { .. } | TreeError::DigestMismatch { .. } | TreeError::ManifestInvalid(_) => {
            ApiError::from(Fault::TreeMalformed).because(error)
        }
        TreeError::Fetch(fetch) => unfetched(opened, missing, fetch.clone()),
        TreeError::Unixfs(UnixfsError::Fetch(fetch)) => unfetched(opened, missing, fetch.clone()),
        _ => error.into(),
    }
}

/// As [`unreadable`], for a blob's file.
fn unreadable_file(opened: &Opened, missing: Fault, error: UnixfsError) -> ApiError {
    unreadable(opened, missing, TreeError::from(error))
}

fn unfetched(opened: &Opened, missing: Fault, error: FetchError) -> ApiError {
    match error {
        FetchError::NotFound(_) => {
            let (space, rule) = (&opened.named.space, opened.named.rule);
            ApiError::new(missing, format!("{error}: nobody who was asked for {space} has it (read by {rule})"))
        }
        error => error.into(),
    }
}
