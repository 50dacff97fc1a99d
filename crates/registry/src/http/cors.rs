//! Web pages of other sites that may use the API: none, unless the configuration names them.

use axum::http::{HeaderName, HeaderValue, Method, Uri};
use std::{fmt, str::FromStr, time::Duration};
use thiserror::Error;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// For how long a browser may remember what it was told.
const MAX_AGE: Duration = Duration::from_secs(600);

/// What a page may read of an answer, besides what every page may.
const EXPOSED: [&str; 14] = [
    "accept-ranges",
    "content-range",
    "docker-content-digest",
    "docker-distribution-api-version",
    "docker-upload-uuid",
    "etag",
    "link",
    "location",
    "oci-filters-applied",
    "oci-subject",
    "range",
    "retry-after",
    "www-authenticate",
    "x-request-id",
];

/// A web page's origin, in the form that browsers send (RFC 6454, section 6.2): `https://ui.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// Why a text is no [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not the origin of a web page: {why}. It looks like https://ui.example or http://localhost:8080")]
pub struct OriginError {
    text: String,
    why: &'static str,
}

impl Origin {
    /// Whether this is what a request says it comes from.
    pub fn is(&self, said: &HeaderValue) -> bool {
        self.0 == *said
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let wrong = |why| OriginError { text: text.chars().take(200).collect(), why };
        if text.contains('*') {
            return Err(wrong("pages that may use the registry are named one by one"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("it has no scheme"));
        };
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(wrong("its scheme is neither http nor https")),
        };
        if uri.path() != "/" || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong("it is a scheme, a host and perhaps a port, and nothing else"));
        }
        // As browsers write it: in lower case, and without the port that goes without saying.
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().filter(|port| *port != usual).map(|port| format!(":{port}"));
        let origin = format!("{scheme}://{host}{}", port.unwrap_or_default());
        Ok(Self(origin.parse().map_err(|_| wrong("it cannot be read"))?))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Answers preflights, and tells browsers what pages of these origins may do and see. What comes from elsewhere
/// is refused by [`guard`](super::guard).
pub fn layer(origins: &[Origin]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().map(|origin| origin.0.clone())))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::PUT, Method::DELETE])
        // The origins are trusted; which headers their pages need is theirs to know.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        for (text, origin) in [
            ("https://ui.example", "https://ui.example"),
            ("https://UI.Example/", "https://ui.example"),
            ("https://ui.example:443", "https://ui.example"),
            ("http://ui.example:80", "http://ui.example"),
            ("http://ui.example:443", "http://ui.example:443"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            let read: Origin = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read.to_string(), origin);
            assert!(read.is(&HeaderValue::from_str(origin).unwrap()));
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in
            ["", "*", "null", "ui.example", "https://*.example", "https://ui.example/path", "https://a@ui.example"]
        {
            let error = text.parse::<Origin>().expect_err(text).to_string();
            assert!(error.contains("https://ui.example"), "{error}");
        }
        for text in ["https://ui.example/?q", "ftp://ui.example", "https://", "https://ü.example"] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
