//! Taking tags out that no rule of retention keeps, with what only they need.
//!
//! What goes is found beside the writer. The writer takes out a part of it at a time, as far as that still holds in the
//! root that it starts from: the rules judge once more, so a tag stays that was pushed again meanwhile, or that is among
//! the last since others went; and what something needs that came since.

use super::{
    NodeCache, Tree, TreeError,
    commit::{Edit, Work},
    layout,
    needs::{Needs, Reach, Unit},
    view::View,
    writer::{Did, on_thread},
};
use cidery_core::{Digest, RepositoryName, Tag, TagTime};
use futures::executor::block_on;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

/// Memory for directories while manifests are read, in bytes.
const WAYS: usize = 8 << 20;

/// What goes with some tags of a repository, in parts that go together.
pub(crate) struct Plan {
    /// There is one of it, which is followed from root to root, in the writer too.
    needs: Arc<Mutex<Needs>>,
    pub units: Vec<Unit>,
}

impl Plan {
    /// Some of its tags, with the times when they were pushed: whole units. They are judged as of `now`.
    pub(super) fn part(&self, tags: BTreeMap<Tag, SystemTime>, now: SystemTime) -> Retirement {
        let mut targets: BTreeMap<&Tag, &Option<Digest>> = BTreeMap::new();
        targets.extend(self.units.iter().flat_map(|unit| &unit.tags).map(|(tag, target)| (tag, target)));
        let judged = |(tag, pushed): (Tag, SystemTime)| {
            let target = targets.get(&tag).copied().cloned().flatten();
            (tag, Judged { pushed, target })
        };
        Retirement { needs: self.needs.clone(), tags: tags.into_iter().map(judged).collect(), now }
    }
}

/// What one commit is to take out.
pub(super) struct Retirement {
    needs: Arc<Mutex<Needs>>,
    tags: BTreeMap<Tag, Judged>,
    now: SystemTime,
}

#[cfg(test)]
impl Retirement {
    /// Loses what was read for it.
    pub fn forget(&self) {
        *self.needs.lock() = Needs::default();
    }
}

/// What a tag was when it was judged.
struct Judged {
    pushed: SystemTime,
    target: Option<Digest>,
}

/// What one commit took out.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub tags: Vec<(Tag, Option<Digest>)>,
    pub manifests: Vec<Digest>,
    /// Nothing was looked at, since it would have taken the writer too long: to be planned anew.
    pub stale: bool,
}

impl Tree {
    /// What goes with these tags, in the current root; an earlier plan of the repository makes it cheaper.
    ///
    /// # Errors
    /// When not all of the repository's manifests can be read.
    pub(crate) async fn plan(
        &self,
        repository: &RepositoryName,
        tags: BTreeSet<Tag>,
        earlier: Option<Plan>,
    ) -> Result<Plan, TreeError> {
        let (shared, repository) = (self.shared.clone(), repository.clone());
        on_thread(move || {
            let base = shared.base();
            let view = View::owned(shared.reader_on_thread(Arc::new(NodeCache::new(WAYS))), base.root);
            let place = earlier.map(|plan| plan.needs).unwrap_or_default();
            let mut needs = std::mem::take(&mut *place.lock());
            // What was read before may be collected by now.
            if block_on(needs.follow(&view, &repository, Reach::WHOLE)).is_err() {
                block_on(needs.follow(&view, &repository, Reach::WHOLE))?;
            }
            needs.hold(&shared.again.lock().of(&repository));
            let full = shared.full_name(&repository);
            let units = needs.going(&tags, |tag| shared.rules.is_immutable(&full, tag));
            *place.lock() = needs;
            Ok(Plan { needs: place, units })
        })
        .await?
    }

    /// Takes out those of these tags that no rule keeps as of `now`, and that were not pushed again since, and what only
    /// they need, in one commit. They are whole units of the plan.
    pub(crate) async fn retire(
        &self,
        repository: &RepositoryName,
        plan: &Plan,
        tags: BTreeMap<Tag, SystemTime>,
        now: SystemTime,
    ) -> Result<Retired, TreeError> {
        self.shared.prepare_backlinks().await?;
        let what = plan.part(tags, now);
        match self.send(Edit::Retire { repository: repository.clone(), what }).await?.did {
            Did::Retired(retired) => Ok(retired),
            Did::Something(_) => Ok(Retired::default()),
        }
    }
}

