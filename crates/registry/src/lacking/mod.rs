//! What a manifest refers to and its repository lacks: a mirror of single platforms, or an image whose layers are
//! elsewhere. It is fetched by its digest when a client asks for it. An own repository keeps it from then on.
//!
//! ```text
//!   up to a leaf   the digest is the hash of the one block that it is
//!   larger         peers are asked which file holds it       search.rs, standing.rs
//!                  the file is fetched, hashed, and linked   file.rs
//! ```
//!
//! Where all peers name one file, it goes to the client while it arrives, as a cold pull does. Where they do not, some
//! of them lie: then it is fetched whole and checked first, one file after the other, while others may still answer.
//! All of it has an end: [`Config::search_timeout`](crate::Config::search_timeout).

mod file;
mod search;
mod standing;

pub(crate) use file::Coming;
pub(crate) use standing::Standing;

use crate::{
    error::Error,
    purge::{single_leaf, was_purged},
    registry::Inner,
    tree::{Blob, MAX_MANIFEST, May, Missing, Push, Tree, TreeError},
};
use cidery_core::{Cid, Digest, Reference, RepositoryName};
use cidery_unixfs::CHUNK;
use std::time::Duration;

/// How long the first answer is waited for: the client waits for what may be nowhere.
const PATIENCE: Duration = Duration::from_secs(10);

/// Digests that are looked for at once; others wait for a moment.
pub(crate) const AT_ONCE: usize = 16;

/// A blob that nobody pushed.
pub(crate) enum Found {
    /// It was fetched and checked, and is linked.
    Here(Blob),
    /// It will be, once its bytes went through this node.
    Coming(Box<Coming>),
}

/// Something that a repository lacks.
struct Wanted<'a> {
    digest: &'a Digest,
    /// Where it is linked.
    home: (&'a Tree, &'a RepositoryName),
    way: Way,
}

/// How it can be found.
#[derive(Clone, Copy)]
enum Way {
    /// It is this block.
    Leaf(Cid),
    /// It is a file of this size.
    File(u64),
}

impl Way {
    /// To what manifests say has this size; `None` if they do not agree.
    fn to(digest: &Digest, size: Option<u64>) -> Option<Self> {
        match (single_leaf(digest), size) {
            (_, Some(size)) if size > CHUNK as u64 => Some(Self::File(size)),
            (Some(leaf), _) => Some(Self::Leaf(leaf)),
            // Another hash than that of blocks.
            (None, Some(size)) => Some(Self::File(size)),
            (None, None) => None,
        }
    }
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
    ) -> Result<Option<Found>, Error> {
        match self.wanted(tree, repository, digest).await? {
            Some(wanted) => self.fetch_file(&wanted, stream).await,
            None => Ok(None),
        }
    }

    /// Fetches a manifest that an index of the repository names, and commits it, if it is to be had.
    pub(crate) async fn fetch_manifest(
        &self,
        tree: &Tree,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), Error> {
        let Some(wanted) = self.wanted(tree, repository, digest).await? else { return Ok(()) };
        let Some(bytes) = self.fetch_bytes(&wanted, MAX_MANIFEST as u64).await? else { return Ok(()) };
        let reference = Reference::Digest(digest.clone());
        let missing = Missing::Accept;
        let push = Push { reference, tags: Vec::new(), media_type: None, bytes, missing, may: May::default() };
        match tree.push(repository, push).await {
            Ok(_) => Ok(()),
            // It is no manifest, or does not say which.
            Err(TreeError::ManifestInvalid(_) | TreeError::TooLarge { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What a repository lacks; `None` if it is not to be looked for.
    async fn wanted<'a>(
        &self,
        tree: &'a Tree,
        repository: &'a RepositoryName,
        digest: &'a Digest,
    ) -> Result<Option<Wanted<'a>>, TreeError> {
        if self.config.read_only || was_purged(&*self.roots, digest) {
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
        let home = (tree, repository);
        Ok(Way::to(digest, referred.size()).map(|way| Wanted { digest, home, way }))
    }
}
