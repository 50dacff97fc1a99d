//! An image as a docker-archive: what `docker load` takes. It holds one platform.
//!
//! `docker load` reads layers plain, gzip, bzip2 or xz; zstd only since Docker 23. So zstd layers
//! are written plain, everything else as it is.

use super::{
    ArchiveError, Exported, Meter, Report,
    compress::{Compression, MAGIC},
    content::{Content, check, digest_of},
    export::Job,
    oci_out::{blob_path, directories, put_blob},
    tar_out::TarWriter,
    walk::{platform_name, platforms},
};
use crate::tree::{
    Blob, Descriptor, Manifest, Platform,
    manifest::{Kind, Parsed},
};
use cidery_core::{Digest, Reference};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    sync::Arc,
};

/// The file that names configs, layers and tags.
pub(super) const MANIFEST_FILE: &str = "manifest.json";
/// The largest config that is read, in bytes.
pub(super) const MAX_CONFIG: u64 = 8 << 20;
/// The platform that is taken where the one of this machine is not there.
const DEFAULT_PLATFORM: (&str, &str) = ("linux", "amd64");
/// Nested indexes that are followed.
const MAX_DEPTH: usize = 8;

/// One image in `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ArchiveImage {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
}

/// What of an image config matters here (image-spec:config.md).
#[derive(Debug, Deserialize)]
pub(super) struct ImageConfig {
    pub(super) rootfs: RootFs,
}

/// The layers as they are unpacked.
#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub(super) diff_ids: Option<Vec<Digest>>,
}

/// A layer, and how it is written.
struct Layer {
    blob: Blob,
    /// Digest and size of the plain bytes, if they are what is written.
    plain: Option<(Digest, u64)>,
}

impl Layer {
    fn path(&self) -> String {
        blob_path(self.plain.as_ref().map_or(&self.blob.digest, |(digest, _)| digest))
    }
}

pub(super) fn write(
    job: &Job<'_>,
    out: &mut (dyn Write + Send),
    progress: &mut Report<'_>,
) -> Result<Exported, ArchiveError> {
    let (manifest, platform) = choose(job)?;
    let no_image =
        || ArchiveError::Unsupported(format!("{} is not a container image, so docker cannot load it", job.name()));
    let parsed = Parsed::stored(&manifest).filter(|parsed| parsed.kind == Kind::Image).ok_or_else(no_image)?;
    let image = job.image(&manifest)?;
    let find = |descriptor: &Descriptor| {
        let blob = image.blobs.iter().find(|blob| blob.digest == descriptor.digest);
        let missing = vec![descriptor.digest.to_string()];
        blob.cloned().ok_or_else(|| ArchiveError::Missing { image: job.name(), missing })
    };
    let config = find(parsed.config.as_ref().ok_or_else(no_image)?)?;
    let config_bytes =
        Content::open(job.handle, &job.source.fetcher, &config.cid)?.small("the image's config", MAX_CONFIG)?;
    let diff_ids = diff_ids(&config_bytes).map_err(|_| no_image())?;
    if diff_ids.len() != parsed.layers.len() {
        return Err(no_image());
    }
    let mut layers = Vec::with_capacity(parsed.layers.len());
    for (descriptor, diff_id) in parsed.layers.iter().zip(&diff_ids) {
        layers.push(layer(job, find(descriptor)?, diff_id)?);
    }

    let mut meter = job.meter(&image, progress);
    let mut tar = TarWriter::new(out);
    let repo_tags = match job.reference {
        Reference::Tag(_) => vec![job.name()],
        Reference::Digest(_) => Vec::new(),
    };
    let listed = ArchiveImage {
        config: blob_path(&config.digest),
        repo_tags: Some(repo_tags),
        layers: Some(layers.iter().map(Layer::path).collect()),
    };
    let json = serde_json::to_vec(&[listed]).map_err(|source| ArchiveError::json(MANIFEST_FILE, source))?;
    tar.file(MANIFEST_FILE, &json)?;
    directories(&mut tar, std::iter::once(&config.digest).chain(layers.iter().map(|layer| &layer.blob.digest)))?;
    put_blob(&mut tar, job.handle, &job.source.fetcher, &config, &mut meter)?;
    let mut written = BTreeSet::from([blob_path(&config.digest)]);
    for layer in &layers {
        if written.insert(layer.path()) {
            put_layer(&mut tar, job, layer, &mut meter)?;
        }
    }
    Ok(Exported { bytes: tar.finish()?, digest: Some(manifest.digest.clone()), platform, root: None })
}

