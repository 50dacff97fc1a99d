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
    cmp::Reverse,
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

/// Memory for what is kept of all repositories, in bytes: of those that were needed last. More than this only if that
/// is of one repository.
const MEMORY: usize = 64 << 20;

/// About what a reference takes of it, in bytes, …
const REFERENCE: usize = 8;

/// … a digest that is referred to, …
const REFERRED: usize = 40;

/// … a manifest, …
const MANIFEST: usize = 64;

/// … and a repository, even one without manifests.
const REPOSITORY: usize = 512;

/// Memory for directories while manifests are read, in bytes.
pub(super) const WAYS: usize = 8 << 20;

/// Kept for so long after it was needed last.
const KEPT: Duration = Duration::from_secs(600);

/// What is kept, by repository.
pub(super) type AllNamed = Arc<Mutex<HashMap<RepositoryName, Kept>>>;

/// What is kept of one.
pub(super) struct Kept {
    named: Arc<tokio::sync::Mutex<Named>>,
    /// When it was needed last.
    used: Instant,
    /// Bytes of memory that it takes, about.
    memory: usize,
    unsure: bool,
}

impl Kept {
    /// What is needed now.
    fn now(named: Arc<tokio::sync::Mutex<Named>>, memory: usize, unsure: bool) -> Self {
        Self { named, used: Instant::now(), memory, unsure }
    }
}

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
    /// References of all manifests together.
    references: usize,
    /// Whether there is one that could not be read.
    unsure: bool,
    hasher: RandomState,
}

/// What manifests refer to, by one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Referred {
    /// How many do.
    count: u32,
    size: u64,
}

/// Manifests do not agree about a size; an `Option` would take 8 bytes more.
const NO_SIZE: u64 = u64::MAX;

impl Referred {
    /// Its size in bytes, as they say; `None` if they do not agree.
    pub fn size(&self) -> Option<u64> {
        (self.size != NO_SIZE).then_some(self.size)
    }

    /// One more does.
    fn again(&mut self, size: u64) {
        self.count += 1;
        if self.size != size {
            self.size = NO_SIZE;
        }
    }
}

