//! Changing a tree: many changes below one root at once, writing only what is new.

use crate::{
    Entry, UnixfsError,
    directory::{Directory, Sizes, Target, check_name},
};
use cidery_core::{BlockWriter, Cid, Fetcher};
use futures::{FutureExt, future::BoxFuture};
use std::collections::BTreeMap;

/// Most components of a path that is changed.
const MAX_DEPTH: usize = 128;

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It stands for this, whatever it stood for before. Missing directories above it are made.
    Put {
        /// The root of what is put.
        cid: Cid,
        /// Bytes of all its blocks.
        tsize: u64,
    },
    /// It goes, with everything below it. That it is not there is no error.
    Remove,
}

/// Applies changes below a root (`None`: nothing yet), as if one after another, and gives the new
/// root, without a name. Directories that become empty vanish; the root stays.
///
/// Only what the changes need is read, and only nodes that differ are written; without a
/// difference the result is the old root. A file where a change needs a directory is an error,
/// unless all that is asked is to remove something below it.
pub async fn edit(
    fetcher: &dyn Fetcher,
    root: Option<&Cid>,
    changes: Vec<(Vec<String>, Change)>,
    out: &mut (dyn BlockWriter + '_),
) -> Result<Entry, UnixfsError> {
    edit_again(fetcher, root, changes, &Sizes::default(), out).await
}

/// As [`edit`], for somebody who changes what he changed before: with the same `sizes` it takes less time. The
/// result does not depend on them.
pub async fn edit_again(
    fetcher: &dyn Fetcher,
    root: Option<&Cid>,
    changes: Vec<(Vec<String>, Change)>,
    sizes: &Sizes,
    out: &mut (dyn BlockWriter + '_),
) -> Result<Entry, UnixfsError> {
    let mut plan = Plan::default();
    for (path, change) in changes {
        plan.add(&path, change)?;
    }
    let target = match apply(fetcher, root.copied(), plan, sizes, out).await? {
        Outcome::Unchanged(target) | Outcome::Changed(target) => target,
        Outcome::Gone => return Directory::empty().write(out),
    };
    Ok(Entry { name: String::new(), cid: target.0, tsize: target.1 })
}

/// Everything that is to happen at one path and below it.
#[derive(Default)]
struct Plan {
    /// First the path itself changes, then what is below it.
    own: Option<Change>,
    below: BTreeMap<String, Plan>,
}

impl Plan {
    fn add(&mut self, path: &[String], change: Change) -> Result<(), UnixfsError> {
        if path.len() > MAX_DEPTH {
            return Err(UnixfsError::Depth { limit: MAX_DEPTH });
        }
        if path.is_empty() {
            return Err(UnixfsError::name("", "a change needs a path"));
        }
        let mut plan = self;
        for name in path {
            check_name(name)?;
            plan = plan.below.entry(name.clone()).or_default();
        }
        *plan = Self { own: Some(change), below: BTreeMap::new() };
        Ok(())
    }

    /// Whether nothing can come of it where nothing is.
    fn only_removes(&self) -> bool {
        !matches!(self.own, Some(Change::Put { .. })) && self.below.values().all(Self::only_removes)
    }
}

enum Outcome {
    /// It is what it was.
    Unchanged(Target),
    Changed(Target),
    /// Nothing is left.
    Gone,
}

/// Applies what is planned below a directory, which may not exist yet.
fn apply<'a>(
    fetcher: &'a dyn Fetcher,
    directory: Option<Cid>,
    plan: Plan,
    sizes: &'a Sizes,
    out: &'a mut (dyn BlockWriter + '_),
) -> BoxFuture<'a, Result<Outcome, UnixfsError>> {
    async move {
        let mut node = match &directory {
            Some(cid) => Directory::open(fetcher, cid).await?,
            None => Directory::empty(),
        };
        // What goes makes room first: one of two names with the same hash may replace the other.
        let mut puts = Vec::new();
        for (name, plan) in plan.below {
            node.load(fetcher, &name).await?;
            let before = node.get(&name);
            let start = match plan.own {
                None => before,
                Some(Change::Put { cid, tsize }) => Some((cid, tsize)),
                Some(Change::Remove) => None,
            };
            let after = match start {
                _ if plan.below.is_empty() => start,
                None if plan.only_removes() => start,
                Some((cid, _)) => {
                    let removes = plan.below.values().all(Plan::only_removes);
                    match apply(fetcher, Some(cid), plan, sizes, &mut *out).await {
                        Ok(Outcome::Unchanged(_)) => start,
                        Ok(Outcome::Changed(target)) => Some(target),
                        Ok(Outcome::Gone) => None,
                        Err(UnixfsError::NotADirectory { cid: file }) if removes && file == cid => start,
                        Err(error) => return Err(error),
                    }
                }
                None => match apply(fetcher, None, plan, sizes, &mut *out).await? {
                    Outcome::Unchanged(target) | Outcome::Changed(target) => Some(target),
                    Outcome::Gone => None,
                },
            };
            match after {
                Some(target) => puts.push((name, target)),
                None => node.set(&name, None)?,
            }
        }
        for (name, target) in puts {
            node.set(&name, Some(target))?;
        }
        if let Some(original) = node.original() {
            return Ok(Outcome::Unchanged(original));
        }
        if node.is_empty() {
            return Ok(Outcome::Gone);
        }
        node.settle(fetcher, sizes).await?;
        let Entry { cid, tsize, .. } = node.write_and_note(out, sizes)?;
        Ok(Outcome::Changed((cid, tsize)))
    }
    .boxed()
}
