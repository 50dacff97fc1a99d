//! `/v2/<name>/blobs/uploads/…`

use super::digest;
use crate::{
    http::{
        Context, auth,
        fault::{ApiError, Fault, Reply},
        reply,
    },
    names::Space,
    ops::{self, Action},
    tree::{Blob, Tree, TreeError},
    upload::{Offset, Upload, UploadError},
};
use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use cidery_core::{Digest, Namespace, RepositoryName};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Repositories that are looked through for a mount without `from`.
const MOUNT_SEARCH: usize = 256;

/// Opens an upload; or mounts a blob of another repository; or takes a whole blob at once.
pub async fn start(cx: &Context, name: &str, body: Body) -> Reply {
    let (namespace, tree, repository) = cx.write(name)?;
    if let Some(wanted) = cx.query.get("mount") {
        let wanted = digest(wanted)?;
        if let Some(blob) = find_mount(cx, &namespace, &tree, &wanted).await? {
            // Its other links may be taken out, and it collected, before the new one is journalled: so it is
            // looked for again once it is kept.
            let hold = cx.registry.blocks.hold();
            hold.keep_all(&blob.cid);
            if find_mount(cx, &namespace, &tree, &wanted).await? != Some(blob.clone()) {
                return Ok(open(name, &*cx.registry.uploads.start(&namespace, &repository)?, StatusCode::ACCEPTED));
            }
            let from = cx.query.get("from").map(str::to_owned);
            let target = ops::Target { from, ..ops::Target::blob(name, wanted.clone(), Some(blob.size)) };
            let mounted = async move {
                let _hold = hold;
                tree.link_blob(&repository, &blob).await?;
                Ok::<_, TreeError>(((), Some(target)))
            };
            cx.telling(Action::Mount, mounted).await?;
            return Ok(reply::BlobCreated { name, digest: wanted }.into_response());
        }
    }
    // Without a body it is the start of an upload whose digest is known.
    if let Some(wanted) = cx.query.get("digest").map(digest).transpose()?
        && !body.is_end_stream()
    {
        let target = repository.clone();
        let link = move |blob: Blob| async move { tree.link_blob(&target, &blob).await };
        let (uploads, full) = (cx.registry.uploads.clone(), name.to_owned());
        let pushed = async move {
            let blob = uploads.whole((&namespace, &repository), body, wanted, link).await?;
            let target = ops::Target::blob(full, blob.digest.clone(), Some(blob.size));
            Ok::<_, UploadError>((blob, Some(target)))
        };
        let blob = cx.telling(Action::Push, pushed).await?;
        return Ok(reply::BlobCreated { name, digest: blob.digest }.into_response());
    }
    let upload = cx.registry.uploads.start(&namespace, &repository)?;
    Ok(open(name, &upload, StatusCode::ACCEPTED))
}

/// How far an upload is.
pub async fn status(cx: &Context, name: &str, id: &str) -> Reply {
    let (upload, _) = find(cx, name, id)?;
    upload.settled().await;
    Ok(open(name, &upload, StatusCode::NO_CONTENT))
}

/// Appends a chunk, with or without `Content-Range`.
pub async fn append(cx: &Context, name: &str, id: &str, body: Body) -> Reply {
    let (upload, _) = find(cx, name, id)?;
    let offset = chunk(&cx.headers).map_err(|error| going_on(name, &upload, error))?;
    let appended = cx.registry.uploads.append(&upload, offset, body).await;
    appended.map_err(|error| going_on(name, &upload, error.into()))?;
    Ok(open(name, &upload, StatusCode::ACCEPTED))
}

/// Takes the last chunk, if any, and makes a blob of the upload.
pub async fn finish(cx: &Context, name: &str, id: &str, body: Body) -> Reply {
    let (upload, (tree, repository)) = find(cx, name, id)?;
    let wanted = cx.query.get("digest").ok_or_else(|| ApiError::new(Fault::DigestInvalid, "the digest is missing"))?;
    let wanted = digest(wanted)?;
    let offset = chunk(&cx.headers).map_err(|error| going_on(name, &upload, error))?;
    let link = move |blob: Blob| async move { tree.link_blob(&repository, &blob).await };
    let (uploads, open, full) = (cx.registry.uploads.clone(), upload.clone(), name.to_owned());
    let pushed = async move {
        let blob = uploads.finish(&open, offset, body, wanted, link).await?;
        let target = ops::Target::blob(full, blob.digest.clone(), Some(blob.size));
        Ok::<_, UploadError>((blob, Some(target)))
    };
    let blob = cx.telling(Action::Push, pushed).await.map_err(|error| going_on(name, &upload, error))?;
    Ok(reply::BlobCreated { name, digest: blob.digest }.into_response())
}

/// Cancels an upload.
pub async fn cancel(cx: &Context, name: &str, id: &str) -> Reply {
    let (upload, _) = find(cx, name, id)?;
    cx.registry.uploads.cancel(&upload).await?;
    Ok(reply::UploadCancelled.into_response())
}

type Target = (Tree, RepositoryName);

