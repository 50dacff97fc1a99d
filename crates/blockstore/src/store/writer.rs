//! A writer for the blocks of one file, which gives a large file's leaves a pack of their own.

use super::{DiskStore, blocks::class_of};
use crate::pack::{Class, Pack};
use cidery_core::{Block, BlockWriter, Origin, StoreError};
use std::sync::Arc;

/// Small blocks, and the first large leaf, go to the packs that everybody shares: a file of one
/// leaf must not cost a flush of its own.
pub(super) struct PackWriter {
    store: DiskStore,
    origin: Origin,
    large: bool,
    own: Option<Arc<Pack>>,
}

impl PackWriter {
    pub(super) fn new(store: DiskStore, origin: Origin) -> Self {
        Self { store, origin, large: false, own: None }
    }
}

impl BlockWriter for PackWriter {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        let inner = self.store.0.inner.clone();
        if class_of(block) == Class::Nodes {
            return inner.put(block, self.origin);
        }
        if !std::mem::replace(&mut self.large, true) {
            return inner.put(block, self.origin);
        }
        inner.put_with(block, self.origin, |record, publish| {
            inner.packs.append(&mut self.own, Class::Leaves, record, publish)
        })
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        if let Some(pack) = self.own.take() {
            self.store.0.inner.packs.give_back(pack);
        }
    }
}
