//! What in a repository needs what: so that with a tag everything goes that nothing else needs, and nothing more.
//!
//! As [`Named`](super::named::Named) it is read beside the writer, and followed from root to root by what differs.

mod graph;

use super::{TreeError, layout, manifest::Parsed, tagged::Targets, tidy::digests_between_at_most, view::View};
use cidery_core::{Cid, Digest, Reference, RepositoryName, Tag};
use cidery_unixfs::MAX_ENTRIES;
use graph::{Graph, Parts};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

/// What all manifests and tags of a repository may name, together: some 16 bytes each.
const MAX_NAMED: usize = 2 << 20;

/// How much may be read to get from one root to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// Entries of each directory that are looked at.
    pub entries: usize,
    /// Tags and manifests that differ.
    pub differing: usize,
}

impl Reach {
    /// All that a repository may have.
    pub const WHOLE: Self = Self { entries: MAX_ENTRIES, differing: 2 * MAX_ENTRIES };
    /// What the one writer, for whom everybody waits, may take its time for. Small directories are not sharded, so they
    /// are looked at whole, whatever differs.
    pub const STEP: Self = Self { entries: 16 << 10, differing: 1 << 10 };
}

/// A digest, as a hash with secrets of this process: nobody can make two that share one.
type Key = [u64; 2];

#[derive(Debug, Clone, Default)]
struct Keys([RandomState; 2]);

impl Keys {
    fn of(&self, digest: &Digest) -> Key {
        self.0.each_ref().map(|state| state.hash_one(digest))
    }
}

/// The tags and manifests of a repository, below one root.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    directory: Option<Cid>,
    revisions: Option<Cid>,
    keys: Keys,
    tags: BTreeMap<Tag, Marks>,
    manifests: HashMap<Key, References>,
    /// Manifests that stay, whatever needs them.
    held: HashSet<Key>,
    /// What tags and manifests name.
    named: usize,
}

/// What a tag stands for, and ever stood for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Marks {
    current: Option<Key>,
    ever: Box<[Key]>,
}

/// A manifest, and those that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct References {
    digest: Digest,
    /// Those that it consists of, each once.
    children: Box<[Key]>,
    /// What it says something of.
    subject: Option<Digest>,
}

/// What goes together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    /// Tags, and what they stand for, as far as that is here.
    pub tags: Vec<(Tag, Option<Digest>)>,
    /// Manifests.
    pub manifests: Vec<Digest>,
}

impl Needs {
    /// Makes it that of the view's root, of which only what differs is read. Everything must be readable: what is not
    /// may need all the rest. After an error it is that of no root.
    pub async fn follow(&mut self, view: &View, repository: &RepositoryName, reach: Reach) -> Result<(), TreeError> {
        let done = self.advance(view, repository, reach).await;
        if done.is_err() {
            *self = Self::default();
        }
        done
    }

    async fn advance(&mut self, view: &View, repository: &RepositoryName, reach: Reach) -> Result<(), TreeError> {
        let at = async |path: layout::Path| match view.storage().await? {
            Some(storage) => Ok(view.reader.find(&storage, &path).await?.map(|entry| entry.cid)),
            None => Ok::<_, TreeError>(None),
        };
        let (directory, revisions) = (at(layout::tags(repository)).await?, at(layout::revisions(repository)).await?);
        let (fetcher, before) = (&*view.reader.fetcher, self.directory.as_ref());
        let tags = cidery_unixfs::compare(fetcher, before, directory.as_ref(), reach.entries).await?;
        let differing = |before, after| digests_between_at_most(&view.reader, before, after, reach.entries);
        let (gone, come) = (differing(revisions, self.revisions).await?, differing(self.revisions, revisions).await?);
        if tags.len() + gone.len() + come.len() > reach.differing {
            return Err(TreeError::NotRetained(format!("too much of {repository} changed meanwhile")));
        }
        for tag in tags {
            let Ok(name) = Tag::try_from(tag.name) else { continue };
            match tag.after {
                Some(cid) => self.insert_tag(name, &view.reader.targets(&cid).await?),
                None => self.remove_tag(&name),
            }
            self.check_size(repository)?;
        }
        for digest in gone {
            self.remove_manifest(&digest);
        }
        for digest in come {
            let manifest = view.manifest(repository, &Reference::Digest(digest.clone())).await?;
            let Some(manifest) = manifest else {
                let path = layout::revision(repository, &digest).join("/");
                return Err(TreeError::malformed(path, "the manifest is not here, which may need others"));
            };
            let parsed = Parsed::stored(&manifest);
            let children = parsed.iter().flat_map(|parsed| &parsed.manifests).map(|child| &child.digest);
            let subject = parsed.iter().find_map(|parsed| parsed.subject.as_ref()).map(|subject| &subject.digest);
            self.insert_manifest(digest, children, subject.cloned());
            self.check_size(repository)?;
        }
        (self.directory, self.revisions) = (directory, revisions);
        Ok(())
    }

