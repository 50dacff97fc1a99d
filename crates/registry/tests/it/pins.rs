//! Pins: what a name brings, and what of it is kept.

use crate::support::{MIB, Node, noise, sha256};
use cidery_core::{
    Block, Blockstore, Cid, Fetcher, ForeignName, Origin, PinError as NotKept, Resolved, RootStore,
    memory::{MemoryStore, World},
    ports::LocalFetcher,
    suite::node as dag_node,
};
use cidery_registry::{Config, PinError, Pinning};
use std::sync::Arc;

/// An owner with a published image, and a guest who finds it by its root and by `example.com`.
async fn two() -> (Node, Node, Cid) {
    let world = World::new();
    let store = MemoryStore::new();
    let owner = Node::over(Config::default(), store.clone(), Arc::new(world.join(store))).await;
    owner.push_image("app", "1", &[&noise(1, 2 * MIB + 5), b"small"]).await;
    let root: Cid = owner.publish().parse().unwrap();
    let resolved = Resolved { root, path: Vec::new(), hints: Vec::new() };
    world.set_name(ForeignName::parse("example.com").unwrap(), resolved);
    let store = MemoryStore::new();
    let guest = Node::over(Config::default(), store.clone(), Arc::new(world.join(store))).await;
    (owner, guest, root)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_is_enough_to_pull_it() {
    let (_owner, guest, root) = two().await;
    let mut last = None;
    let pinned = guest.registry.pin("example.com/app:1", |now| last = Some(now)).await.unwrap();
    assert!(matches!(last, Some(Pinning::Image(now)) if now.bytes == now.total && now.blobs == 3), "{last:?}");
    assert_eq!((pinned.pin.name.as_str(), pinned.pin.root, pinned.pin.roots.len()), ("example.com/app:1", root, 3));
    // Nothing but that: as after a collection, with nobody to ask.
    let kept = MemoryStore::new();
    let local = LocalFetcher(Arc::new(guest.store.clone()));
    let mut open = pinned.pin.roots.clone();
    while let Some(cid) = open.pop() {
        let bytes = local.fetch(&cid).await.unwrap();
        open.extend(cidery_core::dag::links(&cid, &bytes).unwrap());
        kept.put(&Block::new(cid, bytes).unwrap(), Origin::Peer).unwrap();
    }
    for cid in &pinned.pin.blocks {
        kept.put(&Block::new(*cid, local.fetch(cid).await.unwrap()).unwrap(), Origin::Peer).unwrap();
    }
    let alone = Node::over(Config::default(), kept.clone(), Arc::new(World::new().join(kept))).await;
    let pulled = alone.registry.pull(&format!("{root}/app:1"), |_| {}).await.unwrap();
    assert_eq!(pulled.blobs, 3);
    let blob = alone.get(format!("/v2/{root}/app/blobs/{}", sha256(b"small"))).await;
    assert_eq!(blob.text(), "small");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_pinned_by_its_cid_and_once() {
    let (_owner, guest, root) = two().await;
    let name = root.to_string();
    let mut last = None;
    let pinned = guest.registry.pin(&name, |now| last = Some(now)).await.unwrap();
    assert!(matches!(last, Some(Pinning::Blocks { done, total }) if done == total && done > 5), "{last:?}");
    assert_eq!((pinned.pin.roots, pinned.pin.blocks.len()), (vec![root], 0));
    guest.registry.pin(&name, |_| {}).await.unwrap();
    assert_eq!(guest.registry.pins().await.unwrap().len(), 1);
    assert_eq!(guest.registry.unpin(&name).await.unwrap(), name);
    assert!(matches!(guest.registry.unpin(&name).await, Err(PinError::NotPinned(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_deleted_is_not_pinned() {
    let (owner, guest, root) = two().await;
    let absent = guest.registry.pin(&format!("{root}/app:2"), |_| {}).await;
    assert!(matches!(absent, Err(PinError::Image(_))), "{absent:?}");
    let nobodys = *Block::raw(&b"nobody has this"[..]).cid();
    let absent = guest.registry.pin(&nobodys.to_string(), |_| {}).await;
    assert!(matches!(absent, Err(PinError::Fetch(_))), "{absent:?}");
    assert!(guest.registry.pins().await.unwrap().is_empty());
    let purged = owner.registry.purge(&sha256(b"small")).await.unwrap();
    assert!(purged.pins.is_empty() && !purged.places.is_empty());
    let deleted = owner.registry.pin(&root.to_string(), |_| {}).await;
    assert!(matches!(&deleted, Err(PinError::NotKept { source: NotKept::Withdrawn(_), .. })), "{deleted:?}");
    let wrong = dag_node(&[Cid::new_v1(0x71, *nobodys.hash())]);
    owner.store.put(&wrong, Origin::Imported).unwrap();
    let wrong = owner.registry.pin(&wrong.cid().to_string(), |_| {}).await;
    assert!(matches!(wrong, Err(PinError::Dag { .. })), "{wrong:?}");
    assert!(owner.store.pins().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_what_is_pinned_by_any_name() {
    let (_owner, guest, root) = two().await;
    let layer = sha256(&noise(1, 2 * MIB + 5));
    let (app, tree) = (format!("{root}/app:1"), root.to_string());
    for name in [&app, &tree] {
        guest.registry.pin(name, |_| {}).await.unwrap();
    }
    // Another process, which has verified nothing yet.
    let again =
        Node::over(Config::default(), guest.store.clone(), Arc::new(World::new().join(guest.store.clone()))).await;
    let purged = again.registry.purge(&layer).await.unwrap();
    assert!(purged.places.is_empty());
    let mut pins = purged.pins;
    pins.sort();
    assert_eq!(pins, [tree, app]);
    assert!(again.registry.pins().await.unwrap().iter().all(|pinned| pinned.purged.len() == 1));
}
