//! The images of this node's own namespaces.

use crate::{
    error::Error,
    names, pull,
    registry::Registry,
    tree::{Snapshot, Tree, TreeError},
};
use cidery_core::{Digest, FetchError, Namespace, Reference, RepositoryName, ResolveError, StoreError, Tag};
use std::{collections::HashSet, time::SystemTime};

/// Names that are read at once.
const PAGE: usize = 1000;

/// Directory entries of past roots that one listing looks at, for when tags were pushed.
const WORK: usize = 4_000_000;

/// An image in a namespace of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What follows the host in a pull: `app:1`, `example.com/app:1`.
    pub name: String,
    /// The digest of its manifest or index; `None` if what says so is damaged.
    pub digest: Option<Digest>,
    /// Bytes of its manifests and blobs, each once, as its manifests say.
    pub bytes: u64,
    /// Since when the tag has this digest, as far as the history that is kept goes.
    pub pushed: SystemTime,
    /// The namespace it is in.
    pub namespace: Namespace,
    /// What its manifests refer to and its repository does not hold: it cannot be pulled whole.
    pub missing: Vec<Digest>,
    /// Why it cannot be read, if it cannot: then nothing else is known of it. A repository whose tags cannot be listed
    /// is one such image, without a tag in its name.
    pub damaged: Option<String>,
}

impl Registry {
    /// Every tag of every owned namespace, by namespace and name.
    ///
    /// # Errors
    /// When a tree or the store cannot be read.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let (mut images, mut work) = (Vec::new(), WORK);
        for (namespace, tree) in &self.inner.trees {
            self.list(namespace, tree, &mut images, &mut work).await?;
        }
        Ok(images)
    }

    /// The names of the images of an owned namespace, `repository:tag` in order, at most `limit`.
    /// Reads no manifest and no history.
    ///
    /// # Errors
    /// When this node does not own the namespace, or its tree cannot be read.
    pub async fn image_names(&self, namespace: &Namespace, limit: usize) -> Result<Vec<String>, Error> {
        let tree = self.tree(namespace).ok_or_else(|| {
            let (name, detail) = (namespace.to_string(), "it is not a namespace of this node".into());
            ResolveError::NotFound { name, detail }
        })?;
        let snapshot = tree.snapshot();
        let (mut names, mut after) = (Vec::new(), None::<RepositoryName>);
        while names.len() < limit {
            let page = snapshot.repositories(after.as_ref().map(RepositoryName::as_str), PAGE.min(limit)).await?;
            let Some(last) = page.last().cloned() else { break };
            for repository in &page {
                let tags = snapshot.tags(repository, None, limit - names.len()).await?.unwrap_or_default();
                names.extend(tags.iter().map(|tag| format!("{repository}:{tag}")));
            }
            after = Some(last);
        }
        Ok(names)
    }

    async fn list(
        &self,
        namespace: &Namespace,
        tree: &Tree,
        images: &mut Vec<Image>,
        work: &mut usize,
    ) -> Result<(), Error> {
        let (snapshot, first) = (tree.snapshot(), images.len());
        let mut tags = Vec::new();
        let mut after: Option<RepositoryName> = None;
        loop {
            let page = snapshot.repositories(after.as_ref().map(RepositoryName::as_str), PAGE).await?;
            let Some(last) = page.last().cloned() else { break };
            for repository in &page {
                if let Err(error) = self.list_tags(namespace, &snapshot, repository, images, &mut tags).await {
                    let damaged = Some(damage(error)?);
                    let name = names::full_name(namespace, repository);
                    images.push(Image { name, damaged, ..Image::unread(namespace) });
                    // Nobody has pushed a tag of this name, and it takes a place.
                    tags.push(None);
                }
            }
            after = Some(last);
        }
        let (places, tags): (Vec<usize>, Vec<_>) =
            tags.into_iter().enumerate().filter_map(|(place, tag)| Some((place, tag?))).unzip();
        let times = tree.tag_times(snapshot.root(), tags, work).await?;
        for (place, pushed) in places.into_iter().zip(times) {
            images[first + place].pushed = pushed;
        }
        Ok(())
    }

    /// Lists a repository's tags, without their times.
    async fn list_tags(
        &self,
        namespace: &Namespace,
        snapshot: &Snapshot,
        repository: &RepositoryName,
        images: &mut Vec<Image>,
        tags: &mut Vec<Option<(RepositoryName, Tag)>>,
    ) -> Result<(), Error> {
        let mut after: Option<Tag> = None;
        // Images of one repository share most of their blobs.
        let mut held = HashSet::new();
        loop {
            let page = snapshot.tags(repository, after.as_ref().map(Tag::as_str), PAGE).await?.unwrap_or_default();
            let Some(last) = page.last().cloned() else { return Ok(()) };
            for tag in page {
                let name = name_of(namespace, repository, &tag);
                let reference = Reference::Tag(tag.clone());
                let image = match manifests(snapshot, repository, &reference, &name).await {
                    Ok(image) => image,
                    Err(error) => {
                        let damaged = Some(damage(error)?);
                        let digest = snapshot.target(repository, &tag).await.unwrap_or_default();
                        images.push(Image { name, digest, damaged, ..Image::unread(namespace) });
                        tags.push(Some((repository.clone(), tag)));
                        continue;
                    }
                };
                let Some(image) = image else { continue };
                let Some(digest) = image.all.first().map(|manifest| manifest.digest.clone()) else { continue };
                let own: u64 = image.all.iter().map(|manifest| manifest.bytes.len() as u64).sum();
                let bytes = image.blobs.iter().fold(own, |sum, (_, size)| sum.saturating_add(*size));
                let pushed = SystemTime::UNIX_EPOCH;
                let mut missing = image.missing;
                for (blob, _) in image.blobs {
                    // One that is damaged is not missing: a scrub names it.
                    if !held.contains(&blob) && matches!(snapshot.blob(repository, &blob).await, Ok(None)) {
                        missing.push(blob);
                    } else {
                        held.insert(blob);
                    }
                }
                let (digest, namespace) = (Some(digest), namespace.clone());
                images.push(Image { name, digest, bytes, pushed, namespace, missing, damaged: None });
                tags.push(Some((repository.clone(), tag)));
            }
            after = Some(last);
        }
    }
}

