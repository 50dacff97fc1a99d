//! Changes that wait to become a root.

use super::layout::{self, Path};
use cidery_core::{Block, BlockWriter, Cid, Digest, StoreError};
use cidery_unixfs::Change;
use std::collections::HashMap;

/// Changes in their order, the small files they need, and what they do to each path.
#[derive(Default)]
pub(super) struct Pending {
    changes: Vec<(Path, Change)>,
    last: HashMap<Path, bool>,
    blocks: Vec<Block>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether the path is there after these changes; `None` if they do not touch it.
    pub fn has(&self, path: &Path) -> Option<bool> {
        self.last.get(path).copied()
    }

    pub fn put(&mut self, path: Path, cid: Cid, tsize: u64) {
        self.last.insert(path.clone(), true);
        self.changes.push((from_root(path), Change::Put { cid, tsize }));
    }

    /// A file of at most a leaf.
    pub fn put_small(&mut self, path: Path, content: &[u8]) {
        let block = Block::raw(content.to_vec());
        self.put(path, *block.cid(), content.len() as u64);
        self.blocks.push(block);
    }

    pub fn put_link(&mut self, path: Path, digest: &Digest) {
        self.put_small(path, layout::link_content(digest));
    }

    pub fn remove(&mut self, path: Path) {
        self.last.insert(path.clone(), false);
        self.changes.push((from_root(path), Change::Remove));
    }

    pub fn append(&mut self, other: Self) {
        self.changes.extend(other.changes);
        self.last.extend(other.last);
        self.blocks.extend(other.blocks);
    }

    /// Writes the small files, and gives the changes as paths from the root.
    pub fn write(self, out: &mut dyn BlockWriter) -> Result<Vec<(Path, Change)>, StoreError> {
        for block in &self.blocks {
            out.put(block)?;
        }
        Ok(self.changes)
    }
}

/// A path below the storage directory as one from the root.
pub(super) fn from_root(path: Path) -> Path {
    layout::PREFIX.iter().map(|part| (*part).to_owned()).chain(path).collect()
}
