//! `/healthz`, `/readyz` and `/metrics`: beside the API, and on a port of their own if wished.

use super::{
    fault::{ApiError, Fault, Reply},
    guard::{self, Caller},
    meter::Seen,
};
use crate::{
    ops::{Ailment, Reading, exposition, labels::Endpoint},
    registry::Inner,
};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How long what is around the registry may take to say how it is: a disk that hangs is an answer too.
const PATIENCE: Duration = Duration::from_secs(3);

/// Them alone, for a listener of their own: whoever reaches it may ask for metrics.
pub fn router(registry: Arc<Inner>) -> Router {
    Router::new().fallback(dispatch).with_state(registry)
}

async fn dispatch(State(registry): State<Arc<Inner>>, request: Request) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
    let caller = Caller::at(address);
    let config = &registry.config;
    let checked = guard::check_headers(&caller, request.uri(), request.headers(), &config.allowed_hosts, &config.cors);
    let (method, path) = (request.method(), request.uri().path());
    let answer = match (checked, Endpoint::beside(path)) {
        (Err(error), _) => Err(error),
        (_, None) => Err(Fault::NotFound.into()),
        (_, Some(endpoint)) => answer(&registry, true, method, endpoint).await,
    };
    answer.unwrap_or_else(|error| error.respond("-"))
}

impl Endpoint {
    /// What a path beside the API stands for.
    pub fn beside(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// Answers what is asked beside the API on the API's own listener: metrics only to callers on this machine.
pub async fn beside(registry: &Inner, caller: &Caller, method: &Method, path: &str, seen: &Seen) -> Option<Reply> {
    let endpoint = Endpoint::beside(path)?;
    seen.endpoint(endpoint);
    Some(answer(registry, caller.loopback, method, endpoint).await)
}

async fn answer(registry: &Inner, may_measure: bool, method: &Method, endpoint: Endpoint) -> Reply {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let allow = HeaderValue::from_static("GET, HEAD");
        return Err(ApiError::from(Fault::MethodNotAllowed).with(header::ALLOW, allow));
    }
    let mut response = match endpoint {
        Endpoint::Health => plain(StatusCode::OK, "application/json", json!({ "status": "ok" }).to_string()),
        Endpoint::Ready => ready(registry.ailments().await),
        Endpoint::Metrics if may_measure => metrics(registry).await?,
        Endpoint::Metrics => {
            let message = "metrics are given to callers on this machine only; \
                           `cidery serve --metrics ADDR:PORT` opens a port for others";
            return Err(ApiError::new(Fault::Denied, message));
        }
        _ => return Err(Fault::NotFound.into()),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if *method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    Ok(response)
}

fn ready(ailments: Vec<Ailment>) -> Response {
    let status = if ailments.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ailments.is_empty(), "reasons": ailments });
    plain(status, "application/json", body.to_string())
}

async fn metrics(registry: &Inner) -> Reply {
    let text = exposition::text(&registry.metrics, registry.readings().await);
    let text = text.map_err(|error| ApiError::from(Fault::Internal).because(error))?;
    Ok(plain(StatusCode::OK, exposition::MEDIA_TYPE, text))
}

fn plain(status: StatusCode, media_type: &'static str, body: String) -> Response {
    let mut response = (status, Body::from(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

impl Inner {
    /// Why this registry should get no requests now.
    async fn ailments(&self) -> Vec<Ailment> {
        let mut ailments = Vec::new();
        if self.is_draining() {
            ailments.push(Ailment::new("draining", "the node is stopping: it ends the requests it has"));
        }
        if let Some(around) = &self.config.surroundings {
            match tokio::time::timeout(PATIENCE, around.ailments()).await {
                Ok(found) => ailments.extend(found),
                Err(_) => ailments.push(Ailment::new("stalled", "the disk does not answer")),
            }
        }
        ailments
    }

    async fn readings(&self) -> Vec<Reading> {
        let mut readings = vec![
            Reading::gauge("cidery_uploads_in_flight", "Uploads that are open", self.uploads.count() as u64),
            Reading::gauge("cidery_draining", "1 while the node is stopping", self.is_draining().into()),
        ];
        readings.extend(self.standing.readings());
        if self.config.tag_rules.has_retention() {
            readings.extend(self.retained.readings());
        }
        if let Some(around) = &self.config.surroundings {
            // Its numbers are missing then, and the scrape is not.
            match tokio::time::timeout(PATIENCE, around.readings()).await {
                Ok(found) => readings.extend(found),
                Err(_) => tracing::warn!("store and swarm did not give their numbers in time"),
            }
        }
        readings
    }
}
