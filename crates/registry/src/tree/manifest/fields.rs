//! The JSON of a manifest, of whatever kind.
//!
//! Read by hand rather than by derive, because a key given twice, or a known key in other letters,
//! must be refused: clients in Go take either for the field, so they would see another manifest.

use super::{
    Kind, ManifestError,
    descriptor::Descriptor,
    media_type::{self, OCI_INDEX, OCI_MANIFEST},
};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// What stands in a manifest. A field that is `null` is absent, as Go reads it.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub schema_version: Option<u64>,
    pub media_type: Option<String>,
    pub artifact_type: Option<String>,
    pub config: Option<Descriptor>,
    pub layers: Option<Vec<Descriptor>>,
    pub blobs: Option<Vec<Descriptor>>,
    pub manifests: Option<Vec<Descriptor>>,
    pub subject: Option<Descriptor>,
    pub annotations: Option<BTreeMap<String, String>>,
    /// `manifests` is there, be it `null`: an empty index as Go writes it.
    pub index_like: bool,
}

const KNOWN: [&str; 9] =
    ["schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject", "annotations"];

impl Fields {
    /// The media type that the bytes say themselves: declared, or told by their shape.
    pub fn says(&self) -> Option<&str> {
        match &self.media_type {
            Some(declared) => Some(declared),
            None if self.config.is_some() && !self.index_like => Some(OCI_MANIFEST),
            None if self.config.is_none() && self.layers.is_none() && self.index_like => Some(OCI_INDEX),
            None => None,
        }
    }

    /// Whether this can be a manifest of that type.
    pub fn check(&self, media_type: &str) -> Result<(), ManifestError> {
        let kind = media_type::kind(media_type);
        if kind == Kind::Other {
            return Ok(());
        }
        if self.schema_version != Some(2) {
            return Err(ManifestError::SchemaVersion);
        }
        let has = |field| Err(ManifestError::Ambiguous { field, media_type: media_type.into() });
        let lacks = |field| Err(ManifestError::Missing { field, media_type: media_type.into() });
        match kind {
            Kind::Image if self.manifests.is_some() => has("manifests"),
            Kind::Image if self.config.is_none() => lacks("config"),
            Kind::Index if self.config.is_some() => has("config"),
            Kind::Index if self.layers.is_some() => has("layers"),
            Kind::Index if !self.index_like => lacks("manifests"),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest, a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = [false; KNOWN.len()];
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            // Some JSON readers fold more than ASCII (K, ſ): compare as they do.
            let folded = key.to_lowercase().replace('ſ', "s");
            let Some(index) = KNOWN.iter().position(|known| known.to_lowercase() == folded) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if KNOWN[index] != key {
                return Err(A::Error::custom(format_args!("{key:?} must be written {:?}", KNOWN[index])));
            }
            if std::mem::replace(&mut seen[index], true) {
                return Err(A::Error::duplicate_field(KNOWN[index]));
            }
            match KNOWN[index] {
                "schemaVersion" => fields.schema_version = map.next_value()?,
                "mediaType" => {
                    fields.media_type = map.next_value::<Option<String>>()?.filter(|text| !text.is_empty());
                }
                "artifactType" => fields.artifact_type = map.next_value()?,
                "config" => fields.config = map.next_value()?,
                "layers" => fields.layers = map.next_value()?,
                "blobs" => fields.blobs = map.next_value()?,
                "manifests" => {
                    fields.index_like = true;
                    fields.manifests = map.next_value()?;
                }
                "subject" => fields.subject = map.next_value()?,
                _ => fields.annotations = map.next_value()?,
            }
        }
        Ok(fields)
    }
}
