//! Removing tags that no rule keeps ([`Retention`](crate::Retention)), with the manifests that only they stand for.
//!
//! ```text
//!   when tags were pushed ─► rules judge ─► what goes with them ─► the tree's writer, in small parts
//!   (journal, else history)  (rules.rs)     (tree/needs.rs)        (tree/retire.rs)
//! ```
//!
//! A dry run is the same up to the writer. What nobody kept a time of counts as pushed since it stands for what it
//! stands for, as far back as states are kept; that is noted then, and grows no younger with the states that go.

mod schedule;
mod tally;

pub(crate) use schedule::run;
pub(crate) use tally::Tally;

use crate::{
    error::Error,
    names,
    ops::{Action, Event, Origin, Target},
    registry::{Inner, Registry},
    tree::{Retired, Tree, TreeError, Unit},
};
use cidery_core::{Digest, Reference, RepositoryName, Tag, TagTime};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Instant, SystemTime},
};
use tokio::task::spawn_blocking;

/// Tags and manifests that one commit removes, about: others wait for it.
const AT_ONCE: usize = 64;

/// A part that others were too fast for is looked for again so many times.
const MAX_STALE: usize = 3;

/// Directory entries of past roots that one run looks at, for when tags were pushed.
const WORK: usize = 4_000_000;

/// What a run of retention removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// How many tags some rule covers.
    pub covered: usize,
    /// What went, by repository.
    pub gone: Vec<Gone>,
    /// Repositories that could not be looked through or changed, by their full names, and why.
    pub failed: Vec<(String, String)>,
}

/// What went of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its full name.
    pub repository: String,
    /// Its tags, by name.
    pub tags: Vec<GoneTag>,
    /// Its manifests, by digest.
    pub manifests: Vec<Digest>,
}

/// A tag that went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoneTag {
    /// The tag.
    pub tag: Tag,
    /// What it stood for.
    pub digest: Option<Digest>,
    /// When it was pushed.
    pub pushed: Option<SystemTime>,
}

impl Registry {
    /// Removes the tags that no rule of retention keeps, with what only they need; with `dry_run` only says what would
    /// go. Goes on when the caller goes. Done from time to time too.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when an observer cannot be told; what was removed until then stays removed. That a repository
    /// cannot be read or changed is said in the answer, and keeps no other.
    pub async fn retain(&self, dry_run: bool) -> Result<Retained, Error> {
        self.retain_at(dry_run, SystemTime::now()).await
    }

    /// As [`Registry::retain`], as if it were `now`.
    ///
    /// # Errors
    /// As [`Registry::retain`].
    pub async fn retain_at(&self, dry_run: bool, now: SystemTime) -> Result<Retained, Error> {
        let inner = self.inner.clone();
        let pass = async move {
            // Two at once would count the same tags twice. It is never closed.
            let _one = inner.retaining.acquire().await;
            let begun = Instant::now();
            let done = Run { inner: &inner, dry_run, now, work: WORK, done: Retained::default() }.all().await;
            if !dry_run {
                inner.retained.passed(&done, begun.elapsed());
            }
            done
        };
        tokio::spawn(pass).await?
    }
}

struct Run<'a> {
    inner: &'a Inner,
    dry_run: bool,
    now: SystemTime,
    work: usize,
    done: Retained,
}

