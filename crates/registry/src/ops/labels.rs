//! The values that labels can have: few, and none of them a client's invention.

use crate::http::TOKEN;
use axum::http::Method;

/// A group of paths that are answered alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Endpoint {
    /// What is none of the others, and what was refused before its path was read.
    Other,
    Token,
    Base,
    Catalog,
    Tags,
    Manifest,
    Blob,
    Uploads,
    Upload,
    Referrers,
    Health,
    Ready,
    Metrics,
}

impl Endpoint {
    pub const ALL: [Self; 13] = [
        Self::Other,
        Self::Token,
        Self::Base,
        Self::Catalog,
        Self::Tags,
        Self::Manifest,
        Self::Blob,
        Self::Uploads,
        Self::Upload,
        Self::Referrers,
        Self::Health,
        Self::Ready,
        Self::Metrics,
    ];

    /// The paths' template.
    pub fn template(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Token => TOKEN,
            Self::Base => "/v2/",
            Self::Catalog => "/v2/_catalog",
            Self::Tags => "/v2/{name}/tags/list",
            Self::Manifest => "/v2/{name}/manifests/{reference}",
            Self::Blob => "/v2/{name}/blobs/{digest}",
            Self::Uploads => "/v2/{name}/blobs/uploads/",
            Self::Upload => "/v2/{name}/blobs/uploads/{id}",
            Self::Referrers => "/v2/{name}/referrers/{digest}",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
        }
    }

    pub fn at(index: u8) -> Self {
        Self::ALL.get(usize::from(index)).copied().unwrap_or(Self::Other)
    }
}

/// The methods; all that nobody answers are one.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// A method's place in [`METHODS`].
pub fn method(method: &Method) -> usize {
    METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1)
}

/// What is counted when the client went away before there was an answer. No client sees it.
pub const GONE: u16 = 499;

/// The statuses that are counted by themselves; any other as the last one.
pub const CODES: [u16; 32] = [
    200, 201, 202, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 414, 415, 416,
    429, 431, GONE, 500, 502, 503, 504, 507, 0,
];

/// A status' place in [`CODES`].
pub fn code(status: u16) -> usize {
    CODES.iter().position(|code| *code == status).unwrap_or(CODES.len() - 1)
}

/// The label of a place in [`CODES`].
pub fn code_label(place: usize) -> String {
    match CODES.get(place) {
        Some(0) | None => "other".to_owned(),
        Some(code) => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_one_place() {
        for (index, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            assert_eq!((endpoint as usize, Endpoint::at(index as u8)), (index, endpoint));
        }
        assert_eq!(Endpoint::at(200), Endpoint::Other);
        assert_eq!(METHODS[method(&Method::PATCH)], "PATCH");
        assert_eq!(METHODS[method(&Method::from_bytes(b"BREW").unwrap())], "other");
        assert_eq!((code_label(code(404)), code_label(code(418))), ("404".into(), "other".into()));
        assert_eq!(code_label(code(507)), "507");
    }
}
