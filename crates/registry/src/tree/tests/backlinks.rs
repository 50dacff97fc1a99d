//! What is said to be linked is what repositories hold.

use super::*;
use crate::tree::backlinks::Backlinks;
use cidery_unixfs::list;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeSet;

/// All digests that stand in repositories, read from the paths of the tree.
async fn linked(store: &MemoryStore, root: Option<Cid>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Some(root) = root else { return found };
    for path in files(store, root).await.into_keys() {
        let parts: Vec<&str> = path.split('/').collect();
        let below = |part: &str| parts.iter().position(|name| *name == part).map(|at| parts[at + 1..at + 3].join(":"));
        if path.contains("/_layers/") {
            found.extend(below("_layers"));
        } else if path.contains("/revisions/") {
            found.extend(below("revisions"));
        }
    }
    found
}

#[tokio::test]
async fn they_follow_a_namespace_through_its_history() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let mut choices = StdRng::seed_from_u64(7);
    let names = ["a", "a/b", "a/b/c", "team/app"];
    let mut pushed: Vec<(String, Digest)> = Vec::new();
    let mut everything = BTreeSet::new();
    let mut following = Backlinks::default();
    for step in 0..150 {
        if pushed.is_empty() || choices.random_bool(0.55) {
            let name = names[choices.random_range(0..names.len())];
            let blobs: Vec<Vec<u8>> = (0..3).map(|_| vec![choices.random_range(0..20u8)]).collect();
            let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
            let digest = push(&tree, &store, name, &format!("t{step}"), &blobs).await;
            pushed.push((name.to_owned(), digest));
        } else {
            let (name, digest) = pushed.swap_remove(choices.random_range(0..pushed.len()));
            tree.delete_manifest(&repository(&name), &digest).await.unwrap();
        }
        if step % 10 == 9 {
            tree.unname_blobs(false).await.unwrap();
        }
        // Not at every root: several of them are passed over.
        if step % 3 == 0 {
            let root = tree.snapshot().root();
            let expected = linked(&store, root).await;
            everything.extend(expected.iter().cloned());
            following.follow(&tree.shared.base().reader, root).await.unwrap();
            for digest in &everything {
                assert_eq!(following.has(&digest.parse().unwrap()), expected.contains(digest), "{digest} at {step}");
            }
        }
    }
    assert!(everything.len() > 30);
}

/// What the last root needed may be collected meanwhile.
#[tokio::test]
async fn a_root_that_is_gone_costs_no_more_than_a_new_start() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    push(&tree, &store, "app", "v1", &[b"{}", b"one"]).await;
    let first = tree.snapshot().root();
    let mut backlinks = Backlinks::default();
    backlinks.follow(&tree.shared.base().reader, first).await.unwrap();
    push(&tree, &store, "app", "v2", &[b"{}", b"two"]).await;
    let other = MemoryStore::new();
    for cid in reachable(&store, tree.snapshot().root().unwrap()).await {
        other.put(&cidery_core::Block::of(cid.codec(), store.get(&cid).unwrap().unwrap()), Origin::Pushed).unwrap();
    }
    assert_eq!(other.get(&first.unwrap()).unwrap(), None);
    let cold = open(&other).await;
    backlinks.follow(&cold.shared.base().reader, tree.snapshot().root()).await.unwrap();
    for bytes in [&b"{}"[..], b"one", b"two"] {
        assert!(backlinks.has(&digest_of(bytes)));
    }
    assert!(!backlinks.has(&digest_of(b"three")));
}

pub(super) async fn reachable(store: &MemoryStore, root: Cid) -> Vec<Cid> {
    let (fetcher, mut found, mut open) = (fetcher(store), Vec::new(), vec![root]);
    while let Some(cid) = open.pop() {
        found.push(cid);
        if let Ok(entries) = list(&*fetcher, &cid).await {
            open.extend(entries.into_iter().map(|entry| entry.cid));
        }
    }
    found
}