    fn check_size(&self, repository: &RepositoryName) -> Result<(), TreeError> {
        if self.named <= MAX_NAMED {
            return Ok(());
        }
        Err(TreeError::NotRetained(format!(
            "the manifests and tags of {repository} name more than {MAX_NAMED} others, too many for a rule of retention: \
             delete indexes that are not needed any more"
        )))
    }

    fn insert_tag(&mut self, tag: Tag, targets: &Targets) {
        self.remove_tag(&tag);
        let current = targets.current.as_ref().map(|digest| self.keys.of(digest));
        let ever: Box<[Key]> = targets.ever.iter().map(|digest| self.keys.of(digest)).collect();
        self.named += ever.len();
        self.tags.insert(tag, Marks { current, ever });
    }

    fn remove_tag(&mut self, tag: &Tag) {
        self.named -= self.tags.remove(tag).map_or(0, |marks| marks.ever.len());
    }

    fn insert_manifest<'a>(
        &mut self,
        digest: Digest,
        children: impl Iterator<Item = &'a Digest>,
        subject: Option<Digest>,
    ) {
        self.remove_manifest(&digest);
        let mut children: Vec<Key> = children.map(|child| self.keys.of(child)).collect();
        children.sort_unstable();
        children.dedup();
        self.named += children.len();
        let key = self.keys.of(&digest);
        self.manifests.insert(key, References { digest, children: children.into(), subject });
    }

    fn remove_manifest(&mut self, digest: &Digest) {
        let gone = self.manifests.remove(&self.keys.of(digest));
        self.named -= gone.map_or(0, |references| references.children.len());
    }

    /// Has some manifests stay.
    pub fn hold(&mut self, manifests: &HashSet<Digest>) {
        self.held = manifests.iter().map(|digest| self.keys.of(digest)).collect();
    }

    /// What a tag stands for, if that is here.
    pub fn current(&self, tag: &Tag) -> Option<&Digest> {
        let key = self.tags.get(tag)?.current?;
        Some(&self.manifests.get(&key)?.digest)
    }

    /// Whether there is such a tag.
    pub fn has(&self, tag: &Tag) -> bool {
        self.tags.contains_key(tag)
    }

    /// What a manifest is about.
    pub fn subject(&self, digest: &Digest) -> Option<&Digest> {
        self.manifests.get(&self.keys.of(digest))?.subject.as_ref()
    }

    /// The tags.
    pub fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.tags.keys()
    }

    /// Tags that stand for one of these manifests, or did once: each with each of those.
    pub fn ever<'a>(&'a self, manifests: &'a [Digest]) -> impl Iterator<Item = (&'a Tag, &'a Digest)> {
        let keys: HashMap<Key, &Digest> = manifests.iter().map(|digest| (self.keys.of(digest), digest)).collect();
        let tags = if keys.is_empty() { None } else { Some(&self.tags) };
        tags.into_iter().flatten().flat_map(move |(tag, marks)| {
            let found: Vec<_> = marks.ever.iter().filter_map(|key| Some((tag, *keys.get(key)?))).collect();
            found
        })
    }

    /// What goes with these tags, in parts.
    ///
    /// A manifest that one of them stands for goes, and with it those it consists of, those that are about it, and the
    /// tags that belong to it ([`layout::companion_of`]) unless they are `fixed`; but for what is needed: by another
    /// tag, by an index that stays, by being about something that stays, or by something that stays being about it. A
    /// manifest that had no tag and nothing to do with these is left alone.
    pub fn going(&self, tags: &BTreeSet<Tag>, fixed: impl Fn(&Tag) -> bool) -> Vec<Unit> {
        let graph = Graph::new(self, tags, fixed);
        let going = graph.going();
        let mut parts = Parts::new(graph.manifests.len());
        for (one, other) in graph.edges().filter(|(one, other)| going[*one] && going[*other]) {
            parts.join(one, other);
        }
        let mut units: BTreeMap<usize, Unit> = BTreeMap::new();
        for at in (0..going.len()).filter(|at| going[*at]) {
            units.entry(parts.of(at)).or_default().manifests.push(graph.manifests[at].digest.clone());
        }
        let mut alone = Vec::new();
        let target = |tag: &Tag| (tag.clone(), self.current(tag).cloned());
        for tag in tags.iter().filter(|tag| self.has(tag)) {
            match self.tags.get(tag).and_then(|marks| graph.at(marks.current)).filter(|at| going[*at]) {
                Some(at) => units.entry(parts.of(at)).or_default().tags.push(target(tag)),
                None => alone.push(Unit { tags: vec![target(tag)], manifests: Vec::new() }),
            }
        }
        for companion in graph.companions.iter().filter(|companion| going[companion.about]) {
            units.entry(parts.of(companion.about)).or_default().tags.push(target(companion.tag));
        }
        let mut units: Vec<Unit> = units.into_values().chain(alone).collect();
        for unit in &mut units {
            unit.tags.sort_unstable();
            unit.manifests.sort_unstable();
        }
        units.sort_unstable();
        units
    }
}

#[cfg(test)]
mod tests;
