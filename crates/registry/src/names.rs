//! Which registry a name belongs to. The first rule that matches decides, and a refusal says which:
//!
//! 1. a namespace this node owns: `example.com/app` when it owns `example.com`;
//! 2. a CID or IPNS name: `bafy…/app`, `k51…/app`, `ipfs/bafy…/app`, `ipns/k51…/app`;
//! 3. a domain name: `example.com/app`;
//! 4. else the node's own namespace, `local`.
//!
//! Rules 1 to 3 need a repository after the name; a name of a single part always is a repository in
//! `local`, except for a CID or IPNS name, which can only be a mistake.

use cidery_core::{ForeignName, NameError, Namespace, Reference, RepositoryName, Tag};
use std::fmt;

/// Which rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// 1: a namespace this node owns.
    Owned,
    /// 2: a CID or an IPNS name.
    Key,
    /// 3: a domain name.
    Domain,
    /// 4: everything else.
    Local,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owned => "rule 1: a namespace of this node",
            Self::Key => "rule 2: a CID or IPNS name",
            Self::Domain => "rule 3: a domain name",
            Self::Local => "rule 4: this node's own namespace, local",
        })
    }
}

/// Whose registry it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// One of this node's.
    Owned(Namespace),
    /// Somebody else's: read-through.
    Foreign(ForeignName),
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned(namespace) => namespace.fmt(f),
            Self::Foreign(name) => name.fmt(f),
        }
    }
}

/// A repository's full name, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Whose it is.
    pub space: Space,
    /// The repository within.
    pub repository: RepositoryName,
    /// Which rule decided.
    pub rule: Rule,
}

impl Named {
    /// The one full name of the repository, however it was asked for: rights are given by it.
    pub fn full(&self) -> String {
        match &self.space {
            Space::Owned(namespace) => full_name(namespace, &self.repository),
            space @ Space::Foreign(_) => format!("{space}/{}", self.repository),
        }
    }
}

/// The full name of a repository in a namespace of this node.
pub fn full_name(namespace: &Namespace, repository: &RepositoryName) -> String {
    if *namespace == Namespace::local() { repository.to_string() } else { format!("{namespace}/{repository}") }
}

/// Reads what stands between `/v2/` and the resource. `owned` says which namespaces are this node's.
pub fn read(name: &str, owned: impl Fn(&Namespace) -> bool) -> Result<Named, NameError> {
    let of = |space, rest: &str, rule| Ok(Named { space, repository: rest.parse()?, rule });
    if name.len() > 512 {
        return Err(NameError::new("name", name, "at most 512 characters"));
    }
    if let Some((first, rest)) = name.split_once('/') {
        if let Ok(namespace) = first.parse::<Namespace>()
            && owned(&namespace)
        {
            return of(Space::Owned(namespace), rest, Rule::Owned);
        }
        if matches!(first, "ipfs" | "ipns")
            && let Some((second, rest)) = rest.split_once('/')
            && let Some(foreign) = ForeignName::parse(second)
            && (first == "ipfs") == matches!(foreign, ForeignName::Cid(_))
        {
            let rule = rule_of(&foreign);
            return of(Space::Foreign(foreign), rest, rule);
        }
        if let Some(foreign) = ForeignName::parse(first) {
            let rule = rule_of(&foreign);
            return of(Space::Foreign(foreign), rest, rule);
        }
    } else if let Some(ForeignName::Cid(_) | ForeignName::Ipns(_)) = ForeignName::parse(name) {
        return Err(NameError::new("name", name, "a repository must follow a CID or IPNS name, as in <cid>/app"));
    }
    of(Space::Owned(Namespace::local()), name, Rule::Local)
}

fn rule_of(name: &ForeignName) -> Rule {
    match name {
        ForeignName::Domain(_) => Rule::Domain,
        ForeignName::Cid(_) | ForeignName::Ipns(_) => Rule::Key,
    }
}

/// Splits an image's name as it is typed after `docker pull host/`: `app`, `app:1`, `app@sha256:…`,
/// `app:1@sha256:…` (then the digest decides).
pub fn image(text: &str) -> Result<(&str, Reference), NameError> {
    if let Some((name, digest)) = text.split_once('@') {
        // A digest wins over a tag; the tag must still be one.
        let name = match tagged(name) {
            Some((name, tag)) => {
                tag.parse::<Tag>()?;
                name
            }
            None => name,
        };
        return Ok((name, Reference::Digest(digest.parse()?)));
    }
    match tagged(text) {
        Some((name, tag)) => Ok((name, Reference::Tag(tag.parse()?))),
        None => Ok((text, Reference::Tag("latest".parse()?))),
    }
}

/// An image's name in full.
pub fn full(name: &impl fmt::Display, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{name}:{tag}"),
        Reference::Digest(digest) => format!("{name}@{digest}"),
    }
}

fn tagged(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
    const IPNS: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

    fn rule(name: &str) -> (Rule, String, String) {
        let owned = |namespace: &Namespace| matches!(namespace.as_str(), "local" | "mine.example");
        let named = read(name, owned).unwrap_or_else(|error| panic!("{name}: {error}"));
        (named.rule, named.space.to_string(), named.repository.to_string())
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let is = |r, s: &str, n: &str| (r, s.to_owned(), n.to_owned());
        assert_eq!(rule("mine.example/app"), is(Rule::Owned, "mine.example", "app"));
        assert_eq!(rule("local/team/app"), is(Rule::Owned, "local", "team/app"));
        assert_eq!(rule(&format!("{CID}/app")), is(Rule::Key, CID, "app"));
        assert_eq!(rule(&format!("ipfs/{CID}/a/b")), is(Rule::Key, CID, "a/b"));
        assert_eq!(rule(&format!("{IPNS}/app")), is(Rule::Key, IPNS, "app"));
        assert_eq!(rule(&format!("ipns/{IPNS}/app")), is(Rule::Key, IPNS, "app"));
        assert_eq!(rule("ipns/example.com/app"), is(Rule::Domain, "example.com", "app"));
        assert_eq!(rule("example.com/app"), is(Rule::Domain, "example.com", "app"));
        assert_eq!(rule("hello"), is(Rule::Local, "local", "hello"));
        assert_eq!(rule("team/app"), is(Rule::Local, "local", "team/app"));
        assert_eq!(rule("my.app"), is(Rule::Local, "local", "my.app"));
        assert_eq!(rule("ipfs/app"), is(Rule::Local, "local", "ipfs/app"));
        assert_eq!(rule("local"), is(Rule::Local, "local", "local"));
    }

    #[test]
    fn a_key_without_a_repository_is_refused() {
        for bad in [CID, IPNS, "", "a//b", "../etc", "A/b", &format!("{CID}/"), &"a/".repeat(400)] {
            assert!(read(bad, |n| n.as_str() == "local").is_err(), "{bad}");
        }
    }

    #[test]
    fn image_names_have_a_tag_a_digest_or_latest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let read = |text: &str| image(text).map(|(name, reference)| (name.to_owned(), reference.to_string()));
        let is = |name: &str, reference: &str| Ok((name.to_owned(), reference.to_owned()));
        assert_eq!(read("hello"), is("hello", "latest"));
        assert_eq!(read("example.com/app:1.0"), is("example.com/app", "1.0"));
        assert_eq!(read(&format!("app@{digest}")), is("app", &digest));
        assert_eq!(read(&format!("app:1@{digest}")), is("app", &digest));
        for bad in ["app:", "app@sha256:zz", "app:.x", &format!("app:-@{digest}")] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
