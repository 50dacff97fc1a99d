//! `/v2/<name>/blobs/<digest>`

use super::{client_has, digest};
use crate::{
    foreign::{ForeignRoot, ahead::Client},
    http::{
        Context,
        fault::{ApiError, Fault, Reply},
        range::Wanted,
        reply, unreadable, unreadable_file,
    },
    lacking::{Coming, Found},
    ops::{Action, Target},
    registry::{Opened, Source},
    stream::{self, Fate, Hash, Verify},
    tree::{Blob, TreeError},
};
use axum::{
    body::Body,
    http::{Method, header},
    response::IntoResponse,
};
use cidery_core::{Digest, Fetcher, codec};
use cidery_unixfs::{CHUNK, FileReader};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// A blob or one range of it; never compressed.
pub async fn get(cx: &Context, name: &str, text: &str) -> Reply {
    let digest = digest(text)?;
    let opened = cx.read(name).await?;
    let unknown = || {
        let (space, rule) = (&opened.named.space, opened.named.rule);
        ApiError::new(Fault::BlobUnknown, format!("{space} has no blob {digest} in {name} (read by {rule})"))
    };
    let blob = match find(&opened, &digest).await? {
        None => match fetch_lacking(cx, &opened, &digest).await? {
            Some(Found::Coming(coming)) => return pass_on(cx, *coming).await,
            Some(Found::Here(blob)) => Some(blob),
            // Another client's request may have brought it meanwhile.
            None => find(&opened, &digest).await?,
        },
        found => found,
    };
    let blob = blob.ok_or_else(unknown)?;
    let verify = Verify { blob: blob.clone(), verdicts: cx.registry.verdicts.clone() };
    let settled = match &opened.source {
        Source::Owned(..) => true,
        Source::Foreign(_) => verify.is_settled()?,
    };
    if cx.method == Method::HEAD && matches!(opened.source, Source::Owned(_)) && !cx.registry.has_whole(&blob).await? {
        return Err(ApiError::new(
            Fault::BlobUnknown,
            format!("the blob {digest} in {name} is damaged here: push it again, or see `cidery scrub`"),
        ));
    }
    if client_has(&cx.headers, &digest) {
        return Ok(reply::NotModified(digest).into_response());
    }
    if cx.method == Method::HEAD {
        return Ok(reply::Blob { digest, size: blob.size, part: None, body: None }.into_response());
    }
    let place = cx.registry.downloads.take().await.ok_or(Fault::TooManyDownloads)?;
    let mut fetcher = cx.registry.fetcher(&opened);
    // A blob of one block is in memory before the answer begins; any other stays until it is sent.
    if matches!(opened.source, Source::Owned(_)) && blob.cid.codec() != codec::RAW {
        fetcher = cx.registry.holding(fetcher, &blob.cid);
        // It may have been deleted, and a collection begun, before it was held.
        if find(&opened, &digest).await?.as_ref() != Some(&blob) {
            return Err(unknown());
        }
    }
    let file = open(fetcher, &opened, &blob).await?;
    let size = file.size();
    let (range, part) = match Wanted::read(&cx.headers, size, &reply::etag(&digest))? {
        Wanted::Whole => (0..size, None),
        Wanted::Part(range) => (range.clone(), Some(range)),
    };
    let config = &cx.registry.config;
    let body = match &opened.source {
        Source::Owned(..) => stream::local(file, range, config.stall_timeout),
        Source::Foreign(root) => {
            let whole = range == (0..size);
            let mut hash = if whole && !settled { Hash::Whole(None) } else { Hash::No };
            // Nothing can be withheld of a single chunk: it is checked before the answer begins.
            if matches!(hash, Hash::Whole(_)) && size <= CHUNK as u64 {
                check_now(&opened, file.clone(), verify.clone()).await?;
                hash = Hash::No;
            }
            let client = whole.then(|| root.ahead.streaming(&opened.named.repository, &digest));
            stream::foreign(file, range, config.window, config.stall_timeout, verify, hash)
                .with_fate(Streaming { client, root: root.clone() })
        }
    };
    Ok(reply::Blob { digest, size, part, body: Some(Body::new(body.in_place(place))) }.into_response())
}

