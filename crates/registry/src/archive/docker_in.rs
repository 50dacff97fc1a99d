//! Images of a docker-archive, of Docker's older layout (`<id>/layer.tar`, with links between
//! layers) as well as the newer one (`blobs/`). It holds no manifests, so one is made for each image:
//! of the config as it is, so that the image id stays, and the layers as they are.

use super::{
    ArchiveError,
    compress::Compression,
    content::{Content, Stored, check, digest_of, store},
    docker_out::{ArchiveImage, MANIFEST_FILE, MAX_CONFIG, diff_ids},
    import::{Candidate, Input},
    names::ImageName,
    oci_in::Budget,
    scan::{Scan, load},
    walk::Image,
};
use crate::tree::{Blob, Descriptor, Manifest, manifest::media_type::OCI_MANIFEST};
use cidery_core::{BlockWriter, Digest};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Images in one archive.
const MAX_IMAGES: usize = 4096;
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciManifest {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

pub(super) fn read(
    work: &Input<'_>,
    scan: &Scan,
    listed: &[u8],
    writer: &mut dyn BlockWriter,
) -> Result<Vec<Candidate>, ArchiveError> {
    let listed: Vec<ArchiveImage> =
        serde_json::from_slice(listed).map_err(|source| ArchiveError::json(MANIFEST_FILE, source))?;
    if listed.len() > MAX_IMAGES {
        let what = "the number of images in the archive".into();
        return Err(ArchiveError::TooLarge { what, limit: MAX_IMAGES as u64 });
    }
    let mut reader = Reader { work, scan, writer, unpacked: HashSet::new() };
    let mut held = Budget::default();
    let mut candidates = Vec::new();
    for image in listed {
        let tags = image.repo_tags.clone().unwrap_or_default();
        let what = tags.first().cloned().unwrap_or_else(|| format!("the image of {}", image.config));
        let (digest, found) = reader.image(&image, &what)?;
        held.take(&found)?;
        let found = Arc::new(found);
        let candidate = |repository, tag, what| Candidate {
            repository,
            tag,
            what,
            digest: digest.clone(),
            image: found.clone(),
            platform: None,
        };
        if tags.is_empty() {
            candidates.push(candidate(None, None, what));
        }
        for text in tags.iter().filter(|text| text.as_str() != "<none>:<none>") {
            let (repository, tag) = ImageName::parse(text)?.tag_or_latest();
            candidates.push(candidate(Some(repository), tag, text.clone()));
        }
    }
    if candidates.is_empty() {
        return Err(ArchiveError::malformed(MANIFEST_FILE, "it names no image"));
    }
    Ok(candidates)
}

struct Reader<'a> {
    work: &'a Input<'a>,
    scan: &'a Scan,
    writer: &'a mut dyn BlockWriter,
    /// Compressed layers that were checked against a diff_id already: images share layers.
    unpacked: HashSet<(Digest, Digest)>,
}

impl Reader<'_> {
    fn image(&mut self, listed: &ArchiveImage, what: &str) -> Result<(Digest, Image), ArchiveError> {
        let layers = listed.layers.as_deref().unwrap_or_default();
        let missing: Vec<String> = std::iter::once(&listed.config)
            .chain(layers)
            .filter(|path| self.scan.file(path).is_none())
            .map(|path| path.chars().take(120).collect())
            .collect();
        if !missing.is_empty() {
            return Err(ArchiveError::Missing { image: what.into(), missing });
        }
        let config = self.file(&listed.config, what)?;
        let bytes = load(self.work.handle, &self.work.fetcher, &config, "the image's config", MAX_CONFIG)?;
        if let Some(promised) = id_in(&listed.config) {
            check(
                &format!("the config {}", listed.config),
                &promised,
                &Digest::sha256(&Sha256::digest(&bytes).into()),
            )?;
        }
        let diff_ids = diff_ids(&bytes)?;
        if diff_ids.len() != layers.len() {
            let detail = format!("{} layers, where the config has {} diff_ids", layers.len(), diff_ids.len());
            return Err(ArchiveError::malformed(MANIFEST_FILE, detail));
        }
        let mut manifest = OciManifest {
            schema_version: 2,
            media_type: OCI_MANIFEST,
            config: descriptor(OCI_CONFIG.into(), &config.blob),
            layers: Vec::new(),
        };
        let mut image = Image { blobs: vec![config.blob], ..Image::default() };
        let mut seen = HashSet::new();
        for (path, diff_id) in layers.iter().zip(&diff_ids) {
            let layer = self.file(path, what)?;
            let media_type = self.layer_type(path, &layer, diff_id)?;
            manifest.layers.push(descriptor(media_type, &layer.blob));
            if seen.insert(layer.blob.digest.clone()) {
                image.blobs.push(layer.blob);
            }
        }
        let json = serde_json::to_vec(&manifest).map_err(|source| ArchiveError::json("the manifest", source))?;
        let stored = store(&mut json.as_slice(), None, self.writer, |_| {})?;
        let digest = stored.blob.digest;
        let media_type = OCI_MANIFEST.to_owned();
        image.manifests.push(Arc::new(Manifest { digest: digest.clone(), media_type, bytes: json.into() }));
        Ok((digest, image))
    }

    fn file(&self, path: &str, what: &str) -> Result<Stored, ArchiveError> {
        let missing = || ArchiveError::Missing { image: what.into(), missing: vec![path.to_owned()] };
        self.scan.file(path).cloned().ok_or_else(missing)
    }

    /// The layer's media type, after its plain bytes were compared with the diff_id.
    fn layer_type(&mut self, path: &str, layer: &Stored, diff_id: &Digest) -> Result<String, ArchiveError> {
        let suffix = match layer.compression {
            Compression::None | Compression::Other(_) => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        if layer.blob.digest == *diff_id {
            // Whatever it looks like, it is a layer as it is.
            return Ok(OCI_LAYER.into());
        }
        let pair = (layer.blob.digest.clone(), diff_id.clone());
        if !self.unpacked.contains(&pair) {
            let what = format!("the layer {path}");
            if suffix.is_empty() && layer.blob.digest.algorithm() == diff_id.algorithm() {
                check(&what, diff_id, &layer.blob.digest)?;
            }
            let content = Content::open(self.work.handle, &self.work.fetcher, &layer.blob.cid)?;
            let compression = if suffix.is_empty() { Compression::None } else { layer.compression };
            let mut plain = compression.bounded(content, layer.blob.size).map_err(ArchiveError::from_input)?;
            let (digest, _) = digest_of(&mut plain, diff_id)?;
            check(&what, diff_id, &digest)?;
            self.unpacked.insert(pair);
        }
        Ok(format!("{OCI_LAYER}{suffix}"))
    }
}

fn descriptor(media_type: String, blob: &Blob) -> Descriptor {
    Descriptor {
        media_type,
        digest: blob.digest.clone(),
        size: blob.size,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
        artifact_type: None,
    }
}

/// The image id that a config's name promises: `<64 hex>.json`.
fn id_in(path: &str) -> Option<Digest> {
    format!("sha256:{}", path.strip_suffix(".json")?).parse().ok()
}
