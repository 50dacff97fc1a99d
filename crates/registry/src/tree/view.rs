//! One root, and what can be found below it.

use super::{
    Blob, MAX_MANIFEST, Manifest, TreeError,
    cache::{Key, Value},
    layout::{self, LINK, MEDIA_TYPE},
    manifest::{media_type, media_type_of},
    reader::Reader,
};
use crate::hash::Hasher;
use cidery_core::{Bytes, Cid, Digest, Reference, RepositoryName, RootStore, Tag};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Where a foreign tree may keep its storage directory, below the place that was named: where its
/// stock registry keeps it, what people add of that, and that directory itself.
const SHAPES: [&[&str]; 4] = [&layout::PREFIX, &["registry", "v2"], &["v2"], &["registry", "docker", "registry", "v2"]];

/// Manifests above this are hashed on a blocking thread.
const INLINE_HASH: usize = 64 << 10;

/// An immutable root.
pub(super) struct View {
    pub reader: Reader,
    pub root: Option<Cid>,
    place: Place,
    withdrawn: Withdrawn,
    storage: OnceCell<Option<Cid>>,
}

#[derive(Clone)]
enum Place {
    Owned,
    Foreign(Vec<String>),
}

/// Tells what was deleted from an earlier root.
type Withdrawn = Option<Arc<dyn RootStore>>;

impl View {
    /// A root of one's own, where the storage directory always has one place.
    pub fn owned(reader: Reader, root: Option<Cid>) -> Self {
        Self { reader, root, place: Place::Owned, withdrawn: None, storage: OnceCell::new() }
    }

    /// Somebody else's root.
    pub fn foreign(reader: Reader, root: Cid, path: &[String], withdrawn: Withdrawn) -> Self {
        Self { reader, root: Some(root), place: Place::Foreign(path.to_vec()), withdrawn, storage: OnceCell::new() }
    }

    /// The same root, read by another reader.
    pub fn read_by(&self, reader: Reader) -> Self {
        let (place, withdrawn) = (self.place.clone(), self.withdrawn.clone());
        Self { reader, root: self.root, place, withdrawn, storage: OnceCell::new() }
    }

    /// What was named: the root, or what is at a path below it.
    pub async fn named(&self) -> Result<Option<Cid>, TreeError> {
        let Some(root) = self.root else { return Ok(None) };
        let Place::Foreign(path) = &self.place else { return Ok(Some(root)) };
        Ok(self.reader.find(&root, path).await?.map(|entry| entry.cid))
    }

    /// The file of a blob, whatever repository has it.
    pub async fn file(&self, digest: &Digest) -> Result<Option<Cid>, TreeError> {
        let Some(storage) = self.storage().await? else { return Ok(None) };
        Ok(self.reader.find(&storage, &layout::blob_data(digest)).await?.map(|entry| entry.cid))
    }

    fn is_withdrawn(&self, file: &Cid) -> bool {
        self.withdrawn.as_ref().is_some_and(|roots| roots.is_forgotten(file))
    }

    /// The directory that holds `blobs` and `repositories`; `None` while there is nothing.
    pub async fn storage(&self) -> Result<Option<Cid>, TreeError> {
        self.storage.get_or_try_init(|| self.find_storage()).await.copied()
    }

    async fn find_storage(&self) -> Result<Option<Cid>, TreeError> {
        let Some(root) = self.root else { return Ok(None) };
        let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let path = match &self.place {
            Place::Owned => {
                let found = self.reader.find(&root, &owned(&layout::PREFIX)).await?;
                return Ok(found.map(|entry| entry.cid));
            }
            Place::Foreign(path) => path,
        };
        let shown = || format!("/{}", path.join("/"));
        let Some(named) = self.reader.find(&root, path).await? else {
            return Err(TreeError::malformed(shown(), "there is nothing at this path"));
        };
        for shape in SHAPES {
            if let Some(entry) = self.reader.find(&named.cid, &owned(shape)).await? {
                return Ok(Some(entry.cid));
            }
        }
        for own in [layout::REPOSITORIES, "blobs"] {
            if self.reader.find(&named.cid, &owned(&[own])).await?.is_some() {
                return Ok(Some(named.cid));
            }
        }
        Err(TreeError::malformed(shown(), "there is no registry's storage directory (docker/registry/v2) here"))
    }

