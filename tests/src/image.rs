//! Images made here, of real archives, in a layout on the disk that clients push (image-spec, "OCI Image
//! Layout").

use crate::{
    http::{self, INDEX, MANIFEST, digest},
    process::component,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::Path,
};
use tempfile::TempDir;

/// The media type of a layer that is not compressed.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media type of a layer that gzip compressed.
pub const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer.
#[derive(Clone)]
pub struct Layer {
    media_type: &'static str,
    diff_id: String,
    /// Its bytes, as they are pushed.
    pub blob: Vec<u8>,
    /// What its manifest says of it besides.
    pub annotations: Value,
}

impl Layer {
    /// Files, by path and content, in an archive that is not compressed.
    pub fn tar(files: &[(&str, &[u8])]) -> Self {
        let archive = archive(files);
        Self::new(TAR, &archive, archive.clone())
    }

    /// Files in an archive that went through gzip.
    pub fn gzip(files: &[(&str, &[u8])]) -> Self {
        let archive = archive(files);
        Self::new(TAR_GZIP, &archive, gzip(&archive))
    }

    /// A shell, and what it needs; `None` where there is none to copy.
    pub fn shell() -> Option<Self> {
        let shell = fs::read(component("busybox", "busybox-static")?).unwrap();
        Some(Self::gzip(&[("bin/sh", &shell)]))
    }

    /// No bytes at all, which some builders make for steps that change nothing.
    pub fn nothing() -> Self {
        Self::new(TAR, &[], Vec::new())
    }

    /// An archive, and the bytes that stand for it.
    pub fn new(media_type: &'static str, archive: &[u8], blob: Vec<u8>) -> Self {
        Self { media_type, diff_id: digest(archive), blob, annotations: json!({}) }
    }
}

/// Bytes as gzip has them. Not that they get fewer: what tests pack is mostly noise, and time is dear.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive of files, by path and content, that can all be executed.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        archive.append_data(&mut header(content.len()), path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The header of a file of this size that can be executed.
pub fn header(size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o755);
    header
}

/// A directory with images in it.
pub struct Layout {
    directory: TempDir,
    tags: Vec<Value>,
}

impl Default for Layout {
    fn default() -> Self {
        let directory = TempDir::with_prefix("cidery-layout-").unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        fs::write(directory.path().join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
        Self { directory, tags: Vec::new() }
    }
}

impl Layout {
    /// One image under one tag, for the platform of this machine's tests, that prints `greeting`; its digest.
    pub fn of(tag: &str, greeting: &str, layers: &[Layer]) -> (Self, String) {
        let mut layout = Self::default();
        let image = layout.image("amd64", greeting, layers);
        layout.tag(tag, &image);
        (layout, name(&image))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds an image that prints `greeting`, if it has a shell; its descriptor.
    pub fn image(&self, architecture: &str, greeting: &str, layers: &[Layer]) -> Value {
        let diff_ids = json!(layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>());
        let layers = layers.iter().map(|layer| {
            let mut descriptor = self.blob(layer.media_type, &layer.blob);
            descriptor["annotations"] = layer.annotations.clone();
            descriptor
        });
        let layers = layers.collect();
        self.image_with(architecture, greeting, layers, &diff_ids)
    }

    fn image_with(&self, architecture: &str, greeting: &str, layers: Vec<Value>, diff_ids: &Value) -> Value {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh", "-c", format!("echo {greeting}")]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut image = self.blob(MANIFEST, manifest.to_string().as_bytes());
        image["platform"] = json!({"architecture": architecture, "os": "linux"});
        image
    }

    /// Adds an image with one layer, whose archive comes in pieces; its descriptor.
    pub fn image_of_pieces(&self, pieces: impl Iterator<Item = Vec<u8>>) -> Value {
        use sha2::{Digest, Sha256};
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let path = self.path().join("pieces");
        let mut file = File::create(&path).unwrap();
        for piece in pieces {
            hasher.update(&piece);
            size += piece.len();
            file.write_all(&piece).unwrap();
        }
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        fs::rename(path, self.path().join("blobs/sha256").join(&hex)).unwrap();
        let layer = json!({"mediaType": TAR, "digest": format!("sha256:{hex}"), "size": size});
        let diff_ids = json!([layer["digest"]]);
        self.image_with("amd64", "large", vec![layer], &diff_ids)
    }

    /// Adds an index of images; its descriptor.
    pub fn index(&self, images: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Gives a name to what a descriptor names.
    pub fn tag(&mut self, tag: &str, descriptor: &Value) {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.tags.push(descriptor);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.tags});
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    /// All of it as one archive.
    pub fn archive(&self, path: &Path) {
        let mut archive = tar::Builder::new(File::create(path).unwrap());
        archive.append_dir_all("", self.path()).unwrap();
        archive.finish().unwrap();
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.path().join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// The digest in a descriptor.
pub fn name(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

/// Everything that a manifest reaches, manifests and blobs, itself included: read over HTTP, and checked
/// against digest and size. `repository` ends in the repository's name.
pub fn reached(repository: &str, reference: &str) -> BTreeSet<String> {
    let answer = http::get(&format!("{repository}/manifests/{reference}"));
    assert_eq!((answer.status, answer.whole), (200, true), "{repository}, {reference}");
    let own = digest(&answer.body);
    assert_eq!(answer.headers["docker-content-digest"], own);
    let manifest = answer.json();
    let mut all = BTreeSet::from([own]);
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        all.extend(reached(repository, &name(child)));
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain(manifest.get("config")) {
        let answer = http::get(&format!("{repository}/blobs/{}", name(blob)));
        assert_eq!((answer.status, answer.whole), (200, true), "{repository}, {blob}");
        assert_eq!((digest(&answer.body), json!(answer.body.len())), (name(blob), blob["size"].clone()));
        all.insert(name(blob));
    }
    all
}
