//! `/v2/<name>/manifests/<reference>`

use super::{client_has, read};
use crate::{
    http::{
        Context, auth,
        fault::{ApiError, Fault, Reply},
        reply, unreadable,
    },
    registry::Source,
    tree::{Missing, Push},
};
use axum::{
    body::Body,
    http::{Method, header},
    response::IntoResponse,
};
use cidery_core::{NameError, Reference, Tag};

/// Most tags that one push sets.
const MAX_TAGS: usize = 64;

/// A manifest by tag or digest, whatever `Accept` says: converting it would change its digest.
pub async fn get(cx: &Context, name: &str, reference: &str) -> Reply {
    let opened = cx.read(name).await?;
    let (space, rule) = (&opened.named.space, opened.named.rule);
    let unknown = || {
        ApiError::new(Fault::ManifestUnknown, format!("{space} has no manifest {name}:{reference} (read by {rule})"))
    };
    // What is no tag and no digest cannot be there.
    let reference: Reference = reference.parse().map_err(|_| unknown())?;
    let repository = &opened.named.repository;
    let found = opened.snapshot().manifest(repository, &reference).await;
    let manifest = found.map_err(|error| unreadable(&opened, Fault::ManifestUnknown, error))?.ok_or_else(unknown)?;
    if manifest.bytes.len() > cx.registry.config.manifest_limit {
        return Err(ApiError::new(Fault::TreeMalformed, "the manifest is larger than what is passed on"));
    }
    let head = cx.method == Method::HEAD;
    if let (Source::Foreign(root), false) = (&opened.source, head) {
        root.ahead.saw(repository, &manifest);
    }
    if client_has(&cx.headers, &manifest.digest) {
        return Ok(reply::NotModified(manifest.digest.clone()).into_response());
    }
    Ok(reply::ManifestFound { manifest, head }.into_response())
}

/// Commits a manifest, and the repository's new blobs with it.
pub async fn put(cx: &Context, name: &str, reference: &str, body: Body) -> Reply {
    let (_, tree, repository) = cx.write(name)?;
    let fault = if reference.contains(':') { Fault::DigestInvalid } else { Fault::TagInvalid };
    let invalid = |error: NameError| ApiError::new(fault, error.to_string());
    let reference: Reference = reference.parse().map_err(invalid)?;
    let tags = cx.query.all("tag").map(str::parse).collect::<Result<Vec<Tag>, _>>();
    let tags = tags.map_err(|error| ApiError::new(Fault::TagInvalid, error.to_string()))?;
    if tags.len() > MAX_TAGS {
        return Err(ApiError::new(Fault::TagInvalid, format!("at most {MAX_TAGS} tags at once")));
    }
    let media_type = cx.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let limit = cx.registry.config.manifest_limit;
    let too_large =
        || ApiError::new(Fault::ManifestTooLarge, format!("a manifest may have {limit} bytes, and this one has more"));
    let bytes = read(cx, body, limit, too_large).await?;
    let missing = if cx.registry.config.sparse_manifests { Missing::Accept } else { Missing::Refuse };
    let may = auth::may_push(cx, name)?;
    let push = Push { reference, tags: tags.clone(), media_type, bytes, missing, may };
    let put = tree.push(&repository, push).await?;
    Ok(reply::ManifestCreated { name, digest: put.digest, subject: put.subject, tags }.into_response())
}

/// Removes a tag, or a manifest and every tag that stands for it.
pub async fn delete(cx: &Context, name: &str, reference: &str) -> Reply {
    let (_, tree, repository) = cx.write(name)?;
    let unknown = || ApiError::new(Fault::ManifestUnknown, format!("{name} has no manifest {reference}"));
    let existed = match reference.parse().map_err(|_| unknown())? {
        Reference::Tag(tag) => tree.delete_tag(&repository, &tag).await?,
        Reference::Digest(digest) => tree.delete_manifest(&repository, &digest).await?,
    };
    if existed { Ok(reply::Deleted.into_response()) } else { Err(unknown()) }
}
