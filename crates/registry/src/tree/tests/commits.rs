use super::{stores::Controlled, *};
use crate::tree::{Image, ImageManifest, May, Missing, Push, Put, manifest::ManifestError};
use cidery_core::RootStore;
use std::{future::Future, sync::atomic::Ordering::SeqCst};
use tokio::task::JoinHandle;

async fn controlled() -> (Arc<Controlled>, Tree) {
    let store = Arc::new(Controlled::default());
    let tree = Tree::open(Namespace::local(), store.clone(), store.clone()).await.unwrap();
    (store, tree)
}

/// Waits for something that other tasks bring about.
async fn until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        tokio::task::yield_now().await;
    }
}

type Waiting = JoinHandle<Result<Put, TreeError>>;

/// Starts puts one after another, each once the one before is queued (the first: at the gate).
async fn start(
    store: &Controlled,
    tree: &Tree,
    puts: impl IntoIterator<Item = (String, String, Value)>,
) -> Vec<Waiting> {
    let mut started = Vec::new();
    for (queued, (name, tag, manifest)) in puts.into_iter().enumerate() {
        let tree_ = tree.clone();
        started.push(tokio::spawn(async move { put(&tree_, &name, &by_tag(&tag), &manifest).await }));
        match queued {
            0 => until(|| store.waiting.load(SeqCst) == 1).await,
            n => until(|| tree.queue.max_capacity() - tree.queue.capacity() == n).await,
        }
    }
    started
}

