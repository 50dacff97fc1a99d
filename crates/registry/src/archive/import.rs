//! Reads an archive, whatever kind it is, and links its images into a namespace's tree.

use super::{
    ArchiveError, Meter, Report,
    compress::Compression,
    docker_in,
    names::latest,
    oci_in, registry_in,
    scan::Scan,
    tar_in::{BLOCK, checksum_holds},
    walk::Image,
};
use crate::tree::{self, ImageManifest, Tree};
use cidery_core::{
    BlockWriter, Blockstore, Digest, Fetcher, Hold, Origin, RepositoryName, StoreError, Tag,
    ports::{HoldingWriter, LocalFetcher},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Read},
    sync::Arc,
};
use tokio::runtime::Handle;

/// An image that is in the namespace now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// `repository:tag`, or `repository@digest` for an image without a tag.
    pub name: String,
    /// Its manifest's digest.
    pub digest: Digest,
    /// Bytes of its manifests and blobs.
    pub bytes: u64,
    /// Set when the archive names several platforms and holds only this one, which then is what was imported.
    pub platform: Option<String>,
}

/// An image found in an archive, complete.
pub(super) struct Candidate {
    pub(super) repository: Option<RepositoryName>,
    pub(super) tag: Option<Tag>,
    /// What to call it in messages.
    pub(super) what: String,
    pub(super) digest: Digest,
    pub(super) image: Arc<Image>,
    pub(super) platform: Option<String>,
}

impl Candidate {
    fn is_named(&self) -> bool {
        self.repository.is_some() || self.tag.is_some()
    }
}

/// What the readers of each kind work with.
pub(super) struct Input<'a> {
    pub(super) handle: &'a Handle,
    pub(super) blocks: &'a Arc<dyn Blockstore>,
    pub(super) fetcher: Arc<dyn Fetcher>,
    /// Keeps what is stored until it is linked.
    pub(super) hold: Arc<dyn Hold>,
}

impl Input<'_> {
    /// A writer for what the archive holds.
    pub(super) fn writer(&self) -> Result<Box<dyn BlockWriter>, StoreError> {
        Ok(Box::new(HoldingWriter { writer: self.blocks.writer(Origin::Imported)?, hold: self.hold.clone() }))
    }
}

/// Reads images from an OCI layout or docker-archive as a tar (plain, gzip or zstd) or from a CAR;
/// which it is shows in the stream itself. Runs on a blocking thread; `handle` is of a multi-threaded
/// runtime.
///
/// `as_name` renames: with a tag, the archive must hold one image; without, images keep the tags
/// they have, and one that has none becomes `latest`.
///
/// # Errors
/// Nothing was adopted, unless the archive holds several repositories and the store failed between them.
pub fn import(
    handle: &Handle,
    tree: &Tree,
    blocks: Arc<dyn Blockstore>,
    input: &mut dyn Read,
    as_name: Option<(RepositoryName, Option<Tag>)>,
    progress: &mut Report<'_>,
) -> Result<Vec<Imported>, ArchiveError> {
    let (first, input) = peek(input)?;
    match Compression::detect(&first) {
        Compression::None => plain(handle, tree, &blocks, &first, input, as_name, progress),
        compression @ (Compression::Gzip | Compression::Zstd) => {
            let mut unpacked = compression.reader(input).map_err(ArchiveError::from_input)?;
            let (first, input) = peek(&mut *unpacked)?;
            plain(handle, tree, &blocks, &first, input, as_name, progress)
        }
        Compression::Other(name) => {
            Err(ArchiveError::Unrecognised { found: format!("it is compressed with {name}; unpack it first") })
        }
    }
}

fn plain(
    handle: &Handle,
    tree: &Tree,
    blocks: &Arc<dyn Blockstore>,
    first: &[u8],
    input: impl Read,
    as_name: Option<(RepositoryName, Option<Tag>)>,
    progress: &mut Report<'_>,
) -> Result<Vec<Imported>, ArchiveError> {
    let fetcher: Arc<dyn Fetcher> = Arc::new(LocalFetcher(blocks.clone()));
    let work = Input { handle, blocks, fetcher, hold: blocks.hold() };
    let mut meter = Meter::new(progress, None);
    let found = if checksum_holds(first) {
        let mut writer = work.writer()?;
        let scan = Scan::read(input, &mut *writer, &mut meter)?;
        match (&scan.index, &scan.manifest) {
            (Some(index), _) => oci_in::read(&work, &scan, index)?,
            (None, Some(manifest)) => docker_in::read(&work, &scan, manifest, &mut *writer)?,
            (None, None) => return Err(scan.unrecognised()),
        }
    } else if registry_in::looks_like_car(first) {
        registry_in::read(&work, input, &mut meter)?
    } else {
        let found = if first.is_empty() { "it is empty" } else { "it is neither a tar nor a CAR" };
        return Err(ArchiveError::Unrecognised { found: found.into() });
    };
    adopt(handle, tree, place(found, as_name)?)
}