/// The manifest of one platform, and which, if there was a choice.
fn choose(job: &Job<'_>) -> Result<(Arc<Manifest>, Option<String>), ArchiveError> {
    let mut manifest = job.top.clone();
    let mut chosen = None;
    for _ in 0..MAX_DEPTH {
        let Some(index) = Parsed::stored(&manifest).filter(|parsed| parsed.kind == Kind::Index) else {
            return Ok((manifest, chosen));
        };
        let host = ("linux", go_arch(std::env::consts::ARCH));
        let candidates: Vec<&Descriptor> = platforms(&index).collect();
        let on = |(os, architecture): (&str, &str)| {
            let same = |at: &Platform| at.os == os && at.architecture == architecture;
            candidates.iter().find(|candidate| candidate.platform.as_ref().is_some_and(same))
        };
        let only = || candidates.first().filter(|one| candidates.len() == 1 && one.platform.is_none());
        let child =
            on(host).or_else(|| on(DEFAULT_PLATFORM)).or_else(only).ok_or_else(|| ArchiveError::NoPlatform {
                image: job.name(),
                wanted: format!("{}/{} or {}/{}", host.0, host.1, DEFAULT_PLATFORM.0, DEFAULT_PLATFORM.1),
                available: super::error::shortened(
                    &candidates.iter().map(|child| platform_name(child)).collect::<Vec<_>>(),
                ),
            })?;
        if child.platform.is_some() {
            chosen = Some(platform_name(child));
        }
        let missing = || ArchiveError::Missing { image: job.name(), missing: vec![child.digest.to_string()] };
        manifest = super::walk::Holdings::manifest(job, child)?.ok_or_else(missing)?;
    }
    Err(ArchiveError::TooLarge { what: "the depth of the image's indexes".into(), limit: MAX_DEPTH as u64 })
}

/// Rust's name of an architecture in Go's words.
fn go_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The diff_ids of an image config.
pub(super) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, ArchiveError> {
    let config: ImageConfig =
        serde_json::from_slice(config).map_err(|source| ArchiveError::json("the image's config", source))?;
    Ok(config.rootfs.diff_ids.unwrap_or_default())
}

fn layer(job: &Job<'_>, blob: Blob, diff_id: &Digest) -> Result<Layer, ArchiveError> {
    let mut first = Vec::new();
    Content::open(job.handle, &job.source.fetcher, &blob.cid)?
        .take(MAGIC as u64)
        .read_to_end(&mut first)
        .map_err(ArchiveError::from_input)?;
    if Compression::detect(&first) != Compression::Zstd {
        return Ok(Layer { blob, plain: None });
    }
    // The header of a tar entry says its size, so the plain bytes are made once to count them.
    let content = Content::open(job.handle, &job.source.fetcher, &blob.cid)?;
    let mut plain = Compression::Zstd.bounded(content, blob.size).map_err(ArchiveError::from_input)?;
    let (digest, size) = digest_of(&mut plain, diff_id)?;
    check("a layer", diff_id, &digest)?;
    Ok(Layer { blob, plain: Some((digest, size)) })
}

fn put_layer(tar: &mut TarWriter<'_>, job: &Job<'_>, layer: &Layer, meter: &mut Meter<'_>) -> Result<(), ArchiveError> {
    let Some((_, size)) = layer.plain else {
        return put_blob(tar, job.handle, &job.source.fetcher, &layer.blob, meter);
    };
    let content = Content::open(job.handle, &job.source.fetcher, &layer.blob.cid)?;
    // Checked against the diff_id when it was counted; these are the same blocks.
    let mut plain = Compression::Zstd.bounded(content, layer.blob.size).map_err(ArchiveError::from_input)?;
    tar.start_file(&layer.path(), size)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match plain.read(&mut piece).map_err(ArchiveError::from_input)? {
            0 => break,
            read => tar.write(&piece[..read])?,
        }
    }
    meter.add(layer.blob.digest.as_str(), layer.blob.size);
    tar.end_file()
}
