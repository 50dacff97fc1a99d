//! One file per resource.

pub mod base;
pub mod blobs;
pub mod catalog;
pub mod manifests;
pub mod referrers;
pub mod tags;
pub mod uploads;

use super::{
    fault::{ApiError, Fault},
    reply,
};
use axum::http::{HeaderMap, header};
use cidery_core::Digest;

/// Reads a digest that is part of a path.
fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: cidery_core::NameError| ApiError::new(Fault::DigestInvalid, error.to_string()))
}

/// Whether `If-None-Match` says that the client has it (RFC 9110 §13.1.2).
fn client_has(headers: &HeaderMap, digest: &Digest) -> bool {
    let Some(condition) = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let etag = reply::etag(digest);
    condition.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}
