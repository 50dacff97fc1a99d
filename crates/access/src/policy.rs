//! The rules: which user may do what with which repository. What any rule gives is allowed; nothing is
//! forbidden by a rule.

use crate::{Pattern, Right, Rights};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thiserror::Error;

/// Stands for every user who logged in.
const USERS: &str = "*";
/// Stands for those who did not, and so for everybody: logging in takes nothing away.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// One rule, as it is written in a configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// User names, `@group`, `*` for every user who logged in, `anonymous` for everybody.
    pub users: Vec<String>,
    /// Which repositories.
    pub repositories: Vec<Pattern>,
    /// What is allowed.
    pub rights: Rights,
}

/// Names of groups and their members.
pub type Groups = BTreeMap<String, Vec<String>>;

/// Why rules cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// A rule names a group that nobody defined.
    #[error("there is no group {0:?}: define it under [groups], as in {0} = [\"alice\", \"bob\"]")]
    UnknownGroup(String),
    /// A rule that can never give anybody anything.
    #[error("the access rule number {number} has no {what}: it allows nothing")]
    Empty {
        /// Which one, from 1.
        number: usize,
        /// What it lacks.
        what: &'static str,
    },
    /// What no user can be called.
    #[error("{0:?} in a rule or group is no name of a user")]
    BadName(String),
    /// What no rule could name.
    #[error("the group {0:?} is defined without the @: only rules have it, as in users = [\"@ci\"]")]
    GroupName(String),
}

#[derive(Debug, Clone, Default)]
struct Who {
    anybody: bool,
    any_user: bool,
    names: BTreeSet<String>,
}

impl Who {
    fn includes(&self, user: Option<&str>) -> bool {
        self.anybody || user.is_some_and(|user| self.any_user || self.names.contains(user))
    }
}

/// All rules.
#[derive(Debug, Clone, Default)]
pub struct Policy(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<(Who, Vec<Pattern>, Rights)>,
    anonymous_pull: bool,
}

impl Policy {
    /// Puts groups into rules. Without rules every user may do everything.
    ///
    /// # Errors
    /// [`PolicyError`] for a rule that cannot be meant.
    pub fn new(rules: Vec<Rule>, groups: &Groups, anonymous_pull: bool) -> Result<Self, PolicyError> {
        let read = |(at, rule): (usize, Rule)| {
            let number = at + 1;
            let empty = |what| Err(PolicyError::Empty { number, what });
            match &rule {
                rule if rule.users.is_empty() => return empty("users"),
                rule if rule.repositories.is_empty() => return empty("repositories"),
                rule if rule.rights.is_empty() => return empty("rights"),
                _ => {}
            }
            Ok((who(&rule.users, groups)?, rule.repositories, rule.rights))
        };
        let rules = rules.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        if let Some(name) = groups.keys().find(|name| name.starts_with('@')) {
            return Err(PolicyError::GroupName(name.clone()));
        }
        Ok(Self(Arc::new(Inner { rules, anonymous_pull })))
    }

    /// What a user (`None`: who did not log in) may do with a repository, by its full name.
    pub fn rights(&self, user: Option<&str>, repository: &str) -> Rights {
        self.sum(user, |pattern| pattern.matches(repository))
    }

    /// What he may do with every repository, whatever its name.
    pub fn rights_everywhere(&self, user: Option<&str>) -> Rights {
        self.sum(user, Pattern::is_everything)
    }

    /// Whether he may pull anything at all.
    pub fn may_pull_something(&self, user: Option<&str>) -> bool {
        self.sum(user, |_| true).has(Right::Pull)
    }

    /// Whether there are rules.
    pub fn has_rules(&self) -> bool {
        !self.0.rules.is_empty()
    }

    fn sum(&self, user: Option<&str>, fits: impl Fn(&Pattern) -> bool) -> Rights {
        let start = match (self.0.rules.is_empty() && user.is_some(), self.0.anonymous_pull) {
            (true, _) => Rights::ALL,
            (false, true) => Rights::PULL,
            (false, false) => Rights::NONE,
        };
        let rules = self.0.rules.iter().filter(|(who, patterns, _)| who.includes(user) && patterns.iter().any(&fits));
        rules.fold(start, |sum, (_, _, rights)| sum | *rights)
    }
}

