//! What a manifest says: its type, what it refers to, its subject.
//!
//! A manifest is kept byte for byte; this is a view for checking references and answering
//! `referrers`. [`Parsed::pushed`] is strict, because what a registry accepts it must answer for;
//! [`Parsed::stored`] takes what is there.

mod descriptor;
mod fields;
pub mod media_type;

pub use descriptor::{Descriptor, Platform};

use super::Manifest;
use fields::Fields;
use std::collections::BTreeMap;
use thiserror::Error;

/// The largest manifest that is accepted or read, in bytes (distribution-spec: at least 4 MB).
pub const MAX_MANIFEST: usize = 4 << 20;

/// Why a manifest is not accepted.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// More bytes than [`MAX_MANIFEST`].
    #[error("the manifest has {size} bytes, more than the {MAX_MANIFEST} that are allowed")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// Not JSON, or a field of another type than it must have, or given twice.
    #[error("the manifest cannot be read: {0}")]
    Json(#[source] serde_json::Error),
    /// Docker's schema 1.
    #[error(
        "this is a schema 1 manifest, which clients no longer pull: push the image again with a current Docker, podman or skopeo"
    )]
    Schema1,
    /// Another `schemaVersion` than 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// The Content-Type header and the manifest contradict each other.
    #[error("the manifest was sent as {sent:?} but says it is {declared:?}")]
    MediaType {
        /// From the header.
        sent: String,
        /// From the manifest.
        declared: String,
    },
    /// Neither the header nor the manifest says what it is.
    #[error("neither the Content-Type header nor the manifest says what type it is")]
    NoMediaType,
    /// A media type that cannot be sent in a header.
    #[error("the media type {0:?} is not valid")]
    BadMediaType(String),
    /// Fields of an image and of an index in one: clients would disagree on what it is.
    #[error("the manifest has {field:?}, which {media_type} must not have")]
    Ambiguous {
        /// The field that does not belong.
        field: &'static str,
        /// What it claims to be.
        media_type: String,
    },
    /// A field that its type requires is not there.
    #[error("the manifest has no {field:?}, which {media_type} must have")]
    Missing {
        /// The field.
        field: &'static str,
        /// What it claims to be.
        media_type: String,
    },
}

/// What a manifest is, as far as references go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An OCI image manifest or a Docker schema 2 manifest: a config and layers.
    Image,
    /// An OCI index or a Docker manifest list: other manifests.
    Index,
    /// Anything else; its references are read where they look like one of the above.
    Other,
}

/// A manifest's content, as far as the registry needs it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What it is.
    pub kind: Kind,
    /// The media type to answer with.
    pub media_type: String,
    /// The config blob.
    pub config: Option<Descriptor>,
    /// The layers, and an artifact manifest's `blobs`.
    pub layers: Vec<Descriptor>,
    /// An index's manifests, with their platforms.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// Annotations, copied into referrers.
    pub annotations: BTreeMap<String, String>,
    artifact_type: Option<String>,
    says: Option<String>,
}

impl Parsed {
    /// Checks what a client pushes. `content_type` is its header; parameters are ignored.
    ///
    /// # Errors
    /// [`ManifestError`] if it is too large, cannot be read, contradicts itself or its header, or
    /// lacks what its type requires.
    pub fn pushed(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let fields = match read(bytes) {
            Err(ManifestError::Json(error)) => read_unknown(content_type, bytes).ok_or(ManifestError::Json(error))?,
            fields => fields?,
        };
        let sent = content_type.map(media_type::essence).filter(|sent| !sent.is_empty());
        if fields.schema_version == Some(1) || sent.is_some_and(media_type::is_schema1) {
            return Err(ManifestError::Schema1);
        }
        let says = fields.says();
        // Tools that send "some JSON" or form data mean what the manifest says.
        let sent = sent.filter(|sent| says.is_none() || !media_type::is_generic(sent));
        let media_type = match (sent, fields.media_type.as_deref()) {
            (Some(sent), Some(declared)) if sent != declared => {
                return Err(ManifestError::MediaType { sent: sent.into(), declared: declared.into() });
            }
            (Some(sent), _) => sent,
            (None, _) => says.ok_or(ManifestError::NoMediaType)?,
        };
        if media_type::is_generic(media_type) {
            return Err(ManifestError::NoMediaType);
        }
        if !media_type::is_valid(media_type) {
            return Err(ManifestError::BadMediaType(media_type.chars().take(80).collect()));
        }
        let media_type = media_type.to_owned();
        fields.check(&media_type)?;
        Ok(Self::view(media_type, fields))
    }

    /// Reads a manifest that is already part of a tree; `None` if it is nothing that can be read.
    pub fn stored(manifest: &Manifest) -> Option<Self> {
        Some(Self::view(manifest.media_type.clone(), read(&manifest.bytes).ok()?))
    }

    fn view(media_type: String, fields: Fields) -> Self {
        let says = fields.says().map(str::to_owned);
        Self {
            kind: media_type::kind(&media_type),
            media_type,
            config: fields.config,
            layers: fields.layers.into_iter().chain(fields.blobs).flatten().collect(),
            manifests: fields.manifests.unwrap_or_default(),
            subject: fields.subject,
            annotations: fields.annotations.unwrap_or_default(),
            artifact_type: fields.artifact_type.filter(|text| !text.is_empty()),
            says,
        }
    }

    /// The artifact type that `referrers` shows: an image's falls back to its config's media type
    /// (distribution-spec, "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        let config = self.config.as_ref().filter(|_| self.kind == Kind::Image);
        self.artifact_type.as_deref().or(config.map(|config| config.media_type.as_str()))
    }

    /// Whether the media type has to be kept beside the manifest, because its bytes say another one or none.
    pub fn keeps_media_type(&self) -> bool {
        self.says.as_deref() != Some(&self.media_type)
    }

    /// Everything it refers to but its subject: config, layers, an index's manifests.
    pub fn references(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers).chain(&self.manifests)
    }

    /// The blobs that a repository must hold for this manifest: config and layers, without those
    /// that are to be had elsewhere only (non-distributable ones).
    pub fn required_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers).filter(|blob| !media_type::is_foreign_layer(&blob.media_type))
    }
}

/// The media type of a manifest that has no [`super::layout::MEDIA_TYPE`] file: what its bytes say.
pub(super) fn media_type_of(bytes: &[u8]) -> String {
    let fields = read(bytes).ok();
    let says = fields.as_ref().and_then(|fields| match fields.schema_version {
        Some(1) => Some(media_type::DOCKER_SCHEMA1_SIGNED),
        _ => fields.says(),
    });
    says.filter(|says| media_type::is_valid(says)).unwrap_or(media_type::OCTET_STREAM).to_owned()
}

fn read(bytes: &[u8]) -> Result<Fields, ManifestError> {
    if bytes.len() > MAX_MANIFEST {
        return Err(ManifestError::TooLarge { size: bytes.len() as u64 });
    }
    serde_json::from_slice(bytes).map_err(ManifestError::Json)
}

/// A manifest of an unknown type may use the known names for something else: then it refers to nothing.
fn read_unknown(content_type: Option<&str>, bytes: &[u8]) -> Option<Fields> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let sent = media_type::essence(content_type?);
    if media_type::kind(sent) != Kind::Other || media_type::is_generic(sent) || media_type::is_schema1(sent) {
        return None;
    }
    let Typed { media_type } = serde_json::from_slice(bytes).ok()?;
    Some(Fields { media_type, ..Fields::default() })
}

#[cfg(test)]
mod tests;
