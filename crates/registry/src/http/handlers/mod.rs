//! One file per resource.

pub mod base;
pub mod blobs;
pub mod catalog;
pub mod manifests;
pub mod referrers;
pub mod tags;
pub mod token;
pub mod uploads;

use super::{
    Context,
    fault::{ApiError, Fault},
    reply,
};
use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use cidery_core::Digest;

/// What is larger than this, which only manifests are, takes a place among the large ones while it arrives.
const SMALL: usize = 64 << 10;

/// Reads a digest that is part of a path.
fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: cidery_core::NameError| ApiError::new(Fault::DigestInvalid, error.to_string()))
}

/// A body of at most `limit` bytes; a longer one is refused with what `too_large` says. Those of all that arrive are
/// bounded together.
async fn read(cx: &Context, mut body: Body, limit: usize, too_large: impl Fn() -> ApiError) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    let stalled =
        |_| ApiError::new(Fault::ConnectionBroken, "the client sent nothing, or next to nothing, for too long");
    let (mut meter, mut place) = (cx.registry.patience().meter(), None);
    while let Some(frame) = meter.frame(&mut body).await.map_err(stalled)? {
        let frame = frame.map_err(|error| ApiError::from(Fault::ConnectionBroken).because(error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large());
        }
        if bytes.len() + data.len() > SMALL && place.is_none() {
            let full = || ApiError::new(Fault::TooManyUploads, "too many large manifests are being pushed");
            place = Some(cx.registry.large_manifests.take().await.ok_or_else(full)?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Whether `If-None-Match` says that the client has it (RFC 9110 §13.1.2).
fn client_has(headers: &HeaderMap, digest: &Digest) -> bool {
    let Some(condition) = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let etag = reply::etag(digest);
    condition.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}
