//! The successful answers. Handlers never touch header strings.

use crate::tree::{Descriptor, Manifest};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cidery_access::{Grant, Issued};
use cidery_core::{Digest, Tag};
use serde::Serialize;
use serde_json::json;
use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Text of validated parts; what is no header value is left out rather than sent wrong.
fn set(response: &mut Response, name: HeaderName, text: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(text.as_ref()) {
        response.headers_mut().insert(name, value);
    }
}

fn set_length(response: &mut Response, length: u64) {
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// The strong validator of content that is named by its digest.
pub fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

fn json_response(media_type: &'static str, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("texts, numbers and lists are JSON");
    let mut response = Body::from(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// `GET /v2/`: the API is here, and nobody needs to log in any more.
pub struct Base;

impl IntoResponse for Base {
    fn into_response(self) -> Response {
        json_response("application/json", &json!({}))
    }
}

/// A bearer token, for whoever asked for it (distribution, "Token Response").
pub struct Token(pub Issued);

impl IntoResponse for Token {
    fn into_response(self) -> Response {
        let Issued { token, expires_in, issued_at, grants, refresh } = self.0;
        let issued_at = SystemTime::UNIX_EPOCH + Duration::from_secs(issued_at);
        let scopes: Vec<_> = grants.iter().map(Grant::to_scope).collect();
        let mut body = json!({
            "token": token.reveal(),
            "access_token": token.reveal(),
            "token_type": "Bearer",
            "scope": scopes.join(" "),
            "expires_in": expires_in,
            "issued_at": humantime::format_rfc3339_seconds(issued_at).to_string(),
        });
        if let Some(refresh) = refresh {
            body["refresh_token"] = refresh.reveal().into();
        }
        let mut response = json_response("application/json", &body);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A blob or a part of it; without a body for HEAD.
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its whole size.
    pub size: u64,
    /// 206 for a part.
    pub part: Option<Range<u64>>,
    /// The bytes, exactly so many as the part or the whole has.
    pub body: Option<Body>,
}

impl IntoResponse for Blob {
    fn into_response(self) -> Response {
        let Self { digest, size, part, body } = self;
        let mut response = body.unwrap_or_default().into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        set(&mut response, header::ETAG, etag(&digest));
        set(&mut response, CONTENT_DIGEST, digest.as_str());
        match part {
            None => set_length(&mut response, size),
            Some(Range { start, end }) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                set(&mut response, header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1));
                set_length(&mut response, end - start);
            }
        }
        response
    }
}

/// A manifest; without a body for HEAD.
pub struct ManifestFound {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Only its head.
    pub head: bool,
}

impl IntoResponse for ManifestFound {
    fn into_response(self) -> Response {
        let Self { manifest, head } = self;
        let body = if head { Body::empty() } else { Body::from(manifest.bytes.clone()) };
        let mut response = body.into_response();
        set(&mut response, header::CONTENT_TYPE, &manifest.media_type);
        set(&mut response, header::ETAG, etag(&manifest.digest));
        set(&mut response, CONTENT_DIGEST, manifest.digest.as_str());
        set_length(&mut response, manifest.bytes.len() as u64);
        response
    }
}

/// The client has it already.
pub struct NotModified(pub Digest);

impl IntoResponse for NotModified {
    fn into_response(self) -> Response {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        set(&mut response, header::ETAG, etag(&self.0));
        set(&mut response, CONTENT_DIGEST, self.0.as_str());
        response
    }
}

/// A blob was committed or mounted.
pub struct BlobCreated<'a> {
    /// The repository's full name.
    pub name: &'a str,
    /// The blob.
    pub digest: Digest,
}

impl IntoResponse for BlobCreated<'_> {
    fn into_response(self) -> Response {
        let mut response = StatusCode::CREATED.into_response();
        set(&mut response, header::LOCATION, format!("/v2/{}/blobs/{}", self.name, self.digest));
        set(&mut response, CONTENT_DIGEST, self.digest.as_str());
        response
    }
}

/// A manifest was committed.
pub struct ManifestCreated<'a> {
    /// The repository's full name.
    pub name: &'a str,
    /// The manifest.
    pub digest: Digest,
    /// What it is about.
    pub subject: Option<Digest>,
    /// The further tags it was given.
    pub tags: Vec<Tag>,
}

impl IntoResponse for ManifestCreated<'_> {
    fn into_response(self) -> Response {
        let mut response = StatusCode::CREATED.into_response();
        set(&mut response, header::LOCATION, format!("/v2/{}/manifests/{}", self.name, self.digest));
        set(&mut response, CONTENT_DIGEST, self.digest.as_str());
        if let Some(subject) = self.subject {
            set(&mut response, SUBJECT, subject.as_str());
        }
        for tag in self.tags {
            if let Ok(tag) = HeaderValue::from_str(tag.as_str()) {
                response.headers_mut().append(TAG, tag);
            }
        }
        response
    }
}

/// An upload goes on: 202 after POST and PATCH, 204 when it was asked for.
pub struct UploadOpen<'a> {
    /// The repository's full name.
    pub name: &'a str,
    /// The upload.
    pub id: &'a str,
    /// Bytes received.
    pub received: u64,
    /// 202 or 204.
    pub status: StatusCode,
}

impl IntoResponse for UploadOpen<'_> {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.status != StatusCode::NO_CONTENT {
            set_length(&mut response, 0);
        }
        for (name, value) in self.headers() {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl UploadOpen<'_> {
    /// What a client needs to go on; a refused chunk is answered with it too.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let texts = [
            (header::LOCATION, format!("/v2/{}/blobs/uploads/{}", self.name, self.id)),
            (header::RANGE, format!("0-{}", self.received.saturating_sub(1))),
            (UPLOAD_ID, self.id.to_owned()),
        ];
        texts.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::from_str(&text).ok()?))).collect()
    }
}

/// An upload was cancelled.
pub struct UploadCancelled;

impl IntoResponse for UploadCancelled {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

/// A tag, manifest or blob is gone.
pub struct Deleted;

impl IntoResponse for Deleted {
    fn into_response(self) -> Response {
        let mut response = StatusCode::ACCEPTED.into_response();
        set_length(&mut response, 0);
        response
    }
}

/// A page of names.
pub struct List<T> {
    /// What becomes the JSON, as it is: of ten thousand names nothing is copied before.
    pub body: T,
    /// Path and query of the next page.
    pub next: Option<String>,
}

impl<T: Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        let mut response = json_response("application/json", &self.body);
        if let Some(next) = self.next {
            set(&mut response, header::LINK, format!("<{next}>; rel=\"next\""));
        }
        response
    }
}

/// The manifests about a subject.
pub struct Referrers {
    /// Them.
    pub manifests: Vec<Descriptor>,
    /// Whether `artifactType` was applied.
    pub filtered: bool,
}

impl IntoResponse for Referrers {
    fn into_response(self) -> Response {
        let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests });
        let mut response = json_response(INDEX, &body);
        if self.filtered {
            response.headers_mut().insert(FILTERS, HeaderValue::from_static("artifactType"));
        }
        response
    }
}
