//! What a manifest of an own repository refers to and nobody pushed: a mirror of single platforms, or an image whose
//! layers are elsewhere. It is fetched by its digest when a client asks for it, as far as a digest is enough to
//! find it: up to a leaf, it is the hash of the one block that it is.

use crate::{
    purge::single_leaf,
    registry::Inner,
    tree::{Blob, May, Missing, Push, Tree, TreeError},
};
use cidery_core::{Bytes, Cid, Digest, Reference, RepositoryName, Scope, SessionSpec};
use std::time::Duration;

/// How long peers are asked: the client waits for what may be nowhere.
const PATIENCE: Duration = Duration::from_secs(10);

/// Digests that are looked for at once; others are not found meanwhile.
pub(crate) const AT_ONCE: usize = 16;

impl Inner {
    /// Fetches a blob that a manifest of the repository names, and links it.
    pub(crate) async fn fetch_blob(
        &self,
        tree: &Tree,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Blob>, TreeError> {
        let hold = self.blocks.hold();
        let Some((cid, bytes)) = self.fetch_leaf(tree, repository, digest).await? else { return Ok(None) };
        hold.keep(&cid);
        let blob = Blob { digest: digest.clone(), cid, size: bytes.len() as u64 };
        tree.link_blob(repository, &blob).await?;
        Ok(Some(blob))
    }

    /// Fetches a manifest that an index of the repository names, and commits it. `false` if it is not to be had.
    pub(crate) async fn fetch_manifest(
        &self,
        tree: &Tree,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, TreeError> {
        let Some((_, bytes)) = self.fetch_leaf(tree, repository, digest).await? else { return Ok(false) };
        let reference = Reference::Digest(digest.clone());
        let missing = Missing::Accept;
        let push = Push { reference, tags: Vec::new(), media_type: None, bytes, missing, may: May::default() };
        match tree.push(repository, push).await {
            Ok(_) => Ok(true),
            // It is no manifest, or does not say which.
            Err(TreeError::ManifestInvalid(_) | TreeError::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn fetch_leaf(
        &self,
        tree: &Tree,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(Cid, Bytes)>, TreeError> {
        let Some(cid) = single_leaf(digest) else { return Ok(None) };
        // What was purged does not come back by itself.
        if self.config.read_only || self.roots.is_forgotten(&cid) || !tree.is_named(repository, digest).await? {
            return Ok(None);
        }
        // As what it is here, it was asked for under the other kind.
        let (snapshot, reference) = (tree.snapshot(), Reference::Digest(digest.clone()));
        if snapshot.blob(repository, digest).await?.is_some()
            || snapshot.manifest(repository, &reference).await?.is_some()
        {
            return Ok(None);
        }
        let Ok(_one) = self.lacking.try_acquire() else { return Ok(None) };
        // Only what everybody may see, here and elsewhere: a manifest may name what its owner must not read.
        let session = self.network.session(SessionSpec { root: cid, hints: Vec::new(), scope: Scope::Public });
        match tokio::time::timeout(PATIENCE, session.fetch(&cid)).await {
            Ok(Ok(bytes)) => Ok(Some((cid, bytes))),
            Ok(Err(error)) => {
                tracing::debug!(%digest, %error, "what a manifest names is not to be had");
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }
}
