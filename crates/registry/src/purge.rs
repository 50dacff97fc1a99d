//! One blob or manifest, out of everything that is here.

use crate::{
    error::Error,
    names,
    registry::Registry,
    tree::{NodeCache, Snapshot},
};
use cidery_core::{Cid, Digest, Namespace, Reference, RepositoryName, RootStore, StoreError};
use std::sync::Arc;

/// Where something was, and is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The namespace.
    pub namespace: Namespace,
    /// The repository.
    pub repository: RepositoryName,
    /// Whether it was a manifest there, and not only a blob.
    pub manifest: bool,
}

impl Purged {
    /// The repository's name as it is pulled by: without `local` in front, with any other namespace.
    pub fn full_name(&self) -> String {
        names::full_name(&self.namespace, &self.repository)
    }
}

/// What a purge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Where it was.
    pub places: Vec<Purged>,
    /// The names of the pins that had kept it.
    pub pins: Vec<String>,
    /// Whether anything of it was here, be it in the cache.
    pub found: bool,
}

impl Registry {
    /// Deletes a digest from all repositories of all namespaces, withdraws it from earlier roots, and gives
    /// up what is cached or pinned of it. The next collection removes its bytes, also those that are on their way
    /// to somebody, whose stream ends with an error. What others have fetched stays with them.
    ///
    /// # Errors
    /// When a tree cannot be read or written; what was deleted until then stays deleted.
    pub async fn purge(&self, digest: &Digest) -> Result<Purge, Error> {
        let mut places = Vec::new();
        let mut files = self.inner.verdicts.holders(digest);
        files.extend(digest.raw_cid());
        for tree in self.inner.trees.values() {
            for repository in tree.snapshot().all_repositories().await? {
                let snapshot = tree.snapshot();
                let manifest = snapshot.manifest(&repository, &Reference::Digest(digest.clone())).await?;
                let blob = snapshot.blob(&repository, digest).await?;
                files.extend(blob.as_ref().map(|blob| blob.cid));
                if manifest.is_none() && blob.is_none() {
                    continue;
                }
                // Each may be there without the other.
                tree.delete_manifest(&repository, digest).await?;
                tree.delete_blob(&repository, digest).await?;
                let namespace = tree.namespace().clone();
                places.push(Purged { namespace, repository, manifest: manifest.is_some() });
            }
        }
        let roots = self.inner.roots.clone();
        for pinned in tokio::task::spawn_blocking(move || roots.pins()).await?? {
            // What is no registry's tree, or not all here, has no file of that name.
            let tree = Snapshot::foreign(self.inner.local.clone(), pinned.pin.root, &[], Arc::new(NodeCache::none()));
            files.extend(tree.file(digest).await.unwrap_or_default());
        }
        files.sort_unstable();
        files.dedup();
        let (roots, blocks) = (self.inner.roots.clone(), self.inner.blocks.clone());
        let purge = move || {
            let mut found = false;
            for file in &files {
                found |= blocks.size(file)?.is_some();
            }
            Ok::<_, StoreError>((roots.purge(&files)?, found))
        };
        let (pins, found) = tokio::task::spawn_blocking(purge).await??;
        let found = found || !places.is_empty();
        Ok(Purge { places, pins, found })
    }
}

/// Whether a digest was purged: then it does not come back by itself, and nobody is told of a copy. A purge withdraws the
/// raw block with the digest's hash too, be there one or not.
pub(crate) fn was_purged(roots: &dyn RootStore, digest: &Digest) -> bool {
    digest.raw_cid().is_some_and(|block| roots.is_forgotten(&block))
}

/// The file of a blob of one leaf: its digest is the leaf's hash.
pub(crate) fn single_leaf(digest: &Digest) -> Option<Cid> {
    digest.raw_cid().filter(|_| digest.is_sha256())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn a_digest_is_the_hash_of_its_single_leaf() {
        let block = Block::raw(&b"layer"[..]);
        let digest = Digest::sha256(block.cid().hash().digest().try_into().unwrap());
        assert_eq!(single_leaf(&digest), Some(*block.cid()));
        assert_eq!(single_leaf(&Digest::sha512(&[1; 64])), None);
    }
}
