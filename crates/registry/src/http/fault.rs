//! The one table from what went wrong to status, code and message.
//!
//! distribution-spec, "Error Codes". Answers under 500 carry a message for the person who reads it;
//! 500 and above carry the table's own text and the request's id, nothing that was computed.

use crate::{error::Error, foreign::BadBlob, tree::TreeError};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cidery_access::LoginError;
use cidery_core::{Digest, FetchError, NameError, ResolveError, StoreError};
use cidery_unixfs::UnixfsError;
use std::{borrow::Cow, error::Error as StdError, fmt};

/// Seconds after which who was told to wait may come back.
const RETRY_AFTER: &str = "2";

/// Errors of one kind in one answer: a manifest can name thousands of digests.
const MOST_ERRORS: usize = 256;

/// What went wrong, as a client can tell cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    BadRequest,
    BlobUnknown,
    ConnectionBroken,
    Denied,
    DigestInvalid,
    HeadersTooLarge,
    InUse,
    Internal,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    MethodNotAllowed,
    NameInvalid,
    NameUnknown,
    NoSpace,
    NotFound,
    NotTls,
    Overloaded,
    PageInvalid,
    PeersStalled,
    RangeInvalid,
    SizeInvalid,
    Stopping,
    TagImmutable,
    TagInvalid,
    TooManyDownloads,
    TooManyLogins,
    TooManyUploads,
    TreeMalformed,
    Unauthorized,
    Unobserved,
    Unresolved,
    UploadBusy,
    UploadUnknown,
    UriTooLong,
}

