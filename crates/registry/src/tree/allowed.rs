//! What a push may change: new things, or tags that stand for something else.

use super::{
    May, TreeError,
    commit::{Addition, Work},
    layout,
};
use cidery_core::RepositoryName;

impl Work {
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
        for (tag, digest) in &image.tags {
            let current = match self.find(&layout::repository(repository)).await? {
                Some(directory) => {
                    let path = layout::tag_current(repository, tag);
                    self.reader.link(&directory, layout::in_repository(repository, &path)).await?
                }
                None => None,
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
                _ => {}
            }
        }
        Ok(())
    }
}
