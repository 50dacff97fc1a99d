//! The handle to a namespace's one writer.

use super::{
    Blob, Descriptor, MAX_MANIFEST, Platform, Snapshot, TreeError,
    commit::{Addition, Edit, Prepared, Target},
    manifest::Parsed,
    writer::{self, Command, Done, Shared, on_thread},
};
use crate::{hash::Hasher, rules::TagRules};
use cidery_core::{Blockstore, Bytes, Cid, Digest, Namespace, Reference, RepositoryName, RootStore, Tag};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Commits that wait for the writer; further callers wait to wait.
const QUEUE: usize = 256;

/// Manifests above this are hashed and parsed on a blocking thread.
const INLINE: usize = 64 << 10;

/// The handle to the one writer of an owned namespace; clones share it. The writer stops when the
/// last handle is dropped.
#[derive(Clone)]
pub struct Tree {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Sender<Command>,
}

/// A manifest to put into a repository.
#[derive(Debug, Clone)]
pub struct Push {
    /// The manifest's digest, if the client named it, or a tag for it.
    pub reference: Reference,
    /// Further tags (`?tag=…`).
    pub tags: Vec<Tag>,
    /// The Content-Type header.
    pub media_type: Option<String>,
    /// The manifest, byte for byte.
    pub bytes: Bytes,
    /// What to do about references to what the repository does not hold.
    pub missing: Missing,
    /// What the push may change.
    pub may: May,
}

/// What a push may change in its repository. It is looked at inside the commit, so no other push comes in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct May {
    /// Add a manifest, or a tag, that is not there.
    pub create: bool,
    /// Let a tag that is there stand for another manifest.
    pub overwrite: bool,
}

impl Default for May {
    fn default() -> Self {
        Self { create: true, overwrite: true }
    }
}

/// What to do about a manifest's references to what its repository does not hold. A subject and non-distributable
/// layers are never required.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Missing {
    /// Refuse the manifest ([`TreeError::ManifestBlobUnknown`]).
    #[default]
    Refuse,
    /// The same, but of an index only images that run on one of these platforms are required.
    RefuseFor(Vec<Platform>),
    /// Accept a sparse image or index: what is missing may come later, or never.
    Accept,
}

impl Missing {
    /// Whether a manifest is refused that lacks this; `child` if it is a manifest in an index.
    pub(super) fn refuses(&self, reference: &Descriptor, child: bool) -> bool {
        match self {
            Self::Accept => false,
            Self::RefuseFor(platforms) if child => {
                reference.platform.as_ref().is_some_and(|platform| platforms.iter().any(|wanted| platform.is(wanted)))
            }
            Self::Refuse | Self::RefuseFor(_) => true,
        }
    }
}

/// What a manifest commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The manifest's digest.
    pub digest: Digest,
    /// The digest of its subject, if it has one (`OCI-Subject`).
    pub subject: Option<Digest>,
    /// The namespace's root that holds it.
    pub root: Cid,
}

/// An image whose blobs are stored already, to be linked in one commit.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Blobs that are in the store, each complete.
    pub blobs: Vec<Blob>,
    /// Manifests, in any order.
    pub manifests: Vec<ImageManifest>,
    /// Tags, and the manifest each stands for.
    pub tags: Vec<(Tag, Digest)>,
}

/// A manifest of an [`Image`].
#[derive(Debug, Clone)]
pub struct ImageManifest {
    /// Its digest; the bytes are checked against it.
    pub digest: Digest,
    /// Its media type, if known otherwise than from its bytes.
    pub media_type: Option<String>,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Tree {
    /// Opens a namespace, and starts its writer on the current runtime. Root and unfolded links
    /// come from `roots`. One handle (and its clones) at a time is to write to a namespace.
    ///
    /// # Errors
    /// [`TreeError::Store`] if the journal cannot be read.
    pub async fn open(
        namespace: Namespace,
        blocks: Arc<dyn Blockstore>,
        roots: Arc<dyn RootStore>,
    ) -> Result<Self, TreeError> {
        Self::open_with(namespace, blocks, roots, TagRules::default()).await
    }

    /// As [`Tree::open`], with rules about tags that hold for whoever writes.
    ///
    /// # Errors
    /// As [`Tree::open`].
    pub async fn open_with(
        namespace: Namespace,
        blocks: Arc<dyn Blockstore>,
        roots: Arc<dyn RootStore>,
        rules: TagRules,
    ) -> Result<Self, TreeError> {
        let shared = Arc::new(on_thread(move || Shared::load(namespace, blocks, roots, rules)).await??);
        let (queue, commands) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(shared.clone(), commands));
        Ok(Self { shared, queue })
    }

    /// The namespace it writes.
    pub fn namespace(&self) -> &Namespace {
        &self.shared.namespace
    }

