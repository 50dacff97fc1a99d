//! Which files hold a blob, as somebody told it.

use super::MemoryStore;
use crate::{BlobFile, Digest, Digests, MAX_FILES, PublicBlocks, RootStore, StoreError};
use parking_lot::RwLock;
use std::collections::HashMap;

/// Files that were said to hold a blob, as far as a store shows them to peers. It believes whatever it is told.
pub struct MemoryDigests {
    store: MemoryStore,
    known: RwLock<HashMap<Digest, Vec<BlobFile>>>,
}

impl MemoryDigests {
    /// Knows nothing yet, and will not say more than `store` shows.
    pub fn new(store: MemoryStore) -> Self {
        Self { store, known: RwLock::default() }
    }

    /// Says that a file holds a blob.
    pub fn add(&self, digest: &Digest, file: BlobFile) {
        let mut known = self.known.write();
        let files = known.entry(digest.clone()).or_default();
        if !files.contains(&file) {
            files.push(file);
        }
    }
}

impl Digests for MemoryDigests {
    fn files(&self, digest: &Digest) -> Result<Vec<BlobFile>, StoreError> {
        let known = self.known.read().get(digest).cloned().unwrap_or_default();
        let mut shown = Vec::new();
        for file in known {
            let public = !self.store.is_forgotten(&file.cid) && self.store.public_size(&file.cid)?.is_some();
            if public && shown.len() < MAX_FILES {
                shown.push(file);
            }
        }
        Ok(shown)
    }
}
