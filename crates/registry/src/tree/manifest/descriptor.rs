//! A reference to content (image-spec:descriptor.md).

use cidery_core::{Digest, NameError};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, str::FromStr};

/// A reference from a manifest to a blob or another manifest, and an entry of a referrers list.
/// Fields that are not named here (such as inlined `data`) are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content; empty where the manifest names none.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as claimed.
    #[serde(default)]
    pub size: u64,
    /// Where else it may be had. Never dialled by the registry.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What an image in an index runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// What an image runs on (image-spec:image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture, in Go's words.
    #[serde(default)]
    pub architecture: String,
    /// Operating system, in Go's words.
    #[serde(default)]
    pub os: String,
    /// Its version.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What it must be able to do.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the CPU, e.g. `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether an image of this platform runs where one of `wanted` does, as far as `wanted` says.
    pub fn is(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }
}

/// `os/architecture`, or `os/architecture/variant`: `linux/amd64`, `linux/arm/v7`.
impl FromStr for Platform {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => {
                return Err(NameError::new(
                    "platform",
                    text,
                    "an operating system and an architecture, as linux/amd64",
                ));
            }
        };
        if parts.iter().any(|part| part.is_empty() || !part.bytes().all(|c| c.is_ascii_alphanumeric())) {
            return Err(NameError::new("platform", text, "letters and digits between slashes, as linux/arm/v7"));
        }
        let own = |part: &&str| (*part).to_owned();
        Ok(Self {
            architecture: own(architecture),
            os: own(os),
            os_version: None,
            os_features: Vec::new(),
            variant: variant.map(own),
        })
    }
}

/// Go writes an empty list as `null`.
pub(super) fn null_is_empty<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Descriptor {
    /// Bytes it takes in memory, roughly.
    pub(in crate::tree) fn weight(&self) -> usize {
        let annotations: usize = self.annotations.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        let urls: usize = self.urls.iter().map(|url| url.len() + 24).sum();
        std::mem::size_of::<Self>() + self.media_type.len() + self.digest.as_str().len() + annotations + urls
    }
}