/// Removes a blob from a repository, unless a manifest refers to it.
pub async fn delete(cx: &Context, name: &str, text: &str) -> Reply {
    let (_, tree, repository) = cx.write(name)?;
    let digest = digest(text)?;
    let (wanted, target) = (digest.clone(), Target::blob(name, digest.clone(), None));
    let deleted = async move {
        let existed = tree.delete_unused_blob(&repository, &wanted).await?;
        Ok::<_, TreeError>((existed, existed.then_some(target)))
    };
    if cx.telling(Action::Delete, deleted).await? {
        return Ok(reply::Deleted.into_response());
    }
    Err(ApiError::new(Fault::BlobUnknown, format!("{name} has no blob {digest}")))
}

/// What a manifest names and its repository lacks may be had from peers. Not for HEAD: who pushes asks so for what is
/// not here.
async fn fetch_lacking(cx: &Context, opened: &Opened, digest: &Digest) -> Result<Option<Found>, ApiError> {
    if cx.method != Method::GET {
        return Ok(None);
    }
    // Of a part nobody can tell whether it is right before all of it is here.
    let (repository, whole) = (&opened.named.repository, !cx.headers.contains_key(header::RANGE));
    Ok(match &opened.source {
        Source::Owned(tree) => cx.registry.fetch_blob(tree, repository, digest, whole).await?,
        Source::Foreign(_) => None,
    })
}

/// Streams a blob that a repository lacks while it arrives from peers.
async fn pass_on(cx: &Context, coming: Coming) -> Reply {
    let Coming { file, verify, root, then } = coming;
    let digest = verify.blob.digest.clone();
    if client_has(&cx.headers, &digest) {
        return Ok(reply::NotModified(digest).into_response());
    }
    let place = cx.registry.downloads.take().await.ok_or(Fault::TooManyDownloads)?;
    let (config, size) = (&cx.registry.config, file.size());
    let hash = Hash::Whole(Some(then));
    let body = stream::foreign(file, 0..size, config.window, config.stall_timeout, verify, hash)
        .with_fate(Streaming { client: None, root });
    Ok(reply::Blob { digest, size, part: None, body: Some(Body::new(body.in_place(place))) }.into_response())
}

async fn find(opened: &Opened, digest: &Digest) -> Result<Option<Blob>, ApiError> {
    let found = opened.snapshot().blob(&opened.named.repository, digest).await;
    found.map_err(|error| unreadable(opened, Fault::BlobUnknown, error))
}

async fn open(fetcher: Arc<dyn Fetcher>, opened: &Opened, blob: &Blob) -> Result<FileReader, ApiError> {
    let cid = blob.cid;
    let file = match &opened.source {
        Source::Owned(..) => {
            spawn_blocking(move || futures::executor::block_on(FileReader::open(fetcher, cid))).await?
        }
        Source::Foreign(_) => FileReader::open(fetcher, cid).await,
    };
    file.map_err(|error| unreadable_file(opened, Fault::BlobUnknown, error))
}

async fn check_now(opened: &Opened, file: FileReader, verify: Verify) -> Result<(), ApiError> {
    stream::verify(file, verify, 0, |_| {}).await.map_err(|error| match error {
        crate::Error::Unixfs(error) => unreadable_file(opened, Fault::BlobUnknown, error),
        error => error.into(),
    })
}

/// Keeps a root's session, and what is fetched ahead, going while its blob is on its way.
struct Streaming {
    client: Option<Client>,
    root: Arc<ForeignRoot>,
}

impl Fate for Streaming {
    fn ended(&mut self, whole: bool) {
        self.root.touch();
        if let Some(mut client) = self.client.take() {
            client.ended(whole);
        }
    }
}