impl Image {
    /// One of which nothing is known.
    fn unread(namespace: &Namespace) -> Self {
        Self {
            name: String::new(),
            digest: None,
            bytes: 0,
            pushed: SystemTime::UNIX_EPOCH,
            namespace: namespace.clone(),
            missing: Vec::new(),
            damaged: None,
        }
    }
}

/// What is damaged, if that is why something cannot be read.
fn damage(error: Error) -> Result<String, Error> {
    let is_damage = match &error {
        Error::Tree(error) => match error {
            TreeError::DigestMismatch { .. } | TreeError::Malformed { .. } | TreeError::Unixfs(_) => true,
            TreeError::Fetch(error) => matches!(
                error,
                FetchError::NotFound(_) | FetchError::Block(_) | FetchError::Store(StoreError::Corrupt { .. })
            ),
            TreeError::Store(error) => matches!(error, StoreError::Corrupt { .. }),
            _ => false,
        },
        Error::Store(error) => matches!(error, StoreError::Corrupt { .. }),
        _ => false,
    };
    if is_damage { Ok(error.to_string()) } else { Err(error) }
}

/// What follows the host in a pull of this image.
pub(crate) fn name_of(namespace: &Namespace, repository: &RepositoryName, tag: &Tag) -> String {
    format!("{}:{tag}", names::full_name(namespace, repository))
}

/// An image's manifests, or only its own if it is too large to be followed.
/// `None` if it was deleted meanwhile.
pub(crate) async fn manifests(
    snapshot: &Snapshot,
    repository: &RepositoryName,
    reference: &Reference,
    name: &str,
) -> Result<Option<pull::Manifests>, Error> {
    match pull::walk(snapshot, repository, reference, name).await {
        Err(Error::NoManifest { .. }) => Ok(None),
        Err(Error::Tree(TreeError::Malformed { .. } | TreeError::TooLarge { .. })) => {
            let manifest = snapshot.manifest(repository, reference).await?;
            let alone = |manifest| pull::Manifests { all: vec![manifest], blobs: Vec::new(), missing: Vec::new() };
            Ok(manifest.map(alone))
        }
        image => image.map(Some),
    }
}
