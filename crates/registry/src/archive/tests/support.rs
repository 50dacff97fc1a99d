//! A namespace in memory, small images, and tars put together by hand.

use crate::{
    archive::{ArchiveError, Exported, Format, Imported, Source, export_cid, export_image, import, names::ImageName},
    hash::Hasher,
    tree::{
        Blob, ImageManifest, Tree,
        manifest::media_type::{OCI_INDEX, OCI_MANIFEST},
    },
};
use cidery_core::{
    Blockstore, Bytes, Cid, Digest, Namespace, Origin, Reference, RepositoryName, RootStore, Tag, memory::MemoryStore,
    ports::LocalFetcher,
};
use cidery_unixfs::FileBuilder;
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Read, sync::Arc};
use tokio::runtime::Runtime;

/// One node's namespace `local`.
pub(super) struct Node {
    pub(super) runtime: Runtime,
    pub(super) store: MemoryStore,
    pub(super) tree: Tree,
}

impl Node {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let store = MemoryStore::new();
        let (blocks, roots): (Arc<dyn Blockstore>, Arc<dyn RootStore>) =
            (Arc::new(store.clone()), Arc::new(store.clone()));
        let tree = runtime.block_on(Tree::open(Namespace::local(), blocks, roots)).unwrap();
        Self { runtime, store, tree }
    }

    pub(super) fn root(&self) -> Option<Cid> {
        self.store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid)
    }

    pub(super) fn put_blob(&self, repository: &RepositoryName, bytes: &[u8]) -> Blob {
        let mut writer = self.store.writer(Origin::Pushed).unwrap();
        let mut builder = FileBuilder::new();
        builder.write(bytes, &mut *writer).unwrap();
        let file = builder.finish(&mut *writer).unwrap();
        let blob = Blob { digest: sha256(bytes), cid: file.cid, size: file.size };
        self.runtime.block_on(self.tree.link_blob(repository, &blob)).unwrap();
        blob
    }

    pub(super) fn put_manifest(&self, repository: &RepositoryName, reference: &Reference, bytes: Bytes) -> Digest {
        self.runtime.block_on(self.tree.put_manifest(repository, reference, None, bytes)).unwrap().digest
    }

    /// Pushes an image of these layers under a name; its parts.
    pub(super) fn push(&self, name: &str, layers: &[Layer]) -> Pushed {
        let (repository, reference) = parse(name);
        let config = config("amd64", layers);
        self.put_blob(&repository, &config);
        layers.iter().for_each(|layer| drop(self.put_blob(&repository, &layer.bytes)));
        let manifest = manifest(&config, layers);
        let digest = self.put_manifest(&repository, &reference, manifest.clone());
        Pushed { digest, manifest, config }
    }

    /// Pushes an index of one image for each architecture.
    pub(super) fn push_index(&self, name: &str, architectures: &[&str]) -> (Digest, Vec<Pushed>) {
        let (repository, reference) = parse(name);
        let mut images = Vec::new();
        let mut listed = Vec::new();
        for architecture in architectures {
            let layers = [Layer::plain(format!("layer for {architecture}").repeat(1000).as_bytes())];
            let config = config(architecture, &layers);
            self.put_blob(&repository, &config);
            self.put_blob(&repository, &layers[0].bytes);
            let manifest = manifest(&config, &layers);
            let digest = self.put_manifest(&repository, &Reference::Digest(sha256(&manifest)), manifest.clone());
            let platform = json!({ "os": "linux", "architecture": architecture });
            listed.push(json!({
                "mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.len(), "platform": platform,
            }));
            images.push(Pushed { digest, manifest, config });
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed });
        (self.put_manifest(&repository, &reference, index.to_string().into()), images)
    }

    pub(super) fn source(&self) -> Source {
        Source { snapshot: self.tree.snapshot(), fetcher: Arc::new(LocalFetcher(Arc::new(self.store.clone()))) }
    }

    pub(super) fn export(&self, name: &str, format: Format) -> Result<(Vec<u8>, Exported), ArchiveError> {
        let (repository, reference) = parse(name);
        let mut out = Vec::new();
        let handle = self.runtime.handle();
        let exported = export_image(handle, &self.source(), &repository, &reference, format, &mut out, &mut |_| {})?;
        assert_eq!(exported.bytes, out.len() as u64);
        Ok((out, exported))
    }

    pub(super) fn export_cid(&self, cid: Cid, format: Format) -> Result<Vec<u8>, ArchiveError> {
        let mut out = Vec::new();
        export_cid(self.runtime.handle(), self.source().fetcher, cid, format, &mut out, &mut |_| {})?;
        Ok(out)
    }

    pub(super) fn import(&self, archive: &[u8]) -> Result<Vec<Imported>, ArchiveError> {
        self.import_as(archive, None)
    }

    pub(super) fn import_as(&self, mut archive: &[u8], name: Option<&str>) -> Result<Vec<Imported>, ArchiveError> {
        let name = name.map(|name| ImageName::parse(name).unwrap()).map(|name| (name.repository, name.tag));
        let blocks: Arc<dyn Blockstore> = Arc::new(self.store.clone());
        import(self.runtime.handle(), &self.tree, blocks, &mut archive, name, &mut |_| {})
    }

    /// A manifest as clients would get it.
    pub(super) fn manifest(&self, name: &str) -> Option<Bytes> {
        let (repository, reference) = parse(name);
        let found = self.runtime.block_on(self.tree.snapshot().manifest(&repository, &reference)).unwrap();
        found.map(|manifest| manifest.bytes.clone())
    }

    /// A blob as clients would get it.
    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let repository = repository.parse().unwrap();
        let blob = self.runtime.block_on(self.tree.snapshot().blob(&repository, digest)).unwrap()?;
        let content = crate::archive::content::Content::open(self.runtime.handle(), &self.source().fetcher, &blob.cid);
        let mut bytes = Vec::new();
        content.unwrap().read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        let repository = repository.parse().unwrap();
        let tags = self.runtime.block_on(self.tree.snapshot().tags(&repository, None, 1000)).unwrap();
        tags.unwrap_or_default().iter().map(Tag::to_string).collect()
    }
}

