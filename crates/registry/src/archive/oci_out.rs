//! An image as a tar of an OCI image layout (image-spec:image-layout.md): byte-exact manifests,
//! every platform.

use super::{
    ArchiveError, Exported, Meter, Report,
    content::{Content, check},
    export::Job,
    tar_out::TarWriter,
};
use crate::{
    hash::Hasher,
    tree::{Blob, Descriptor, manifest::media_type::OCI_INDEX},
};
use cidery_core::{Digest, Fetcher, Reference};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::Arc,
};
use tokio::runtime::Handle;

/// Says that a directory is an image layout.
pub(super) const LAYOUT_FILE: &str = "oci-layout";
/// Names the images in it.
pub(super) const INDEX_FILE: &str = "index.json";
/// The tag, or the whole name (image-spec:annotations.md).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd, Docker and BuildKit write it.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: [Descriptor; 1],
}

pub(super) fn write(
    job: &Job<'_>,
    out: &mut (dyn Write + Send),
    progress: &mut Report<'_>,
) -> Result<Exported, ArchiveError> {
    let image = job.image(&job.top)?;
    let mut meter = job.meter(&image, progress);
    let mut tar = TarWriter::new(out);
    tar.file(LAYOUT_FILE, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.file(INDEX_FILE, &index(job)?)?;
    let digests = image.manifests.iter().map(|manifest| &manifest.digest).chain(image.blobs.iter().map(|b| &b.digest));
    directories(&mut tar, digests)?;
    // The image's own manifest first, as a reader wants them.
    for manifest in image.manifests.iter().rev() {
        tar.file(&blob_path(&manifest.digest), &manifest.bytes)?;
        meter.add(manifest.digest.as_str(), manifest.bytes.len() as u64);
    }
    for blob in &image.blobs {
        put_blob(&mut tar, job.handle, &job.source.fetcher, blob, &mut meter)?;
    }
    Ok(Exported { bytes: tar.finish()?, digest: Some(job.top.digest.clone()), platform: None, root: None })
}

fn index(job: &Job<'_>) -> Result<Vec<u8>, ArchiveError> {
    let mut annotations = BTreeMap::from([(FULL_NAME.to_owned(), job.name())]);
    if let Reference::Tag(tag) = job.reference {
        annotations.insert(REF_NAME.to_owned(), tag.to_string());
    }
    let descriptor = Descriptor {
        media_type: job.top.media_type.clone(),
        digest: job.top.digest.clone(),
        size: job.top.bytes.len() as u64,
        urls: Vec::new(),
        annotations,
        platform: None,
        artifact_type: None,
    };
    let index = Index { schema_version: 2, media_type: OCI_INDEX, manifests: [descriptor] };
    serde_json::to_vec(&index).map_err(|source| ArchiveError::json(INDEX_FILE, source))
}

/// `blobs/<algorithm>/<hex>`.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// The directories that the blobs lie in.
pub(super) fn directories<'d>(
    tar: &mut TarWriter<'_>,
    digests: impl Iterator<Item = &'d Digest>,
) -> Result<(), ArchiveError> {
    let algorithms: BTreeSet<&str> = digests.map(Digest::algorithm).collect();
    tar.directory("blobs")?;
    algorithms.into_iter().try_for_each(|algorithm| tar.directory(&format!("blobs/{algorithm}")))
}

/// Streams a blob to its place; what comes must have its size and digest.
pub(super) fn put_blob(
    tar: &mut TarWriter<'_>,
    handle: &Handle,
    fetcher: &Arc<dyn Fetcher>,
    blob: &Blob,
    meter: &mut Meter<'_>,
) -> Result<(), ArchiveError> {
    let mut content = Content::open(handle, fetcher, &blob.cid)?;
    if content.size() != blob.size {
        let what = format!("the blob {}", blob.digest);
        return Err(ArchiveError::SizeMismatch { what, expected: blob.size, actual: content.size() });
    }
    let mut hasher = Hasher::like(&blob.digest);
    tar.start_file(&blob_path(&blob.digest), blob.size)?;
    while let Some(piece) = content.next_piece()? {
        hasher.update(&piece);
        tar.write(&piece)?;
        meter.add(blob.digest.as_str(), piece.len() as u64);
    }
    tar.end_file()?;
    check("the blob", &blob.digest, &hasher.finish())
}