impl Run<'_> {
    async fn all(mut self) -> Result<Retained, Error> {
        if !self.inner.config.tag_rules.has_retention() {
            return Ok(self.done);
        }
        for tree in self.inner.trees.values() {
            for repository in self.repositories(tree).await? {
                let full = names::full_name(tree.namespace(), &repository);
                if !self.inner.config.tag_rules.retains(&full) {
                    continue;
                }
                match self.repository(tree, &repository, &full).await {
                    Ok(()) => {}
                    Err(Error::NoRoom(error)) => return Err(error.into()),
                    Err(error) => {
                        tracing::warn!(repository = full, %error, "retention could not go through a repository");
                        self.done.failed.push((full, error.to_string()));
                    }
                }
            }
        }
        Ok(self.done)
    }

    /// Those that there are, and those of which there is only a note of when their tags were pushed.
    async fn repositories(&self, tree: &Tree) -> Result<BTreeSet<RepositoryName>, Error> {
        let mut all = tree.snapshot().all_repositories().await?;
        let (roots, namespace) = (self.inner.roots.clone(), tree.namespace().clone());
        all.extend(spawn_blocking(move || roots.timed_repositories(&namespace)).await??);
        Ok(all)
    }

    async fn repository(&mut self, tree: &Tree, repository: &RepositoryName, full: &str) -> Result<(), Error> {
        let times = self.times(tree, repository).await?;
        let (rules, name, now) = (self.inner.config.tag_rules.clone(), full.to_owned(), self.now);
        let (judged, tags) = spawn_blocking(move || (rules.judge(&name, &times, now), times)).await?;
        self.done.covered += judged.covered;
        let going: BTreeMap<Tag, SystemTime> = judged.going.into_iter().map(|at| tags[at].clone()).collect();
        if going.is_empty() {
            return Ok(());
        }
        let known: BTreeMap<Tag, SystemTime> = tags.into_iter().collect();
        let mut gone = Gone { repository: full.to_owned(), tags: Vec::new(), manifests: Vec::new() };
        let done = self.remove(tree, repository, going, &known, &mut gone).await;
        gone.tags.sort_unstable();
        gone.manifests.sort_unstable();
        if !gone.tags.is_empty() {
            self.done.gone.push(gone);
        }
        done
    }

    /// Removes these tags with what goes with them, some at a time.
    async fn remove(
        &self,
        tree: &Tree,
        repository: &RepositoryName,
        mut going: BTreeMap<Tag, SystemTime>,
        known: &BTreeMap<Tag, SystemTime>,
        gone: &mut Gone,
    ) -> Result<(), Error> {
        let mut add = |tags: Vec<(Tag, Option<Digest>)>, manifests: Vec<Digest>| {
            let tags = tags.into_iter().map(|(tag, digest)| GoneTag { pushed: known.get(&tag).copied(), tag, digest });
            gone.tags.extend(tags);
            gone.manifests.extend(manifests);
        };
        let (mut plan, mut stale) = (None, 0);
        while !going.is_empty() {
            let next = tree.plan(repository, going.keys().cloned().collect(), plan.take()).await?;
            if self.dry_run {
                next.units.into_iter().for_each(|Unit { tags, manifests }| add(tags, manifests));
                return Ok(());
            }
            let part = first_part(&next.units, &going);
            if part.is_empty() {
                // Others have deleted the rest meanwhile.
                return Ok(());
            }
            let room = self.inner.config.observers.room().await?;
            let Retired { tags, manifests, stale: is_stale } =
                tree.retire(repository, &next, part.clone(), self.now).await?;
            stale = if is_stale { stale + 1 } else { 0 };
            if stale > MAX_STALE {
                let text = format!("{repository} changes faster than it is looked through: the next run tries again");
                return Err(TreeError::NotRetained(text).into());
            }
            if !is_stale {
                going.retain(|tag, _| !part.contains_key(tag));
            }
            self.inner.retained.removed(tags.len(), manifests.len());
            let targets = targets(&gone.repository, &tags, &manifests);
            if !targets.is_empty() {
                room.tell(Event::new(Action::Delete, targets, Origin::Retention));
            }
            add(tags, manifests);
            plan = Some(next);
        }
        Ok(())
    }

    /// A repository's tags, and when each was pushed.
    async fn times(&mut self, tree: &Tree, repository: &RepositoryName) -> Result<Vec<(Tag, SystemTime)>, Error> {
        let known = {
            let (roots, namespace, repository) =
                (self.inner.roots.clone(), tree.namespace().clone(), repository.clone());
            spawn_blocking(move || roots.tag_times(&namespace, &repository)).await??
        };
        // After that: what is not there by now was deleted, and has not just been pushed.
        let snapshot = tree.snapshot();
        let names = snapshot.tags(repository, None, usize::MAX).await?.unwrap_or_default();
        let unknown: Vec<_> = names.iter().filter(|tag| !known.contains_key(tag)).cloned().collect();
        let asked = unknown.iter().map(|tag| (repository.clone(), tag.clone())).collect();
        let found = if unknown.is_empty() {
            Vec::new()
        } else {
            tree.tag_times(snapshot.root(), asked, &mut self.work).await?
        };
        // They were pushed before pushes were noted down, whatever is left of history.
        let earliest = known.values().min().copied();
        let before = |at: SystemTime| earliest.map_or(at, |earliest| at.min(earliest));
        let found = unknown.into_iter().zip(found).map(|(tag, at)| TagTime::new(repository.clone(), tag, before(at)));
        let found: Vec<TagTime> = found.collect();
        let there: BTreeSet<&Tag> = names.iter().collect();
        let stale = known.iter().filter(|(tag, _)| !there.contains(tag));
        let stale: Vec<_> = stale.map(|(tag, at)| TagTime::new(repository.clone(), tag.clone(), *at)).collect();
        let mut times: BTreeMap<Tag, SystemTime> = known;
        times.retain(|tag, _| there.contains(tag));
        times.extend(found.iter().map(|found| (found.tag.clone(), found.at)));
        if !self.dry_run {
            let (roots, namespace) = (self.inner.roots.clone(), tree.namespace().clone());
            let note = move || {
                roots.note_tags(&namespace, &found)?;
                roots.drop_tags(&namespace, &stale)
            };
            spawn_blocking(note).await??;
        }
        Ok(times.into_iter().collect())
    }
}

/// So many of the tags as one commit removes, in whole units.
fn first_part(units: &[Unit], going: &BTreeMap<Tag, SystemTime>) -> BTreeMap<Tag, SystemTime> {
    let (mut part, mut weight) = (BTreeMap::new(), 0);
    for unit in units {
        let this = unit.tags.len() + unit.manifests.len();
        if !part.is_empty() && weight + this > AT_ONCE {
            break;
        }
        weight += this;
        let known = unit.tags.iter().filter_map(|(tag, _)| going.get_key_value(tag));
        part.extend(known.map(|(tag, at)| (tag.clone(), *at)));
    }
    part
}

/// What is told of it.
fn targets(repository: &str, tags: &[(Tag, Option<Digest>)], manifests: &[Digest]) -> Vec<Target> {
    let tags = tags.iter().map(|(tag, _)| Reference::Tag(tag.clone()));
    let all = tags.chain(manifests.iter().map(|digest| Reference::Digest(digest.clone())));
    all.map(|reference| Target::reference(repository, &reference)).collect()
}