/// An image that was pushed.
pub(super) struct Pushed {
    pub(super) digest: Digest,
    pub(super) manifest: Bytes,
    pub(super) config: Vec<u8>,
}

/// A layer: as it is sent, and the digest of what it unpacks to.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) bytes: Vec<u8>,
    pub(super) diff_id: Digest,
    pub(super) suffix: &'static str,
}

impl Layer {
    pub(super) fn plain(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), diff_id: sha256(bytes), suffix: "" }
    }

    pub(super) fn gzip(bytes: &[u8]) -> Self {
        Self { bytes: gzip(bytes), diff_id: sha256(bytes), suffix: "+gzip" }
    }

    pub(super) fn zstd(bytes: &[u8]) -> Self {
        let compressed = ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest);
        Self { bytes: compressed, diff_id: sha256(bytes), suffix: "+zstd" }
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).unwrap();
    out
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::sha256();
    hasher.update(bytes);
    hasher.finish()
}

pub(super) fn parse(name: &str) -> (RepositoryName, Reference) {
    let name = ImageName::parse(name).unwrap();
    let reference = match (name.tag, name.digest) {
        (_, Some(digest)) => Reference::Digest(digest),
        (tag, None) => Reference::Tag(tag.unwrap()),
    };
    (name.repository, reference)
}

pub(super) fn config(architecture: &str, layers: &[Layer]) -> Vec<u8> {
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    json!({ "architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs }).to_string().into()
}

pub(super) fn manifest(config: &[u8], layers: &[Layer]) -> Bytes {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{}", layer.suffix);
            json!({ "mediaType": media_type, "digest": sha256(&layer.bytes), "size": layer.bytes.len() })
        })
        .collect();
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": config.len(),
    });
    json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers }).to_string().into()
}

/// Bytes that do not compress and do not repeat.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tar of plain files, by the tar crate's own writer.
pub(super) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The files of a tar, by the tar crate's own reader.
pub(super) fn files_of(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(files.insert(path, bytes).is_none(), "twice in the tar");
        }
    }
    files
}

/// An OCI layout as a tar: an index of these descriptors' JSON, and blobs.
pub(super) fn layout(manifests: Value, blobs: &[&[u8]]) -> Vec<u8> {
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    let paths: Vec<String> = blobs.iter().map(|blob| format!("blobs/sha256/{}", sha256(blob).hex())).collect();
    let mut files: Vec<(&str, &[u8])> = paths.iter().map(String::as_str).zip(blobs.iter().copied()).collect();
    files.push(("index.json", index.as_bytes()));
    files.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#));
    tar_of(&files)
}

/// A descriptor of a manifest, with annotations.
pub(super) fn listed(manifest: &[u8], annotations: Value) -> Value {
    json!({ "mediaType": OCI_MANIFEST, "digest": sha256(manifest), "size": manifest.len(), "annotations": annotations })
}

pub(super) fn image_manifest(bytes: &Bytes) -> ImageManifest {
    ImageManifest { digest: sha256(bytes), media_type: Some(OCI_MANIFEST.into()), bytes: bytes.clone() }
}
