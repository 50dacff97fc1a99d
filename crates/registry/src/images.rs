//! The images of this node's own namespaces.

use crate::{
    error::Error,
    pull,
    registry::Registry,
    tree::{NodeCache, Snapshot, Tree},
};
use cidery_core::{Digest, Namespace, Reference, RepositoryName, RootEntry, Tag};
use std::{sync::Arc, time::SystemTime};
use tokio::task::spawn_blocking;

/// Names that are read at once.
const PAGE: usize = 1000;

/// Roots of the past that are looked at for when a tag was pushed.
const HISTORY: usize = 1000;

/// An image in a namespace of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What follows the host in a pull: `app:1`, `example.com/app:1`.
    pub name: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// Bytes of its manifests and blobs, each once, as its manifests say.
    pub bytes: u64,
    /// Since when the tag has this digest, as far as the history that is kept goes.
    pub pushed: SystemTime,
    /// The namespace it is in.
    pub namespace: Namespace,
}

impl Registry {
    /// Every tag of every owned namespace, by namespace and name.
    ///
    /// # Errors
    /// When a tree or the store cannot be read.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let mut images = Vec::new();
        for (namespace, tree) in &self.inner.trees {
            self.list(namespace, tree, &mut images).await?;
        }
        Ok(images)
    }

    async fn list(&self, namespace: &Namespace, tree: &Tree, images: &mut Vec<Image>) -> Result<(), Error> {
        let history = {
            let (roots, namespace) = (self.inner.roots.clone(), namespace.clone());
            spawn_blocking(move || roots.history(&namespace, HISTORY)).await??
        };
        // One cache for all roots of the past: they share nearly all of their nodes.
        let mut past = Past { history, snapshots: Vec::new(), cache: Arc::default(), local: self.inner.local.clone() };
        let snapshot = tree.snapshot();
        let mut after: Option<RepositoryName> = None;
        loop {
            let page = snapshot.repositories(after.as_ref().map(RepositoryName::as_str), PAGE).await?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            for repository in &page {
                self.list_tags(namespace, &snapshot, repository, &mut past, images).await?;
            }
            after = Some(last);
        }
    }

    async fn list_tags(
        &self,
        namespace: &Namespace,
        snapshot: &Snapshot,
        repository: &RepositoryName,
        past: &mut Past,
        images: &mut Vec<Image>,
    ) -> Result<(), Error> {
        let mut after: Option<Tag> = None;
        loop {
            let page = snapshot.tags(repository, after.as_ref().map(Tag::as_str), PAGE).await?.unwrap_or_default();
            let Some(last) = page.last().cloned() else { return Ok(()) };
            for tag in page {
                let name = match namespace.as_str() {
                    "local" => format!("{repository}:{tag}"),
                    _ => format!("{namespace}/{repository}:{tag}"),
                };
                let reference = Reference::Tag(tag);
                let image = match pull::manifests(snapshot, repository, &reference, &name).await {
                    Ok(image) => image,
                    // Deleted meanwhile, or a sparse index: listed by what there is of it.
                    Err(Error::NoManifest { .. }) => match snapshot.manifest(repository, &reference).await? {
                        Some(manifest) => pull::Manifests { all: vec![manifest], blobs: Vec::new() },
                        None => continue,
                    },
                    Err(error) => return Err(error),
                };
                let Some(digest) = image.all.first().map(|manifest| manifest.digest.clone()) else { continue };
                let own: u64 = image.all.iter().map(|manifest| manifest.bytes.len() as u64).sum();
                let bytes = image.blobs.iter().fold(own, |sum, (_, size)| sum.saturating_add(*size));
                let pushed = past.since(repository, &reference, &digest).await?;
                images.push(Image { name, digest, bytes, pushed, namespace: namespace.clone() });
            }
            after = Some(last);
        }
    }
}

/// A namespace's earlier roots, newest first.
struct Past {
    history: Vec<RootEntry>,
    snapshots: Vec<Snapshot>,
    cache: Arc<NodeCache>,
    local: Arc<dyn cidery_core::Fetcher>,
}

impl Past {
    /// The time of the earliest root from which on `reference` stood for `digest` without a break.
    async fn since(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<SystemTime, Error> {
        let mut since = self.history.first().map_or_else(SystemTime::now, |entry| entry.at);
        for (index, entry) in self.history.iter().enumerate() {
            if index == self.snapshots.len() {
                let snapshot = Snapshot::foreign(self.local.clone(), entry.cid, &[], self.cache.clone());
                self.snapshots.push(snapshot);
            }
            let manifest = self.snapshots[index].manifest(repository, reference).await;
            // A root of the past may have been collected; it then says nothing.
            match manifest {
                Ok(Some(manifest)) if manifest.digest == *digest => since = entry.at,
                _ => break,
            }
        }
        Ok(since)
    }
}
