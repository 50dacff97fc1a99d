//! The names images carry inside archives, and what they become here: a repository of the
//! namespace, and a tag.

use super::error::ArchiveError;
use cidery_core::{Digest, NameError, RepositoryName, Tag};

/// Docker's own registry, and the folder in it that people leave out.
const DOCKER_HUB: [&str; 2] = ["docker.io", "index.docker.io"];

/// A name from an archive, or from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageName {
    pub(super) repository: RepositoryName,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Option<Digest>,
}

impl ImageName {
    /// Parses `[host/]repository[:tag][@digest]`; the host is dropped, for here it would be another name.
    pub(super) fn parse(text: &str) -> Result<Self, NameError> {
        let (text, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let (path, tag) = match text.rsplit_once(':') {
            // A colon before a slash belongs to the host's port.
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse()?)),
            _ => (text, None),
        };
        Ok(Self { repository: without_host(path).parse()?, tag, digest })
    }

    /// The tag to set: the one it has, or `latest` where it names no version at all.
    pub(super) fn tag_or_latest(self) -> (RepositoryName, Option<Tag>) {
        let tag = self.tag.or_else(|| self.digest.is_none().then(latest));
        (self.repository, tag)
    }
}

/// The tag that a name without one means.
pub(super) fn latest() -> Tag {
    // The grammar allows it, whatever else changes.
    "latest".parse().expect("a valid tag")
}

fn without_host(path: &str) -> &str {
    let Some((host, rest)) = path.split_once('/') else { return path };
    if DOCKER_HUB.contains(&host) {
        return rest.strip_prefix("library/").unwrap_or(rest);
    }
    if is_host(host) { rest } else { path }
}

/// Whether the first part of a name is a registry's host, by Docker's rule: `localhost`, or with a
/// dot or a port in it.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|c| c.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
    (host == "localhost" || host.contains('.') || port.is_some()) && host.split('.').all(label)
}

/// `org.opencontainers.image.ref.name` may be a whole name or only a tag (image-spec, annotations).
pub(super) fn parse_ref_name(text: &str) -> Result<Result<ImageName, Tag>, ArchiveError> {
    if text.contains(['/', ':', '@']) {
        return Ok(Ok(ImageName::parse(text)?));
    }
    Ok(Err(text.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>) {
        let (repository, tag) = ImageName::parse(text).expect(text).tag_or_latest();
        (repository.to_string(), tag.map(|tag| tag.to_string()))
    }

    #[test]
    fn hosts_are_dropped_and_a_missing_tag_is_latest() {
        for (text, repository, tag) in [
            ("hello:1", "hello", "1"),
            ("hello", "hello", "latest"),
            ("localhost:5000/hello", "hello", "latest"),
            ("localhost/hello:2", "hello", "2"),
            ("[::1]:5000/hello:2", "hello", "2"),
            ("registry:5000/hello:2", "hello", "2"),
            ("registry.example.com/team/app:v1", "team/app", "v1"),
            ("team/app:v1", "team/app", "v1"),
            ("docker.io/library/hello:1", "hello", "1"),
            ("docker.io/team/hello:1", "team/hello", "1"),
        ] {
            assert_eq!(parsed(text), (repository.to_owned(), Some(tag.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_name_by_digest_sets_no_tag() {
        let digest = Digest::sha256(&[1; 32]);
        assert_eq!(parsed(&format!("host.example/app@{digest}")), ("app".into(), None));
    }

    #[test]
    fn names_cannot_carry_paths() {
        for text in [
            "../app:1",
            "app/../x:1",
            "/app",
            "",
            "app:",
            ":1",
            "app:a/b/..",
            "APP:1",
            "host.example/",
            "a..b/c",
            "a:b:c/d",
        ] {
            assert!(ImageName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_ref_name_is_a_tag_or_a_whole_name() {
        assert_eq!(parse_ref_name("1.0").expect("a tag"), Err("1.0".parse().expect("a tag")));
        let whole = parse_ref_name("quay.io/app:1.0").expect("a name").expect("a whole name");
        assert_eq!(whole.repository.as_str(), "app");
        assert!(parse_ref_name("-").is_err());
    }
}