impl Fault {
    /// Status, code and default message.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => (S::BAD_REQUEST, "UNSUPPORTED", "the request cannot be understood"),
            Self::BlobUnknown => (S::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry"),
            Self::ConnectionBroken => (S::BAD_REQUEST, "BLOB_UPLOAD_INVALID", "the body ended before it was complete"),
            Self::Denied => (S::FORBIDDEN, "DENIED", "requested access to the resource is denied"),
            Self::DigestInvalid => (S::BAD_REQUEST, "DIGEST_INVALID", "provided digest did not match uploaded content"),
            Self::HeadersTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "SIZE_INVALID", "the request's headers are too large")
            }
            Self::InUse => (S::METHOD_NOT_ALLOWED, "UNSUPPORTED", "it is in use, and cannot be deleted"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "UNKNOWN", "something went wrong in the registry"),
            Self::ManifestBlobUnknown => {
                (S::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", "manifest references a blob unknown to registry")
            }
            Self::ManifestInvalid => (S::BAD_REQUEST, "MANIFEST_INVALID", "manifest invalid"),
            Self::ManifestTooLarge => (S::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "the manifest is too large"),
            Self::ManifestUnknown => (S::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown to registry"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported"),
            Self::NameInvalid => (S::BAD_REQUEST, "NAME_INVALID", "invalid repository name"),
            Self::NameUnknown => (S::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry"),
            Self::NoSpace => (
                S::INSUFFICIENT_STORAGE,
                "UNAVAILABLE",
                "no space left where the registry keeps its data; an open upload can be resumed or cancelled",
            ),
            Self::NotFound => (S::NOT_FOUND, "UNSUPPORTED", "there is nothing at this path"),
            Self::NotTls => {
                (S::BAD_REQUEST, "UNSUPPORTED", "this registry speaks TLS here, and was asked without: use https://")
            }
            Self::Overloaded => {
                (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "all connections are in use; come back in a moment")
            }
            Self::PageInvalid => (S::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "invalid number of results requested"),
            Self::PeersStalled => {
                (S::GATEWAY_TIMEOUT, "UNAVAILABLE", "nobody who was asked sent the content in time; try again")
            }
            Self::RangeInvalid => (S::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "invalid content range"),
            Self::SizeInvalid => (S::BAD_REQUEST, "SIZE_INVALID", "provided length did not match content length"),
            Self::Stopping => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the registry is stopping"),
            // As the largest registry with such tags has it, which tools know.
            Self::TagImmutable => (S::BAD_REQUEST, "TAG_INVALID", "the tag is immutable"),
            Self::TagInvalid => (S::BAD_REQUEST, "TAG_INVALID", "manifest tag did not match URI"),
            Self::TooManyDownloads => {
                (S::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many blobs are on their way; come back in a moment")
            }
            Self::TooManyLogins => (S::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many logins failed or wait"),
            Self::TooManyUploads => (S::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many uploads are open"),
            Self::TreeMalformed => (S::NOT_FOUND, "MANIFEST_INVALID", "the registry behind this name is malformed"),
            Self::Unauthorized => (S::UNAUTHORIZED, "UNAUTHORIZED", "authentication required"),
            Self::Unobserved => (
                S::SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                "nothing is written now, since it could not be put down in the audit log",
            ),
            Self::Unresolved => {
                (S::GATEWAY_TIMEOUT, "UNAVAILABLE", "the name could not be resolved in time; try again")
            }
            Self::UploadBusy => (S::CONFLICT, "BLOB_UPLOAD_INVALID", "another request is writing to this upload"),
            Self::UploadUnknown => (S::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
            Self::UriTooLong => (S::URI_TOO_LONG, "NAME_INVALID", "the request's path is too long"),
        }
    }
}

/// A refusal or a failure on its way to the client.
#[derive(Debug)]
pub struct ApiError {
    fault: Fault,
    message: Option<Cow<'static, str>>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// Several of a kind: the message and the detail of each.
    each: Vec<(String, serde_json::Value)>,
}

/// What every handler gives.
pub type Reply = Result<Response, ApiError>;

impl ApiError {
    /// With a message of one's own.
    pub fn new(fault: Fault, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: Some(message.into()), ..Self::from(fault) }
    }

    /// Keeps what lies behind it, for the log.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds a header.
    pub fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer, in OCI JSON. What stays in the log is logged here.
    pub fn respond(self, request: &str) -> Response {
        let (status, code, default) = self.fault.row();
        let message = if self.fault == Fault::Overloaded {
            // Many a second, and nothing that went wrong: the log has one line for all of them.
            default.to_owned()
        } else if status.is_server_error() {
            let source = self.source.as_deref().map(|source| source as &dyn StdError);
            let said = self.message.as_deref().unwrap_or(default);
            tracing::error!(request, code, error = source.map(Chain).map(tracing::field::display), "{said}");
            format!("{default} (request {request})")
        } else {
            tracing::debug!(request, code, message = self.message.as_deref(), "refused");
            match (self.message, self.source) {
                (Some(message), _) => message.into_owned(),
                (None, Some(source)) => format!("{default}: {}", Chain(&*source)),
                (None, None) => default.to_owned(),
            }
        };
        let mut each = self.each;
        if each.is_empty() {
            each.push((message, serde_json::Value::Null));
        }
        let entry = |(message, detail)| serde_json::json!({ "code": code, "message": message, "detail": detail });
        let body = serde_json::json!({ "errors": each.into_iter().map(entry).collect::<Vec<_>>() });
        let mut response = (status, Body::from(body.to_string())).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// An error with everything that lies behind it, in one line.
struct Chain<'a>(&'a (dyn StdError + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut shown = self.0.to_string();
        let mut next = self.0.source();
        while let Some(error) = next {
            let text = error.to_string();
            // A transparent wrapper says the same again.
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
            }
            shown = text;
            next = error.source();
        }
        Ok(())
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self { fault, message: None, headers: Vec::new(), source: None, each: Vec::new() }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::new(Fault::NameInvalid, error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let fault = match error {
            StoreError::Full { .. } => Fault::NoSpace,
            _ => Fault::Internal,
        };
        Self::from(fault).because(error)
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        match error {
            // Not an answer about the name itself: the caller knows better what is missing.
            FetchError::NotFound(_) => Self::new(Fault::BlobUnknown, format!("{error}: nobody who was asked has it")),
            FetchError::Stalled { .. } => Self::from(Fault::PeersStalled).because(error),
            FetchError::Block(_) => Self::from(Fault::TreeMalformed).because(error),
            FetchError::Store(error) => error.into(),
            FetchError::Closed => Self::from(Fault::Stopping).because(error),
        }
    }
}

impl From<UnixfsError> for ApiError {
    fn from(error: UnixfsError) -> Self {
        match error {
            UnixfsError::Fetch(error) => error.into(),
            UnixfsError::Store(error) => error.into(),
            UnixfsError::Io { .. } | UnixfsError::State(_) => Self::from(Fault::Internal).because(error),
            error => Self::from(Fault::TreeMalformed).because(error),
        }
    }
}

/// An entry for each digest that a manifest lacks: a client pushes these and tries again.
fn missing(digests: &[Digest]) -> Vec<(String, serde_json::Value)> {
    let one = |digest: &Digest| (format!("the repository does not hold {digest}"), digest.as_str().into());
    let mut each: Vec<_> = digests.iter().take(MOST_ERRORS).map(one).collect();
    if digests.len() > MOST_ERRORS {
        each.push((format!("and {} more", digests.len() - MOST_ERRORS), serde_json::Value::Null));
    }
    each
}

impl From<TreeError> for ApiError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::ManifestInvalid(_) => Self::from(Fault::ManifestInvalid).because(error),
            TreeError::ManifestBlobUnknown { ref digests } => {
                Self { each: missing(digests), ..Self::new(Fault::ManifestBlobUnknown, error.to_string()) }
            }
            TreeError::NotAllowed(message) => Self::new(Fault::Denied, message),
            TreeError::Immutable { .. } => Self::new(Fault::TagImmutable, error.to_string()),
            TreeError::InUse { .. } | TreeError::Undeletable { .. } => {
                Self::new(Fault::InUse, error.to_string()).with(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
            }
            TreeError::TooLarge { .. } => Self::new(Fault::ManifestTooLarge, error.to_string()),
            TreeError::DigestMismatch { .. } => Self::new(Fault::DigestInvalid, error.to_string()),
            TreeError::Malformed { .. } => Self::from(Fault::TreeMalformed).because(error),
            TreeError::Fetch(error) => error.into(),
            TreeError::Unixfs(error) => error.into(),
            TreeError::Store(error) => error.into(),
            TreeError::NotRetained(_) | TreeError::Commit(_) => Self::from(Fault::Internal).because(error),
            TreeError::Closed => Self::from(Fault::Stopping).because(error),
        }
    }
}

impl From<ResolveError> for ApiError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NotFound { .. } | ResolveError::Invalid { .. } => {
                Self::new(Fault::NameUnknown, error.to_string())
            }
            ResolveError::Unavailable { .. } => Self::from(Fault::Unresolved).because(error),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        let wait = match error {
            LoginError::Wrong | LoginError::Token => return Self::new(Fault::Unauthorized, error.to_string()),
            LoginError::Failed => return Self::from(Fault::Internal).because(error),
            LoginError::Busy => return Self::new(Fault::TooManyLogins, error.to_string()),
            LoginError::Slowed(wait) => wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
        };
        let message = format!("too many logins from this address failed: wait {wait} s, then check the password");
        Self::new(Fault::TooManyLogins, message).with(header::RETRY_AFTER, HeaderValue::from(wait))
    }
}

impl From<BadBlob> for ApiError {
    fn from(error: BadBlob) -> Self {
        Self::new(Fault::BlobUnknown, error.to_string())
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Name(error) => error.into(),
            Error::Resolve(error) => error.into(),
            Error::Tree(error) => error.into(),
            Error::Unixfs(error) => error.into(),
            Error::Store(error) => error.into(),
            Error::BadBlob(error) => error.into(),
            Error::NoManifest { .. } => Self::new(Fault::ManifestUnknown, error.to_string()),
            Error::NoBlob { .. } | Error::Incomplete { .. } => Self::new(Fault::BlobUnknown, error.to_string()),
            Error::NotInTime { .. } => Self::from(Fault::PeersStalled).because(error),
            Error::NoRoom(error) => error.into(),
            Error::Busy => Self::from(Fault::TooManyDownloads),
            Error::Task(_) => Self::from(Fault::Internal).because(error),
        }
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::from(Fault::Internal).because(error)
    }
}
