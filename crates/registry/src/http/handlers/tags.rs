//! `/v2/<name>/tags/list`

use crate::http::{
    Context,
    fault::{ApiError, Fault, Reply},
    query::{Page, encode},
    reply, unreadable,
};
use axum::response::IntoResponse;
use cidery_core::Tag;
use serde::Serialize;

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: &'a [Tag],
}

/// One page of tags, in byte order.
pub async fn get(cx: &Context, name: &str) -> Reply {
    let Page { n, last } = cx.query.page(cx.registry.config.page_limit)?;
    let opened = cx.read(name).await?;
    let repository = &opened.named.repository;
    let found = opened.snapshot().tag_page(repository, last, n + 1).await;
    let found = found.map_err(|error| unreadable(&opened, Fault::NameUnknown, error))?;
    let found = found.ok_or_else(|| {
        let (space, rule) = (&opened.named.space, opened.named.rule);
        ApiError::new(Fault::NameUnknown, format!("{space} has no repository {repository} ({name} was read by {rule})"))
    })?;
    let tags = &found[..n.min(found.len())];
    let next = tags
        .last()
        .filter(|_| found.len() > n)
        .map(|last| format!("/v2/{name}/tags/list?n={n}&last={}", encode(last.as_str())));
    Ok(reply::List { body: Tags { name, tags }, next }.into_response())
}
