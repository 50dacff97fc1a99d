//! What goes and what stays, by examples and beside the definition, word by word.

use super::*;
use proptest::prelude::*;

const REPOSITORY: &str = "ci/app";

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn covered(repositories: &[&str], tags: &[&str]) -> Covered {
    Covered {
        repositories: Selection::read(repositories.iter().copied()).unwrap(),
        tags: Selection::read(tags.iter().copied()).unwrap(),
    }
}

fn last(tags: &[&str], count: usize) -> Retention {
    Retention { covered: covered(&["ci/**"], tags), keep_last: NonZeroUsize::new(count), ..Retention::default() }
}

fn younger(tags: &[&str], seconds: u64) -> Retention {
    let keep_younger = Some(Duration::from_secs(seconds));
    Retention { covered: covered(&["ci/**"], tags), keep_younger, ..Retention::default() }
}

/// What goes at second 1000, of tags with the second they were pushed in.
fn going(rules: Vec<Retention>, immutable: Vec<Covered>, tags: &[(&str, u64)]) -> Vec<String> {
    let tags: Vec<_> = tags.iter().map(|(name, second)| (tag(name), at(*second))).collect();
    let judged = TagRules::new(immutable, rules).judge(REPOSITORY, &tags, at(1000));
    judged.going.iter().map(|index| tags[*index].0.to_string()).collect()
}

#[test]
fn the_last_stay_and_ties_do_too() {
    let tags = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];
    assert_eq!(going(vec![last(&["*"], 2)], vec![], &tags), ["a", "b"]);
    assert!(going(vec![last(&["*"], 4)], vec![], &tags).is_empty());
    // Nobody knows which of those of one moment came first.
    assert_eq!(going(vec![last(&["*"], 2)], vec![], &[("a", 1), ("b", 2), ("c", 2), ("d", 4)]), ["a"]);
}

#[test]
fn the_young_stay_and_those_of_tomorrow() {
    let tags = [("a", 899), ("b", 900), ("c", 901), ("d", 1001)];
    assert_eq!(going(vec![younger(&["*"], 100)], vec![], &tags), ["a", "b"]);
    // Nor do those take the places of what is pushed until then.
    let ahead = [("a", 1001), ("b", 1002), ("c", 3), ("d", 4)];
    assert_eq!(going(vec![last(&["*"], 1)], vec![], &ahead), ["c"]);
}

#[test]
fn each_clause_keeps_what_it_keeps() {
    let keep = Some(Selection::read(["latest", "release-*"]).unwrap());
    let rule = Retention { keep_younger: Some(Duration::from_secs(100)), keep, ..last(&["*"], 1) };
    // What is kept by its name takes no place among the last.
    let tags = [("latest", 99), ("release-1", 1), ("a", 5), ("b", 6), ("c", 950)];
    assert_eq!(going(vec![rule.clone()], vec![], &tags), ["a", "b"]);
    assert_eq!(going(vec![rule], vec![], &[("latest", 99), ("a", 5), ("b", 6)]), ["a"]);
}

#[test]
fn what_any_rule_keeps_stays_and_what_none_covers() {
    let tags = [("main-1", 1), ("main-2", 2), ("pr-1", 3), ("pr-2", 4), ("v1", 0)];
    let rules = vec![last(&["main-*"], 1), last(&["pr-*"], 1)];
    assert_eq!(going(rules.clone(), vec![], &tags), ["main-1", "pr-1"]);
    let more = [rules, vec![last(&["*", "!v*"], 2)]].concat();
    assert_eq!(going(more, vec![], &tags), ["main-1"]);
    let elsewhere = Retention { covered: covered(&["team/**"], &["*"]), ..last(&["*"], 1) };
    assert!(going(vec![elsewhere], vec![], &tags).is_empty());
}

