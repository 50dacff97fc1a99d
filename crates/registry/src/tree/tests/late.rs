//! Blobs that come after the manifest that names them.

use super::{stores::Controlled, *};
use crate::tree::{May, Missing, Platform, Push, Put};
use cidery_core::RootStore;
use std::{sync::atomic::Ordering::SeqCst, time::Duration};

/// Pushes an image whose blobs need not be there.
async fn put_sparse(tree: &Tree, name: &str, version: &str, manifest: &Value) -> Result<Put, TreeError> {
    put_under(tree, name, version, manifest, Missing::Accept).await
}

async fn put_under(
    tree: &Tree,
    name: &str,
    version: &str,
    manifest: &Value,
    missing: Missing,
) -> Result<Put, TreeError> {
    let (reference, bytes) = (by_tag(version), bytes(manifest));
    tree.push(
        &repository(name),
        Push { reference, tags: Vec::new(), media_type: None, bytes, missing, may: May::default() },
    )
    .await
}

/// Whether the root itself holds the blob in this repository, and not only the journal.
async fn in_root(store: &MemoryStore, tree: &Tree, name: &str, bytes: &[u8]) -> bool {
    let link = format!("repositories/{name}/_layers/sha256/{}/link", digest_of(bytes).hex());
    let files = files(store, tree.snapshot().root().unwrap()).await;
    files.keys().any(|path| path.ends_with(&link))
}

fn links(store: &MemoryStore) -> usize {
    store.links(&Namespace::local()).unwrap().len()
}

#[tokio::test]
async fn a_late_blob_is_part_of_the_root_at_once() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    put_sparse(&tree, "app", "v1", &image(&[b"{}", b"late"])).await.unwrap();
    let before = tree.snapshot().root();
    let mut roots = tree.roots();
    roots.borrow_and_update();
    // What nobody waits for makes no root, and the same blob elsewhere is another matter.
    link(&tree, &store, "app", b"another").await;
    link(&tree, &store, "web", b"late").await;
    assert!(!roots.has_changed().unwrap());
    link(&tree, &store, "app", b"late").await;
    assert!(in_root(&store, &tree, "app", b"late").await && !in_root(&store, &tree, "web", b"late").await);
    assert_ne!(tree.snapshot().root(), before);
    link(&tree, &store, "app", b"{}").await;
    assert_eq!(links(&store), 2, "those that nobody names");
    // The order of pushing leaves no trace.
    let straight = MemoryStore::new();
    let other = open(&straight).await;
    push(&other, &straight, "app", "v1", &[b"{}", b"late"]).await;
    assert_eq!(tree.snapshot().root(), other.snapshot().root());
}

#[tokio::test]
async fn what_a_manifest_names_does_not_expire() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    put_sparse(&tree, "app", "v1", &image(&[b"{}", b"late"])).await.unwrap();
    drop(tree);
    // After a restart nobody remembers what is waited for.
    let tree = open(&store).await;
    for bytes in [&b"late"[..], b"nobody's"] {
        link(&tree, &store, "app", bytes).await;
    }
    assert!(!in_root(&store, &tree, "app", b"late").await);
    tree.expire_blobs(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(links(&store), 2, "neither is old enough");
    tree.expire_blobs(Duration::ZERO).await.unwrap();
    assert!(in_root(&store, &tree, "app", b"late").await);
    assert_eq!(links(&store), 0);
    let snapshot = tree.snapshot();
    assert!(snapshot.blob(&repository("app"), &digest_of(b"late")).await.unwrap().is_some());
    assert_eq!(snapshot.blob(&repository("app"), &digest_of(b"nobody's")).await.unwrap(), None);
}

#[tokio::test]
async fn a_look_through_the_repositories_folds_in_and_remembers() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    put_sparse(&tree, "app", "v1", &image(&[b"{}", b"late"])).await.unwrap();
    drop(tree);
    let tree = open(&store).await;
    link(&tree, &store, "app", b"late").await;
    tree.unname_blobs(true).await.unwrap();
    assert!(in_root(&store, &tree, "app", b"late").await);
    // Now it is known again what is still missing.
    link(&tree, &store, "app", b"{}").await;
    assert!(in_root(&store, &tree, "app", b"{}").await);
    assert_eq!(links(&store), 0);
}

