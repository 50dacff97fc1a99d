//! The repositories of a tree, in order, without reading more of it than a page needs.

use super::{
    TreeError,
    cache::{Key, Value},
    layout,
    view::{REPOSITORY_PARTS, View},
};
use cidery_core::{Cid, RepositoryName};
use cidery_unixfs::UnixfsError;
use std::{collections::BTreeMap, mem::size_of, sync::Arc};

/// Directories that one page looks into: a hostile tree may have any number without a repository.
const MAX_VISITED: usize = 100_000;

/// Names in the directories on the way: a hostile tree may be as wide as it is deep.
const MAX_WAITING: usize = 1 << 19;

/// What is below one directory, as far as repositories go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Children {
    /// Names that may lead to repositories, in byte order.
    names: Arc<[Box<str>]>,
    /// Whether it is a repository itself.
    is_repository: bool,
}

impl Children {
    /// Bytes of memory, about.
    pub fn weight(&self) -> usize {
        self.names.iter().map(|name| name.len() + size_of::<Box<str>>() + 16).sum()
    }
}

/// A directory on the way, and which of its names is next.
struct Level {
    directory: Cid,
    /// Its name with a slash; empty for the top.
    prefix: String,
    names: Arc<[Box<str>]>,
    next: usize,
}

/// The next name of each directory, and which directory that is.
///
/// What is below a directory comes after it, so names come out in the order of their whole text (`a`, `a-b`, `a/b`).
#[derive(Default)]
struct Walk {
    waiting: BTreeMap<String, usize>,
    levels: Vec<Level>,
    /// Names of the directories that are not through.
    held: usize,
}

impl Walk {
    /// Goes on below a directory too, from `next` on.
    fn enter(&mut self, level: Level) -> Result<(), TreeError> {
        self.held += level.names.len();
        if self.held > MAX_WAITING {
            return Err(TreeError::malformed("repositories", "too many directories"));
        }
        self.levels.push(level);
        self.queue(self.levels.len() - 1);
        Ok(())
    }

    fn queue(&mut self, at: usize) {
        let level = &mut self.levels[at];
        match level.names.get(level.next) {
            Some(name) => {
                level.next += 1;
                self.waiting.insert(format!("{}{name}", level.prefix), at);
            }
            None => {
                self.held -= level.names.len();
                level.names = Arc::default();
            }
        }
    }

    /// The smallest name, and the directory that it is in.
    fn pop(&mut self) -> Option<(String, Cid)> {
        let (name, at) = self.waiting.pop_first()?;
        self.queue(at);
        Some((name, self.levels[at].directory))
    }
}

impl View {
    /// Names after `after`, in byte order, at most `limit`.
    pub async fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, TreeError> {
        let mut found = Vec::new();
        let Some(storage) = self.storage().await? else { return Ok(found) };
        let Some(top) = self.reader.find(&storage, &[layout::REPOSITORIES.to_owned()]).await? else { return Ok(found) };
        let mut walk = Walk::default();
        self.look_into(&mut walk, "", &top.cid, after).await?;
        for visited in 0.. {
            if found.len() >= limit {
                break;
            }
            let Some((name, parent)) = walk.pop() else { break };
            if visited == MAX_VISITED {
                return Err(TreeError::malformed("repositories", "too many directories that are no repositories"));
            }
            // One that is too long as a whole; what is below it is longer.
            let Ok(repository) = name.parse::<RepositoryName>() else { continue };
            let last = name.rsplit('/').next().unwrap_or_default().to_owned();
            let Some(entry) = self.reader.find(&parent, &[last]).await? else { continue };
            let is_repository = self.look_into(&mut walk, &format!("{name}/"), &entry.cid, after).await?;
            if is_repository && after.is_none_or(|after| name.as_str() > after) {
                found.push(repository);
            }
        }
        Ok(found)
    }

    /// Goes on below a directory, as far as that leads behind `after`; says whether it is a repository itself.
    async fn look_into(
        &self,
        walk: &mut Walk,
        prefix: &str,
        directory: &Cid,
        after: Option<&str>,
    ) -> Result<bool, TreeError> {
        let Children { names, is_repository } = self.children(directory).await?;
        let level =
            |names: Arc<[Box<str>]>, next| Level { directory: *directory, prefix: prefix.to_owned(), names, next };
        let mut next = 0;
        if let Some(after) = after {
            // As if it were one of these names; a prefix that is another one than its own decides for all of them.
            match after.strip_prefix(prefix) {
                Some(rest) => {
                    next = names.partition_point(|name| **name <= *rest);
                    // Those that it begins with come before it, and what is below them may come after it.
                    let leads = |end: &usize| rest.as_bytes().get(*end).is_none_or(|byte| *byte <= b'/');
                    let begins = (1..=rest.len()).filter(leads).filter_map(|end| rest.get(..end));
                    let find = |begin: &str| names.binary_search_by(|name| (**name).cmp(begin)).ok();
                    let leading: Arc<[Box<str>]> = begins.filter_map(find).map(|at| names[at].clone()).collect();
                    walk.enter(level(leading, 0))?;
                }
                None if prefix < after => next = names.len(),
                None => {}
            }
        }
        walk.enter(level(names, next))?;
        Ok(is_repository)
    }

    async fn children(&self, directory: &Cid) -> Result<Children, TreeError> {
        let key = Key::Children(*directory);
        if let Some(Value::Children(children)) = self.reader.cache.get(&key) {
            return Ok(children);
        }
        let entries = match self.reader.list(directory).await {
            // A file between the repositories is nobody's business.
            Err(TreeError::Unixfs(UnixfsError::NotADirectory { .. })) => Vec::new(),
            entries => entries?,
        };
        let is_repository = entries.iter().any(|entry| REPOSITORY_PARTS.contains(&entry.name.as_str()));
        // Keeps out `_layers` and its like, and names that nobody could ask for.
        let names = entries.into_iter().map(|entry| entry.name.into_boxed_str());
        let valid = |name: &str| !name.contains('/') && name.parse::<RepositoryName>().is_ok();
        let mut names: Vec<Box<str>> = names.filter(|name| valid(name)).collect();
        // A hostile directory may have a name twice.
        names.dedup();
        let names = names.into();
        let children = Children { names, is_repository };
        self.reader.cache.insert(key, Value::Children(children.clone()));
        Ok(children)
    }
}
