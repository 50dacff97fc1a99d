//! Rules about tags, as they are configured.

use super::File;
use crate::units::Time;
use anyhow::{Result, bail};
use cidery_access::{Pattern, Selection, TagPattern};
use cidery_registry::{Covered, Retention, TagRules};
use serde::Deserialize;
use std::num::NonZeroUsize;

/// `[[tags]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Tags {
    #[serde(default)]
    repositories: Selection<Pattern>,
    #[serde(default)]
    tags: Selection<TagPattern>,
    immutable: bool,
}

/// `[[retention]]`. What goes away by itself is named in full: there is no default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Keep {
    repositories: Selection<Pattern>,
    tags: Selection<TagPattern>,
    keep_last: Option<NonZeroUsize>,
    keep_younger: Option<Time>,
    keep: Option<Selection<TagPattern>>,
}

/// Takes the rules out of the file.
pub(super) fn read(file: &mut File) -> Result<TagRules> {
    let rules = check(file);
    file.named(rules)
}

fn check(file: &mut File) -> Result<TagRules> {
    let mut immutable = Vec::new();
    for (rule, number) in std::mem::take(&mut file.tags).into_iter().zip(1..) {
        if !rule.immutable {
            bail!("[[tags]] number {number} says nothing: write immutable = true, or leave it out");
        }
        immutable.push(Covered { repositories: rule.repositories, tags: rule.tags });
    }
    let mut retention = Vec::new();
    for (rule, number) in std::mem::take(&mut file.retention).into_iter().zip(1..) {
        if rule.keep_last.is_none() && rule.keep_younger.is_none() {
            bail!(
                "[[retention]] number {number} keeps no tag that was just pushed: add keep-last = 10 or \
                 keep-younger = \"30days\""
            );
        }
        retention.push(Retention {
            covered: Covered { repositories: rule.repositories, tags: rule.tags },
            keep_last: rule.keep_last,
            keep_younger: rule.keep_younger.map(|time| time.0),
            keep: rule.keep,
        });
    }
    Ok(TagRules::new(immutable, retention))
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    const RULES: &str = r#"
[[tags]]
repositories = ["team/**"]
tags = ["v*", "!v*-rc*"]
immutable = true

[[retention]]
repositories = ["ci/**", "!ci/base"]
tags = ["*"]
keep-last = 10
keep-younger = "30days"
keep = ["latest", "release-*"]
"#;

    fn rules(text: &str) -> Result<TagRules> {
        read(&mut parse(text)?)
    }

    #[test]
    fn rules_are_read() {
        let rules = rules(RULES).expect("valid");
        let immutable = |repository, tag: &str| rules.is_immutable(repository, &tag.parse().expect("a tag"));
        assert!(immutable("team/a/b", "v1") && !immutable("team/a", "v1-rc2") && !immutable("other", "v1"));
        assert!(rules.retains("ci/app") && !rules.retains("ci/base") && !rules.retains("team/a"));
        let all = super::tests::rules("[[tags]]\nimmutable = true").expect("valid");
        assert!(all.is_immutable("any/thing", &"x".parse().expect("a tag")) && !all.has_retention());
        let none = super::tests::rules("").expect("valid");
        assert!(!none.has_immutable() && !none.has_retention());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let keep = |more: &str| format!("[[retention]]\nrepositories = [\"ci\"]\ntags = [\"*\"]\n{more}");
        for (text, needle) in [
            ("[[tags]]\ntags = [\"v*\"]".to_owned(), "immutable"),
            ("[[tags]]\nimmutable = false".to_owned(), "number 1"),
            ("[[tags]]\nimmutable = true\ntags = []".to_owned(), "line 3"),
            ("[[tags]]\nimmutable = true\ntags = [\"a/b\"]".to_owned(), "line 3"),
            ("[[tags]]\nimmutable = true\nrepositories = [\"Team\"]".to_owned(), "line 3"),
            ("[[tags]]\nimmutable = true\nrepository = [\"team\"]".to_owned(), "line 3"),
            ("[[retention]]\ntags = [\"*\"]\nkeep-last = 1".to_owned(), "repositories"),
            ("[[retention]]\nrepositories = [\"**\"]\nkeep-last = 1".to_owned(), "tags"),
            (keep(""), "keep-last"),
            (keep("keep = [\"latest\"]"), "just pushed"),
            (keep("keep-last = 0"), "line 4"),
            (keep("keep-younger = \"soon\""), "line 4"),
            (keep("keep-younger = 30"), "line 4"),
            (keep("keep-last = 1\nkeep-lsat = 2"), "line 5"),
        ] {
            let error = rules(&text).expect_err(&text);
            let error = crate::line::one_line(&error);
            assert!(error.contains(needle) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
