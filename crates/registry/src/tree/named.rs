//! What the manifests of a repository refer to, so that nothing is deleted that is in use, and nothing expires that
//! is named.
//!
//! The tree has no such list, and to read all manifests at every delete would take the longer the more of them there
//! are. So they are read once, beside the writer, and followed from root to root by what differs between them.

use super::{
    NodeCache, Tree, TreeError,
    commit::{Target, Work},
    layout,
    manifest::Parsed,
    tidy::digests_between,
    view::View,
    writer::{Shared, on_thread},
};
use cidery_core::{Cid, Digest, Reference, RepositoryName};
use futures::executor::block_on;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

/// Repositories of which it is kept at most: about 8 bytes a reference, and 40 for each digest.
const REPOSITORIES: usize = 16;

/// Memory for directories while manifests are read, in bytes.
const WAYS: usize = 8 << 20;

/// Kept for so long after it was needed last.
const KEPT: Duration = Duration::from_secs(600);

/// What is kept, by repository.
pub(super) type AllNamed = Arc<Mutex<HashMap<RepositoryName, Named>>>;

/// What the manifests of one repository refer to, below one root.
///
/// Digests are kept as hashes with a secret of this process: of two that share one, the other counts as named too.
#[derive(Default)]
pub(super) struct Named {
    /// The directory of manifests that was gone through.
    revisions: Option<Cid>,
    /// What each of them refers to.
    manifests: HashMap<u64, Box<[u64]>>,
    /// What they refer to.
    referred: HashMap<u64, Referred>,
    /// Whether there is one that could not be read.
    unsure: bool,
    hasher: RandomState,
    used: Option<Instant>,
}

/// What manifests refer to, by one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Referred {
    /// How many do.
    count: u32,
    /// Its size in bytes, as they say; `None` if they do not agree.
    pub size: Option<u64>,
}

impl Named {
    /// Makes it that of the view's root. After an error it is that of no root.
    async fn follow(&mut self, view: &View, repository: &RepositoryName) -> Result<(), TreeError> {
        self.used = Some(Instant::now());
        let revisions = match view.storage().await? {
            Some(storage) => view.reader.find(&storage, &layout::revisions(repository)).await?.map(|entry| entry.cid),
            None => None,
        };
        if revisions == self.revisions {
            return Ok(());
        }
        let mut done = self.advance(view, repository, revisions).await;
        if done.is_err() && self.revisions.is_some() {
            // Of the root before, something may be collected already.
            self.clear();
            done = self.advance(view, repository, revisions).await;
        }
        match &done {
            Ok(()) => self.revisions = revisions,
            Err(_) => self.clear(),
        }
        done
    }

    fn clear(&mut self) {
        *self = Self { used: self.used, ..Self::default() };
    }

    async fn advance(
        &mut self,
        view: &View,
        repository: &RepositoryName,
        revisions: Option<Cid>,
    ) -> Result<(), TreeError> {
        for gone in digests_between(&view.reader, revisions, self.revisions).await? {
            for named in self.manifests.remove(&self.hash(&gone)).into_iter().flatten() {
                if let Some(referred) = self.referred.get_mut(&named) {
                    referred.count -= 1;
                    if referred.count == 0 {
                        self.referred.remove(&named);
                    }
                }
            }
        }
        for digest in digests_between(&view.reader, self.revisions, revisions).await? {
            let named: Box<[(u64, u64)]> = match view.manifest(repository, &Reference::Digest(digest.clone())).await {
                Ok(manifest) => {
                    let parsed = manifest.and_then(|manifest| Parsed::stored(&manifest));
                    let references = parsed.iter().flat_map(Parsed::references);
                    references.map(|reference| (self.hash(&reference.digest), reference.size)).collect()
                }
                Err(TreeError::Closed) => return Err(TreeError::Closed),
                // One that is damaged is to be deleted like any other.
                Err(_) => {
                    self.unsure = true;
                    Box::default()
                }
            };
            for (named, size) in &named {
                let referred = self.referred.entry(*named).or_insert(Referred { count: 0, size: Some(*size) });
                referred.count += 1;
                referred.size = referred.size.filter(|known| known == size);
            }
            self.manifests.insert(self.hash(&digest), named.iter().map(|(named, _)| *named).collect());
        }
        Ok(())
    }

