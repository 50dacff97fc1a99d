//! Taking links out of a root, and what nothing links to any more.

use super::{
    TreeError,
    commit::{Target, Work},
    layout::{self, Path},
    manifest::Parsed,
    overlay::Overlay,
    pending::from_root,
    tagged::Tagged,
    view::View,
};
use cidery_core::{Cid, Digest, Reference, RepositoryName, Tag};

/// Where a commit stood before an edit.
pub(super) struct Standing {
    root: Option<Cid>,
    overlay: Overlay,
    lengths: [usize; 5],
}

impl Work {
    /// Deletes from the root; nothing may be pending. With `unused` only what no manifest of the repository refers
    /// to, and no immutable tag stands for. `false` if there is no such thing. After an error everything is as before.
    pub async fn delete(
        &mut self,
        repository: &RepositoryName,
        what: &Target,
        unused: bool,
    ) -> Result<bool, TreeError> {
        let before = self.standing();
        if let (true, Target::Manifest(digest, _) | Target::Blob(digest)) = (unused, what)
            && self.has_target(repository, what).await?
            && self.is_named(repository, digest).await?
        {
            return Err(TreeError::InUse { repository: repository.clone(), digest: digest.clone() });
        }
        match what {
            Target::Tag(tag) => self.check_tag_deletable(repository, tag).await?,
            Target::Manifest(digest, tagged) if unused => {
                self.check_manifest_deletable(repository, digest, tagged).await?;
            }
            _ => {}
        }
        let deleted = match what {
            Target::Tag(tag) => self.delete_tag(repository, tag).await,
            Target::Manifest(digest, tagged) => self.delete_manifest(repository, digest, tagged).await,
            Target::Blob(digest) => self.delete_blob(repository, digest).await,
        };
        self.undo_unless(deleted, before)
    }

    async fn has_target(&self, repository: &RepositoryName, what: &Target) -> Result<bool, TreeError> {
        let path = match what {
            Target::Tag(tag) => layout::tag(repository, tag),
            Target::Manifest(digest, _) => layout::revision(repository, digest),
            Target::Blob(digest) if self.overlay.get(repository, digest).is_some() => return Ok(true),
            Target::Blob(digest) => layout::layer(repository, digest),
        };
        Ok(self.find(&path).await?.is_some())
    }

    /// What an edit that fails goes back to.
    pub(super) fn standing(&self) -> Standing {
        let lengths =
            [self.settled.len(), self.unnamed.len(), self.forgotten.len(), self.untidy.len(), self.untagged.len()];
        Standing { root: self.root, overlay: self.overlay.clone(), lengths }
    }

    /// Goes back if an edit failed.
    pub(super) fn undo_unless<T>(&mut self, done: Result<T, TreeError>, before: Standing) -> Result<T, TreeError> {
        if done.is_err() {
            (self.root, self.overlay) = (before.root, before.overlay);
            let [settled, unnamed, forgotten, untidy, untagged] = before.lengths;
            self.settled.truncate(settled);
            self.unnamed.truncate(unnamed);
            self.forgotten.truncate(forgotten);
            self.untidy.truncate(untidy);
            self.untagged.truncate(untagged);
            self.pending = Default::default();
        }
        done
    }

    pub(super) fn view(&self) -> View {
        View::owned(self.reader.clone(), self.root)
    }

    /// What stands at a path of the storage directory, in the root as of the last flush.
    pub(super) async fn find(&self, path: &Path) -> Result<Option<Cid>, TreeError> {
        let Some(root) = self.root else { return Ok(None) };
        Ok(self.reader.find(&root, &from_root(path.clone())).await?.map(|entry| entry.cid))
    }

    async fn delete_tag(&mut self, repository: &RepositoryName, tag: &Tag) -> Result<bool, TreeError> {
        let path = layout::tag(repository, tag);
        if self.find(&path).await?.is_none() {
            return Ok(false);
        }
        self.pending.remove(path);
        self.flush().await?;
        Ok(true)
    }

    async fn delete_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        tagged: &Tagged,
    ) -> Result<bool, TreeError> {
        let path = layout::revision(repository, digest);
        if self.find(&path).await?.is_none() {
            return Ok(false);
        }
        let view = self.view();
        self.pending.remove(path);
        self.untag(repository, digest, tagged).await?;
        // A manifest that cannot be read any more can be deleted; the link it may leave in the slot
        // of its subject leads nowhere, and is passed over.
        let manifest = view.manifest(repository, &Reference::Digest(digest.clone())).await.ok().flatten();
        if let Some(subject) = manifest.and_then(|manifest| Parsed::stored(&manifest)?.subject) {
            self.pending.remove(layout::referrer_link(repository, &subject.digest, digest));
        }
        self.flush().await?;
        self.drop_unlinked(digest).await?;
        self.untidy.push(repository.clone());
        Ok(true)
    }

    /// The tags that have to do with a manifest, in the root as of the last flush.
    pub(super) async fn tagged_now(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tagged: &Tagged,
    ) -> Result<Tagged, TreeError> {
        match tagged.up_to(&self.reader, self.root, repository, digest).await {
            Ok(tagged) => Ok(tagged),
            // What was looked through may be collected by now.
            Err(_) => Tagged::default().up_to(&self.reader, self.root, repository, digest).await,
        }
    }

    /// Removes the tags that stand for a manifest, and the notes that others once did.
    async fn untag(&mut self, repository: &RepositoryName, digest: &Digest, tagged: &Tagged) -> Result<(), TreeError> {
        let tagged = self.tagged_now(repository, digest, tagged).await?;
        for tag in tagged.tags() {
            let path = layout::tag(repository, tag);
            let Some(directory) = self.find(&path).await? else { continue };
            let is_current = self.reader.targets(&directory).await?.current.as_ref() == Some(digest);
            self.pending.remove(if is_current { path } else { layout::tag_index(repository, tag, digest) });
        }
        Ok(())
    }

    async fn delete_blob(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<bool, TreeError> {
        let journalled = self.overlay.get(repository, digest).cloned();
        if let Some(blob) = &journalled {
            self.settle(repository, blob);
        }
        let path = layout::layer(repository, digest);
        let linked = self.find(&path).await?.is_some();
        if linked {
            self.pending.remove(path);
            self.flush().await?;
            self.drop_unlinked(digest).await?;
        }
        Ok(linked || journalled.is_some())
    }

    /// Removes a blob that no repository links any more.
    async fn drop_unlinked(&mut self, digest: &Digest) -> Result<(), TreeError> {
        self.take_out_unlinked(digest).await?;
        self.flush().await
    }

    /// The same, as a change that is pending.
    pub(super) async fn take_out_unlinked(&mut self, digest: &Digest) -> Result<(), TreeError> {
        if !self.is_linked(digest).await? {
            let data = self.find(&layout::blob_data(digest)).await?;
            self.take_out(digest, data);
        }
        Ok(())
    }

    /// Takes out a blob that no repository links, with its file, as a change that is pending.
    pub(super) fn take_out(&mut self, digest: &Digest, data: Option<Cid>) {
        self.forgotten.extend(data.map(|data| (digest.clone(), data)));
        self.pending.remove(layout::blob(digest));
    }
}