fn who(users: &[String], groups: &Groups) -> Result<Who, PolicyError> {
    let mut who = Who::default();
    for name in users {
        match name.as_str() {
            USERS => who.any_user = true,
            ANONYMOUS => who.anybody = true,
            name => match name.strip_prefix('@') {
                Some(group) => {
                    let members = groups.get(group).ok_or_else(|| PolicyError::UnknownGroup(group.to_owned()))?;
                    for member in members {
                        who.names.insert(user(member)?);
                    }
                }
                None => {
                    who.names.insert(user(name)?);
                }
            },
        }
    }
    Ok(who)
}

fn user(name: &str) -> Result<String, PolicyError> {
    match crate::users::check_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(_) => Err(PolicyError::BadName(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(users: &[&str], repositories: &[&str], rights: &[&str]) -> Rule {
        Rule {
            users: users.iter().map(|user| user.to_string()).collect(),
            repositories: repositories.iter().map(|text| text.parse().expect("a pattern")).collect(),
            rights: Rights::read(rights.iter().copied()).expect("rights"),
        }
    }

    #[test]
    fn without_rules_users_may_everything() {
        let policy = Policy::default();
        assert_eq!(policy.rights(Some("alice"), "any/thing"), Rights::ALL);
        assert_eq!(policy.rights(None, "any/thing"), Rights::NONE);
        let open = Policy::new(Vec::new(), &Groups::new(), true).expect("valid");
        assert_eq!((open.rights(None, "a"), open.rights(Some("alice"), "a")), (Rights::PULL, Rights::ALL));
        assert!(open.may_pull_something(None) && !policy.may_pull_something(None));
    }

    #[test]
    fn rules_add_up() {
        let groups = Groups::from([("ci".into(), vec!["bot1".into(), "bot2".into()])]);
        let rules = vec![
            rule(&["alice", "@ci"], &["team/**"], &["pull", "create"]),
            rule(&["alice"], &["team/app", "other"], &["overwrite"]),
            rule(&["*"], &["shared/*"], &["pull"]),
            rule(&["anonymous"], &["public/**"], &["pull"]),
            rule(&["root"], &["**"], &["all"]),
        ];
        let policy = Policy::new(rules, &groups, false).expect("valid");
        let rights = |user, name| policy.rights(user, name).to_string();
        assert_eq!(rights(Some("alice"), "team/app"), "pull,create,overwrite");
        assert_eq!(rights(Some("bot2"), "team/app"), "pull,create");
        assert_eq!(rights(Some("bob"), "team/app"), "");
        assert_eq!(rights(Some("alice"), "other"), "overwrite");
        assert_eq!(rights(Some("bob"), "shared/x"), "pull");
        assert_eq!((rights(None, "shared/x"), rights(None, "public/x/y")), (String::new(), "pull".into()));
        // Who logs in can do no less than who does not.
        assert_eq!(rights(Some("bob"), "public/x"), "pull");
        assert_eq!(
            (policy.rights_everywhere(Some("root")), policy.rights_everywhere(Some("alice"))),
            (Rights::ALL, Rights::NONE)
        );
        assert!(policy.may_pull_something(None));
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        let new = |rule| Policy::new(vec![rule], &Groups::from([("bad".into(), vec!["a:b".into()])]), false).err();
        assert_eq!(new(rule(&["@ops"], &["a"], &["pull"])), Some(PolicyError::UnknownGroup("ops".into())));
        assert_eq!(new(rule(&["a:b"], &["a"], &["pull"])), Some(PolicyError::BadName("a:b".into())));
        assert_eq!(new(rule(&["@bad"], &["a"], &["pull"])), Some(PolicyError::BadName("a:b".into())));
        for (wrong, what) in [
            (rule(&[], &["a"], &["pull"]), "users"),
            (rule(&["a"], &[], &["pull"]), "repositories"),
            (rule(&["a"], &["a"], &[]), "rights"),
        ] {
            assert_eq!(new(wrong), Some(PolicyError::Empty { number: 1, what }));
        }
    }
}