async fn all(started: Vec<Waiting>) -> Vec<Result<Put, TreeError>> {
    let mut results = Vec::new();
    for task in started {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_are_made_together() {
    let (store, tree) = controlled().await;
    for n in 0..64 {
        link(&tree, &store.store, &format!("app{n}"), b"{}").await;
    }
    assert_eq!(store.commits.load(SeqCst), 0, "a blob makes no root");
    store.hold();
    let puts = (0..64).map(|n| (format!("app{n}"), "v1".to_owned(), image(&[b"{}"])));
    let started = start(&store, &tree, puts).await;
    store.release();
    let results = all(started).await;
    assert_eq!(store.commits.load(SeqCst), 2, "one for the first, one for those that came meanwhile");
    let roots: Vec<Cid> = results.into_iter().map(|put| put.unwrap().root).collect();
    assert!(roots[1..].iter().all(|root| *root == roots[63]) && roots[0] != roots[1]);
    assert_eq!(tree.snapshot().root(), Some(roots[63]));
    assert_eq!(tree.snapshot().repositories(None, 100).await.unwrap().len(), 64);
    assert_eq!(store.links(&Namespace::local()).unwrap(), []);
    assert_eq!(store.history(&Namespace::local(), 100).unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_members_failure_is_its_own() {
    let (store, tree) = controlled().await;
    link(&tree, &store.store, "app", b"{}").await;
    store.hold();
    let child = digest_of(image(&[b"{}"]).to_string().as_bytes());
    let puts = [
        ("first", "v1", index(&[])),
        ("app", "child", image(&[b"{}"])),
        ("app", "lacking", image(&[b"{}", b"never pushed"])),
        ("other", "lacking", index(&[&child])),
        ("app", "index", index(&[&child])),
    ];
    let puts = puts.map(|(name, tag, manifest)| (name.to_owned(), tag.to_owned(), manifest));
    let started = start(&store, &tree, puts).await;
    store.release();
    let results = all(started).await;
    assert_eq!(store.commits.load(SeqCst), 2);
    let lacks = |result: &Result<Put, TreeError>, digest: &Digest| matches!(result, Err(TreeError::ManifestBlobUnknown { digests }) if digests == std::slice::from_ref(digest));
    assert!(results[0].is_ok() && results[1].is_ok());
    assert!(lacks(&results[2], &digest_of(b"never pushed")));
    assert!(lacks(&results[3], &child), "it is in another repository");
    assert!(results[4].is_ok(), "its child is in the same group");
    let tags = tree.snapshot().tags(&repository("app"), None, 10).await.unwrap();
    assert_eq!(tags, Some(vec![tag("child"), tag("index")]));
    assert!(!tree.snapshot().exists(&repository("other")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_sees_what_came_before_it_in_its_group() {
    let (store, tree) = controlled().await;
    link(&tree, &store.store, "app", b"{}").await;
    store.hold();
    let puts = [("first", index(&[])), ("app", image(&[b"{}"]))];
    let puts = puts.map(|(name, manifest)| (name.to_owned(), "v1".to_owned(), manifest));
    let started = start(&store, &tree, puts).await;
    let deletes = ["v1", "v2", "v1"].map(|name| {
        let tree = tree.clone();
        tokio::spawn(async move { tree.delete_tag(&repository("app"), &tag(name)).await })
    });
    until(|| tree.queue.max_capacity() - tree.queue.capacity() == 4).await;
    store.release();
    let pushed = all(started).await.pop().unwrap().unwrap();
    let mut existed = Vec::new();
    for delete in deletes {
        existed.push(delete.await.unwrap().unwrap());
    }
    assert_eq!(existed.iter().filter(|existed| **existed).count(), 1, "{existed:?}");
    assert_eq!(store.commits.load(SeqCst), 2);
    let snapshot = tree.snapshot();
    assert_eq!(snapshot.tags(&repository("app"), None, 10).await.unwrap(), Some(Vec::new()));
    assert!(snapshot.manifest(&repository("app"), &by_digest(&pushed.digest)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_place_fails_only_who_goes_there() {
    let (store, tree) = controlled().await;
    for name in ["first", "good", "bad"] {
        push(&tree, &store.store, name, "v1", &[b"{}", name.as_bytes()]).await;
    }
    let root = tree.snapshot().root().unwrap();
    let path = ["docker", "registry", "v2", "repositories", "bad", "_manifests", "tags"];
    let directory = cidery_unixfs::resolve(&*fetcher(&store.store), &root, &path).await.unwrap().unwrap();
    store.damaged.lock().insert(directory.cid);
    // A fresh one, which has not cached the directory.
    let tree = Tree::open(Namespace::local(), store.clone(), store.clone()).await.unwrap();
    store.hold();
    let puts = ["first", "good", "bad"].map(|name| (name.to_owned(), "v2".to_owned(), image(&[b"{}"])));
    let started = start(&store, &tree, puts).await;
    store.release();
    let results = all(started).await;
    assert!(results[0].is_ok() && results[1].is_ok());
    assert!(matches!(results[2], Err(TreeError::Fetch(_))), "{:?}", results[2]);
    let tags = tree.snapshot().tags(&repository("good"), None, 10).await.unwrap();
    assert_eq!(tags, Some(vec![tag("v1"), tag("v2")]));
}

#[tokio::test]
async fn a_failed_commit_changes_nothing() {
    let (store, tree) = controlled().await;
    link(&tree, &store.store, "app", b"{}").await;
    store.failing.store(1, SeqCst);
    let failed = put(&tree, "app", &by_tag("v1"), &image(&[b"{}"])).await;
    assert!(matches!(failed, Err(TreeError::Store(_))));
    let snapshot = tree.snapshot();
    assert_eq!(snapshot.root(), None);
    assert!(snapshot.blob(&repository("app"), &digest_of(b"{}")).await.unwrap().is_some(), "still journalled");
    assert_eq!(store.links(&Namespace::local()).unwrap().len(), 1);
    assert!(put(&tree, "app", &by_tag("v1"), &image(&[b"{}"])).await.is_ok());
}

#[tokio::test]
async fn a_root_that_was_replaced_meanwhile_is_built_upon() {
    let (store, tree) = controlled().await;
    let other = MemoryStore::new();
    push(&open(&other).await, &store.store, "theirs", "v1", &[b"{}"]).await;
    let theirs = other.state(&Namespace::local()).unwrap().root.unwrap().cid;
    copy(&other, &store.store, theirs);
    *store.intruder.lock() = Some(theirs);
    push(&tree, &store.store, "ours", "v1", &[b"{}"]).await;
    let names = tree.snapshot().repositories(None, 10).await.unwrap();
    assert_eq!(names, [repository("ours"), repository("theirs")]);
}

/// Copies a DAG from one store to another.
fn copy(from: &MemoryStore, to: &MemoryStore, root: Cid) {
    let mut open = vec![root];
    while let Some(cid) = open.pop() {
        // The blobs went to the other store already.
        let Some(data) = from.get(&cid).unwrap() else { continue };
        open.extend(cidery_core::dag::links(&cid, &data).unwrap());
        to.put(&cidery_core::Block::new(cid, data).unwrap(), Origin::Pushed).unwrap();
    }
}

#[tokio::test]
async fn links_survive_a_restart_and_are_folded_in() {
    let store = MemoryStore::new();
    let name = repository("app");
    let blob = {
        let tree = open(&store).await;
        let blob = link(&tree, &store, "app", b"{}").await;
        link(&tree, &store, "web", b"other").await;
        assert_eq!(tree.snapshot().blob(&name, &blob.digest).await.unwrap().as_ref(), Some(&blob));
        assert_eq!(tree.snapshot().root(), None);
        blob
    };
    let tree = open(&store).await;
    let before = tree.snapshot();
    assert_eq!(before.blob(&name, &blob.digest).await.unwrap().as_ref(), Some(&blob));
    assert!(before.exists(&name).await.unwrap() && before.exists(&repository("web")).await.unwrap());
    assert_eq!(before.repositories(None, 10).await.unwrap(), []);
    put(&tree, "app", &by_tag("v1"), &image(&[b"{}"])).await.unwrap();
    let left: Vec<_> = store.links(&Namespace::local()).unwrap().into_iter().map(|link| link.repository).collect();
    assert_eq!(left, [repository("web")], "another repository's links wait for its own push");
    let after = open(&store).await.snapshot();
    for snapshot in [&before, &tree.snapshot(), &after] {
        assert_eq!(snapshot.blob(&name, &blob.digest).await.unwrap().as_ref(), Some(&blob), "in every one of them");
    }
    assert_eq!(after.root(), tree.snapshot().root());
}

#[tokio::test]
async fn a_push_that_changes_nothing_makes_no_root() {
    let (store, tree) = controlled().await;
    let mut roots = tree.roots();
    assert_eq!(*roots.borrow_and_update(), None);
    push(&tree, &store.store, "app", "v1", &[b"{}"]).await;
    assert_eq!(*roots.borrow_and_update(), tree.snapshot().root());
    push(&tree, &store.store, "app", "v1", &[b"{}"]).await;
    assert!(!roots.has_changed().unwrap());
    assert_eq!(store.history(&Namespace::local(), 10).unwrap().len(), 1);
    assert_eq!(store.links(&Namespace::local()).unwrap(), [], "the link of the second push is settled");
}

#[tokio::test]
async fn what_is_missing_is_named_or_accepted() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let mut manifest = image(&[b"config", b"layer", b"layer"]);
    manifest["subject"] = descriptor(OCI_MANIFEST, &digest_of(b"no such subject"), 3);
    let refused = put(&tree, "app", &by_tag("v1"), &manifest).await;
    let mut missing = vec![digest_of(b"config"), digest_of(b"layer")];
    missing.sort();
    assert!(matches!(refused, Err(TreeError::ManifestBlobUnknown { digests }) if digests == missing));
    assert_eq!(tree.snapshot().root(), None);
    let push = Push {
        reference: by_tag("v1"),
        tags: Vec::new(),
        media_type: None,
        bytes: bytes(&manifest),
        missing: Missing::Accept,
        may: May::default(),
    };
    let sparse = tree.push(&repository("app"), push).await.unwrap();
    assert_eq!(sparse.subject, Some(digest_of(b"no such subject")));
    assert!(tree.snapshot().manifest(&repository("app"), &by_tag("v1")).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_before_it_queues() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let put = async |bytes: Bytes| tree.put_manifest(&repository("app"), &by_tag("v1"), None, bytes).await;
    let too_large = put(vec![b' '; crate::tree::MAX_MANIFEST + 1].into()).await;
    assert!(matches!(too_large, Err(TreeError::TooLarge { .. })));
    let invalid = put(Bytes::from_static(b"hello")).await;
    assert!(matches!(&invalid, Err(TreeError::ManifestInvalid(why)) if matches!(**why, ManifestError::Json(_))));
    let large = vec![b' '; crate::tree::MAX_MANIFEST - 200];
    let mut bytes = index(&[]).to_string().into_bytes();
    bytes.extend(large);
    let digest = put(bytes.clone().into()).await.unwrap().digest;
    let found = tree.snapshot().manifest(&repository("app"), &by_digest(&digest)).await.unwrap().unwrap();
    assert_eq!(found.bytes, bytes);
}

#[tokio::test]
async fn an_image_is_adopted_in_one_commit() {
    let (store, tree) = controlled().await;
    let layer = vec![3; 3 << 20];
    let child = bytes(&image(&[b"{}", &layer]));
    let top = bytes(&index(&[&digest_of(&child)]));
    let manifest = |bytes: &Bytes| ImageManifest { digest: digest_of(bytes), media_type: None, bytes: bytes.clone() };
    let whole = Image {
        blobs: vec![store_blob(&store.store, b"{}"), store_blob(&store.store, &layer)],
        manifests: vec![manifest(&top), manifest(&child)],
        tags: vec![(tag("v1"), digest_of(&top))],
    };
    let lacking = Image { blobs: whole.blobs[..1].to_vec(), ..whole.clone() };
    assert!(matches!(
        tree.adopt(&repository("app"), lacking).await,
        Err(TreeError::ManifestBlobUnknown { digests }) if digests == [digest_of(&layer)]
    ));
    let dangling = Image { tags: vec![(tag("v1"), digest_of(b"nothing"))], ..whole.clone() };
    assert!(matches!(tree.adopt(&repository("app"), dangling).await, Err(TreeError::ManifestBlobUnknown { .. })));
    let mut lying = whole.clone();
    lying.manifests[0].digest = digest_of(b"x");
    assert!(matches!(tree.adopt(&repository("app"), lying).await, Err(TreeError::DigestMismatch { .. })));
    assert_eq!(store.commits.load(SeqCst), 0);
    let root = tree.adopt(&repository("app"), whole).await.unwrap();
    assert_eq!((store.commits.load(SeqCst), store.links.load(SeqCst)), (1, 0));
    // Just as if it had been pushed.
    let other = MemoryStore::new();
    let pushed = open(&other).await;
    for bytes in [&b"{}"[..], &layer] {
        link(&pushed, &other, "app", bytes).await;
    }
    put_all(&pushed, [(by_digest(&digest_of(&child)), child), (by_tag("v1"), top)]).await;
    assert_eq!(pushed.snapshot().root(), Some(root));
    assert!(matches!(
        open(&MemoryStore::new()).await.adopt(&repository("app"), Image::default()).await,
        Err(TreeError::Malformed { .. })
    ));
}

async fn put_all(tree: &Tree, manifests: impl IntoIterator<Item = (Reference, Bytes)>) {
    for (reference, bytes) in manifests {
        tree.put_manifest(&repository("app"), &reference, None, bytes).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_before_his_turn_changes_nothing() {
    let (store, tree) = controlled().await;
    store.hold();
    let puts = ["first", "leaves"].map(|name| (name.to_owned(), "v1".to_owned(), index(&[])));
    let mut started = start(&store, &tree, puts).await;
    let leaving = started.pop().unwrap();
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    store.release();
    assert!(all(started).await[0].is_ok());
    put(&tree, "third", &by_tag("v1"), &index(&[])).await.unwrap();
    let names = tree.snapshot().repositories(None, 10).await.unwrap();
    assert_eq!(names, [repository("first"), repository("third")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_and_reads_at_once_agree() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let writers = (0..8).map(|n| {
        let (tree, store) = (tree.clone(), store.clone());
        tokio::spawn(async move {
            let name = format!("app{}", n % 3);
            for round in 0..8 {
                let layer = format!("{n}-{round}");
                let tag = format!("t{layer}");
                let digest = push(&tree, &store, &name, &tag, &[b"{}", layer.as_bytes()]).await;
                // Durable, and seen at once: at no moment is a blob neither journalled nor in the root.
                let snapshot = tree.snapshot();
                let found = snapshot.manifest(&repository(&name), &by_tag(&tag)).await.unwrap().unwrap();
                assert_eq!(found.digest, digest);
                for bytes in [&b"{}"[..], layer.as_bytes()] {
                    assert!(snapshot.blob(&repository(&name), &digest_of(bytes)).await.unwrap().is_some());
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut tags = 0;
    for name in tree.snapshot().repositories(None, 10).await.unwrap() {
        tags += tree.snapshot().tags(&name, None, 100).await.unwrap().unwrap().len();
    }
    assert_eq!(tags, 64);
    assert_eq!(store.links(&Namespace::local()).unwrap(), []);
    assert_eq!(open(&store).await.snapshot().root(), tree.snapshot().root());
}

#[test]
fn the_futures_can_be_sent() {
    fn sent<F: Future + Send>(_: fn(&'static Tree) -> F) {}
    sent(put_owned);
    async fn put_owned(tree: &Tree) {
        let _ = tree.put_manifest(&repository("a"), &by_tag("b"), None, Bytes::new()).await;
        let _ = tree.snapshot().referrers(&repository("a"), &Digest::sha256(&[0; 32]), None).await;
        let _ = tree.snapshot().repositories(None, 1).await;
    }
}
