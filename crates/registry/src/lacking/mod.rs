//! What a manifest of an own repository refers to and nobody pushed: a mirror of single platforms, or an image whose
//! layers are elsewhere. It is fetched by its digest when a client asks for it.
//!
//! ```text
//!   up to a leaf   the digest is the hash of the one block that it is
//!   larger         peers are asked which file holds it     claims.rs
//!                  the file is fetched, hashed, and linked  file.rs
//! ```
//!
//! Where all peers name one file, it goes to the client while it arrives, as a cold pull does. Where they do not, some
//! of them lie: then it is fetched whole and checked first, one file after the other.

mod claims;
mod file;

pub(crate) use file::Coming;

use crate::{
    purge::single_leaf,
    registry::Inner,
    tree::{Blob, MAX_MANIFEST, May, Missing, Push, Tree, TreeError},
};
use cidery_core::{Bytes, Cid, Digest, Reference, RepositoryName, Scope, SessionSpec};
use cidery_unixfs::CHUNK;
use std::time::Duration;

/// How long peers are asked: the client waits for what may be nowhere.
const PATIENCE: Duration = Duration::from_secs(10);

/// Digests that are looked for at once; others are not found meanwhile.
pub(crate) const AT_ONCE: usize = 16;

/// A blob that nobody pushed.
pub(crate) enum Found {
    /// It was fetched, and is part of the repository now.
    Here(Blob),
    /// It will be, once its bytes went through this node.
    Coming(Box<Coming>),
}

/// Something that a repository lacks.
struct Wanted<'a> {
    tree: &'a Tree,
    repository: &'a RepositoryName,
    digest: &'a Digest,
}

/// How it can be found.
enum Way {
    /// It is this block.
    Leaf(Cid),
    /// It is a file of this size.
    File(u64),
}

impl Inner {
    /// Fetches a blob that a manifest of the repository names, and links it; with `stream`, it may be left to the
    /// caller to read it first.
    pub(crate) async fn fetch_blob(
        &self,
        tree: &Tree,
        repository: &RepositoryName,
        digest: &Digest,
        stream: bool,
    ) -> Result<Option<Found>, TreeError> {
        let wanted = Wanted { tree, repository, digest };
        let Some(way) = self.way(&wanted).await? else { return Ok(None) };
        let Ok(_one) = self.lacking.try_acquire() else { return Ok(None) };
        match way {
            Way::File(size) => self.fetch_file(&wanted, size, stream).await,
            Way::Leaf(cid) => {
                let hold = self.blocks.hold();
                let Some(bytes) = self.fetch_leaf(digest, cid).await else { return Ok(None) };
                hold.keep(&cid);
                let blob = Blob { digest: digest.clone(), cid, size: bytes.len() as u64 };
                tree.link_blob(repository, &blob).await?;
                Ok(Some(Found::Here(blob)))
            }
        }
    }

    /// Fetches a manifest that an index of the repository names, and commits it. `false` if it is not to be had.
    pub(crate) async fn fetch_manifest(
        &self,
        tree: &Tree,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, TreeError> {
        let wanted = Wanted { tree, repository, digest };
        let Some(way) = self.way(&wanted).await? else { return Ok(false) };
        let Ok(_one) = self.lacking.try_acquire() else { return Ok(false) };
        let bytes = match way {
            Way::Leaf(cid) => self.fetch_leaf(digest, cid).await,
            Way::File(size) if size <= MAX_MANIFEST as u64 => self.fetch_bytes(&wanted, size).await,
            Way::File(_) => None,
        };
        let Some(bytes) = bytes else { return Ok(false) };
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

    /// How to find what a repository lacks; `None` if it is not to be looked for.
    async fn way(&self, wanted: &Wanted<'_>) -> Result<Option<Way>, TreeError> {
        let Wanted { tree, repository, digest } = *wanted;
        let leaf = single_leaf(digest);
        // What was purged does not come back by itself: that withdraws the leaf too, be there one or not.
        if self.config.read_only || leaf.is_some_and(|leaf| self.roots.is_forgotten(&leaf)) {
            return Ok(None);
        }
        let Some(referred) = tree.referred(repository, digest).await? else { return Ok(None) };
        // As what it is here, it was asked for under the other kind.
        let (snapshot, reference) = (tree.snapshot(), Reference::Digest(digest.clone()));
        if snapshot.blob(repository, digest).await?.is_some()
            || snapshot.manifest(repository, &reference).await?.is_some()
        {
            return Ok(None);
        }
        Ok(match (leaf, referred.size) {
            (_, Some(size)) if size > CHUNK as u64 => Some(Way::File(size)),
            (Some(leaf), _) => Some(Way::Leaf(leaf)),
            // Another hash than that of blocks.
            (None, Some(size)) => Some(Way::File(size)),
            (None, None) => None,
        })
    }

    async fn fetch_leaf(&self, digest: &Digest, cid: Cid) -> Option<Bytes> {
        // Only what everybody may see, here and elsewhere: a manifest may name what its owner must not read.
        let session = self.network.session(SessionSpec { root: cid, hints: Vec::new(), scope: Scope::Public });
        match tokio::time::timeout(PATIENCE, session.fetch(&cid)).await {
            Ok(Ok(bytes)) => Some(bytes),
            Ok(Err(error)) => {
                tracing::debug!(%digest, %error, "what a manifest names is not to be had");
                None
            }
            Err(_) => None,
        }
    }
}