    pub async fn exists(&self, repository: &RepositoryName) -> Result<bool, TreeError> {
        let Some(storage) = self.storage().await? else { return Ok(false) };
        let Some(directory) = self.reader.find(&storage, &layout::repository(repository)).await? else {
            return Ok(false);
        };
        for part in REPOSITORY_PARTS {
            if self.reader.find(&directory.cid, &[part.to_owned()]).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All tags, sorted; `None` without a tags directory. Names that are no tags are passed over.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Option<Arc<[Tag]>>, TreeError> {
        let Some(storage) = self.storage().await? else { return Ok(None) };
        let Some(directory) = self.reader.find(&storage, &layout::tags(repository)).await? else { return Ok(None) };
        let key = Key::Tags(directory.cid);
        if let Some(Value::Tags(tags)) = self.reader.cache.get(&key) {
            return Ok(Some(tags));
        }
        let entries = self.reader.list(&directory.cid).await?;
        let tags: Arc<[Tag]> = entries.into_iter().filter_map(|entry| entry.name.try_into().ok()).collect();
        self.reader.cache.insert(key, Value::Tags(tags.clone()));
        Ok(Some(tags))
    }

    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Arc<Manifest>>, TreeError> {
        let Some(storage) = self.storage().await? else { return Ok(None) };
        let key = Key::Manifest(storage, repository.clone(), reference.clone());
        if let Some(Value::Manifest(manifest)) = self.reader.cache.get(&key) {
            return Ok(Some(manifest));
        }
        let Some(directory) = self.reader.find(&storage, &layout::repository(repository)).await? else {
            return Ok(None);
        };
        let tag = match reference {
            Reference::Digest(digest) => return self.revision(&storage, &directory.cid, repository, digest).await,
            Reference::Tag(tag) => layout::tag_current(repository, tag),
        };
        let current = layout::in_repository(repository, &tag);
        let Some(digest) = self.reader.link(&directory.cid, current).await? else { return Ok(None) };
        let found = self.revision(&storage, &directory.cid, repository, &digest).await?;
        if let Some(manifest) = &found {
            self.reader.cache.insert(key, Value::Manifest(manifest.clone()));
        }
        Ok(found)
    }

    /// What a tag stands for.
    pub async fn target(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, TreeError> {
        let Some(storage) = self.storage().await? else { return Ok(None) };
        self.reader.link(&storage, &layout::tag_current(repository, tag)).await
    }

    /// A manifest of the repository in `directory`.
    async fn revision(
        &self,
        storage: &Cid,
        directory: &Cid,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Arc<Manifest>>, TreeError> {
        // One copy, however many tags stand for it.
        let key = Key::Manifest(*storage, repository.clone(), Reference::Digest(digest.clone()));
        if let Some(Value::Manifest(manifest)) = self.reader.cache.get(&key) {
            return Ok(Some(manifest));
        }
        let path = layout::revision(repository, digest);
        let Some(revision) = self.reader.find(directory, layout::in_repository(repository, &path)).await? else {
            return Ok(None);
        };
        if !self.reader.links_to(&revision.cid, &[LINK.to_owned()], digest).await? {
            return Ok(None);
        }
        let path = layout::blob_data(digest);
        // A link whose blob is gone: whoever made the tree deleted it.
        let Some(data) = self.reader.find(storage, &path).await? else { return Ok(None) };
        if self.is_withdrawn(&data.cid) {
            return Ok(None);
        }
        let bytes = self.reader.small_file(&data.cid, MAX_MANIFEST as u64, &path).await?;
        check(digest, &bytes).await?;
        let media_type = match self.media_type(&revision.cid).await? {
            Some(kept) => kept,
            None => media_type_of(&bytes),
        };
        let manifest = Arc::new(Manifest { digest: digest.clone(), media_type, bytes });
        self.reader.cache.insert(key, Value::Manifest(manifest.clone()));
        Ok(Some(manifest))
    }

    /// The media type that is kept beside a revision.
    async fn media_type(&self, revision: &Cid) -> Result<Option<String>, TreeError> {
        let path = [MEDIA_TYPE.to_owned()];
        let Some(entry) = self.reader.find(revision, &path).await? else { return Ok(None) };
        let content = self.reader.small_file(&entry.cid, layout::MAX_LINK, &path).await?;
        let text = std::str::from_utf8(&content).ok().filter(|text| media_type::is_valid(text));
        let text = text.ok_or_else(|| TreeError::malformed(path.join("/"), "it is not a media type"))?;
        Ok(Some(text.to_owned()))
    }

    pub async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Blob>, TreeError> {
        let Some(storage) = self.storage().await? else { return Ok(None) };
        let key = Key::Blob(storage, repository.clone(), digest.clone());
        if let Some(Value::Blob(blob)) = self.reader.cache.get(&key) {
            return Ok(Some(blob));
        }
        if !self.reader.links_to(&storage, &layout::layer_link(repository, digest), digest).await? {
            return Ok(None);
        }
        let path = layout::blob_data(digest);
        let Some(data) = self.reader.find(&storage, &path).await? else { return Ok(None) };
        if self.is_withdrawn(&data.cid) {
            return Ok(None);
        }
        let size = self.reader.file_size(&data.cid, &path).await?;
        let blob = Blob { digest: digest.clone(), cid: data.cid, size };
        self.reader.cache.insert(key, Value::Blob(blob.clone()));
        Ok(Some(blob))
    }
}

/// The directories that make a directory a repository.
pub(super) const REPOSITORY_PARTS: [&str; 2] = ["_manifests", "_layers"];

/// Checks bytes against a digest, off the async task if that takes long.
pub(super) async fn check(digest: &Digest, bytes: &Bytes) -> Result<(), TreeError> {
    let hash = |digest: &Digest, bytes: &[u8]| {
        let mut hasher = Hasher::like(digest);
        hasher.update(bytes);
        hasher.finish()
    };
    let actual = if bytes.len() <= INLINE_HASH {
        hash(digest, bytes)
    } else {
        let (digest, bytes) = (digest.clone(), bytes.clone());
        let hashed = tokio::task::spawn_blocking(move || hash(&digest, &bytes)).await;
        hashed.map_err(|_| TreeError::Closed)?
    };
    if actual == *digest { Ok(()) } else { Err(TreeError::DigestMismatch { expected: digest.clone(), actual }) }
}
