//! `/v2/_catalog`: the repositories of this node's own namespaces.

use crate::{
    http::{
        Context,
        fault::Reply,
        query::{Page, encode},
        reply,
    },
    tree::Tree,
};
use axum::response::IntoResponse;
use cidery_core::{Namespace, RepositoryName};
use serde_json::json;

/// One page of names, in byte order over all namespaces. More than a page at once is refused.
pub async fn get(cx: &Context) -> Reply {
    let Page { n, last } = cx.query.page_within(cx.registry.config.page_limit)?;
    let mut names = Vec::new();
    if n > 0 {
        for (namespace, tree) in &cx.registry.trees {
            // One more than asked for tells whether there is a next page.
            names.extend(repositories(namespace, tree, last, n + 1).await?);
        }
    }
    names.sort_unstable();
    let more = names.len() > n;
    names.truncate(n);
    let next = names.last().filter(|_| more).map(|last| format!("/v2/_catalog?n={n}&last={}", encode(last)));
    Ok(reply::List { body: json!({ "repositories": names }), next }.into_response())
}

/// A namespace's repositories after `last`, which is a full name.
async fn repositories(
    namespace: &Namespace,
    tree: &Tree,
    last: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, crate::tree::TreeError> {
    let prefix = if *namespace == Namespace::local() { String::new() } else { format!("{namespace}/") };
    let after = match last {
        None => None,
        Some(last) if last < prefix.as_str() => None,
        Some(last) => match last.strip_prefix(prefix.as_str()) {
            Some(rest) => Some(rest),
            // All of its names come before.
            None => return Ok(Vec::new()),
        },
    };
    let found = tree.snapshot().repositories(after, limit).await?;
    Ok(found.iter().map(RepositoryName::as_str).map(|name| format!("{prefix}{name}")).collect())
}
