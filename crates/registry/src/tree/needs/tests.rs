//! What goes with a tag and what stays, by examples and by what must be true of all.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;

fn digest(n: u8) -> Digest {
    Digest::sha256(&[n; 32])
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// The tag that a signature of this manifest has.
fn signature(n: u8) -> Tag {
    tag(&format!("{}.sig", layout::referrers_tag(&digest(n))))
}

/// A repository; manifests are numbers.
#[derive(Debug, Clone, Default)]
struct Repository(Needs);

impl Repository {
    fn manifest(mut self, n: u8, children: &[u8], subject: Option<u8>) -> Self {
        let children: Vec<Digest> = children.iter().map(|child| digest(*child)).collect();
        self.0.insert_manifest(digest(n), children.iter(), subject.map(digest));
        self
    }

    fn tag(mut self, tag: Tag, n: u8) -> Self {
        let targets = Targets { current: Some(digest(n)), ever: Arc::from([digest(n)]) };
        self.0.insert_tag(tag, &targets);
        self
    }

    fn going(&self, tags: &[&str]) -> Vec<Unit> {
        self.0.going(&tags.iter().map(|name| tag(name)).collect(), |_| false)
    }

    /// The numbers of the manifests that go, and the tags.
    fn goes(&self, tags: &[&str]) -> (BTreeSet<u8>, BTreeSet<Tag>) {
        flat(&self.going(tags))
    }

    fn without(&self, units: &[Unit]) -> Self {
        let mut left = self.clone();
        for Unit { tags, manifests } in units {
            tags.iter().for_each(|(tag, _)| left.0.remove_tag(tag));
            manifests.iter().for_each(|digest| left.0.remove_manifest(digest));
        }
        left
    }
}

fn number(digest: &Digest) -> u8 {
    u8::from_str_radix(&digest.hex()[..2], 16).unwrap()
}

fn flat(units: &[Unit]) -> (BTreeSet<u8>, BTreeSet<Tag>) {
    let manifests = units.iter().flat_map(|unit| unit.manifests.iter().map(number)).collect();
    let tags = units.iter().flat_map(|unit| unit.tags.iter().map(|(tag, _)| tag.clone())).collect();
    (manifests, tags)
}

#[test]
fn an_image_goes_with_its_last_tag() {
    let repository = Repository::default().manifest(1, &[], None).tag(tag("a"), 1).tag(tag("b"), 1);
    assert_eq!(repository.goes(&["a"]), ([].into(), [tag("a")].into()));
    assert_eq!(repository.goes(&["a", "b"]), ([1].into(), [tag("a"), tag("b")].into()));
    assert_eq!(repository.going(&["a", "b"]).len(), 1);
    // One that is not there is none.
    assert_eq!(repository.goes(&["c"]), ([].into(), [].into()));
}

#[test]
fn an_index_takes_its_images_along_but_for_those_that_others_need() {
    let repository = Repository::default()
        .manifest(1, &[2, 3, 4, 99], None)
        .manifest(2, &[], None)
        .manifest(3, &[], None)
        .manifest(4, &[], None)
        .manifest(5, &[3], None)
        .tag(tag("all"), 1)
        .tag(tag("four"), 4);
    // 5 has no tag and no one takes it away; so 3 stays.
    assert_eq!(repository.goes(&["all"]).0, [1, 2].into());
    assert_eq!(repository.goes(&["all", "four"]).0, [1, 2, 4].into());
    // Of an image that an index needs the tag goes alone.
    assert_eq!(repository.goes(&["four"]), ([].into(), [tag("four")].into()));
}

#[test]
fn what_is_about_it_goes_with_it() {
    let repository = Repository::default()
        .manifest(1, &[], None)
        .manifest(2, &[], Some(1))
        .manifest(3, &[], Some(2))
        .manifest(4, &[], None)
        .tag(tag("a"), 1)
        .tag(tag("bom"), 2)
        .tag(signature(1), 4);
    // Somebody gave what is about it a name of its own: then both stay, and with them the signature.
    assert_eq!(repository.goes(&["a"]), ([].into(), [tag("a")].into()));
    assert_eq!(repository.goes(&["bom"]), ([].into(), [tag("bom")].into()));
    let (manifests, tags) = repository.goes(&["a", "bom"]);
    assert_eq!(manifests, [1, 2, 3, 4].into());
    assert_eq!(tags, [tag("a"), tag("bom"), signature(1)].into());
    // A signature's tag that is immutable stays, with the signature.
    let fixed = repository.0.going(&[tag("a"), tag("bom")].into(), |tag| tag.as_str().ends_with(".sig"));
    assert_eq!(flat(&fixed), ([1, 2, 3].into(), [tag("a"), tag("bom")].into()));
}

#[test]
fn a_signature_stays_as_long_as_what_it_is_about() {
    let repository = Repository::default()
        .manifest(1, &[], None)
        .manifest(2, &[], None)
        .tag(tag("a"), 1)
        .tag(signature(1), 2)
        .tag(tag("signed"), 2);
    assert_eq!(repository.goes(&["signed"]), ([].into(), [tag("signed")].into()));
    // And what it is about stays not for it.
    assert_eq!(repository.goes(&["a"]), ([1].into(), [tag("a"), signature(1)].into()));
    // One of something that is not here is a tag like any other: it stays, and holds.
    let orphan = Repository::default().manifest(2, &[], None).tag(signature(9), 2).tag(tag("b"), 2);
    assert_eq!(orphan.goes(&["b"]), ([].into(), [tag("b")].into()));
}

#[test]
fn what_has_nothing_in_common_goes_by_itself() {
    let mut repository = Repository::default();
    for n in 0..10 {
        repository =
            repository.manifest(n, &[n + 100], None).manifest(n + 100, &[], None).tag(tag(&format!("t{n}")), n);
    }
    let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let units = repository.going(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(units.len(), 10);
    assert!(units.iter().all(|unit| (unit.tags.len(), unit.manifests.len()) == (1, 2)));
}

const MANIFESTS: u8 = 9;

fn repository() -> impl Strategy<Value = Repository> {
    let manifest = (prop::collection::vec(0..MANIFESTS + 2, 0..3), prop::option::weighted(0.3, 0..MANIFESTS + 1));
    let manifests = prop::collection::vec(prop::option::weighted(0.9, manifest), usize::from(MANIFESTS));
    let tags = prop::collection::btree_map(0_u8..8, 0..MANIFESTS + 1, 0..8);
    let signatures = prop::collection::btree_map(0..MANIFESTS + 1, 0..MANIFESTS, 0..3);
    (manifests, tags, signatures).prop_map(|(manifests, tags, signatures)| {
        let mut repository = Repository::default();
        for (n, manifest) in (0..).zip(manifests) {
            // A manifest names only what was there before it, or else a digest could be chosen.
            if let Some((children, subject)) = manifest {
                let children: Vec<u8> =
                    children.into_iter().filter(|child| *child < n || *child >= MANIFESTS).collect();
                repository = repository.manifest(n, &children, subject.filter(|subject| *subject < n));
            }
        }
        for (name, n) in tags {
            repository = repository.tag(tag(&format!("t{name}")), n);
        }
        signatures.into_iter().fold(repository, |repository, (about, n)| repository.tag(signature(about), n))
    })
}

/// Why a manifest has to be there: by what is left of the repository, and by those that go.
fn is_needed(left: &Needs, digest: &Digest, subject: Option<&Digest>) -> bool {
    let key = left.keys.of(digest);
    left.tags.values().any(|marks| marks.current == Some(key))
        || left.manifests.values().any(|other| other.children.contains(&key) || other.subject.as_ref() == Some(digest))
        || subject.is_some_and(|subject| left.manifests.contains_key(&left.keys.of(subject)))
}

proptest! {
    #[test]
    fn all_that_goes_is_needed_by_nothing_that_stays(
        repository in repository(),
        chosen in prop::collection::btree_set(0_u8..8, 0..8),
    ) {
        let names: Vec<String> = chosen.iter().map(|n| format!("t{n}")).collect();
        let tags: BTreeSet<Tag> = names.iter().map(|name| tag(name)).collect();
        let units = repository.0.going(&tags, |_| false);
        let (manifests, gone) = flat(&units);
        let left = repository.without(&units);
        // Every tag that was chosen goes, and else only signatures of what goes.
        for name in repository.0.tags.keys() {
            let about = (0..=MANIFESTS).find(|n| signature(*n) == *name);
            let expected = tags.contains(name) || about.is_some_and(|about| manifests.contains(&about));
            prop_assert_eq!(gone.contains(name), expected, "{}", name);
        }
        for n in &manifests {
            let subject = repository.0.subject(&digest(*n));
            prop_assert!(!is_needed(&left.0, &digest(*n), subject), "{} is needed", n);
        }
        // Nothing stays that had a tag that went, and that nothing needs any more.
        let begun: BTreeSet<u8> =
            gone.iter().filter_map(|tag| repository.0.current(tag)).filter(|d| left.0.manifests.contains_key(&left.0.keys.of(d))).map(number).collect();
        for n in begun {
            let as_signature = left.0.tags.keys().any(|tag| layout::companion_of(tag).is_some() && left.0.current(tag) == Some(&digest(n)));
            let subject = repository.0.subject(&digest(n));
            prop_assert!(as_signature || is_needed(&left.0, &digest(n), subject), "{} should go", n);
        }
        // Part by part is as all at once, in whatever order.
        for order in [units.clone(), units.iter().rev().cloned().collect()] {
            let mut rest = repository.clone();
            let mut removed = Vec::new();
            for unit in order {
                let part = unit.tags.iter().map(|(tag, _)| tag.clone()).filter(|tag| tags.contains(tag)).collect();
                let goes = rest.0.going(&part, |_| false);
                rest = rest.without(&goes);
                removed.extend(goes);
            }
            prop_assert_eq!(flat(&removed), flat(&units));
            prop_assert!(rest.0.manifests == left.0.manifests && rest.0.tags == left.0.tags);
        }
        // What is counted is what is held.
        let counted = left.0.tags.values().map(|marks| marks.ever.len()).sum::<usize>()
            + left.0.manifests.values().map(|manifest| manifest.children.len()).sum::<usize>();
        prop_assert_eq!(left.0.named, counted);
        // And then there is nothing more to do.
        prop_assert!(left.0.going(&tags, |_| false).is_empty());
    }
}

/// An index may name the same child as often as fits into it, and many indexes the same ones.
#[test]
fn what_is_named_is_bounded() {
    let name: RepositoryName = "app".parse().unwrap();
    let mut needs = Needs::default();
    let child = digest(1);
    needs.insert_manifest(digest(2), std::iter::repeat_n(&child, 50_000), None);
    assert_eq!(needs.named, 1, "the same one counts once");
    let many: Vec<Digest> = (0..1_u32 << 16)
        .map(|n| {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            Digest::sha256(&hash)
        })
        .collect();
    for n in 0..32 {
        assert!(needs.check_size(&name).is_ok(), "{n}");
        needs.insert_manifest(digest(100 + n), many.iter(), None);
    }
    let error = needs.check_size(&name).unwrap_err().to_string();
    assert!(error.contains("delete indexes"), "{error}");
    needs.remove_manifest(&digest(100));
    assert!(needs.check_size(&name).is_ok());
}

/// What a commit of retention has to do in a large repository, beside reading what differs.
#[test]
fn a_hundred_thousand_tags() {
    let mut needs = Needs::default();
    let number = |n: u32| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        Digest::sha256(&hash)
    };
    for n in 0..50_000 {
        // An index of one image each.
        needs.insert_manifest(number(2 * n), [number(2 * n + 1)].iter(), None);
        needs.insert_manifest(number(2 * n + 1), [].iter(), None);
        for name in ["a", "b"] {
            let targets = Targets { current: Some(number(2 * n)), ever: Arc::from([number(2 * n)]) };
            needs.insert_tag(tag(&format!("{name}{n}")), &targets);
        }
    }
    assert_eq!((needs.tags.len(), needs.manifests.len(), needs.named), (100_000, 100_000, 150_000));
    let going: BTreeSet<Tag> = (0..32).flat_map(|n| [tag(&format!("a{n}")), tag(&format!("b{n}"))]).collect();
    let begun = std::time::Instant::now();
    let units = needs.going(&going, |_| false);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(units.len(), 32);
    assert!(units.iter().all(|unit| (unit.tags.len(), unit.manifests.len()) == (2, 2)));
    let one = needs.going(&[tag("a7")].into(), |_| false);
    assert_eq!((one.len(), one[0].manifests.len()), (1, 0), "the other tag holds it");
}
