//! `/v2/<name>/manifests/<reference>`

use super::{client_has, read};
use crate::{
    http::{
        Context, auth,
        fault::{ApiError, Fault, Reply},
        reply, unreadable,
    },
    ops::{Action, Target},
    registry::{Opened, Source},
    tree::{Manifest, Push, TreeError},
};
use axum::{
    body::Body,
    http::{Method, header},
    response::IntoResponse,
};
use cidery_core::{NameError, Reference, Tag};
use std::sync::Arc;

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
    let mut found = find(&opened, &reference).await?;
    // What an index names and nobody pushed may be had from peers.
    if let (None, Source::Owned(tree), Reference::Digest(digest), &Method::GET) =
        (&found, &opened.source, &reference, &cx.method)
    {
        cx.registry.fetch_manifest(tree, repository, digest).await?;
        found = find(&opened, &reference).await?;
    }
    let manifest = found.ok_or_else(unknown)?;
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
    if !head {
        cx.pulled(|| Target {
            digest: Some(manifest.digest.clone()),
            media_type: Some(manifest.media_type.clone()),
            size: Some(manifest.bytes.len() as u64),
            ..Target::reference(name, &reference)
        });
    }
    Ok(reply::ManifestFound { manifest, head }.into_response())
}

async fn find(opened: &Opened, reference: &Reference) -> Result<Option<Arc<Manifest>>, ApiError> {
    let found = opened.snapshot().manifest(&opened.named.repository, reference).await;
    found.map_err(|error| unreadable(opened, Fault::ManifestUnknown, error))
}

/// Commits a manifest, and the repository's new blobs with it.
pub async fn put(cx: &Context, name: &str, reference: &str, body: Body) -> Reply {
    let (_, tree, repository) = cx.write(name)?;
    let fault = if reference.contains(':') { Fault::DigestInvalid } else { Fault::TagInvalid };
    let invalid = |error: NameError| ApiError::new(fault, error.to_string());
    let reference: Reference = reference.parse().map_err(invalid)?;
    let tags = cx.query.all("tag").map(str::parse).collect::<Result<Vec<Tag>, _>>();
    let tags = tags.map_err(|error| ApiError::new(Fault::TagInvalid, error.to_string()))?;
    if let (Reference::Tag(tag), false) = (&reference, tags.is_empty()) {
        let message = format!("further tags (?tag=) are for a manifest that is pushed by its digest, not as {tag}");
        return Err(ApiError::new(Fault::TagInvalid, message));
    }
    if tags.len() > MAX_TAGS {
        return Err(ApiError::new(Fault::TagInvalid, format!("at most {MAX_TAGS} tags at once")));
    }
    refuse_announced(cx)?;
    let media_type = cx.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let bytes = read(cx, body, cx.registry.config.manifest_limit, || too_large(cx)).await?;
    let missing = cx.registry.config.missing();
    let mut target = Target {
        media_type: media_type.clone(),
        size: Some(bytes.len() as u64),
        ..Target::reference(name, &reference)
    };
    target.tags.extend(tags.iter().map(Tag::to_string));
    let may = auth::may_push(cx, name)?;
    let push = Push { reference, tags: tags.clone(), media_type, bytes, missing, may };
    let pushed = async move {
        let put = tree.push(&repository, push).await?;
        target.digest = Some(put.digest.clone());
        Ok::<_, TreeError>((put, Some(target)))
    };
    let put = cx.telling(Action::Push, pushed).await?;
    Ok(reply::ManifestCreated { name, digest: put.digest, subject: put.subject, tags }.into_response())
}

/// Removes a tag, or a manifest and every tag that stands for it. One that an index refers to stays.
pub async fn delete(cx: &Context, name: &str, reference: &str) -> Reply {
    let (_, tree, repository) = cx.write(name)?;
    let unknown = || ApiError::new(Fault::ManifestUnknown, format!("{name} has no manifest {reference}"));
    let parsed = reference.parse().map_err(|_| unknown())?;
    let target = Target::reference(name, &parsed);
    let deleted = async move {
        let existed = match parsed {
            Reference::Tag(tag) => tree.delete_tag(&repository, &tag).await?,
            Reference::Digest(digest) => tree.delete_unused_manifest(&repository, &digest).await?,
        };
        Ok::<_, TreeError>((existed, existed.then_some(target)))
    };
    let existed = cx.telling(Action::Delete, deleted).await?;
    if existed { Ok(reply::Deleted.into_response()) } else { Err(unknown()) }
}

fn too_large(cx: &Context) -> ApiError {
    let limit = cx.registry.config.manifest_limit;
    ApiError::new(Fault::ManifestTooLarge, format!("a manifest may have {limit} bytes, and this one has more"))
}

/// Refuses a body that says beforehand that it is too large.
fn refuse_announced(cx: &Context) -> Result<(), ApiError> {
    let limit = cx.registry.config.manifest_limit;
    let length = cx.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) { Err(too_large(cx)) } else { Ok(()) }
}
