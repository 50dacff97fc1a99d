//! Which tags have to do with a manifest: looked for beside the writer, since it takes the longer the more tags
//! the repository has.

use super::{
    TreeError,
    cache::{Key, Value},
    layout::{self, LINK},
    pending::from_root,
    reader::Reader,
    writer::{Shared, on_thread},
};
use cidery_core::{Cid, Digest, RepositoryName, Tag};
use cidery_unixfs::MAX_ENTRIES;
use futures::executor::block_on;
use std::{collections::BTreeSet, sync::Arc};

/// The tags of a repository that stand for a manifest, or did once.
#[derive(Debug, Clone, Default)]
pub(super) struct Tagged {
    /// The directory that was looked through.
    directory: Option<Cid>,
    tags: BTreeSet<Tag>,
}

/// What one tag stands for, and what it ever stood for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Targets {
    pub current: Option<Digest>,
    pub ever: Arc<[Digest]>,
}

impl Shared {
    /// Looks through the tags of a repository, in the current root.
    pub async fn tagged(self: &Arc<Self>, repository: &RepositoryName, digest: &Digest) -> Result<Tagged, TreeError> {
        let (shared, repository, digest) = (self.clone(), repository.clone(), digest.clone());
        on_thread(move || {
            let base = shared.base();
            // The nodes pass by the cache; what they come to does not.
            let reader = Reader { cache: shared.cache.clone(), ..base.reader.clone() };
            block_on(Tagged::default().up_to(&reader, base.root, &repository, &digest))
        })
        .await?
    }
}

impl Tagged {
    /// The same in another root, of which only what differs is read.
    pub async fn up_to(
        &self,
        reader: &Reader,
        root: Option<Cid>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Self, TreeError> {
        let directory = match root {
            Some(root) => reader.find(&root, &from_root(layout::tags(repository))).await?.map(|entry| entry.cid),
            None => None,
        };
        let mut tags = self.tags.clone();
        let before = self.directory.as_ref();
        for difference in cidery_unixfs::compare(&*reader.fetcher, before, directory.as_ref(), MAX_ENTRIES).await? {
            let Ok(tag) = Tag::try_from(difference.name) else { continue };
            let concerned = match difference.after {
                Some(cid) => {
                    let targets = reader.targets(&cid).await?;
                    targets.current.as_ref() == Some(digest) || targets.ever.contains(digest)
                }
                None => false,
            };
            if concerned {
                tags.insert(tag);
            } else {
                tags.remove(&tag);
            }
        }
        Ok(Self { directory, tags })
    }

    pub fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter()
    }
}

impl Reader {
    /// Reads a tag's directory.
    pub async fn targets(&self, directory: &Cid) -> Result<Targets, TreeError> {
        let key = Key::Targets(*directory);
        if let Some(Value::Targets(targets)) = self.cache.get(&key) {
            return Ok(targets);
        }
        let path = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let current = match self.link(directory, &path(&["current", LINK])).await {
            // Then it stands for nothing.
            Err(TreeError::Malformed { .. }) => None,
            current => current?,
        };
        let mut ever = Vec::new();
        if let Some(index) = self.find(directory, &path(&["index"])).await? {
            for algorithm in self.list(&index.cid).await? {
                for entry in self.list(&algorithm.cid).await? {
                    ever.extend(format!("{}:{}", algorithm.name, entry.name).parse::<Digest>());
                }
            }
        }
        let targets = Targets { current, ever: ever.into() };
        self.cache.insert(key, Value::Targets(targets.clone()));
        Ok(targets)
    }
}
