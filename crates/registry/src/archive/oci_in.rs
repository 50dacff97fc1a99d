//! Images of an OCI layout (image-spec:image-layout.md). Manifests stay byte for byte, so digests do.

use super::{
    ArchiveError,
    import::{Candidate, Input},
    names::{ImageName, parse_ref_name},
    oci_out::{FULL_NAME, INDEX_FILE, REF_NAME},
    scan::{Scan, load},
    walk::{Holdings, Image, platform_name, platforms},
};
use crate::tree::{
    Blob, Descriptor, MAX_MANIFEST, Manifest,
    manifest::{Kind, Parsed, media_type},
};
use cidery_core::{Digest, RepositoryName, Tag};
use serde::Deserialize;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Bytes of all manifests of an archive together, which are held in memory.
pub(super) const MAX_ARCHIVE_MANIFESTS: u64 = 256 << 20;

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

pub(super) fn read(work: &Input<'_>, scan: &Scan, index: &[u8]) -> Result<Vec<Candidate>, ArchiveError> {
    let index: Index = serde_json::from_slice(index).map_err(|source| ArchiveError::json(INDEX_FILE, source))?;
    let layout = Layout { work, scan };
    let mut known: HashMap<Digest, Found> = HashMap::new();
    let mut held = Budget::default();
    let mut candidates = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let (repository, tag) = name(&descriptor)?;
        let what = describe(&descriptor, repository.as_ref(), tag.as_ref());
        let found = match known.get(&descriptor.digest) {
            Some(found) => found.clone(),
            None => {
                let found = layout.find(&descriptor, &what)?;
                held.take(&found.image)?;
                known.insert(descriptor.digest.clone(), found.clone());
                found
            }
        };
        let Found { digest, image, platform } = found;
        candidates.push(Candidate { repository, tag, what, digest, image, platform });
    }
    if candidates.is_empty() {
        return Err(ArchiveError::malformed(INDEX_FILE, "it names no image"));
    }
    // What an index holds already needs no name of its own.
    let inner: HashSet<Digest> = candidates.iter().flat_map(|c| below(&c.image)).collect();
    candidates.retain(|c| c.repository.is_some() || c.tag.is_some() || !inner.contains(&c.digest));
    Ok(candidates)
}

/// Limits what is held of many images.
#[derive(Default)]
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn take(&mut self, image: &Image) -> Result<(), ArchiveError> {
        let held = |manifest: &Arc<Manifest>| manifest.bytes.len() as u64 + 256;
        self.0 += image.manifests.iter().map(held).sum::<u64>() + 256 * image.blobs.len() as u64;
        if self.0 > MAX_ARCHIVE_MANIFESTS {
            let what = "the size of all the archive's manifests".into();
            return Err(ArchiveError::TooLarge { what, limit: MAX_ARCHIVE_MANIFESTS });
        }
        Ok(())
    }
}

fn below(image: &Image) -> impl Iterator<Item = Digest> {
    image.manifests.iter().rev().skip(1).map(|manifest| manifest.digest.clone())
}

#[derive(Clone)]
struct Found {
    digest: Digest,
    image: Arc<Image>,
    platform: Option<String>,
}

/// Repository and tag of an image, as far as its annotations say.
fn name(descriptor: &Descriptor) -> Result<(Option<RepositoryName>, Option<Tag>), ArchiveError> {
    let ref_name = match descriptor.annotations.get(REF_NAME).filter(|text| !text.is_empty()) {
        Some(text) => Some(parse_ref_name(text)?),
        None => None,
    };
    let whole = |name: ImageName| {
        let (repository, tag) = name.tag_or_latest();
        (Some(repository), tag)
    };
    Ok(match (ref_name, descriptor.annotations.get(FULL_NAME)) {
        (Some(Ok(name)), _) => whole(name),
        (tag, Some(text)) => {
            let (repository, own) = whole(ImageName::parse(text)?);
            (repository, tag.and_then(Result::err).or(own))
        }
        (Some(Err(tag)), None) => (None, Some(tag)),
        (None, None) => (None, None),
    })
}

fn describe(descriptor: &Descriptor, repository: Option<&RepositoryName>, tag: Option<&Tag>) -> String {
    match (repository, tag) {
        (Some(repository), Some(tag)) => format!("{repository}:{tag}"),
        (Some(repository), None) => format!("{repository}@{}", descriptor.digest),
        (None, Some(tag)) => format!("the image tagged {tag}"),
        (None, None) => format!("the image {}", descriptor.digest),
    }
}

/// A layout whose blobs are in the store.
struct Layout<'a> {
    work: &'a Input<'a>,
    scan: &'a Scan,
}

impl Layout<'_> {
    fn find(&self, descriptor: &Descriptor, what: &str) -> Result<Found, ArchiveError> {
        let missing = || ArchiveError::Missing { image: what.into(), missing: vec![descriptor.digest.to_string()] };
        let top = self.manifest(descriptor)?.ok_or_else(missing)?;
        let image = Image::walk(top.clone(), self)?;
        if image.missing.is_empty() {
            return Ok(Found { digest: top.digest.clone(), image: Arc::new(image), platform: None });
        }
        // `docker save` writes the index of an image although it holds one platform of it only.
        let mut complete = None;
        let index = Parsed::stored(&top).filter(|top| top.kind == Kind::Index);
        let is_image = |child: &&Descriptor| media_type::kind(&child.media_type) == Kind::Image;
        for child in index.iter().flat_map(platforms).filter(is_image) {
            let Some(manifest) = self.manifest(child)? else { continue };
            let whole = Image::walk(manifest, self)?;
            if whole.missing.is_empty() && complete.replace((child.clone(), whole)).is_some() {
                // Several, but not all: which is meant is not for us to say.
                return Err(image.complete(what).err().unwrap_or_else(missing));
            }
        }
        match complete {
            Some((child, whole)) => {
                Ok(Found { platform: Some(platform_name(&child)), digest: child.digest, image: Arc::new(whole) })
            }
            None => Err(image.complete(what).err().unwrap_or_else(missing)),
        }
    }
}

impl Holdings for Layout<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Option<Arc<Manifest>>, ArchiveError> {
        let Some(stored) = self.scan.blob(&descriptor.digest) else { return Ok(None) };
        let what = format!("the manifest {}", descriptor.digest);
        let bytes = load(self.work.handle, &self.work.fetcher, stored, &what, MAX_MANIFEST as u64)?;
        let media_type = match descriptor.media_type.as_str() {
            "" => Parsed::pushed(None, &bytes).map_err(crate::tree::TreeError::from)?.media_type,
            known => known.to_owned(),
        };
        Ok(Some(Arc::new(Manifest { digest: descriptor.digest.clone(), media_type, bytes })))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Option<Blob>, ArchiveError> {
        Ok(self.scan.blob(&descriptor.digest).map(|stored| stored.blob.clone()))
    }
}