    fn hash(&self, digest: &Digest) -> u64 {
        self.hasher.hash_one(digest.as_str())
    }

    fn referred(&self, digest: &Digest) -> Option<Referred> {
        self.referred.get(&self.hash(digest)).copied()
    }

    fn has(&self, digest: &Digest) -> bool {
        self.referred(digest).is_some()
    }
}

fn keep(all: &AllNamed, repository: &RepositoryName, named: Named) {
    let mut all = all.lock();
    all.insert(repository.clone(), named);
    if all.len() > REPOSITORIES {
        let oldest = all.iter().min_by_key(|(_, named)| named.used).map(|(repository, _)| repository.clone());
        oldest.map(|repository| all.remove(&repository));
    }
}

/// Makes what is kept of a repository that of the view, and asks it something.
async fn ask<T>(
    all: &AllNamed,
    view: &View,
    repository: &RepositoryName,
    question: impl FnOnce(&Named) -> T,
) -> Result<T, TreeError> {
    // Not under the lock: whoever looks meanwhile finds none.
    let taken = all.lock().remove(repository);
    let mut named = taken.unwrap_or_default();
    let done = named.follow(view, repository).await;
    let answer = question(&named);
    keep(all, repository, named);
    done.map(|()| answer)
}

impl Work {
    /// Whether a manifest of the repository refers to this, in the root as of the last flush.
    pub(super) async fn is_named(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, TreeError> {
        ask(&self.named, &self.view(), repository, |named| named.has(digest)).await
    }
}

impl Shared {
    /// Those of `digests` that manifests of the repository refer to, and whether that is all of them: a manifest that
    /// can't be read may refer to the others.
    pub async fn named_among(
        self: &Arc<Self>,
        repository: &RepositoryName,
        mut digests: Vec<Digest>,
    ) -> Result<(Vec<Digest>, bool), TreeError> {
        let among = move |named: &Named| {
            digests.retain(|digest| named.has(digest));
            (digests, !named.unsure)
        };
        self.ask_named(repository, among).await
    }

    async fn ask_named<T: Send + 'static>(
        self: &Arc<Self>,
        repository: &RepositoryName,
        question: impl FnOnce(&Named) -> T + Send + 'static,
    ) -> Result<T, TreeError> {
        let _one = self.preparing.lock().await;
        let (shared, repository) = (self.clone(), repository.clone());
        on_thread(move || {
            let base = shared.base();
            // The way to each manifest is nearly the same.
            let reader = shared.reader_on_thread(Arc::new(NodeCache::new(WAYS)));
            let view = View::owned(reader, base.root);
            block_on(ask(&shared.named, &view, &repository, question))
        })
        .await?
    }

    /// Lets go of what was not needed for a while, and of what may be read better the next time.
    pub fn drop_named(&self) {
        self.named.lock().retain(|_, named| !named.unsure && named.used.is_some_and(|used| used.elapsed() < KEPT));
    }
}

impl Tree {
    /// What the manifests of the repository say of this, if any refers to it.
    pub(crate) async fn referred(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Referred>, TreeError> {
        let digest = digest.clone();
        self.shared.ask_named(repository, move |named| named.referred(&digest)).await
    }

    /// As [`Tree::delete_manifest`], but not what an index of the repository refers to, or an immutable tag stands for.
    ///
    /// # Errors
    /// [`TreeError::InUse`], [`TreeError::Undeletable`].
    pub async fn delete_unused_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, TreeError> {
        let tagged = self.shared.tagged(repository, digest).await?;
        self.delete_unused(repository, digest, Target::Manifest(digest.clone(), tagged)).await
    }

    /// As [`Tree::delete_blob`], but not what a manifest of the repository refers to.
    ///
    /// # Errors
    /// [`TreeError::InUse`].
    pub async fn delete_unused_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, TreeError> {
        self.delete_unused(repository, digest, Target::Blob(digest.clone())).await
    }

    async fn delete_unused(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        what: Target,
    ) -> Result<bool, TreeError> {
        // So that the writer, and whoever waits for it, need not read every manifest.
        self.shared.named_among(repository, vec![digest.clone()]).await?;
        self.delete(repository, what, true).await
    }
}
