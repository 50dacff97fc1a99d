//! What a push may change: new things, or tags that stand for something else.

use super::{
    May, TreeError,
    commit::{Addition, Work},
    layout,
    tagged::Tagged,
};
use crate::names;
use cidery_core::{Digest, RepositoryName, Tag};
use std::collections::HashMap;

impl Work {
    /// Whether it has to be looked at what an addition changes.
    pub(super) fn is_restricted(&self, repository: &RepositoryName, image: &Addition, may: May) -> bool {
        may != May::default() || image.tags.iter().any(|(tag, _)| self.is_immutable(repository, tag))
    }

    /// Refuses an addition that changes more than it may, in the root as of the last flush.
    pub(super) async fn check_allowed(
        &self,
        repository: &RepositoryName,
        image: &Addition,
        may: May,
    ) -> Result<(), TreeError> {
        if !may.create {
            for manifest in &image.manifests {
                if self.find(&layout::revision_link(repository, &manifest.digest)).await?.is_none() {
                    return Err(TreeError::NotAllowed(format!(
                        "{} is not in {repository}, and adding to it takes the right to create",
                        manifest.digest
                    )));
                }
            }
        }
        // An archive may have a tag twice.
        let mut set: HashMap<&Tag, &Digest> = HashMap::new();
        for (tag, digest) in &image.tags {
            let current = match set.insert(tag, digest) {
                Some(earlier) => Some(earlier.clone()),
                None => self.current(repository, tag).await?,
            };
            match current {
                None if !may.create => {
                    return Err(TreeError::NotAllowed(format!(
                        "{repository} has no tag {tag}, and adding one takes the right to create"
                    )));
                }
                Some(other) if other != *digest && !may.overwrite => {
                    return Err(TreeError::NotAllowed(format!(
                        "{repository}:{tag} stands for {other}, and changing that takes the right to overwrite: push \
                         another tag"
                    )));
                }
                Some(other) if other != *digest && self.is_immutable(repository, tag) => {
                    return Err(TreeError::Immutable { repository: self.full_name(repository), tag: tag.clone() });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses to delete a tag that is immutable.
    pub(super) async fn check_tag_deletable(&self, repository: &RepositoryName, tag: &Tag) -> Result<(), TreeError> {
        if self.is_immutable(repository, tag) && self.find(&layout::tag(repository, tag)).await?.is_some() {
            return Err(TreeError::Undeletable { repository: self.full_name(repository), tag: tag.clone() });
        }
        Ok(())
    }

    /// Refuses to delete a manifest that an immutable tag stands for.
    pub(super) async fn check_manifest_deletable(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tagged: &Tagged,
    ) -> Result<(), TreeError> {
        if !self.rules.has_immutable() {
            return Ok(());
        }
        for tag in self.tagged_now(repository, digest, tagged).await?.tags() {
            if self.is_immutable(repository, tag) && self.current(repository, tag).await?.as_ref() == Some(digest) {
                return Err(TreeError::Undeletable { repository: self.full_name(repository), tag: tag.clone() });
            }
        }
        Ok(())
    }

    /// What a tag stands for, in the root as of the last flush.
    async fn current(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, TreeError> {
        let Some(directory) = self.find(&layout::repository(repository)).await? else { return Ok(None) };
        let path = layout::tag_current(repository, tag);
        self.reader.link(&directory, layout::in_repository(repository, &path)).await
    }

    fn is_immutable(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.rules.has_immutable() && self.rules.is_immutable(&self.full_name(repository), tag)
    }

    /// The name that rules know a repository by.
    pub(super) fn full_name(&self, repository: &RepositoryName) -> String {
        names::full_name(&self.namespace, repository)
    }
}
