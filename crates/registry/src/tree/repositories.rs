//! The repositories of a tree, in order, without reading more of it than a page needs.

use super::{
    TreeError, layout,
    view::{REPOSITORY_PARTS, View},
};
use cidery_core::{Cid, RepositoryName};
use std::collections::BTreeMap;

/// Directories that one page looks into: a hostile tree may have any number without a repository.
const MAX_VISITED: usize = 100_000;

/// Directories that wait to be looked into: a hostile tree may be as wide as it is deep.
const MAX_WAITING: usize = 1 << 19;

impl View {
    /// Names after `after`, in byte order, at most `limit`.
    ///
    /// A directory is looked into when its name is the smallest that waits. What is below it comes
    /// after it, so names come out in the order of their whole text (`a`, `a-b`, `a/b`).
    pub async fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, TreeError> {
        let mut found = Vec::new();
        let Some(storage) = self.storage().await? else { return Ok(found) };
        let Some(top) = self.reader.find(&storage, &[layout::REPOSITORIES.to_owned()]).await? else { return Ok(found) };
        let mut waiting = BTreeMap::new();
        self.push_children(&mut waiting, "", &top.cid, after).await?;
        for visited in 0.. {
            if found.len() >= limit {
                break;
            }
            let Some((name, directory)) = waiting.pop_first() else { break };
            if visited == MAX_VISITED {
                return Err(TreeError::malformed("repositories", "too many directories that are no repositories"));
            }
            let is_repository = self.push_children(&mut waiting, &format!("{name}/"), &directory, after).await?;
            if is_repository
                && after.is_none_or(|after| name.as_str() > after)
                && let Ok(name) = name.try_into()
            {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Queues a directory's children that may lead behind `after`; says whether it is a repository itself.
    async fn push_children(
        &self,
        waiting: &mut BTreeMap<String, Cid>,
        prefix: &str,
        directory: &Cid,
        after: Option<&str>,
    ) -> Result<bool, TreeError> {
        let entries = match self.reader.list(directory).await {
            // A file between the repositories is nobody's business.
            Err(TreeError::Unixfs(cidery_unixfs::UnixfsError::NotADirectory { .. })) => return Ok(false),
            entries => entries?,
        };
        let mut is_repository = false;
        for entry in entries {
            is_repository |= REPOSITORY_PARTS.contains(&entry.name.as_str());
            let name = format!("{prefix}{}", entry.name);
            // Also keeps out `_layers` and its like, and names that nobody could ask for.
            if name.parse::<RepositoryName>().is_err() {
                continue;
            }
            // '0' comes after '/': all names of this subtree are smaller.
            if after.is_none_or(|after| format!("{name}0").as_str() > after) {
                waiting.insert(name, entry.cid);
            }
        }
        if waiting.len() > MAX_WAITING {
            return Err(TreeError::malformed("repositories", "too many directories"));
        }
        Ok(is_repository)
    }
}