impl Work {
    /// Takes out what goes with tags. Nothing may be pending; after an error everything is as before.
    pub(super) async fn retire(
        &mut self,
        repository: &RepositoryName,
        what: &Retirement,
    ) -> Result<Retired, TreeError> {
        let before = self.standing();
        // Nobody else has to do with it while it is here.
        let mut needs = std::mem::take(&mut *what.needs.lock());
        let done = match needs.follow(&self.view(), repository, Reach::STEP).await {
            Ok(()) => self.retire_all(repository, what, &mut needs).await,
            Err(TreeError::Closed) => Err(TreeError::Closed),
            Err(error) => {
                tracing::debug!(%repository, %error, "what retention found is looked for again");
                Ok(Retired { stale: true, ..Retired::default() })
            }
        };
        *what.needs.lock() = needs;
        self.undo_unless(done, before)
    }

    async fn retire_all(
        &mut self,
        repository: &RepositoryName,
        what: &Retirement,
        needs: &mut Needs,
    ) -> Result<Retired, TreeError> {
        let mut again = self.pushed_again.lock().of(repository);
        again.extend(self.again.iter().filter(|(of, _)| of == repository).map(|(_, digest)| digest.clone()));
        needs.hold(&again);
        let times = self.roots.tag_times(&self.namespace, repository)?;
        let tags = self.still_going(repository, what, needs, &times);
        let full = self.full_name(repository);
        let units = needs.going(&tags, |tag| self.rules.is_immutable(&full, tag));
        let mut retired = Retired::default();
        for Unit { tags, manifests } in units {
            retired.tags.extend(tags);
            retired.manifests.extend(manifests);
        }
        for (tag, _) in &retired.tags {
            self.pending.remove(layout::tag(repository, tag));
        }
        for digest in &retired.manifests {
            self.pending.remove(layout::revision(repository, digest));
            if let Some(subject) = needs.subject(digest) {
                self.pending.remove(layout::referrer_link(repository, subject, digest));
            }
        }
        self.remove_notes(repository, needs, &retired);
        self.flush().await?;
        for digest in &retired.manifests {
            self.take_out_unlinked(digest).await?;
        }
        self.flush().await?;
        let known = |(tag, _): &(Tag, Option<Digest>)| {
            times.get(tag).map(|at| TagTime::new(repository.clone(), tag.clone(), *at))
        };
        self.untagged.extend(retired.tags.iter().filter_map(known));
        if !retired.manifests.is_empty() {
            self.untidy.push(repository.clone());
        }
        Ok(retired)
    }

    /// Those tags that are still what they were when they were judged, and that no rule keeps in this root either.
    fn still_going(
        &self,
        repository: &RepositoryName,
        what: &Retirement,
        needs: &Needs,
        times: &BTreeMap<Tag, SystemTime>,
    ) -> BTreeSet<Tag> {
        // What this group pushes is not in the journal yet.
        let pushed = self.tagged.iter().filter(|pushed| pushed.repository == *repository);
        let pushed: HashMap<&Tag, SystemTime> = pushed.map(|pushed| (&pushed.tag, pushed.at)).collect();
        // One without a time takes no place among the last, and does not go.
        let time_of = |tag: &Tag| pushed.get(tag).or_else(|| times.get(tag)).copied();
        let there: Vec<_> = needs.tags().filter_map(|tag| Some((tag.clone(), time_of(tag)?))).collect();
        let is_same = |tag: &Tag, at: SystemTime| {
            let judged = what.tags.get(tag);
            judged.is_some_and(|judged| judged.pushed == at && judged.target.as_ref() == needs.current(tag))
                && !pushed.contains_key(tag)
        };
        let judged = self.rules.judge(&self.full_name(repository), &there, what.now);
        let going = judged.going.into_iter().map(|place| &there[place]);
        going.filter(|(tag, at)| is_same(tag, *at)).map(|(tag, _)| tag.clone()).collect()
    }

    /// Removes what tags that stay note of manifests that go, and that they stood for once.
    fn remove_notes(&mut self, repository: &RepositoryName, needs: &Needs, retired: &Retired) {
        let gone: HashSet<&Tag> = retired.tags.iter().map(|(tag, _)| tag).collect();
        for (tag, digest) in needs.ever(&retired.manifests).filter(|(tag, _)| !gone.contains(tag)) {
            self.pending.remove(layout::tag_index(repository, tag, digest));
        }
    }
}
