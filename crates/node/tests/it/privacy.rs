use crate::common::*;
use cidery_core::{Namespace, Network, RootStore};

#[tokio::test]
async fn only_published_roots_are_announced_and_served() {
    let middle = start(quiet()).await;
    let a = start_with(&[&middle]).await;
    let private = a.push(20);
    let published = a.publish(21).await;
    let at = middle.address().await;
    let told = || async { providers(&at, &published.root).await.contains(&a.id()) };
    eventually("the published root is announced", told).await;
    // The root, and two of its leaves for all.
    for block in private.blocks.iter().rev().take(3) {
        assert!(providers(&at, block.cid()).await.is_empty());
    }
    // The node itself does not say so either, and does not serve what it does not announce.
    assert!(providers(&a.address().await, &private.root).await.is_empty());
    let c = start_with(&[&a]).await;
    assert!(within(c.session(private.root, &[]).fetch(&private.root)).await.is_err());
    published.fetch(&*c.session(published.root, &[])).await;
}

#[tokio::test]
async fn what_is_unpublished_is_announced_no_more() {
    let a = start(quiet()).await;
    let tree = a.publish(22).await;
    let at = a.address().await;
    assert!(providers(&at, &tree.root).await.contains(&a.id()));
    a.store.unpublish(&Namespace::local()).unwrap();
    a.node.provide(&Namespace::local(), vec![]).await.unwrap();
    assert!(providers(&at, &tree.root).await.is_empty());
    // Nor to a peer that comes now.
    let late = start_with(&[&a]).await;
    let other = a.publish(23).await;
    let at = late.address().await;
    let told = || async { providers(&at, &other.root).await.contains(&a.id()) };
    eventually("the other root is announced", told).await;
    assert!(providers(&at, &tree.root).await.is_empty());
}

#[tokio::test]
async fn a_session_of_the_owner_does_not_announce_a_private_root() {
    // Some blocks of a private tree are missing here and come from a peer: the root stays private.
    let middle = start(quiet()).await;
    let a = start_with(&[&middle]).await;
    let tree = a.publish(24).await;
    let b = start_with(&[&a, &middle]).await;
    let root = tree.blocks.last().unwrap();
    cidery_core::Blockstore::put(&b.store, root, cidery_core::Origin::Pushed).unwrap();
    let session = b.session(tree.root, &[]);
    tree.fetch(&*session).await;
    assert!(session.received() > 0);
    let public = b.publish(25).await;
    let at = middle.address().await;
    let told = || async { providers(&at, &public.root).await.contains(&b.id()) };
    eventually("a later announcement arrived", told).await;
    assert!(!providers(&at, &tree.root).await.contains(&b.id()));
}
