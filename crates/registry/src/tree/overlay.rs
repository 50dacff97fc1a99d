//! The links that are journalled and not yet part of a root.

use super::Blob;
use cidery_core::{Digest, RepositoryName};
use std::{collections::HashMap, sync::Arc};

type Links = HashMap<Digest, Blob>;

/// Blobs by repository. Clones are cheap and do not see each other's changes.
#[derive(Clone, Default)]
pub(super) struct Overlay(Arc<HashMap<RepositoryName, Arc<Links>>>);

impl Overlay {
    pub fn get(&self, repository: &RepositoryName, digest: &Digest) -> Option<&Blob> {
        self.0.get(repository)?.get(digest)
    }

    /// Whether the repository has links; one without has no entry.
    pub fn has(&self, repository: &RepositoryName) -> bool {
        self.0.contains_key(repository)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|links| links.len()).sum()
    }

    pub fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        self.0.keys()
    }

    pub fn of(&self, repository: &RepositoryName) -> impl Iterator<Item = &Blob> {
        self.0.get(repository).into_iter().flat_map(|links| links.values())
    }

    pub fn insert(&mut self, repository: &RepositoryName, blob: Blob) {
        let links = Arc::make_mut(&mut self.0).entry(repository.clone()).or_default();
        Arc::make_mut(links).insert(blob.digest.clone(), blob);
    }

    pub fn remove(&mut self, repository: &RepositoryName, digest: &Digest) {
        let map = Arc::make_mut(&mut self.0);
        if let Some(links) = map.get_mut(repository) {
            Arc::make_mut(links).remove(digest);
            if links.is_empty() {
                map.remove(repository);
            }
        }
    }
}
