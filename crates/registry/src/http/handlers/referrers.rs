//! `/v2/<name>/referrers/<digest>`: never 404 for a valid digest.

use super::digest;
use crate::http::{
    Context,
    fault::{Fault, Reply},
    reply, unreadable,
};
use axum::response::IntoResponse;

/// The manifests whose subject is the digest, as an index.
pub async fn get(cx: &Context, name: &str, subject: &str) -> Reply {
    let subject = digest(subject)?;
    let opened = cx.read(name).await?;
    let wanted = cx.query.get("artifactType");
    let found = opened.snapshot().referrers(&opened.named.repository, &subject, wanted).await;
    let manifests = found.map_err(|error| unreadable(&opened, Fault::NameUnknown, error))?;
    Ok(reply::Referrers { manifests, filtered: wanted.is_some() }.into_response())
}
