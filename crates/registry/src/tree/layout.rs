//! Where things lie below a tree's root: the paths of the distribution registry's own storage
//! (distribution:registry/storage/paths.go), and the two slots it lacks.
//!
//! A path is a list of components. Every component comes from a validated name, so none can hold
//! a slash or be `..`.

use cidery_core::{Digest, RepositoryName, Tag};

/// Components of a path below some directory.
pub type Path = Vec<String>;

/// Where an owned tree keeps its storage directory, below the root.
pub const PREFIX: [&str; 3] = ["docker", "registry", "v2"];

/// The directory of all repositories, in the storage directory.
pub const REPOSITORIES: &str = "repositories";

/// The file that names a digest.
pub const LINK: &str = "link";
/// The file that names a revision's media type, where the manifest itself says another or none.
pub const MEDIA_TYPE: &str = "mediatype";
/// A blob's bytes.
pub const DATA: &str = "data";

fn path<'a>(parts: impl IntoIterator<Item = &'a str>) -> Path {
    parts.into_iter().map(str::to_owned).collect()
}

/// `blobs/<alg>/<xx>/<hex>`: the directory of one blob.
pub fn blob(digest: &Digest) -> Path {
    // A digest's hex has at least 64 digits.
    path(["blobs", digest.algorithm(), &digest.hex()[..2], digest.hex()])
}

/// `blobs/<alg>/<xx>/<hex>/data`.
pub fn blob_data(digest: &Digest) -> Path {
    join(blob(digest), &[DATA])
}

/// `repositories/<name>`; a name's slashes make directories.
pub fn repository(name: &RepositoryName) -> Path {
    path(std::iter::once(REPOSITORIES).chain(name.as_str().split('/')))
}

/// A path of this repository, as one below its own directory.
pub fn in_repository<'a>(name: &RepositoryName, path: &'a [String]) -> &'a [String] {
    &path[1 + name.as_str().split('/').count()..]
}

/// `repositories/<name>/_layers/<alg>/<hex>`.
pub fn layer(name: &RepositoryName, digest: &Digest) -> Path {
    join(repository(name), &["_layers", digest.algorithm(), digest.hex()])
}

/// `repositories/<name>/_layers/<alg>/<hex>/link`.
pub fn layer_link(name: &RepositoryName, digest: &Digest) -> Path {
    join(layer(name, digest), &[LINK])
}

/// `repositories/<name>/_manifests/revisions/<alg>/<hex>`.
pub fn revision(name: &RepositoryName, digest: &Digest) -> Path {
    join(repository(name), &["_manifests", "revisions", digest.algorithm(), digest.hex()])
}

/// `…/_manifests/revisions`: by algorithm and digest.
pub fn revisions(name: &RepositoryName) -> Path {
    join(repository(name), &["_manifests", "revisions"])
}

/// `repositories/<name>/_layers`: by algorithm and digest.
pub fn layers(name: &RepositoryName) -> Path {
    join(repository(name), &["_layers"])
}

/// `…/revisions/<alg>/<hex>/link`.
pub fn revision_link(name: &RepositoryName, digest: &Digest) -> Path {
    join(revision(name, digest), &[LINK])
}

/// `…/revisions/<alg>/<hex>/mediatype`: not in the stock layout, and ignored by the stock registry.
pub fn revision_media_type(name: &RepositoryName, digest: &Digest) -> Path {
    join(revision(name, digest), &[MEDIA_TYPE])
}

/// `repositories/<name>/_manifests/tags`.
pub fn tags(name: &RepositoryName) -> Path {
    join(repository(name), &["_manifests", "tags"])
}

/// `…/tags/<tag>`.
pub fn tag(name: &RepositoryName, tag: &Tag) -> Path {
    join(tags(name), &[tag.as_str()])
}

/// `…/tags/<tag>/current/link`.
pub fn tag_current(name: &RepositoryName, tag: &Tag) -> Path {
    join(self::tag(name, tag), &["current", LINK])
}

/// `…/tags/<tag>/index/<alg>/<hex>`: one of the revisions the tag has ever stood for.
pub fn tag_index(name: &RepositoryName, tag: &Tag, digest: &Digest) -> Path {
    join(self::tag(name, tag), &["index", digest.algorithm(), digest.hex()])
}

/// `…/tags/<tag>/index/<alg>/<hex>/link`.
pub fn tag_index_link(name: &RepositoryName, tag: &Tag, digest: &Digest) -> Path {
    join(tag_index(name, tag, digest), &[LINK])
}

/// `repositories/<name>/_referrers/<alg>/<hex>` of a subject: not in the stock layout, and ignored
/// by the stock registry.
pub fn referrers(name: &RepositoryName, subject: &Digest) -> Path {
    join(repository(name), &["_referrers", subject.algorithm(), subject.hex()])
}

/// `…/_referrers/<alg>/<hex>/<alg>/<hex>/link`.
pub fn referrer_link(name: &RepositoryName, subject: &Digest, digest: &Digest) -> Path {
    join(referrers(name, subject), &[digest.algorithm(), digest.hex(), LINK])
}