#[tokio::test]
async fn nobody_waits_for_a_manifest_that_is_gone() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let digest = put_sparse(&tree, "app", "v1", &image(&[b"{}", b"late"])).await.unwrap().digest;
    put_sparse(&tree, "app", "v2", &image(&[b"{}"])).await.unwrap();
    assert!(tree.delete_manifest(&repository("app"), &digest).await.unwrap());
    link(&tree, &store, "app", b"late").await;
    assert!(!in_root(&store, &tree, "app", b"late").await);
    tree.unname_blobs(true).await.unwrap();
    tree.expire_blobs(Duration::ZERO).await.unwrap();
    assert_eq!(tree.snapshot().blob(&repository("app"), &digest_of(b"late")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_meets_its_manifest_halfway_is_folded_in_soon() {
    let store = Arc::new(Controlled::default());
    let tree = Tree::open(Namespace::local(), store.clone(), store.clone()).await.unwrap();
    store.hold();
    let manifest = image(&[b"late"]);
    let pushing = tokio::spawn({
        let (tree, manifest) = (tree.clone(), manifest.clone());
        async move { put_sparse(&tree, "app", "v1", &manifest).await }
    });
    while store.waiting.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The manifest's commit did not see it, and nobody waits for it yet.
    link(&tree, &store.store, "app", b"late").await;
    store.release();
    pushing.await.unwrap().unwrap();
    tree.unname_blobs(false).await.unwrap();
    assert!(in_root(&store.store, &tree, "app", b"late").await);
    assert_eq!(links(&store.store), 0);
}

/// Nobody knows what a manifest names that can't be read.
#[tokio::test]
async fn links_stay_where_a_manifest_is_damaged() {
    let store = Arc::new(Controlled::default());
    let tree = Tree::open(Namespace::local(), store.clone(), store.clone()).await.unwrap();
    let manifest = image(&[b"{}", b"late"]);
    put_sparse(&tree, "app", "v1", &manifest).await.unwrap();
    drop(tree);
    let tree = Tree::open(Namespace::local(), store.clone(), store.clone()).await.unwrap();
    for (name, bytes) in [("app", &b"late"[..]), ("app", b"doubtful"), ("web", b"nobody's")] {
        link(&tree, &store.store, name, bytes).await;
    }
    let block = cidery_core::Block::raw(bytes(&manifest));
    store.damaged.lock().insert(*block.cid());
    tree.expire_blobs(Duration::ZERO).await.unwrap();
    assert_eq!(links(&store.store), 2, "of another repository they expire");
    // Repaired.
    store.damaged.lock().clear();
    tree.unname_blobs(false).await.unwrap();
    tree.expire_blobs(Duration::ZERO).await.unwrap();
    assert!(in_root(&store.store, &tree, "app", b"late").await);
    assert_eq!(links(&store.store), 0);
}

#[tokio::test]
async fn the_rule_can_be_for_some_platforms() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let here = push(&tree, &store, "app", "amd64", &[b"{}"]).await;
    let (elsewhere, plain) = (digest_of(b"arm"), digest_of(b"attestation"));
    let mut list = index(&[&here, &elsewhere, &plain]);
    list["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "amd64"});
    list["manifests"][1]["platform"] = json!({"os": "linux", "architecture": "arm", "variant": "v7"});
    let platforms = |texts: &[&str]| texts.iter().map(|text| text.parse::<Platform>().unwrap()).collect::<Vec<_>>();
    let put = async |platforms| put_under(&tree, "app", "all", &list, Missing::RefuseFor(platforms)).await;
    for accepted in [&["linux/amd64"][..], &["linux/arm/v6", "windows/amd64"], &["linux/amd64", "linux/arm64"]] {
        assert!(put(platforms(accepted)).await.is_ok(), "{accepted:?}");
    }
    for refused in [&["linux/arm"][..], &["linux/arm/v7"], &["linux/amd64", "linux/arm"]] {
        let result = put(platforms(refused)).await;
        assert!(
            matches!(&result, Err(TreeError::ManifestBlobUnknown { digests }) if *digests == [elsewhere.clone()]),
            "{refused:?}: {result:?}"
        );
    }
    // An image's own blobs are required whatever it runs on.
    let result = put_under(&tree, "app", "x", &image(&[b"nowhere"]), Missing::RefuseFor(platforms(&["a/b"]))).await;
    assert!(matches!(result, Err(TreeError::ManifestBlobUnknown { .. })));
    for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a md64"] {
        assert!(bad.parse::<Platform>().is_err(), "{bad}");
    }
}
