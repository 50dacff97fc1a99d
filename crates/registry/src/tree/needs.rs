//! What in a repository needs what: so that with a tag everything goes that nothing else needs, and nothing more.
//!
//! As [`Named`](super::named::Named) it is read beside the writer, and followed from root to root by what differs.

use super::{TreeError, layout, manifest::Parsed, tagged::Targets, tidy::digests_between, view::View};
use cidery_core::{Cid, Digest, Reference, RepositoryName, Tag};
use cidery_unixfs::MAX_ENTRIES;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The tags and manifests of a repository, below one root.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    directory: Option<Cid>,
    revisions: Option<Cid>,
    tags: BTreeMap<Tag, Targets>,
    manifests: HashMap<Digest, References>,
    /// Manifests that stay, whatever needs them.
    held: HashSet<Digest>,
}

/// The manifests that one is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct References {
    /// Those that it consists of.
    pub children: Box<[Digest]>,
    /// What it says something of.
    pub subject: Option<Digest>,
}

/// What goes together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    /// Tags, and what they stand for.
    pub tags: Vec<(Tag, Option<Digest>)>,
    /// Manifests.
    pub manifests: Vec<Digest>,
}

impl Needs {
    /// The same below the view's root, of which only what differs is read. Everything must be readable: what is not
    /// may need all the rest.
    pub async fn up_to(mut self, view: &View, repository: &RepositoryName) -> Result<Self, TreeError> {
        let at = async |path: layout::Path| match view.storage().await? {
            Some(storage) => Ok(view.reader.find(&storage, &path).await?.map(|entry| entry.cid)),
            None => Ok::<_, TreeError>(None),
        };
        let (directory, revisions) = (at(layout::tags(repository)).await?, at(layout::revisions(repository)).await?);
        let (fetcher, before) = (&*view.reader.fetcher, self.directory.as_ref());
        for tag in cidery_unixfs::compare(fetcher, before, directory.as_ref(), MAX_ENTRIES).await? {
            let Ok(name) = Tag::try_from(tag.name) else { continue };
            match tag.after {
                Some(cid) => drop(self.tags.insert(name, view.reader.targets(&cid).await?)),
                None => drop(self.tags.remove(&name)),
            }
        }
        for gone in digests_between(&view.reader, revisions, self.revisions).await? {
            self.manifests.remove(&gone);
        }
        for digest in digests_between(&view.reader, self.revisions, revisions).await? {
            let manifest = view.manifest(repository, &Reference::Digest(digest.clone())).await?;
            let Some(manifest) = manifest else {
                let path = layout::revision(repository, &digest).join("/");
                return Err(TreeError::malformed(path, "the manifest is not here, which may need others"));
            };
            let references = Parsed::stored(&manifest).map_or_else(References::default, |parsed| References {
                children: parsed.manifests.into_iter().map(|child| child.digest).collect(),
                subject: parsed.subject.map(|subject| subject.digest),
            });
            self.manifests.insert(digest, references);
        }
        (self.directory, self.revisions) = (directory, revisions);
        Ok(self)
    }

    /// Has some manifests stay.
    pub fn hold(&mut self, manifests: HashSet<Digest>) {
        self.held = manifests;
    }

    /// What a tag stands for.
    pub fn current(&self, tag: &Tag) -> Option<&Digest> {
        self.tags.get(tag)?.current.as_ref()
    }

    /// Whether there is such a tag.
    pub fn has(&self, tag: &Tag) -> bool {
        self.tags.contains_key(tag)
    }

    /// What a manifest is about.
    pub fn subject(&self, digest: &Digest) -> Option<&Digest> {
        self.manifests.get(digest)?.subject.as_ref()
    }