fn find(cx: &Context, name: &str, id: &str) -> Result<(Arc<Upload>, Target), ApiError> {
    let (namespace, tree, repository) = cx.write(name)?;
    let upload = cx.registry.uploads.get(&namespace, &repository, id).ok_or(Fault::UploadUnknown)?;
    Ok((upload, (tree, repository)))
}

fn accepted<'a>(name: &'a str, upload: &'a Upload, status: StatusCode) -> reply::UploadOpen<'a> {
    reply::UploadOpen { name, id: upload.id(), received: upload.received(), status }
}

fn open(name: &str, upload: &Upload, status: StatusCode) -> axum::response::Response {
    accepted(name, upload, status).into_response()
}

/// A refusal that tells the client where to go on.
fn going_on(name: &str, upload: &Upload, error: ApiError) -> ApiError {
    let headers = accepted(name, upload, StatusCode::ACCEPTED).headers();
    headers.into_iter().fold(error, |error, (name, value)| error.with(name, value))
}

/// `Content-Range: <first>-<last>` of a chunk, without a unit (distribution-spec, "Pushing a blob in chunks").
fn chunk(headers: &HeaderMap) -> Result<Offset, ApiError> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(Offset::default()) };
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let read = range.to_str().ok().and_then(|text| text.split_once('-'));
    let Some((first, last)) = read.and_then(|(first, last)| number(first).zip(number(last))) else {
        return Err(ApiError::new(Fault::RangeInvalid, "Content-Range of a chunk is <first>-<last>"));
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let said = last.checked_sub(first).and_then(|length| length.checked_add(1));
    match (said, length) {
        // An empty chunk has no last byte; clients that send one close with `n-n` or `n-(n-1)`.
        (_, Some(0)) => Ok(Offset { at: Some(first), length: None }),
        (None, _) => Err(ApiError::new(Fault::RangeInvalid, "the range ends before it begins")),
        (Some(said), Some(length)) if said != length => {
            Err(ApiError::new(Fault::SizeInvalid, format!("Content-Range has {said} bytes, Content-Length {length}")))
        }
        (length, _) => Ok(Offset { at: Some(first), length }),
    }
}

/// A blob to mount: what [`find_linked`] finds, if it is whole: one that is damaged is to be uploaded.
async fn find_mount(
    cx: &Context,
    namespace: &Namespace,
    tree: &Tree,
    digest: &Digest,
) -> Result<Option<Blob>, ApiError> {
    match find_linked(cx, namespace, tree, digest).await? {
        Some(blob) if cx.registry.has_whole(&blob).await? => Ok(Some(blob)),
        _ => Ok(None),
    }
}

/// From the repository that is named, or from wherever in the same namespace. Only what the caller may pull, and
/// nothing of anybody else's.
async fn find_linked(
    cx: &Context,
    namespace: &Namespace,
    tree: &Tree,
    digest: &Digest,
) -> Result<Option<Blob>, ApiError> {
    if let Some(from) = cx.query.get("from") {
        // What is no name, or not ours, has nothing to mount: the client uploads instead.
        let Ok(named) = cx.registry.name(from) else { return Ok(None) };
        let Space::Owned(namespace) = &named.space else { return Ok(None) };
        let Some(tree) = cx.registry.trees.get(namespace) else { return Ok(None) };
        if !auth::may_pull(cx, namespace, &named.repository) {
            return Ok(None);
        }
        return Ok(tree.snapshot().blob(&named.repository, digest).await?);
    }
    let snapshot = tree.snapshot();
    for repository in snapshot.repositories(None, MOUNT_SEARCH).await? {
        if auth::may_pull(cx, namespace, &repository)
            && let Some(blob) = snapshot.blob(&repository, digest).await?
        {
            return Ok(Some(blob));
        }
    }
    // A repository without manifests is not listed; its blobs are links.
    let (roots, owned) = (cx.registry.roots.clone(), namespace.clone());
    let links = spawn_blocking(move || roots.links(&owned)).await??;
    let mut links = links.into_iter();
    let link = links.find(|link| link.digest == *digest && auth::may_pull(cx, namespace, &link.repository));
    Ok(link.map(|link| Blob { digest: link.digest, cid: link.cid, size: link.size }))
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        let fault = match error {
            UploadError::TooMany(_) => Fault::TooManyUploads,
            UploadError::Busy => Fault::UploadBusy,
            UploadError::Ended => Fault::UploadUnknown,
            UploadError::Offset { .. } => Fault::RangeInvalid,
            UploadError::Length { .. } => Fault::SizeInvalid,
            UploadError::Broken { .. } | UploadError::Stalled(_) => Fault::ConnectionBroken,
            UploadError::Digest { .. } => Fault::DigestInvalid,
            UploadError::Store(error) => return error.into(),
            UploadError::Unixfs(_) | UploadError::Task(_) => Fault::Internal,
            UploadError::Tree(error) => return error.into(),
        };
        match fault {
            Fault::Internal => Self::from(fault).because(error),
            fault => Self::new(fault, error.to_string()),
        }
    }
}
