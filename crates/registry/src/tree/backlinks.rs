//! How many repositories hold each digest: a blob that none holds any more leaves the tree.
//!
//! The tree has no such list, and to look through all repositories at every delete would take the longer the
//! more of them there are. So it is derived from a root, and follows the namespace from root to root by what
//! differs between them.

use super::{
    TreeError,
    commit::Work,
    layout,
    pending::from_root,
    reader::Reader,
    writer::{Shared, on_thread},
};
use cidery_core::{Cid, Digest};
use cidery_unixfs::{Difference, MAX_ENTRIES, UnixfsError};
use futures::executor::block_on;
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

/// Kept for so long after it was needed last: about 10 bytes a blob.
const KEPT: Duration = Duration::from_secs(600);

/// How often digests stand in repositories, as a blob or a manifest, below one root.
///
/// Digests are kept as hashes with a secret of this process. Two that share one, of which one is linked, would
/// keep the other in the tree.
#[derive(Default)]
pub(super) struct Backlinks {
    root: Option<Cid>,
    /// What is linked.
    linked: HashSet<u64>,
    /// How often beyond once, of what is linked more than once: of most there is nothing to count.
    more: HashMap<u64, u32>,
    hasher: RandomState,
    used: Option<Instant>,
}

/// What is below a directory.
#[derive(Clone)]
enum Part {
    /// A repository, or what stands between them and the root.
    Repositories,
    /// `_manifests`.
    Manifests,
    /// Algorithms, below which there are digests.
    Algorithms,
    /// Digests of this algorithm.
    Digests(String),
}

impl Backlinks {
    /// Makes it that of `root`. After an error it is that of no root.
    pub(super) async fn follow(&mut self, reader: &Reader, root: Option<Cid>) -> Result<(), TreeError> {
        self.used = Some(Instant::now());
        if root.is_some() && self.root == root {
            return Ok(());
        }
        // Whatever ends this halfway leaves counts of no root, which nobody goes on from.
        let from = self.root.take();
        if from.is_none() {
            self.clear();
        }
        let mut done = self.advance(reader, from, root).await;
        if done.is_err() && from.is_some() {
            // Of the root before, something may be collected already.
            self.clear();
            done = self.advance(reader, None, root).await;
        }
        match &done {
            Ok(()) => self.root = root,
            Err(_) => self.clear(),
        }
        done
    }

    fn clear(&mut self) {
        (self.root, self.linked, self.more) = Default::default();
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.linked.contains(&self.hasher.hash_one(digest.as_str()))
    }

    async fn advance(&mut self, reader: &Reader, from: Option<Cid>, root: Option<Cid>) -> Result<(), TreeError> {
        let (before, after) = (repositories(reader, from).await?, repositories(reader, root).await?);
        let mut waiting = vec![(Part::Repositories, before, after)];
        while let Some((part, before, after)) = waiting.pop() {
            let found = cidery_unixfs::compare(&*reader.fetcher, before.as_ref(), after.as_ref(), MAX_ENTRIES).await;
            let differences = match found {
                // A file between the repositories is nobody's business.
                Err(UnixfsError::NotADirectory { .. }) if before.is_none() => continue,
                found => found?,
            };
            for Difference { name, before, after } in differences {
                let below = match (&part, name.as_str()) {
                    (Part::Digests(algorithm), hex) => {
                        self.count(&format!("{algorithm}:{hex}"), before.is_some(), after.is_some());
                        continue;
                    }
                    (Part::Algorithms, _) => Part::Digests(name),
                    (Part::Manifests, "revisions") | (Part::Repositories, "_layers") => Part::Algorithms,
                    (Part::Repositories, "_manifests") => Part::Manifests,
                    (Part::Repositories, name) if !name.starts_with('_') => Part::Repositories,
                    _ => continue,
                };
                waiting.push((below, before, after));
            }
        }
        Ok(())
    }

    fn count(&mut self, digest: &str, before: bool, after: bool) {
        let key = self.hasher.hash_one(digest);
        if after && !before && !self.linked.insert(key) {
            *self.more.entry(key).or_default() += 1;
        }
        if before && !after {
            match self.more.get_mut(&key) {
                Some(1) => drop(self.more.remove(&key)),
                Some(count) => *count -= 1,
                None => drop(self.linked.remove(&key)),
            }
        }
    }
}

async fn repositories(reader: &Reader, root: Option<Cid>) -> Result<Option<Cid>, TreeError> {
    let Some(root) = root else { return Ok(None) };
    Ok(reader.find(&root, &from_root(vec![layout::REPOSITORIES.to_owned()])).await?.map(|entry| entry.cid))
}

impl Work {
    /// Whether any repository links this digest, as a blob or a manifest, in the root as of the last flush.
    pub(super) async fn is_linked(&self, digest: &Digest) -> Result<bool, TreeError> {
        let mut backlinks = self.backlinks.lock().await;
        backlinks.follow(&self.reader, self.root).await?;
        Ok(backlinks.has(digest))
    }
}

impl Shared {
    /// Derives the backlinks if they are not kept, so that the writer, and whoever waits for it, need not.
    pub async fn prepare_backlinks(self: &Arc<Self>) -> Result<(), TreeError> {
        if self.backlinks.try_lock().is_ok_and(|backlinks| backlinks.root.is_some()) {
            return Ok(());
        }
        let _one = self.preparing.lock().await;
        let shared = self.clone();
        on_thread(move || {
            block_on(async {
                let mut backlinks = shared.backlinks.lock().await;
                if backlinks.root.is_some() {
                    return Ok(());
                }
                let base = shared.base();
                backlinks.follow(&base.reader, base.root).await
            })
        })
        .await?
    }

    /// Lets go of them if they were not needed for a while.
    pub fn drop_backlinks(&self) {
        // Who has the lock needs them.
        if let Ok(mut backlinks) = self.backlinks.try_lock()
            && backlinks.used.is_some_and(|used| used.elapsed() > KEPT)
        {
            *backlinks = Backlinks::default();
        }
    }
}