impl Named {
    /// Makes it that of the view's root. After an error it is that of no root.
    async fn follow(&mut self, view: &View, repository: &RepositoryName) -> Result<(), TreeError> {
        let revisions = match view.storage().await? {
            Some(storage) => view.reader.find(&storage, &layout::revisions(repository)).await?.map(|entry| entry.cid),
            None => None,
        };
        if revisions.is_some() && revisions == self.revisions {
            return Ok(());
        }
        // Whatever ends this halfway leaves what is of no root, which nobody goes on from.
        let from = self.revisions.take();
        if from.is_none() {
            self.clear();
        }
        let mut done = self.advance(view, repository, from, revisions).await;
        if done.is_err() && from.is_some() {
            // Of the root before, something may be collected already.
            self.clear();
            done = self.advance(view, repository, None, revisions).await;
        }
        match &done {
            Ok(()) => self.revisions = revisions,
            Err(_) => self.clear(),
        }
        done
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    async fn advance(
        &mut self,
        view: &View,
        repository: &RepositoryName,
        from: Option<Cid>,
        revisions: Option<Cid>,
    ) -> Result<(), TreeError> {
        for gone in digests_between(&view.reader, revisions, from).await? {
            let gone = self.manifests.remove(&self.hash(&gone)).unwrap_or_default();
            self.references -= gone.len();
            for named in gone {
                if let Some(referred) = self.referred.get_mut(&named) {
                    referred.count -= 1;
                    if referred.count == 0 {
                        self.referred.remove(&named);
                    }
                }
            }
        }
        for digest in digests_between(&view.reader, from, revisions).await? {
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
                self.referred.entry(*named).or_insert(Referred { count: 0, size: *size }).again(*size);
            }
            self.references += named.len();
            let named = named.iter().map(|(named, _)| *named).collect();
            // Two manifests that share a hash: of the one that is forgotten everything counts for good.
            let other = self.manifests.insert(self.hash(&digest), named);
            self.references -= other.map_or(0, |other| other.len());
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

    /// About how many bytes of memory it takes.
    fn memory(&self) -> usize {
        REPOSITORY + self.references * REFERENCE + self.referred.len() * REFERRED + self.manifests.len() * MANIFEST
    }
}

/// Lets go of what was needed least recently, as far as all together takes more than `memory`. That of `repository`
/// stays.
fn make_room(all: &mut HashMap<RepositoryName, Kept>, repository: &RepositoryName, memory: usize) {
    if all.values().map(|kept| kept.memory).sum::<usize>() <= memory {
        return;
    }
    let mut others: Vec<_> = all.iter().filter(|(other, _)| *other != repository).collect();
    others.sort_unstable_by_key(|(_, kept)| Reverse(kept.used));
    let mut taken = all.get(repository).map_or(0, |kept| kept.memory);
    let over = |(other, kept): (&RepositoryName, &Kept)| {
        taken += kept.memory;
        (taken > memory).then(|| other.clone())
    };
    let gone: Vec<RepositoryName> = others.into_iter().filter_map(over).collect();
    gone.iter().for_each(|other| drop(all.remove(other)));
}

/// Makes what is kept of a repository that of the view, and asks it something. Whoever asks meanwhile waits: to read
/// it all twice takes longer.
async fn ask<T>(
    all: &AllNamed,
    view: &View,
    repository: &RepositoryName,
    question: impl FnOnce(&Named) -> T,
) -> Result<T, TreeError> {
    let first = || Kept::now(Arc::default(), REPOSITORY, false);
    let kept = all.lock().entry(repository.clone()).or_insert_with(first).named.clone();
    let mut named = kept.lock().await;
    let done = named.follow(view, repository).await;
    let answer = question(&named);
    let (memory, unsure) = (named.memory(), named.unsure);
    drop(named);
    let mut all = all.lock();
    // It may have had to make room meanwhile.
    all.insert(repository.clone(), Kept::now(kept, memory, unsure));
    make_room(&mut all, repository, MEMORY);
    done.map(|()| answer)
}

impl Work {
    /// Whether a manifest of the repository refers to this, in the root as of the last flush.
    pub(super) async fn is_named(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, TreeError> {
        ask(&self.named, &self.view(), repository, |named| named.has(digest)).await
    }
}

impl Shared {
    /// What of this manifests of a repository do not refer to, in the root of the view; `None` if they refer to anything
    /// that is not among it, or one can't be read.
    pub(super) async fn unnamed_among(
        self: &Arc<Self>,
        view: &View,
        repository: &RepositoryName,
        blobs: &[Digest],
        manifests: &[Digest],
    ) -> Result<Option<Vec<Digest>>, TreeError> {
        let question = |named: &Named| {
            let held: HashSet<u64> = blobs.iter().chain(manifests).map(|digest| named.hash(digest)).collect();
            let complete = !named.unsure && named.referred.keys().all(|referred| held.contains(referred));
            complete.then(|| blobs.iter().filter(|digest| !named.has(digest)).cloned().collect())
        };
        let kept = self.named.lock().contains_key(repository);
        let answer = ask(&self.named, view, repository, question).await;
        if !kept {
            // Whoever goes through all repositories does not come back to this one soon.
            self.named.lock().remove(repository);
        }
        answer
    }

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
        self.named.lock().retain(|_, kept| !kept.unsure && kept.used.elapsed() < KEPT);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_needed_last_is_kept_as_far_as_memory_goes() {
        let name = |name: &str| -> RepositoryName { name.parse().unwrap() };
        let mut all = HashMap::new();
        let mut need = |repository, memory| {
            all.insert(name(repository), Kept::now(Arc::default(), memory, false));
            make_room(&mut all, &name(repository), 300);
            let mut kept: Vec<String> = all.keys().map(ToString::to_string).collect();
            kept.sort();
            kept.concat()
        };
        assert_eq!(["a", "b", "c"].map(|repository| need(repository, 100)), ["a", "ab", "abc"]);
        // Again, and larger: then one of the others has no room.
        assert_eq!(need("a", 200), "ac");
        assert_eq!(need("x", 1000), "x", "the one in use is kept at any size");
        assert_eq!(need("b", 50), "b");
    }
}
