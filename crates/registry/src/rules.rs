//! Rules about tags: which of them never change, and which are kept for how long.

use crate::tree::layout;
use cidery_access::{Pattern, Selection, TagPattern};
use cidery_core::Tag;
use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Tags of repositories, these by their full names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered {
    /// Which repositories.
    pub repositories: Selection<Pattern>,
    /// Which of their tags.
    pub tags: Selection<TagPattern>,
}

/// Which of the tags that it covers a repository keeps: whatever one of the other fields says. One without any of
/// them keeps nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// What it is about.
    pub covered: Covered,
    /// Those after which fewer than so many others were pushed.
    pub keep_last: Option<NonZeroUsize>,
    /// Those that were pushed within this time.
    pub keep_younger: Option<Duration>,
    /// These, whenever they were pushed. They take no place among the last.
    pub keep: Option<Selection<TagPattern>>,
}

/// All of them; clones share them.
#[derive(Debug, Clone, Default)]
pub struct TagRules(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    immutable: Vec<Covered>,
    retention: Vec<Retention>,
}

/// What becomes of a repository's tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// How many of them some rule of retention covers.
    pub covered: usize,
    /// Which of them go, in the order they were given in.
    pub going: Vec<usize>,
}

impl TagRules {
    /// Tags that are immutable, and rules of retention.
    pub fn new(immutable: Vec<Covered>, retention: Vec<Retention>) -> Self {
        Self(Arc::new(Inner { immutable, retention }))
    }

    /// Whether a tag of a repository, by its full name, stands for ever for what it stands for once.
    pub fn is_immutable(&self, repository: &str, tag: &Tag) -> bool {
        self.0.immutable.iter().any(|covered| covered.has(repository, tag))
    }

    /// Whether any tag is immutable.
    pub fn has_immutable(&self) -> bool {
        !self.0.immutable.is_empty()
    }

    /// Whether any tag goes at some time.
    pub fn has_retention(&self) -> bool {
        !self.0.retention.is_empty()
    }

    /// Whether there is a rule of retention for a repository, by its full name: then it matters when its tags are
    /// pushed.
    pub fn retains(&self, repository: &str) -> bool {
        self.0.retention.iter().any(|rule| rule.covered.repositories.has(repository))
    }

    /// Which tags of a repository go `now`, of all that it has, with the times when they were pushed. A tag goes if a
    /// rule covers it and none that does keeps it. Immutable ones are covered by none, and neither are those that
    /// belong to a manifest ([`layout::companion_of`]).
    pub(crate) fn judge(&self, repository: &str, tags: &[(Tag, SystemTime)], now: SystemTime) -> Judgement {
        let mut verdicts: Vec<Option<bool>> = vec![None; tags.len()];
        let rules = self.0.retention.iter().filter(|rule| rule.covered.repositories.has(repository));
        for rule in rules {
            let is_covered = |tag: &Tag| {
                rule.covered.tags.has(tag.as_str())
                    && layout::companion_of(tag).is_none()
                    && !self.is_immutable(repository, tag)
            };
            let covered: Vec<usize> = (0..tags.len()).filter(|at| is_covered(&tags[*at].0)).collect();
            let is_kept = |tag: &Tag| rule.keep.as_ref().is_some_and(|keep| keep.has(tag.as_str()));
            // The newest first. Those that lie ahead, from before the clock was set back, take no place either: they
            // would take those of all that come until then.
            let takes_place = |at: &&usize| !is_kept(&tags[**at].0) && tags[**at].1 <= now;
            let mut times: Vec<SystemTime> = covered.iter().filter(takes_place).map(|at| tags[*at].1).collect();
            times.sort_unstable_by(|one, other| other.cmp(one));
            for at in covered {
                let (tag, pushed) = &tags[at];
                let newer = times.partition_point(|time| time > pushed);
                let keeps = is_kept(tag)
                    || rule.keep_last.is_some_and(|last| newer < last.get())
                    || rule.keep_younger.is_some_and(|age| now.duration_since(*pushed).is_ok_and(|is| is < age))
                    || *pushed > now;
                let verdict = verdicts[at].get_or_insert(false);
                *verdict |= keeps;
            }
        }
        Judgement {
            covered: verdicts.iter().flatten().count(),
            going: (0..tags.len()).filter(|at| verdicts[*at] == Some(false)).collect(),
        }
    }
}

impl Covered {
    fn has(&self, repository: &str, tag: &Tag) -> bool {
        self.repositories.has(repository) && self.tags.has(tag.as_str())
    }
}

#[cfg(test)]
mod tests;
