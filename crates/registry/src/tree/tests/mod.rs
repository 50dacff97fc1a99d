//! Trees over a store in memory, and what the tests build them with.

mod backlinks;
mod commits;
mod deletes;
mod determinism;
mod foreign;
mod in_use;
mod late;
mod layout;
mod referrers;
mod retire;
mod stores;
mod times;

use super::{Blob, Tree, TreeError, manifest::media_type::*};
use cidery_core::{BlockWriter, Blockstore};
use cidery_core::{
    Bytes, Cid, Digest, Fetcher, Namespace, Origin, Reference, RepositoryName, Tag, memory::MemoryStore,
    ports::LocalFetcher,
};
use cidery_unixfs::{Entry, FileBuilder, FileReader, Kind};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn by_tag(name: &str) -> Reference {
    Reference::Tag(tag(name))
}

fn by_digest(digest: &Digest) -> Reference {
    Reference::Digest(digest.clone())
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = crate::hash::Hasher::sha256();
    hasher.update(bytes);
    hasher.finish()
}

/// Stores a blob's blocks.
fn store_blob(store: &MemoryStore, bytes: &[u8]) -> Blob {
    let mut out = store.writer(Origin::Pushed).unwrap();
    let file = write_file(bytes, &mut *out);
    Blob { digest: digest_of(bytes), cid: file.cid, size: file.size }
}

fn write_file(bytes: &[u8], out: &mut dyn BlockWriter) -> cidery_unixfs::File {
    let mut file = FileBuilder::new();
    file.write(bytes, out).unwrap();
    file.finish(out).unwrap()
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// An image manifest over these blobs; the first is the config.
fn image(blobs: &[&[u8]]) -> Value {
    let part = |bytes: &&[u8]| descriptor("application/vnd.oci.image.layer.v1.tar", &digest_of(bytes), bytes.len());
    let parts: Vec<Value> = blobs.iter().map(part).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1..]})
}

fn index(children: &[&Digest]) -> Value {
    let part = |digest: &&Digest| descriptor(OCI_MANIFEST, digest, 100);
    let parts: Vec<Value> = children.iter().map(part).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts})
}

fn bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

async fn open(store: &MemoryStore) -> Tree {
    Tree::open(Namespace::local(), Arc::new(store.clone()), Arc::new(store.clone())).await.unwrap()
}

async fn link(tree: &Tree, store: &MemoryStore, name: &str, bytes: &[u8]) -> Blob {
    let blob = store_blob(store, bytes);
    tree.link_blob(&repository(name), &blob).await.unwrap();
    blob
}

async fn put(tree: &Tree, name: &str, reference: &Reference, manifest: &Value) -> Result<super::Put, TreeError> {
    tree.put_manifest(&repository(name), reference, None, bytes(manifest)).await
}

/// Pushes blobs and an image over them; gives its digest.
async fn push(tree: &Tree, store: &MemoryStore, name: &str, tag: &str, blobs: &[&[u8]]) -> Digest {
    for bytes in blobs {
        link(tree, store, name, bytes).await;
    }
    put(tree, name, &by_tag(tag), &image(blobs)).await.unwrap().digest
}

fn fetcher(store: &MemoryStore) -> Arc<dyn Fetcher> {
    Arc::new(LocalFetcher(Arc::new(store.clone())))
}

/// Every file below a root, with its content.
async fn files(store: &MemoryStore, root: Cid) -> BTreeMap<String, Vec<u8>> {
    let (fetcher, mut found) = (fetcher(store), BTreeMap::new());
    let mut open = vec![(String::new(), root)];
    while let Some((path, cid)) = open.pop() {
        match cidery_unixfs::stat(&*fetcher, &cid).await.unwrap() {
            Kind::File { .. } => {
                let reader = FileReader::open(fetcher.clone(), cid).await.unwrap();
                let mut stream = reader.read(0..u64::MAX, 0);
                let mut content = Vec::new();
                while let Some(more) = stream.next().await.unwrap() {
                    content.extend_from_slice(&more);
                }
                found.insert(path, content);
            }
            _ => {
                for Entry { name, cid, .. } in cidery_unixfs::list(&*fetcher, &cid).await.unwrap() {
                    open.push((format!("{path}/{name}"), cid));
                }
            }
        }
    }
    found
}