#[test]
fn immutable_tags_and_signatures_are_covered_by_no_rule() {
    let signature = format!("sha256-{}.sig", "ab".repeat(32));
    let tags = [("v1", 1), ("a", 2), (&signature, 3), ("b", 4)];
    let immutable = vec![covered(&["**"], &["v*"])];
    // Nor do they take a place among the last.
    assert_eq!(going(vec![last(&["*"], 1)], immutable.clone(), &tags), ["a"]);
    let rules = TagRules::new(immutable, vec![last(&["*"], 1)]);
    assert!(rules.is_immutable("any/thing", &tag("v2")) && !rules.is_immutable("any/thing", &tag("a")));
    assert!(rules.retains("ci/x/y") && !rules.retains("cd"));
    let judged = rules.judge(REPOSITORY, &tags.map(|(name, second)| (tag(name), at(second))), at(1000));
    assert_eq!(judged.covered, 2);
}

/// Whether a rule keeps a tag, as the operator's page says it.
fn keeps(rule: &Retention, tags: &[(Tag, SystemTime)], which: usize, now: SystemTime, is_covered: &[bool]) -> bool {
    let (name, pushed) = &tags[which];
    let by_name = |tag: &Tag| rule.keep.as_ref().is_some_and(|keep| keep.has(tag.as_str()));
    if by_name(name) || *pushed > now {
        return true;
    }
    if let Some(age) = rule.keep_younger
        && *pushed + age > now
    {
        return true;
    }
    let mut after = 0;
    for (other, (tag, time)) in tags.iter().enumerate() {
        after += usize::from(is_covered[other] && !by_name(tag) && time > pushed && *time <= now);
    }
    rule.keep_last.is_some_and(|last| after < last.get())
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("!?[ab*]{1,3}", 1..3)
}

fn rule() -> impl Strategy<Value = Retention> {
    let repositories = prop::collection::vec(prop::sample::select(vec!["ci/*", "**", "!ci/app", "other"]), 1..3);
    let keep = prop::option::of(patterns());
    (repositories, patterns(), prop::option::of(1_usize..5), prop::option::of(1_u64..60), keep).prop_map(
        |(repositories, tags, keep_last, younger, keep)| {
            let read = |texts: &[String]| Selection::read(texts.iter().map(String::as_str)).unwrap();
            Retention {
                covered: Covered { repositories: Selection::read(repositories).unwrap(), tags: read(&tags) },
                keep_last: keep_last.and_then(NonZeroUsize::new),
                keep_younger: younger.map(Duration::from_secs),
                keep: keep.map(|keep| read(&keep)),
            }
        },
    )
}

proptest! {
    #[test]
    fn it_is_as_defined(
        rules in prop::collection::vec(rule(), 0..4),
        immutable in prop::option::of(patterns()),
        named in prop::collection::btree_map("[ab]{1,4}", 0_u64..70, 0..20),
        now in 0_u64..70,
    ) {
        let immutable: Vec<_> = immutable
            .iter()
            .map(|tags| Covered { tags: Selection::read(tags.iter().map(String::as_str)).unwrap(), ..Covered::default() })
            .collect();
        let tags: Vec<_> = named.iter().map(|(name, second)| (tag(name), at(*second))).collect();
        let judged = TagRules::new(immutable.clone(), rules.clone()).judge(REPOSITORY, &tags, at(now));
        let (mut expected, mut covered) = (Vec::new(), 0);
        for which in 0..tags.len() {
            let (mut by_any, mut kept) = (false, false);
            for rule in &rules {
                let is_covered: Vec<bool> = tags
                    .iter()
                    .map(|(tag, _)| {
                        rule.covered.repositories.has(REPOSITORY)
                            && rule.covered.tags.has(tag.as_str())
                            && !immutable.iter().any(|immutable| immutable.tags.has(tag.as_str()))
                    })
                    .collect();
                by_any |= is_covered[which];
                kept |= is_covered[which] && keeps(rule, &tags, which, at(now), &is_covered);
            }
            covered += usize::from(by_any);
            if by_any && !kept {
                expected.push(which);
            }
        }
        prop_assert_eq!(judged, Judgement { covered, going: expected });
    }
}
