//! Names that come from outside, validated once, when they are parsed.

use crate::{Multihash, SHA2_256, SHA2_512, codec};
use cid::{Cid, multibase::Base};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};
use thiserror::Error;

/// A name that does not parse; the text says which rule it broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct NameError {
    what: &'static str,
    value: String,
    rule: &'static str,
}

impl NameError {
    /// `value` is shown shortened: it comes from strangers.
    pub fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), rule }
    }
}

macro_rules! text_type {
    ($name:ident, $parse:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $parse(text)?;
                Ok(Self(text.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                (&*name.0).into()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

/// An owned namespace: `local`, or a name this node was given the key of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Arc<str>);

text_type!(Namespace, check_namespace);

impl Namespace {
    /// The node's own namespace, `local`.
    pub fn local() -> Self {
        Self("local".into())
    }
}

fn check_namespace(text: &str) -> Result<(), NameError> {
    let fail = |rule| Err(NameError::new("namespace", text, rule));
    if text.len() > 253 {
        return fail("at most 253 characters");
    }
    if !text.split('.').all(is_component) {
        return fail("lower-case letters, digits and '-', in parts separated by '.'");
    }
    Ok(())
}

/// A repository within a namespace, e.g. `app` or `team/app` (distribution-spec, "Pulling manifests":
/// `[a-z0-9]+([._-][a-z0-9]+)*(/…)*`, with `__` and runs of `-` as separators).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(Arc<str>);

text_type!(RepositoryName, check_repository);

fn check_repository(text: &str) -> Result<(), NameError> {
    let fail = |rule| Err(NameError::new("repository name", text, rule));
    if text.is_empty() || text.len() > 255 {
        return fail("1 to 255 characters");
    }
    if !text.split('/').all(is_component) {
        return fail("lower-case letters and digits, separated by one of . _ __ or dashes, in parts separated by '/'");
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alnum = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    bytes
        .split(alnum)
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|c| *c == b'-'))
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

text_type!(Tag, check_tag);

fn check_tag(text: &str) -> Result<(), NameError> {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let bytes = text.as_bytes();
    let fine = (1..=128).contains(&bytes.len())
        && word(bytes[0])
        && bytes.iter().all(|c| word(*c) || matches!(c, b'.' | b'-'));
    if fine { Ok(()) } else { Err(NameError::new("tag", text, "1 to 128 of a-z A-Z 0-9 _ . - and no . or - first")) }
}

/// A digest, `sha256:<64 hex>` or `sha512:<128 hex>`, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

text_type!(Digest, check_digest);

impl Digest {
    /// The digest of these sha2-256 bytes.
    pub fn sha256(hash: &[u8; 32]) -> Self {
        Self::render("sha256", hash)
    }

    /// The digest of these sha2-512 bytes.
    pub fn sha512(hash: &[u8; 64]) -> Self {
        Self::render("sha512", hash)
    }

    fn render(algorithm: &str, hash: &[u8]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(algorithm.len() + 1 + hash.len() * 2);
        text.push_str(algorithm);
        text.push(':');
        for byte in hash {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text.into())
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The hash in lower-case hex.
    pub fn hex(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// Whether it is a sha256 digest, which is computed while bytes stream in.
    pub fn is_sha256(&self) -> bool {
        self.algorithm() == "sha256"
    }

    /// The raw CID with this hash: what the DHT knows the bytes by, and the block that they are if they are
    /// no more than one. `None` never comes of a digest that was parsed.
    pub fn raw_cid(&self) -> Option<Cid> {
        let code = if self.is_sha256() { SHA2_256 } else { SHA2_512 };
        let hex = self.hex();
        let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        let hash: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
        Some(Cid::new_v1(codec::RAW, Multihash::wrap(code, &hash?).ok()?))
    }

    /// The digest that a multihash is; `None` for any but a whole sha2-256 or sha2-512.
    pub fn from_multihash(hash: &Multihash) -> Option<Self> {
        match hash.code() {
            SHA2_256 => Some(Self::sha256(hash.digest().try_into().ok()?)),
            SHA2_512 => Some(Self::sha512(hash.digest().try_into().ok()?)),
            _ => None,
        }
    }
}

fn check_digest(text: &str) -> Result<(), NameError> {
    let fail = |rule| Err(NameError::new("digest", text, rule));
    let Some((algorithm, hex)) = text.split_once(':') else { return fail("algorithm, ':' and hex") };
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return fail("sha256 and sha512 are supported"),
    };
    if hex.len() != length || !hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
        return fail("64 (sha256) or 128 (sha512) lower-case hex digits");
    }
    Ok(())
}

/// What follows the colon or the at sign: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        // A tag has no colon, so the two can't be confused.
        if text.contains(':') { text.parse().map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The name of a registry that is somebody else's (or an old root of one's own): read-through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForeignName {
    /// A root itself.
    Cid(Cid),
    /// An IPNS name; the CID's codec is `libp2p-key`.
    Ipns(Cid),
    /// A domain with DNSLink, lower case, at least one dot.
    Domain(Box<str>),
}

impl ForeignName {
    /// Reads one path component of a pull: a lower-case CID, an IPNS name, or a dotted domain.
    /// `None` if it is none of them (then it belongs to the node's own namespace).
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 253 || text.bytes().any(|c| c.is_ascii_uppercase()) {
            return None;
        }
        // CIDv0 and base58 have capitals, so no image name can carry them.
        if text.len() > 40
            && let Ok(cid) = Cid::try_from(text)
        {
            return Some(if cid.codec() == crate::codec::LIBP2P_KEY { Self::Ipns(cid) } else { Self::Cid(cid) });
        }
        let label = |part: &str| {
            (1..=63).contains(&part.len())
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_'))
        };
        // "app.1" is a repository, not a domain: the last label of a domain is never a number.
        let dotted = text.rsplit_once('.').is_some_and(|(_, top)| top.bytes().any(|c| c.is_ascii_lowercase()));
        (dotted && text.split('.').all(label)).then(|| Self::Domain(text.into()))
    }
}

impl fmt::Display for ForeignName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => match cid.to_string_of_base(Base::Base32Lower) {
                Ok(text) => f.write_str(&text),
                Err(_) => write!(f, "{cid}"),
            },
            Self::Ipns(cid) => match cid.to_string_of_base(Base::Base36Lower) {
                Ok(text) => f.write_str(&text),
                Err(_) => write!(f, "{cid}"),
            },
            Self::Domain(domain) => f.write_str(domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_distribution_spec() {
        for good in ["a", "team/app", "a.b_c__d-e--f", "a1/b2/c3"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "A", "a..b", "../a", "a/../b", "a___b", "-a", "a-", "a b", "a\0"] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn digests_cannot_carry_paths() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert!(good.parse::<Digest>().is_ok());
        for bad in [
            "sha256:".into(),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}", "g".repeat(64)),
            format!("sha256:{}/", "a".repeat(63)),
            "sha256:../../../../etc/passwd".to_owned(),
            format!("md5:{}", "a".repeat(32)),
            format!("../sha256:{}", "a".repeat(64)),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_renders_as_it_parses() {
        let digest = Digest::sha256(&[0xab; 32]);
        assert_eq!(digest.as_str().parse::<Digest>().as_ref(), Ok(&digest));
        assert_eq!((digest.algorithm(), digest.hex().len()), ("sha256", 64));
        assert_eq!(Digest::sha512(&[1; 64]).hex().len(), 128);
    }

    #[test]
    fn a_digest_is_a_multihash() {
        let block = crate::Block::raw(&b"layer"[..]);
        let digest = Digest::from_multihash(block.cid().hash()).expect("sha2-256");
        assert_eq!(digest.raw_cid(), Some(*block.cid()));
        let long = Digest::sha512(&[7; 64]);
        let cid = long.raw_cid().expect("it is one");
        assert_eq!((cid.codec(), cid.hash().code(), cid.hash().digest()), (codec::RAW, 0x13, &[7; 64][..]));
        assert_eq!(Digest::from_multihash(cid.hash()), Some(long));
        for (code, hash) in [(SHA2_256, &[1; 20][..]), (SHA2_512, &[1; 32]), (0, &[1; 32]), (0x1e, &[1; 32])] {
            let other = Multihash::wrap(code, hash).expect("short");
            assert_eq!(Digest::from_multihash(&other), None, "{code}");
        }
    }

    #[test]
    fn tags_and_references() {
        assert!(matches!("v1.0".parse(), Ok(Reference::Tag(_))));
        assert!(matches!(Digest::sha256(&[0; 32]).as_str().parse(), Ok(Reference::Digest(_))));
        for bad in ["", ".a", "-a", "a/b", "a:b", "ä"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }

    #[test]
    fn foreign_names_are_told_apart_from_own_ones() {
        let root = crate::Block::raw(&b"x"[..]).cid().to_string();
        assert!(matches!(ForeignName::parse(&root), Some(ForeignName::Cid(_))));
        let ipns = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
        assert!(matches!(ForeignName::parse(ipns), Some(ForeignName::Ipns(_))));
        assert_eq!(ForeignName::parse(ipns).map(|name| name.to_string()).as_deref(), Some(ipns));
        assert!(matches!(ForeignName::parse("example.com"), Some(ForeignName::Domain(_))));
        for own in ["hello", "app.1", "a..b", "-a.com", "Example.com", ".com", "com."] {
            assert_eq!(ForeignName::parse(own), None, "{own}");
        }
    }
}
