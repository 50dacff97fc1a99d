//! Everything an image consists of, found by following its manifests.

use super::error::ArchiveError;
use crate::tree::{
    Blob, Descriptor, MAX_MANIFEST, Manifest,
    manifest::{Kind, Parsed, media_type},
};
use cidery_core::Digest;
use std::{collections::HashSet, sync::Arc};

/// Indexes within indexes: real images have one or two levels.
const MAX_DEPTH: usize = 8;
/// Manifests of one image, and bytes of all of them together, which are held in memory.
const MAX_MANIFESTS: usize = 4096;
const MAX_MANIFEST_BYTES: usize = 16 * MAX_MANIFEST;
/// Blobs of one image.
const MAX_BLOBS: usize = 65_536;

/// Where an image's parts are looked up.
pub(super) trait Holdings {
    /// The manifest, its bytes checked against the digest.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Option<Arc<Manifest>>, ArchiveError>;
    /// A config or layer.
    fn blob(&self, descriptor: &Descriptor) -> Result<Option<Blob>, ArchiveError>;
}

/// An image, whole or with what is missing of it.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// Children before their parents; the image's own manifest is the last.
    pub(super) manifests: Vec<Arc<Manifest>>,
    /// Each once, in the order they are first referred to.
    pub(super) blobs: Vec<Blob>,
    /// What its manifests refer to and `Holdings` does not have, without layers that are to be had elsewhere only.
    pub(super) missing: Vec<String>,
}

impl Image {
    /// Follows `top` down.
    pub(super) fn walk(top: Arc<Manifest>, holdings: &dyn Holdings) -> Result<Self, ArchiveError> {
        let mut walk = Walk { holdings, image: Self::default(), seen: HashSet::new(), bytes: 0 };
        walk.follow(top, 0)?;
        Ok(walk.image)
    }

    /// Fails if something is missing.
    pub(super) fn complete(self, name: &str) -> Result<Self, ArchiveError> {
        if self.missing.is_empty() {
            return Ok(self);
        }
        Err(ArchiveError::Missing { image: name.into(), missing: self.missing })
    }

    /// Bytes of manifests and blobs.
    pub(super) fn bytes(&self) -> u64 {
        let manifests: u64 = self.manifests.iter().map(|manifest| manifest.bytes.len() as u64).sum();
        self.blobs.iter().fold(manifests, |sum, blob| sum.saturating_add(blob.size))
    }
}

struct Walk<'a> {
    holdings: &'a dyn Holdings,
    image: Image,
    seen: HashSet<Digest>,
    bytes: usize,
}

impl Walk<'_> {
    fn follow(&mut self, manifest: Arc<Manifest>, depth: usize) -> Result<(), ArchiveError> {
        let too_many = |what: &str, limit: usize| ArchiveError::TooLarge { what: what.into(), limit: limit as u64 };
        if depth > MAX_DEPTH {
            return Err(too_many("the depth of the image's indexes", MAX_DEPTH));
        }
        self.seen.insert(manifest.digest.clone());
        self.bytes += manifest.bytes.len();
        if self.bytes > MAX_MANIFEST_BYTES {
            return Err(too_many("the size of the image's manifests", MAX_MANIFEST_BYTES));
        }
        // What cannot be read refers to nothing.
        if let Some(parsed) = Parsed::stored(&manifest) {
            for child in &parsed.manifests {
                if self.seen.contains(&child.digest) {
                    continue;
                }
                match self.holdings.manifest(child)? {
                    Some(found) => self.follow(found, depth + 1)?,
                    None => self.missing(&child.digest),
                }
            }
            for blob in parsed.config.iter().chain(&parsed.layers) {
                if !self.seen.insert(blob.digest.clone()) {
                    continue;
                }
                match self.holdings.blob(blob)? {
                    Some(found) => self.image.blobs.push(found),
                    None if media_type::is_foreign_layer(&blob.media_type) => {}
                    None => self.missing(&blob.digest),
                }
                if self.image.blobs.len() > MAX_BLOBS {
                    return Err(too_many("the number of the image's blobs", MAX_BLOBS));
                }
            }
        }
        self.image.manifests.push(manifest);
        if self.image.manifests.len() > MAX_MANIFESTS {
            return Err(too_many("the number of the image's manifests", MAX_MANIFESTS));
        }
        Ok(())
    }

    fn missing(&mut self, digest: &Digest) {
        self.seen.insert(digest.clone());
        self.image.missing.push(digest.to_string());
    }
}

/// The children of an index that are images to run, not attestations about one.
pub(super) fn platforms(index: &Parsed) -> impl Iterator<Item = &Descriptor> {
    index.manifests.iter().filter(|child| {
        let unknown = |text: &str| text == "unknown";
        !child.annotations.contains_key("vnd.docker.reference.type")
            && !child.platform.as_ref().is_some_and(|at| unknown(&at.os) && unknown(&at.architecture))
            && media_type::kind(&child.media_type) != Kind::Other
    })
}

/// `linux/arm64/v8`, as people write it.
pub(super) fn platform_name(descriptor: &Descriptor) -> String {
    match &descriptor.platform {
        Some(at) => match &at.variant {
            Some(variant) => format!("{}/{}/{variant}", at.os, at.architecture),
            None => format!("{}/{}", at.os, at.architecture),
        },
        None => "unknown platform".into(),
    }
}