/// The first block's worth of bytes, and a reader that gives them again.
fn peek<'a>(input: &'a mut dyn Read) -> Result<(Vec<u8>, impl Read + 'a), ArchiveError> {
    let mut first = Vec::with_capacity(BLOCK);
    input.take(BLOCK as u64).read_to_end(&mut first).map_err(ArchiveError::from_input)?;
    Ok((first.clone(), io::Cursor::new(first).chain(input)))
}

/// Where an image goes.
type Placed = (RepositoryName, Option<Tag>, Candidate);

/// Decides repository and tag of every image.
fn place(found: Vec<Candidate>, as_name: Option<(RepositoryName, Option<Tag>)>) -> Result<Vec<Placed>, ArchiveError> {
    // Where some have names, the others belong to them (signatures, say), and go by digest.
    let some_named = found.iter().any(Candidate::is_named);
    let (images, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|image| image.is_named() == some_named);
    let mut placed = match as_name {
        Some((repository, tag)) => rename(images, &repository, tag)?,
        None => images
            .into_iter()
            .map(|image| match image.repository.clone() {
                Some(repository) => Ok((repository, image.tag.clone(), image)),
                None => Err(ArchiveError::NeedsName { what: image.what }),
            })
            .collect::<Result<Vec<_>, _>>()?,
    };
    let repositories: HashSet<&RepositoryName> = placed.iter().map(|(repository, ..)| repository).collect();
    let only =
        repositories.into_iter().next().filter(|first| placed.iter().all(|(other, ..)| other == *first)).cloned();
    for other in others {
        let repository = only.clone().ok_or_else(|| ArchiveError::NeedsName { what: other.what.clone() })?;
        placed.push((repository, None, other));
    }
    let mut tags = HashMap::new();
    for (repository, tag, image) in &placed {
        let Some(tag) = tag else { continue };
        if tags.insert((repository, tag), &image.digest).is_some_and(|before| *before != image.digest) {
            return Err(ArchiveError::malformed("the archive", format!("it calls two images {repository}:{tag}")));
        }
    }
    Ok(placed)
}

/// Puts every image into one repository; two may not end under one tag.
fn rename(images: Vec<Candidate>, repository: &RepositoryName, tag: Option<Tag>) -> Result<Vec<Placed>, ArchiveError> {
    let mut tags: HashMap<Tag, Digest> = HashMap::new();
    let mut placed = Vec::new();
    let names: Vec<String> = images.iter().map(|image| image.what.clone()).collect();
    for image in images {
        let tag = tag.clone().or_else(|| image.tag.clone()).unwrap_or_else(latest);
        match tags.get(&tag) {
            // The same image under two names.
            Some(digest) if *digest == image.digest => continue,
            Some(_) => {
                return Err(ArchiveError::Ambiguous {
                    count: names.len(),
                    images: super::error::shortened(&names),
                    name: format!("{repository}:{tag}"),
                });
            }
            None => tags.insert(tag.clone(), image.digest.clone()),
        };
        placed.push((repository.clone(), Some(tag), image));
    }
    Ok(placed)
}

/// Links everything: one commit for each repository, made together.
fn adopt(handle: &Handle, tree: &Tree, placed: Vec<Placed>) -> Result<Vec<Imported>, ArchiveError> {
    let mut repositories: BTreeMap<RepositoryName, (tree::Image, HashSet<Digest>)> = BTreeMap::new();
    let mut imported: Vec<Imported> = Vec::new();
    for (repository, tag, candidate) in placed {
        let (target, seen) = repositories.entry(repository.clone()).or_default();
        for blob in &candidate.image.blobs {
            if seen.insert(blob.digest.clone()) {
                target.blobs.push(blob.clone());
            }
        }
        for manifest in &candidate.image.manifests {
            if seen.insert(manifest.digest.clone()) {
                target.manifests.push(ImageManifest {
                    digest: manifest.digest.clone(),
                    media_type: Some(manifest.media_type.clone()),
                    bytes: manifest.bytes.clone(),
                });
            }
        }
        let name = match tag {
            Some(tag) => {
                let name = format!("{repository}:{tag}");
                target.tags.push((tag, candidate.digest.clone()));
                name
            }
            None => format!("{repository}@{}", candidate.digest),
        };
        let bytes = candidate.image.bytes();
        imported.push(Imported { name, digest: candidate.digest, bytes, platform: candidate.platform });
    }
    handle.block_on(async {
        let commits = repositories.iter().map(|(repository, (image, _))| tree.adopt(repository, image.clone()));
        futures::future::join_all(commits).await.into_iter().try_for_each(|commit| commit.map(drop))
    })?;
    Ok(imported)
}