    /// The current state: the root, and the links that are not yet part of it. Cheap.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.shared.state.read();
        Snapshot::owned(state.view.clone(), state.overlay.clone())
    }

    /// Links a stored blob into a repository. Durable on return, with the blob's blocks; no root is
    /// made, unless a manifest waits for it. The caller vouches that the blob is complete and has its digest.
    pub async fn link_blob(&self, repository: &RepositoryName, blob: &Blob) -> Result<(), TreeError> {
        let (shared, name, linked) = (self.shared.clone(), repository.clone(), blob.clone());
        on_thread(move || {
            shared.roots.link(&shared.link(&name, &linked))?;
            // Here and not after the await: a caller who goes away must not part the two.
            shared.state.write().overlay.insert(&name, linked);
            Ok::<_, TreeError>(())
        })
        .await??;
        self.fold_if_wanted(repository, &blob.digest).await;
        Ok(())
    }

    /// [`Tree::push`] with one reference.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        media_type: Option<&str>,
        bytes: Bytes,
    ) -> Result<Put, TreeError> {
        let media_type = media_type.map(str::to_owned);
        let push = Push {
            reference: reference.clone(),
            tags: Vec::new(),
            media_type,
            bytes,
            missing: Missing::default(),
            may: May::default(),
        };
        self.push(repository, push).await
    }

    /// Commits a manifest and its tags, and folds in the repository's links. Durable on return.
    ///
    /// # Errors
    /// [`TreeError::TooLarge`], [`TreeError::ManifestInvalid`], [`TreeError::DigestMismatch`],
    /// [`TreeError::ManifestBlobUnknown`], [`TreeError::NotAllowed`], [`TreeError::Immutable`]; [`TreeError::Store`] if it
    /// could not be made durable.
    pub async fn push(&self, repository: &RepositoryName, push: Push) -> Result<Put, TreeError> {
        let Push { reference, mut tags, media_type, bytes, missing, may } = push;
        let digest = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(tag) => {
                tags.insert(0, tag);
                None
            }
        };
        let prepared = if bytes.len() <= INLINE {
            prepare(digest, media_type.as_deref(), bytes)?
        } else {
            on_thread(move || prepare(digest, media_type.as_deref(), bytes)).await??
        };
        let digest = prepared.digest.clone();
        let subject = prepared.parsed.subject.as_ref().map(|subject| subject.digest.clone());
        let tags = tags.into_iter().map(|tag| (tag, digest.clone())).collect();
        let image = Addition { blobs: Vec::new(), manifests: vec![prepared], tags };
        let root = self.add(repository, image, missing, may).await?;
        Ok(Put { digest, subject, root })
    }

    /// Links an image whose blobs are stored already, in one commit; gives the root. Durable on
    /// return. Whatever its manifests refer to must be part of it, or of the repository.
    ///
    /// # Errors
    /// As [`Tree::push`].
    pub async fn adopt(&self, repository: &RepositoryName, image: Image) -> Result<Cid, TreeError> {
        let Image { blobs, manifests, tags } = image;
        let prepare_all = move || -> Result<_, TreeError> {
            let each = |ImageManifest { digest, media_type, bytes }: ImageManifest| {
                prepare(Some(digest), media_type.as_deref(), bytes)
            };
            manifests.into_iter().map(each).collect()
        };
        let manifests = on_thread(prepare_all).await??;
        self.add(repository, Addition { blobs, manifests, tags }, Missing::Refuse, May::default()).await
    }

    /// Removes a tag; `false` if there is none. Its manifest stays. Durable on return, like all deletes.
    ///
    /// # Errors
    /// [`TreeError::Undeletable`] for an immutable tag.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool, TreeError> {
        self.delete(repository, Target::Tag(tag.clone()), false).await
    }

    /// Removes a manifest and the tags that stand for it, immutable ones too; `false` if there is none. Its blobs stay.
    pub async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, TreeError> {
        let tagged = self.shared.tagged(repository, digest).await?;
        self.delete(repository, Target::Manifest(digest.clone(), tagged), false).await
    }

    /// Removes a blob from a repository, be it only journalled; `false` if it is not there.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, TreeError> {
        self.delete(repository, Target::Blob(digest.clone()), false).await
    }

    /// The current root, and every later one.
    pub fn roots(&self) -> watch::Receiver<Option<Cid>> {
        self.shared.current.subscribe()
    }

    async fn add(
        &self,
        repository: &RepositoryName,
        image: Addition,
        missing: Missing,
        may: May,
    ) -> Result<Cid, TreeError> {
        let done = self.send(Edit::Add { repository: repository.clone(), image, missing, may }).await?;
        match done.root {
            Some(root) => Ok(root),
            // Only an empty image leaves an empty namespace as it is.
            None => Err(TreeError::malformed("/", "there is nothing to add")),
        }
    }

    pub(super) async fn delete(
        &self,
        repository: &RepositoryName,
        what: Target,
        unused: bool,
    ) -> Result<bool, TreeError> {
        if !matches!(what, Target::Tag(_)) {
            self.shared.prepare_backlinks().await?;
        }
        Ok(self.send(Edit::Delete { repository: repository.clone(), what, unused }).await?.did_something())
    }

    pub(super) async fn send(&self, edit: Edit) -> Result<Done, TreeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Command { edit, reply }).await.map_err(|_| TreeError::Closed)?;
        answer.await.map_err(|_| TreeError::Closed)?
    }
}

/// Checks a manifest by itself: size, digest, form.
fn prepare(digest: Option<Digest>, media_type: Option<&str>, bytes: Bytes) -> Result<Prepared, TreeError> {
    if bytes.len() > MAX_MANIFEST {
        return Err(TreeError::TooLarge { what: "the manifest", size: bytes.len() as u64, limit: MAX_MANIFEST as u64 });
    }
    let mut hasher = digest.as_ref().map_or_else(Hasher::sha256, Hasher::like);
    hasher.update(&bytes);
    let actual = hasher.finish();
    if let Some(expected) = digest
        && expected != actual
    {
        return Err(TreeError::DigestMismatch { expected, actual });
    }
    let parsed = Parsed::pushed(media_type, &bytes)?;
    Ok(Prepared { digest: actual, bytes, parsed })
}
