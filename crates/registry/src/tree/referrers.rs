//! The manifests that are about another one.

use super::{
    Descriptor, Manifest, TreeError,
    cache::{Key, Value},
    layout,
    manifest::{Kind, Parsed},
    view::View,
};
use cidery_core::{Cid, Digest, Reference, RepositoryName};
use futures::{StreamExt, TryStreamExt, stream};
use std::{collections::BTreeMap, sync::Arc};

/// Most bytes of descriptors in one answer; what is more is left out. Clients refuse larger indexes.
const MAX_BYTES: usize = 4 << 20;

/// Referrers whose manifests are looked at for one answer.
const MAX_LOOKED_AT: usize = 10_000;

/// Manifests that are read at once.
const AT_ONCE: usize = 16;

impl View {
    /// From the `_referrers` slot, and from the tag that stands for it where clients know of no
    /// referrers API (distribution-spec, "Referrers Tag Schema"). In order of their digests.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Arc<[Descriptor]>, TreeError> {
        let Some(storage) = self.storage().await? else { return Ok(Arc::default()) };
        let key = Key::Referrers(storage, repository.clone(), subject.clone());
        if let Some(Value::Referrers(found)) = self.reader.cache.get(&key) {
            return Ok(found);
        }
        let digests = self.referrer_digests(&storage, repository, subject).await?;
        let from_slot = stream::iter(digests)
            .map(|digest| async move { self.manifest(repository, &Reference::Digest(digest)).await })
            .buffered(AT_ONCE)
            .try_filter_map(async |manifest| Ok(manifest.and_then(|manifest| descriptor(&manifest, subject))));
        let from_tag = stream::iter(self.tagged_referrers(repository, subject).await?).map(Ok);
        let mut all = std::pin::pin!(from_slot.chain(from_tag));
        let (mut found, mut bytes) = (BTreeMap::new(), 0);
        while let Some(descriptor) = all.try_next().await? {
            bytes += descriptor.weight();
            if bytes > MAX_BYTES {
                tracing::warn!(%repository, %subject, "more referrers than fit into one answer");
                break;
            }
            found.entry(descriptor.digest.clone()).or_insert(descriptor);
        }
        let found: Arc<[Descriptor]> = found.into_values().collect();
        self.reader.cache.insert(key, Value::Referrers(found.clone()));
        Ok(found)
    }

    async fn referrer_digests(
        &self,
        storage: &Cid,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Digest>, TreeError> {
        let Some(slot) = self.reader.find(storage, &layout::referrers(repository, subject)).await? else {
            return Ok(Vec::new());
        };
        let mut digests = Vec::new();
        for algorithm in self.reader.list(&slot.cid).await? {
            if !matches!(algorithm.name.as_str(), "sha256" | "sha512") {
                continue;
            }
            let names = self.reader.list(&algorithm.cid).await?.into_iter();
            digests.extend(names.filter_map(|hex| format!("{}:{}", algorithm.name, hex.name).parse().ok()));
        }
        digests.truncate(MAX_LOOKED_AT);
        Ok(digests)
    }

    async fn tagged_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, TreeError> {
        let tag = Reference::Tag(layout::referrers_tag(subject));
        let Some(manifest) = self.manifest(repository, &tag).await? else { return Ok(Vec::new()) };
        Ok(match Parsed::stored(&manifest) {
            Some(parsed) if parsed.kind == Kind::Index => parsed.manifests,
            _ => Vec::new(),
        })
    }
}

/// How a referrer is listed; `None` if it is about something else.
fn descriptor(manifest: &Manifest, subject: &Digest) -> Option<Descriptor> {
    let parsed = Parsed::stored(manifest)?;
    if parsed.subject.as_ref()?.digest != *subject {
        return None;
    }
    Some(Descriptor {
        media_type: manifest.media_type.clone(),
        digest: manifest.digest.clone(),
        size: manifest.bytes.len() as u64,
        urls: Vec::new(),
        artifact_type: parsed.artifact_type().map(str::to_owned),
        annotations: parsed.annotations,
        platform: None,
    })
}