    /// The tags, and what each ever stood for.
    pub fn tags(&self) -> impl Iterator<Item = (&Tag, &Targets)> {
        self.tags.iter()
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
        let mut parts = Parts::new(graph.digests.len());
        for (one, other) in graph.edges().filter(|(one, other)| going[*one] && going[*other]) {
            parts.join(one, other);
        }
        let mut units: BTreeMap<usize, Unit> = BTreeMap::new();
        for at in (0..going.len()).filter(|at| going[*at]) {
            units.entry(parts.of(at)).or_default().manifests.push(graph.digests[at].clone());
        }
        let mut alone = Vec::new();
        let target = |tag: &Tag| (tag.clone(), self.current(tag).cloned());
        for tag in tags.iter().filter(|tag| self.has(tag)) {
            match self.current(tag).and_then(|digest| graph.index.get(digest)).filter(|at| going[**at]) {
                Some(at) => units.entry(parts.of(*at)).or_default().tags.push(target(tag)),
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

/// Manifests by number, and how they hang together.
struct Graph<'a> {
    digests: Vec<&'a Digest>,
    index: HashMap<&'a Digest, usize>,
    children: Vec<Vec<usize>>,
    parents: Vec<Vec<usize>>,
    subject: Vec<Option<usize>>,
    referrers: Vec<Vec<usize>>,
    /// What a tag that stands for it belongs to: as if it were about that.
    about: Vec<Vec<usize>>,
    companions: Vec<Companion<'a>>,
    /// A tag that stays stands for it.
    held: Vec<bool>,
    /// A tag that goes stands for it.
    begun: Vec<usize>,
}

/// A tag that belongs to a manifest.
struct Companion<'a> {
    tag: &'a Tag,
    about: usize,
    target: Option<usize>,
}

impl<'a> Graph<'a> {
    fn new(needs: &'a Needs, tags: &BTreeSet<Tag>, fixed: impl Fn(&Tag) -> bool) -> Self {
        let digests: Vec<&Digest> = needs.manifests.keys().collect();
        let index: HashMap<&Digest, usize> = digests.iter().enumerate().map(|(at, digest)| (*digest, at)).collect();
        let count = digests.len();
        let (mut children, mut parents, mut referrers) =
            (vec![Vec::new(); count], vec![Vec::new(); count], vec![Vec::new(); count]);
        let mut subject = vec![None; count];
        for (at, digest) in digests.iter().enumerate() {
            let references = &needs.manifests[*digest];
            for child in references.children.iter().filter_map(|child| index.get(child)) {
                children[at].push(*child);
                parents[*child].push(at);
            }
            subject[at] = references.subject.as_ref().and_then(|subject| index.get(subject)).copied();
            subject[at].iter().for_each(|subject: &usize| referrers[*subject].push(at));
        }
        let held = digests.iter().map(|digest| needs.held.contains(*digest)).collect();
        let mut graph = Self {
            digests,
            index,
            children,
            parents,
            subject,
            referrers,
            about: vec![Vec::new(); count],
            companions: Vec::new(),
            held,
            begun: Vec::new(),
        };
        graph.look_at_tags(needs, tags, fixed);
        graph
    }

    fn look_at_tags(&mut self, needs: &'a Needs, tags: &BTreeSet<Tag>, fixed: impl Fn(&Tag) -> bool) {
        let belonging: Vec<(&Tag, &str)> = needs
            .tags
            .keys()
            .filter(|tag| !tags.contains(tag))
            .filter_map(|tag| Some((tag, layout::companion_of(tag)?)))
            .filter(|(tag, _)| !fixed(tag))
            .collect();
        let mut subjects: HashMap<String, usize> = HashMap::new();
        if !belonging.is_empty() {
            let name = |digest: &Digest| String::from(layout::referrers_tag(digest));
            subjects = self.digests.iter().enumerate().map(|(at, digest)| (name(digest), at)).collect();
        }
        let belonging: HashMap<&Tag, usize> =
            belonging.into_iter().filter_map(|(tag, subject)| Some((tag, *subjects.get(subject)?))).collect();
        for (tag, targets) in &needs.tags {
            let target = targets.current.as_ref().and_then(|digest| self.index.get(digest)).copied();
            match (belonging.get(tag), target) {
                (Some(about), target) => self.companions.push(Companion { tag, about: *about, target }),
                (None, Some(target)) if tags.contains(tag) => self.begun.push(target),
                (None, Some(target)) => self.held[target] = true,
                (None, None) => {}
            }
        }
        for Companion { about, target, .. } in &self.companions {
            if let Some(target) = target.filter(|target| target != about) {
                self.referrers[*about].push(target);
                self.about[target].push(*about);
            }
        }
    }

    /// What leads to what.
    fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        let lists = self.children.iter().enumerate().chain(self.referrers.iter().enumerate());
        lists.flat_map(|(one, others)| others.iter().map(move |other| (one, *other)))
    }

    fn going(&self) -> Vec<bool> {
        let mut candidate = vec![false; self.digests.len()];
        let mut open = self.begun.clone();
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut candidate[at], true) {
                open.extend(self.children[at].iter().chain(&self.referrers[at]));
            }
        }
        let is_needed = |at: &usize| {
            let about = self.subject[*at].iter().chain(&self.about[*at]);
            let mut by = self.parents[*at].iter().chain(about).chain(&self.referrers[*at]);
            candidate[*at] && (self.held[*at] || by.any(|by| !candidate[*by]))
        };
        let mut open: Vec<usize> = (0..candidate.len()).filter(is_needed).collect();
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut candidate[at], false) {
                let needed = self.children[at].iter().chain(&self.referrers[at]).chain(&self.subject[at]);
                open.extend(needed.filter(|needed| candidate[**needed]));
            }
        }
        candidate
    }
}

/// What hangs together, by the smallest number of it.
struct Parts(Vec<usize>);

impl Parts {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn of(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.of(one), self.of(other));
        self.0[one.max(other)] = one.min(other);
    }
}

#[cfg(test)]
mod tests;
