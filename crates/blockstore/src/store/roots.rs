//! Everything that is not a block.

use super::{
    DiskStore, Inner,
    blocks::only_store,
    round::{Op, Outcome, key},
};
use crate::journal::{Event, Space, from_millis, to_millis};
use cidery_core::{
    Cid, CommitError, Link, Namespace, NamespaceState, Pin, PinError, Pinned, PublishMode, RepositoryName, RootEntry,
    RootStore, StoreError, Tag, TagTime, UploadRecord,
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

impl Inner {
    fn space<T: Default>(&self, namespace: &Namespace, read: impl FnOnce(&Space) -> T) -> T {
        self.state.read().spaces.get(namespace).map(read).unwrap_or_default()
    }

    pub(super) fn write(&self, op: Op) -> Result<(), StoreError> {
        self.check_open()?;
        self.submit(op).map(drop).map_err(only_store)
    }

    /// Journals what needs no check.
    pub(super) fn note_down(&self, events: Vec<Event>) -> Result<(), StoreError> {
        self.write(Op::Notes(events))
    }
}

impl RootStore for DiskStore {
    fn namespaces(&self) -> Result<Vec<Namespace>, StoreError> {
        let state = self.0.inner.state.read();
        let known = state.spaces.iter().filter(|(_, space)| space.root().is_some() || space.publication.is_some());
        Ok(known.map(|(namespace, _)| namespace.clone()).collect())
    }

    fn state(&self, namespace: &Namespace) -> Result<NamespaceState, StoreError> {
        Ok(self.0.inner.space(namespace, Space::state))
    }

    fn commit(
        &self,
        namespace: &Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: &[Link],
    ) -> Result<RootEntry, CommitError> {
        self.commit_tags(namespace, expected, root, folded, &[])
    }

    fn commit_tags(
        &self,
        namespace: &Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: &[Link],
        tags: &[TagTime],
    ) -> Result<RootEntry, CommitError> {
        let inner = &self.0.inner;
        inner.check_open()?;
        let folded: Vec<_> = folded.iter().map(key).collect();
        // What was forgotten and only linked since is in a current root again.
        let named = |space: &Space| folded.iter().filter_map(|key| Some(space.links.get(key)?.fact.cid)).collect();
        let mut back: Vec<Cid> = inner.space(namespace, named);
        back.retain(|file| inner.withdrawn.is_forgotten(file));
        let mut readmitted = inner.withdrawn.take_readmitted();
        readmitted.extend(&back);
        let (namespace_of, back_again, tags) = (namespace.clone(), readmitted.clone(), tags.to_vec());
        let op = Op::Commit { namespace: namespace_of, expected, root, folded, readmitted: back_again, tags };
        let outcome = inner.submit(op).inspect_err(|_| inner.withdrawn.give_back_readmitted(readmitted))?;
        inner.show_again(&back);
        inner.count_commit();
        let Outcome::Root(entry) = outcome else {
            return Err(StoreError::Journal("a commit made no root".into()).into());
        };
        let published = inner.state.read().publication(namespace);
        if published.is_some_and(|published| published.mode == PublishMode::Continuous) {
            inner.extend_marks(namespace, &root);
        }
        Ok(entry)
    }

    fn note_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        if tags.is_empty() {
            return Ok(());
        }
        self.0.inner.note_down(Event::tagged(namespace, tags))
    }

    fn drop_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError> {
        if tags.is_empty() {
            return Ok(());
        }
        self.0.inner.note_down(Event::untagged(namespace, tags))
    }

    fn tag_times(
        &self,
        namespace: &Namespace,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Tag, SystemTime>, StoreError> {
        let times = |tags: &BTreeMap<Tag, u64>| tags.iter().map(|(tag, at)| (tag.clone(), from_millis(*at))).collect();
        Ok(self.0.inner.space(namespace, |space| space.tags.get(repository).map(times).unwrap_or_default()))
    }

    fn timed_repositories(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StoreError> {
        Ok(self.0.inner.space(namespace, |space| space.tags.keys().cloned().collect()))
    }

    fn history(&self, namespace: &Namespace, limit: usize) -> Result<Vec<RootEntry>, StoreError> {
        Ok(self.0.inner.space(namespace, |space| space.history.iter().rev().take(limit).cloned().collect()))
    }

    fn link(&self, link: &Link) -> Result<(), StoreError> {
        self.link_all(std::slice::from_ref(link))
    }

    fn link_all(&self, links: &[Link]) -> Result<(), StoreError> {
        if links.is_empty() {
            return Ok(());
        }
        self.0.inner.note_down(links.iter().cloned().map(Event::Linked).collect())?;
        links.iter().for_each(|link| self.0.inner.withdrawn.linked(&link.cid));
        Ok(())
    }

    fn unlink(&self, link: &Link) -> Result<(), StoreError> {
        self.unlink_all(std::slice::from_ref(link))
    }

    fn unlink_all(&self, links: &[Link]) -> Result<(), StoreError> {
        if links.is_empty() {
            return Ok(());
        }
        let unlinked = |link: &Link| {
            let (repository, digest) = key(link);
            Event::Unlinked { namespace: link.namespace.clone(), repository, digest }
        };
        self.0.inner.note_down(links.iter().map(unlinked).collect())
    }

    fn links(&self, namespace: &Namespace) -> Result<Vec<Link>, StoreError> {
        Ok(self.0.inner.space(namespace, |space| space.links.values().map(|link| link.fact.clone()).collect()))
    }

    fn stale_links(&self, namespace: &Namespace, age: Duration) -> Result<Vec<Link>, StoreError> {
        let newest = self.0.inner.now().checked_sub(age).map_or(0, to_millis);
        let stale = |space: &Space| {
            space.links.values().filter(|link| link.at <= newest).map(|link| link.fact.clone()).collect()
        };
        Ok(self.0.inner.space(namespace, stale))
    }

    fn publish(&self, namespace: &Namespace, mode: PublishMode) -> Result<(), StoreError> {
        let inner = &self.0.inner;
        if let PublishMode::Once(root) = mode
            && inner.size(&root)?.is_none()
        {
            return Err(StoreError::Journal(format!("{root} is not here and can't be published")));
        }
        inner.write(Op::Publish { namespace: namespace.clone(), mode })?;
        inner.marks.wait_ready()?;
        inner.ensure_marks(namespace);
        Ok(())
    }

    fn unpublish(&self, namespace: &Namespace) -> Result<(), StoreError> {
        let inner = &self.0.inner;
        inner.write(Op::Unpublish(namespace.clone()))?;
        inner.withdraw_marks(namespace);
        Ok(())
    }

    fn forget(&self, files: &[Cid]) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        let inner = &self.0.inner;
        inner.hide(files);
        inner.note_down(vec![Event::Forgotten(files.to_vec())])?;
        inner.collect_soon();
        Ok(())
    }

    fn purge(&self, files: &[Cid]) -> Result<Vec<String>, StoreError> {
        self.0.inner.purge(files)
    }

    fn is_forgotten(&self, file: &Cid) -> bool {
        self.0.inner.withdrawn.is_forgotten(file)
    }

    fn save_upload(&self, upload: &UploadRecord) -> Result<(), StoreError> {
        self.0.inner.note_down(vec![Event::Upload(upload.clone())])
    }

    fn drop_upload(&self, id: &str) -> Result<(), StoreError> {
        self.0.inner.note_down(vec![Event::UploadEnded(id.to_owned())])
    }

    fn uploads(&self) -> Result<Vec<UploadRecord>, StoreError> {
        Ok(self.0.inner.state.read().uploads.values().map(|upload| upload.fact.clone()).collect())
    }

    fn pin(&self, pin: &Pin) -> Result<Pinned, PinError> {
        self.0.inner.pin(pin)
    }

    fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        self.0.inner.unpin(name)
    }

    fn pins(&self) -> Result<Vec<Pinned>, StoreError> {
        Ok(self.0.inner.all_pins())
    }
}