/// The tag that stands for a subject's referrers where there is no referrers API
/// (distribution-spec, "Referrers Tag Schema"): `<alg>-<first 64 of hex>`.
pub fn referrers_tag(subject: &Digest) -> Tag {
    let hex = &subject.hex()[..64];
    let text = format!("{}-{hex}", subject.algorithm());
    // An algorithm, a dash and 64 hex digits are a valid tag; the fallback only spares a panic.
    text.parse().unwrap_or_else(|_| unreachable!("{text} is a valid tag"))
}

/// What a tag is about that belongs to one manifest: the tag of [`referrers_tag`] that it begins with. Clients without
/// a referrers API keep a manifest's referrers under that tag, and signatures under it and a suffix (`.sig`, `.att`).
pub fn companion_of(tag: &Tag) -> Option<&str> {
    let subject = tag.as_str().split('.').next()?;
    let (algorithm, hex) = subject.split_once('-')?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    (is_hex && matches!(algorithm, "sha256" | "sha512")).then_some(subject)
}

/// The exact content of a `link` file: the digest, and no newline.
pub fn link_content(digest: &Digest) -> &[u8] {
    digest.as_str().as_bytes()
}

/// Reads a `link` file: exactly a digest, or one with a single newline after it.
pub fn parse_link(content: &[u8]) -> Option<Digest> {
    let text = std::str::from_utf8(content).ok()?;
    text.strip_suffix('\n').unwrap_or(text).parse().ok()
}

/// The longest `link` that is read, in bytes: a sha512 digest and a newline fit.
pub const MAX_LINK: u64 = 256;

fn join(mut path: Path, more: &[&str]) -> Path {
    path.extend(more.iter().map(|part| (*part).to_owned()));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_stock_registry() {
        let name: RepositoryName = "team/app".parse().unwrap();
        let tag_name: Tag = "v1".parse().unwrap();
        let digest = Digest::sha256(&[0xab; 32]);
        let hex = digest.hex();
        let text = |path: Path| path.join("/");
        assert_eq!(text(blob_data(&digest)), format!("blobs/sha256/ab/{hex}/data"));
        assert_eq!(text(layer_link(&name, &digest)), format!("repositories/team/app/_layers/sha256/{hex}/link"));
        let manifests = "repositories/team/app/_manifests";
        assert_eq!(text(revision_link(&name, &digest)), format!("{manifests}/revisions/sha256/{hex}/link"));
        assert_eq!(text(tag_current(&name, &tag_name)), format!("{manifests}/tags/v1/current/link"));
        let index = format!("{manifests}/tags/v1/index/sha256/{hex}/link");
        assert_eq!(text(tag_index_link(&name, &tag_name, &digest)), index);
        let subject = Digest::sha512(&[1; 64]);
        let slot = format!("repositories/team/app/_referrers/sha512/{}/sha256/{hex}/link", subject.hex());
        assert_eq!(text(referrer_link(&name, &subject, &digest)), slot);
        assert_eq!(in_repository(&name, &tag(&name, &tag_name)), ["_manifests", "tags", "v1"]);
    }

    #[test]
    fn the_referrers_tag_is_cut_to_64_digits() {
        assert_eq!(referrers_tag(&Digest::sha256(&[2; 32])).as_str(), format!("sha256-{}", "02".repeat(32)));
        assert_eq!(referrers_tag(&Digest::sha512(&[3; 64])).as_str(), format!("sha512-{}", "03".repeat(32)));
    }

    #[test]
    fn what_belongs_to_a_manifest_names_it() {
        let hex = "0a".repeat(32);
        for suffix in ["", ".sig", ".att", ".sbom", ".a.b"] {
            let tag: Tag = format!("sha256-{hex}{suffix}").parse().unwrap();
            assert_eq!(companion_of(&tag), Some(format!("sha256-{hex}").as_str()), "{tag}");
        }
        for other in
            ["latest", "sha256-0a", &format!("sha256-{hex}0"), &format!("md5-{hex}"), &format!("x.sha256-{hex}")]
        {
            assert_eq!(companion_of(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn links_are_exactly_a_digest() {
        let digest = Digest::sha256(&[7; 32]);
        let text = digest.as_str();
        assert_eq!(link_content(&digest).len(), 71);
        for good in [text.to_owned(), format!("{text}\n")] {
            assert_eq!(parse_link(good.as_bytes()).as_ref(), Some(&digest));
        }
        for bad in [
            String::new(),
            "\n".into(),
            format!("{text}\n\n"),
            format!("{text}\r\n"),
            format!(" {text}"),
            text[..70].into(),
            format!("{text}0"),
            text.to_uppercase(),
            text.replace("sha256", "md5"),
            text.replace("sha256", "sha512"),
            format!("../{text}"),
        ] {
            assert_eq!(parse_link(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse_link(b"sha256:\xff\xfe"), None);
    }
}
