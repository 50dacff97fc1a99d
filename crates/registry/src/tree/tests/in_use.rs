//! What a manifest refers to is not deleted by who asks for what is unused.

use super::{stores::Controlled, *};
use crate::tree::{May, Missing, Push};

fn refused(result: Result<bool, TreeError>) -> bool {
    matches!(result, Err(TreeError::InUse { .. }))
}

#[tokio::test]
async fn blobs_stay_as_long_as_a_manifest_names_them() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let app = repository("app");
    let one = push(&tree, &store, "app", "one", &[b"{}", b"shared", b"one"]).await;
    let two = push(&tree, &store, "app", "two", &[b"{}", b"shared"]).await;
    link(&tree, &store, "app", b"loose").await;
    link(&tree, &store, "web", b"shared").await;
    let (shared, root) = (digest_of(b"shared"), tree.snapshot().root());
    for bytes in [&b"{}"[..], b"shared", b"one"] {
        let error = tree.delete_unused_blob(&app, &digest_of(bytes)).await;
        assert!(refused(error));
    }
    assert_eq!(tree.snapshot().root(), root);
    assert!(tree.delete_unused_blob(&app, &digest_of(b"loose")).await.unwrap());
    assert!(!tree.delete_unused_blob(&app, &digest_of(b"nothing")).await.unwrap());
    assert!(tree.delete_unused_blob(&repository("web"), &shared).await.unwrap(), "nobody names it there");
    // It follows what becomes of the manifests.
    assert!(tree.delete_unused_manifest(&app, &one).await.unwrap());
    assert!(tree.delete_unused_blob(&app, &digest_of(b"one")).await.unwrap());
    assert!(refused(tree.delete_unused_blob(&app, &shared).await));
    let three = push(&tree, &store, "app", "three", &[b"{}", b"three"]).await;
    assert!(refused(tree.delete_unused_blob(&app, &digest_of(b"three")).await));
    assert!(tree.delete_unused_manifest(&app, &two).await.unwrap());
    assert!(tree.delete_unused_blob(&app, &shared).await.unwrap());
    assert!(refused(tree.delete_unused_blob(&app, &digest_of(b"{}")).await));
    assert!(tree.delete_unused_manifest(&app, &three).await.unwrap());
    assert!(tree.delete_unused_blob(&app, &digest_of(b"{}")).await.unwrap());
}

#[tokio::test]
async fn an_index_keeps_its_children() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let app = repository("app");
    let child = push(&tree, &store, "app", "child", &[b"{}"]).await;
    let list = put(&tree, "app", &by_tag("list"), &index(&[&child])).await.unwrap().digest;
    assert!(refused(tree.delete_unused_manifest(&app, &child).await));
    assert!(tree.delete_tag(&app, &tag("child")).await.unwrap(), "a tag is no reference to keep");
    assert!(tree.snapshot().manifest(&app, &by_digest(&child)).await.unwrap().is_some());
    assert!(tree.delete_unused_manifest(&app, &list).await.unwrap());
    assert!(tree.delete_unused_manifest(&app, &child).await.unwrap());
    assert!(!tree.delete_unused_manifest(&app, &child).await.unwrap());
}

#[tokio::test]
async fn a_subject_is_deleted_before_what_is_about_it() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let app = repository("app");
    let subject = push(&tree, &store, "app", "v1", &[b"{}"]).await;
    let mut about = image(&[b"{}"]);
    about["subject"] = descriptor(OCI_MANIFEST, &subject, 1);
    put(&tree, "app", &by_tag("about"), &about).await.unwrap();
    assert!(tree.delete_unused_manifest(&app, &subject).await.unwrap());
}

/// What is named and was never there is no more in use than anything else that is not there.
#[tokio::test]
async fn what_is_not_there_is_not_in_use() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let (reference, bytes) = (by_tag("v1"), bytes(&image(&[b"late"])));
    let push =
        Push { reference, tags: Vec::new(), media_type: None, bytes, missing: Missing::Accept, may: May::default() };
    tree.push(&repository("app"), push).await.unwrap();
    assert!(!tree.delete_unused_blob(&repository("app"), &digest_of(b"late")).await.unwrap());
    link(&tree, &store, "app", b"late").await;
    assert!(refused(tree.delete_unused_blob(&repository("app"), &digest_of(b"late")).await));
}

#[tokio::test]
async fn a_damaged_manifest_can_be_deleted() {
    let store = Arc::new(Controlled::default());
    let tree = Tree::open(Namespace::local(), store.clone(), store.clone()).await.unwrap();
    let digest = push(&tree, &store.store, "app", "v1", &[b"{}"]).await;
    let fine = push(&tree, &store.store, "app", "v2", &[b"fine"]).await;
    let block = cidery_core::Block::raw(bytes(&image(&[b"{}"])));
    store.damaged.lock().insert(*block.cid());
    drop(tree);
    let tree = Tree::open(Namespace::local(), store.clone(), store.clone()).await.unwrap();
    assert!(refused(tree.delete_unused_blob(&repository("app"), &digest_of(b"fine")).await));
    assert!(tree.delete_unused_manifest(&repository("app"), &digest).await.unwrap());
    assert!(tree.delete_unused_manifest(&repository("app"), &fine).await.unwrap());
}
