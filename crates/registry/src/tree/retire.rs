//! Taking tags out that no rule of retention keeps, with what only they need.
//!
//! What goes is found beside the writer. The writer takes out a part of it at a time, as far as that still holds in the
//! root that it starts from: a tag that was pushed again meanwhile stays, and what something needs that came since.

use super::{
    NodeCache, Tree, TreeError,
    commit::{Edit, Work},
    layout,
    needs::{Needs, Unit},
    view::View,
    writer::{Did, on_thread},
};
use cidery_core::{Digest, RepositoryName, Tag, TagTime};
use futures::executor::block_on;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::SystemTime,
};

/// Memory for directories while manifests are read, in bytes.
const WAYS: usize = 8 << 20;

/// What goes with some tags of a repository, in parts that go together.
pub(crate) struct Plan {
    needs: Arc<Needs>,
    pub units: Vec<Unit>,
}

impl Plan {
    /// Some of its tags, with the times when they were pushed: whole units.
    pub(super) fn part(&self, tags: BTreeMap<Tag, SystemTime>) -> Retirement {
        Retirement { needs: self.needs.clone(), tags }
    }
}

/// What one commit is to take out: tags, with the times when they were pushed.
pub(super) struct Retirement {
    needs: Arc<Needs>,
    tags: BTreeMap<Tag, SystemTime>,
}

/// What one commit took out.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub tags: Vec<(Tag, Option<Digest>)>,
    pub manifests: Vec<Digest>,
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
            let earlier = earlier.map(|plan| Arc::unwrap_or_clone(plan.needs)).unwrap_or_default();
            let mut needs = block_on(up_to(earlier, &view, &repository))?;
            needs.hold(shared.again.lock().of(&repository));
            let full = shared.full_name(&repository);
            let units = needs.going(&tags, |tag| shared.rules.is_immutable(&full, tag));
            Ok(Plan { needs: Arc::new(needs), units })
        })
        .await?
    }

    /// Takes out those of these tags that were not pushed again since, and what only they need, in one commit. They
    /// are whole units of the plan.
    pub(crate) async fn retire(
        &self,
        repository: &RepositoryName,
        plan: &Plan,
        tags: BTreeMap<Tag, SystemTime>,
    ) -> Result<Retired, TreeError> {
        self.shared.prepare_backlinks().await?;
        let what = plan.part(tags);
        match self.send(Edit::Retire { repository: repository.clone(), what }).await?.did {
            Did::Retired(retired) => Ok(retired),
            Did::Something(_) => Ok(Retired::default()),
        }
    }
}

/// What was read before may be collected by now.
async fn up_to(needs: Needs, view: &View, repository: &RepositoryName) -> Result<Needs, TreeError> {
    match needs.up_to(view, repository).await {
        Ok(needs) => Ok(needs),
        Err(_) => Needs::default().up_to(view, repository).await,
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
        let done = self.retire_all(repository, what).await;
        self.undo_unless(done, before)
    }

    async fn retire_all(&mut self, repository: &RepositoryName, what: &Retirement) -> Result<Retired, TreeError> {
        let mut needs = up_to((*what.needs).clone(), &self.view(), repository).await?;
        let mut again = self.pushed_again.lock().of(repository);
        again.extend(self.again.iter().filter(|(of, _)| of == repository).map(|(_, digest)| digest.clone()));
        needs.hold(again);
        let times = self.roots.tag_times(&self.namespace, repository)?;
        let is_again =
            |tag: &Tag| self.tagged.iter().any(|pushed| pushed.repository == *repository && pushed.tag == *tag);
        let still = what.tags.iter().filter(|(tag, at)| times.get(tag) == Some(at) && !is_again(tag));
        let tags: BTreeSet<Tag> = still.map(|(tag, _)| tag.clone()).collect();
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
        self.remove_notes(repository, &needs, &retired);
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

    /// Removes what tags that stay note of manifests that go, and that they stood for once.
    fn remove_notes(&mut self, repository: &RepositoryName, needs: &Needs, retired: &Retired) {
        let manifests: HashSet<&Digest> = retired.manifests.iter().collect();
        let tags: HashSet<&Tag> = retired.tags.iter().map(|(tag, _)| tag).collect();
        if manifests.is_empty() {
            return;
        }
        for (tag, targets) in needs.tags().filter(|(tag, _)| !tags.contains(tag)) {
            for digest in targets.ever.iter().filter(|digest| manifests.contains(digest)) {
                self.pending.remove(layout::tag_index(repository, tag, digest));
            }
        }
    }
}
