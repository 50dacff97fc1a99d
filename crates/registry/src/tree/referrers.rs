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

/// Bytes of manifests that are read for one answer.
const MAX_READ: usize = 64 << 20;

/// Manifests that are read at once.
const AT_ONCE: usize = 8;

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
        let manifests = stream::iter(digests)
            .map(|digest| async move { self.manifest(repository, &Reference::Digest(digest)).await })
            .buffered(AT_ONCE);
        let mut manifests = std::pin::pin!(manifests);
        let mut answer = Answer::default();
        while let Some(manifest) = manifests.try_next().await?
            && !answer.is_full()
        {
            let Some(manifest) = manifest else { continue };
            answer.read += manifest.bytes.len();
            answer.extend(descriptor(&manifest, subject));
        }
        answer.extend(self.tagged_referrers(repository, subject).await?);
        if answer.is_full() {
            tracing::warn!(%repository, %subject, "more referrers than fit into one answer");
        }
        let found = answer.found;
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

/// Descriptors by digest, of which the first counts, and what they cost.
#[derive(Default)]
struct Answer {
    found: BTreeMap<Digest, Descriptor>,
    bytes: usize,
    read: usize,
}

impl Answer {
    fn is_full(&self) -> bool {
        self.bytes > MAX_BYTES || self.read > MAX_READ
    }

    fn extend(&mut self, descriptors: impl IntoIterator<Item = Descriptor>) {
        for descriptor in descriptors {
            if self.found.contains_key(&descriptor.digest) {
                continue;
            }
            self.bytes += descriptor.weight();
            if self.is_full() {
                return;
            }
            self.found.insert(descriptor.digest.clone(), descriptor);
        }
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
