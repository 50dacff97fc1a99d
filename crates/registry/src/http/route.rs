//! The paths of the API, read once. Repository names contain slashes, so paths are read from their end.

use super::fault::{ApiError, Fault};
use crate::ops::labels::Endpoint;

/// Where bearer tokens are had. Outside of `/v2/`, where every path is a repository's.
pub const TOKEN: &str = "/token";

/// What a path stands for (distribution-spec, "Endpoints"). Names and digests are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/token`
    Token,
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags { name: String },
    /// `/v2/<name>/manifests/<reference>`
    Manifest { name: String, reference: String },
    /// `/v2/<name>/blobs/<digest>`
    Blob { name: String, digest: String },
    /// `/v2/<name>/blobs/uploads/`
    Uploads { name: String },
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload { name: String, id: String },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { name: String, digest: String },
}

impl Route {
    /// Reads a path as it came, percent-encoded.
    pub fn parse(path: &str) -> Result<Self, ApiError> {
        let nothing = || ApiError::from(Fault::NotFound);
        let rest = match path {
            "/v2" => "",
            TOKEN => return Ok(Self::Token),
            _ => path.strip_prefix("/v2/").ok_or_else(nothing)?,
        };
        if rest.is_empty() {
            return Ok(Self::Base);
        }
        // Decoded part by part: an encoded slash stays inside its part, where no name or digest allows it.
        let parts: Vec<String> = rest.split('/').map(decode).collect::<Option<_>>().ok_or(Fault::NameInvalid)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if parts == ["_catalog"] {
            return Ok(Self::Catalog);
        }
        let own = str::to_owned;
        Ok(match parts.as_slice() {
            [name @ .., "tags", "list"] => Self::Tags { name: join(name)? },
            [name @ .., "manifests", reference] => Self::Manifest { name: join(name)?, reference: own(reference) },
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                Self::Uploads { name: join(name)? }
            }
            [name @ .., "blobs", "uploads", id] => Self::Upload { name: join(name)?, id: own(id) },
            [name @ .., "blobs", digest] => Self::Blob { name: join(name)?, digest: own(digest) },
            [name @ .., "referrers", digest] => Self::Referrers { name: join(name)?, digest: own(digest) },
            _ => return Err(nothing()),
        })
    }

    /// Its template, for metrics and logs.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Token => Endpoint::Token,
            Self::Base => Endpoint::Base,
            Self::Catalog => Endpoint::Catalog,
            Self::Tags { .. } => Endpoint::Tags,
            Self::Manifest { .. } => Endpoint::Manifest,
            Self::Blob { .. } => Endpoint::Blob,
            Self::Uploads { .. } => Endpoint::Uploads,
            Self::Upload { .. } => Endpoint::Upload,
            Self::Referrers { .. } => Endpoint::Referrers,
        }
    }

    /// The name of the repository that it is about.
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Token | Self::Base | Self::Catalog => None,
            Self::Tags { name }
            | Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::Uploads { name }
            | Self::Upload { name, .. }
            | Self::Referrers { name, .. } => Some(name),
        }
    }

    /// The methods it answers, for `Allow`.
    pub fn allow(&self) -> &'static str {
        match self {
            Self::Token => "GET, POST",
            Self::Base | Self::Catalog | Self::Tags { .. } | Self::Referrers { .. } => "GET, HEAD",
            Self::Manifest { .. } => "GET, HEAD, PUT, DELETE",
            Self::Blob { .. } => "GET, HEAD, DELETE",
            Self::Uploads { .. } => "POST",
            Self::Upload { .. } => "GET, PATCH, PUT, DELETE",
        }
    }
}

fn join(name: &[&str]) -> Result<String, ApiError> {
    if name.iter().any(|part| part.contains('/')) {
        return Err(ApiError::new(Fault::NameInvalid, "a repository name cannot contain an encoded slash"));
    }
    Ok(name.join("/"))
}

/// Percent-decodes; `None` for what is not UTF-8 or not an escape.
pub fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let name = |text: &str| text.to_owned();
        for (path, route) in [
            ("/token", Route::Token),
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags { name: name("a/b") }),
            ("/v2/a/manifests/1", Route::Manifest { name: name("a"), reference: name("1") }),
            (
                "/v2/a/blobs/uploads/manifests/1",
                Route::Manifest { name: name("a/blobs/uploads"), reference: name("1") },
            ),
            ("/v2/tags/list/tags/list", Route::Tags { name: name("tags/list") }),
            ("/v2/a/blobs/uploads", Route::Uploads { name: name("a") }),
            ("/v2/a/blobs/uploads/", Route::Uploads { name: name("a") }),
            ("/v2/a/blobs/uploads/x", Route::Upload { name: name("a"), id: name("x") }),
            ("/v2/a/blobs/sha256%3Aff", Route::Blob { name: name("a"), digest: name("sha256:ff") }),
            ("/v2/a/referrers/sha256:ff", Route::Referrers { name: name("a"), digest: name("sha256:ff") }),
        ] {
            assert_eq!(Route::parse(path).ok(), Some(route), "{path}");
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/token/",
            "/v2/token",
            "/v2/a",
            "/v2/a/b/c",
            "/v2/%zz/manifests/1",
            "/v2/a%2fb/manifests/1",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
        // Dots stay what they are; the name's own rules refuse them.
        assert!(matches!(Route::parse("/v2/../x/manifests/1"), Ok(Route::Manifest { name, .. }) if name == "../x"));
    }
}
