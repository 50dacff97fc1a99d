//! The media types that a registry knows (image-spec:media-types.md, distribution:manifest).

use super::Kind;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker schema 1, signed: only ever read from foreign trees.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Bytes of which nothing is known.
pub const OCTET_STREAM: &str = "application/octet-stream";

const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// A Content-Type without its parameters.
pub fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// What a media type is.
pub fn kind(media_type: &str) -> Kind {
    match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => Kind::Image,
        OCI_INDEX | DOCKER_LIST => Kind::Index,
        _ => Kind::Other,
    }
}

/// Whether it can be sent in a header: `type/subtype` of at most 255 visible ASCII characters (RFC 6838).
pub fn is_valid(media_type: &str) -> bool {
    let word = |part: &str| {
        part.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&c))
    };
    media_type.len() <= 255 && media_type.split_once('/').is_some_and(|(a, b)| word(a) && word(b))
}

pub(super) fn is_schema1(media_type: &str) -> bool {
    matches!(media_type, DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED)
}

/// Types that tools send when they were told none.
pub(super) fn is_generic(media_type: &str) -> bool {
    matches!(media_type, "application/json" | OCTET_STREAM | "application/x-www-form-urlencoded" | "text/plain")
}

/// Layers that a registry need not hold: clients fetch them from their `urls`.
pub fn is_foreign_layer(media_type: &str) -> bool {
    media_type.starts_with(DOCKER_FOREIGN_LAYER) || media_type.starts_with(OCI_FOREIGN_LAYER)
}
