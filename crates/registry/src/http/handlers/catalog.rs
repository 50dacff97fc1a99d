//! `/v2/_catalog`: the repositories of this node's own namespaces.

use crate::{
    http::{
        Context, auth,
        fault::Reply,
        query::{Page, encode},
        reply,
    },
    names,
    tree::Tree,
};
use axum::response::IntoResponse;
use cidery_core::{Namespace, RepositoryName};
use serde::Serialize;

/// Names that are read at once when others were left out.
const CHUNK: usize = 1024;

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: &'a [String],
}

/// One page of names, in byte order over all namespaces: those that the caller may pull.
pub async fn get(cx: &Context) -> Reply {
    let Page { n, last } = cx.query.page_within(cx.registry.config.page_limit)?;
    let mut names = Vec::new();
    if n > 0 {
        for (namespace, tree) in &cx.registry.trees {
            // One more than asked for tells whether there is a next page.
            names.extend(repositories(cx, namespace, tree, last, n + 1).await?);
        }
    }
    names.sort_unstable();
    let more = names.len() > n;
    names.truncate(n);
    let next = names.last().filter(|_| more).map(|last| format!("/v2/_catalog?n={n}&last={}", encode(last)));
    Ok(reply::List { body: Catalog { repositories: &names }, next }.into_response())
}

/// A namespace's repositories after `last`, which is a full name.
async fn repositories(
    cx: &Context,
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
    let snapshot = tree.snapshot();
    let (mut names, mut after, mut chunk) = (Vec::new(), after.map(str::to_owned), limit);
    loop {
        let found = snapshot.repositories(after.as_deref(), chunk).await?;
        after = found.last().map(RepositoryName::to_string);
        let end = found.len() < chunk;
        // Who may see little has most of them looked through.
        chunk = chunk.max(CHUNK);
        let full = found.iter().map(|repository| names::full_name(namespace, repository));
        names.extend(full.filter(|name| auth::is_listed(cx, name)));
        if end || names.len() >= limit {
            return Ok(names);
        }
    }
}
