use super::{backlinks::reachable, *};
use crate::tree::{
    commit::{Edit, Target},
    pending::from_root,
    tidy::Unnamed,
};
use cidery_core::{Link, RootStore};
use std::time::Duration;

async fn paths(store: &MemoryStore, tree: &Tree) -> Vec<String> {
    files(store, tree.snapshot().root().unwrap()).await.into_keys().collect()
}

fn holds(paths: &[String], digest: &Digest) -> bool {
    paths.iter().any(|path| path.contains(digest.hex()))
}

#[tokio::test]
async fn a_tag_goes_and_its_manifest_stays() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let digest = push(&tree, &store, "app", "v1", &[b"{}"]).await;
    assert!(!tree.delete_tag(&name, &tag("v2")).await.unwrap());
    assert!(!tree.delete_tag(&repository("other"), &tag("v1")).await.unwrap());
    assert!(tree.delete_tag(&name, &tag("v1")).await.unwrap());
    assert!(!tree.delete_tag(&name, &tag("v1")).await.unwrap());
    let snapshot = tree.snapshot();
    assert_eq!(snapshot.manifest(&name, &by_tag("v1")).await.unwrap(), None);
    assert!(snapshot.manifest(&name, &by_digest(&digest)).await.unwrap().is_some());
    assert_eq!(snapshot.tags(&name, None, 10).await.unwrap(), Some(Vec::new()), "the repository is still there");
    assert!(!paths(&store, &tree).await.iter().any(|path| path.contains("/tags/")));
}

#[tokio::test]
async fn a_manifest_goes_with_its_tags_and_its_blob() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let old = push(&tree, &store, "app", "latest", &[b"{}", b"old"]).await;
    put(&tree, "app", &by_tag("v1"), &image(&[b"{}", b"old"])).await.unwrap();
    let new = push(&tree, &store, "app", "latest", &[b"{}", b"new"]).await;
    assert!(!tree.delete_manifest(&name, &digest_of(b"{}")).await.unwrap(), "a blob is no manifest");
    assert!(!tree.delete_manifest(&repository("other"), &old).await.unwrap());
    assert!(tree.delete_manifest(&name, &old).await.unwrap());
    assert!(!tree.delete_manifest(&name, &old).await.unwrap());
    let snapshot = tree.snapshot();
    assert_eq!(snapshot.tags(&name, None, 10).await.unwrap(), Some(vec![tag("latest")]));
    assert_eq!(snapshot.manifest(&name, &by_digest(&old)).await.unwrap(), None);
    let latest = snapshot.manifest(&name, &by_tag("latest")).await.unwrap().unwrap();
    assert_eq!(latest.digest, new);
    assert!(!holds(&paths(&store, &tree).await, &old), "no link, no note in a tag's index, no bytes");
    assert!(snapshot.blob(&name, &digest_of(b"old")).await.unwrap().is_some(), "its blobs are deleted by themselves");
}

#[tokio::test]
async fn a_blob_goes_with_its_last_link() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let (app, web) = (repository("app"), repository("team/web"));
    push(&tree, &store, "app", "v1", &[b"{}", b"shared"]).await;
    push(&tree, &store, "team/web", "v1", &[b"{}", b"shared"]).await;
    let shared = digest_of(b"shared");
    assert!(tree.delete_blob(&app, &shared).await.unwrap());
    assert!(!tree.delete_blob(&app, &shared).await.unwrap());
    let snapshot = tree.snapshot();
    assert_eq!(snapshot.blob(&app, &shared).await.unwrap(), None);
    assert!(snapshot.blob(&web, &shared).await.unwrap().is_some());
    assert!(tree.delete_blob(&web, &shared).await.unwrap());
    assert!(!holds(&paths(&store, &tree).await, &shared));
}

#[tokio::test]
async fn bytes_that_are_blob_and_manifest_go_with_the_last_of_the_two() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let manifest = index(&[]).to_string();
    let digest = digest_of(manifest.as_bytes());
    link(&tree, &store, "app", manifest.as_bytes()).await;
    put(&tree, "web", &by_tag("v1"), &index(&[])).await.unwrap();
    put(&tree, "app", &by_tag("v1"), &index(&[&digest])).await.unwrap();
    assert!(tree.delete_manifest(&repository("web"), &digest).await.unwrap());
    assert!(tree.snapshot().blob(&repository("app"), &digest).await.unwrap().is_some());
    assert!(tree.delete_blob(&repository("app"), &digest).await.unwrap());
    assert!(!paths(&store, &tree).await.iter().any(|path| path.ends_with(&format!("{}/data", digest.hex()))));
}

#[tokio::test]
async fn a_journalled_blob_is_deleted_without_a_root() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let blob = link(&tree, &store, "app", b"half-pushed").await;
    assert!(tree.delete_blob(&name, &blob.digest).await.unwrap());
    assert!(!tree.delete_blob(&name, &blob.digest).await.unwrap());
    assert_eq!((tree.snapshot().root(), store.links(&Namespace::local()).unwrap()), (None, Vec::new()));
    assert_eq!(open(&store).await.snapshot().blob(&name, &blob.digest).await.unwrap(), None);
    // Linked both ways: both links go.
    push(&tree, &store, "app", "v1", &[b"half-pushed"]).await;
    link(&tree, &store, "app", b"half-pushed").await;
    assert!(tree.delete_blob(&name, &blob.digest).await.unwrap());
    for tree in [&tree, &open(&store).await] {
        assert_eq!(tree.snapshot().blob(&name, &blob.digest).await.unwrap(), None);
    }
}

#[tokio::test]
async fn when_everything_is_deleted_nothing_is_left() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("team/app");
    let digest = push(&tree, &store, "team/app", "v1", &[b"{}", b"layer"]).await;
    let old = tree.snapshot();
    assert!(tree.delete_manifest(&name, &digest).await.unwrap());
    for bytes in [&b"{}"[..], b"layer"] {
        assert!(tree.delete_blob(&name, &digest_of(bytes)).await.unwrap());
    }
    assert_eq!(paths(&store, &tree).await, [""; 0]);
    assert_eq!(tree.snapshot().tags(&name, None, 10).await.unwrap(), None);
    assert_eq!(tree.snapshot().repositories(None, 10).await.unwrap(), []);
    // The history is still what it was, for who holds one of its roots.
    assert!(old.manifest(&name, &by_tag("v1")).await.unwrap().is_some());
    assert_eq!(store.history(&Namespace::local(), 10).unwrap().len(), 4);
    push(&tree, &store, "team/app", "v1", &[b"{}", b"layer"]).await;
    assert_eq!(tree.snapshot().root(), old.root());
}

#[tokio::test]
async fn blobs_that_lost_their_last_manifest_stay_readable_until_they_expire() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let old = push(&tree, &store, "app", "old", &[b"{}", b"shared", b"old"]).await;
    push(&tree, &store, "app", "new", &[b"{}", b"shared", b"new"]).await;
    tree.delete_manifest(&name, &old).await.unwrap();
    let blob = tree.snapshot().blob(&name, &digest_of(b"old")).await.unwrap().unwrap();
    tree.unname_blobs(false).await.unwrap();
    let in_tree = paths(&store, &tree).await;
    assert!(!holds(&in_tree, &digest_of(b"old")) && holds(&in_tree, &digest_of(b"shared")));
    let known = |bytes: &'static [u8]| {
        let (snapshot, name) = (tree.snapshot(), name.clone());
        async move { snapshot.blob(&name, &digest_of(bytes)).await.unwrap().is_some() }
    };
    assert!(known(b"old").await && known(b"new").await, "a push under way may count on it");
    assert!(store.is_forgotten(&blob.cid), "earlier roots show it no more");
    assert_eq!(store.links(&Namespace::local()).unwrap().len(), 1);
    // A new manifest names it again.
    put(&tree, "app", &by_tag("again"), &image(&[b"{}", b"old"])).await.unwrap();
    assert!(holds(&paths(&store, &tree).await, &digest_of(b"old")));
    let again = digest_of(&bytes(&image(&[b"{}", b"old"])));
    tree.delete_manifest(&name, &again).await.unwrap();
    tree.unname_blobs(false).await.unwrap();
    tree.expire_blobs(Duration::from_secs(3600)).await.unwrap();
    assert!(known(b"old").await, "not yet");
    tree.expire_blobs(Duration::ZERO).await.unwrap();
    assert!(!known(b"old").await && known(b"shared").await);
    assert!(store.links(&Namespace::local()).unwrap().is_empty());
    // After a restart everything is looked through once asked to.
    let root = tree.snapshot().root();
    tree.unname_blobs(true).await.unwrap();
    assert_eq!(tree.snapshot().root(), root);
}

#[tokio::test]
async fn a_link_waits_for_the_manifest_that_names_it() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    link(&tree, &store, "app", b"later").await;
    push(&tree, &store, "app", "v1", &[b"{}"]).await;
    assert!(!holds(&paths(&store, &tree).await, &digest_of(b"later")));
    assert!(tree.snapshot().blob(&repository("app"), &digest_of(b"later")).await.unwrap().is_some());
    put(&tree, "app", &by_tag("v2"), &image(&[b"{}", b"later"])).await.unwrap();
    assert!(holds(&paths(&store, &tree).await, &digest_of(b"later")));
    assert!(store.links(&Namespace::local()).unwrap().is_empty());
}

#[tokio::test]
async fn what_goes_and_comes_back_in_one_group_is_not_forgotten() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let digest = push(&tree, &store, "app", "v1", &[b"{}"]).await;
    let file = tree.snapshot().root().unwrap();
    let name = repository("app");
    let (reference, manifest) = (by_tag("v1"), image(&[b"{}"]));
    // Their order is that of the queue.
    let tagged = tree.shared.tagged(&name, &digest).await.unwrap();
    let delete = Edit::Delete { repository: name, what: Target::Manifest(digest, tagged), unused: false };
    let (deleted, pushed) = tokio::join!(tree.send(delete), put(&tree, "app", &reference, &manifest));
    assert!(deleted.unwrap().did_something() && pushed.is_ok());
    assert_eq!(tree.snapshot().root(), Some(file), "the same content, the same root");
    let manifest = *cidery_core::Block::raw(bytes(&image(&[b"{}"]))).cid();
    assert!(!store.is_forgotten(&manifest));
}

#[tokio::test]
async fn a_manifest_takes_the_tags_along_that_came_or_moved_meanwhile() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let one = push(&tree, &store, "app", "v1", &[b"{}", b"one"]).await;
    let two = push(&tree, &store, "app", "v2", &[b"{}", b"two"]).await;
    for n in 0..50 {
        put(&tree, "app", &by_tag(&format!("one-{n}")), &image(&[b"{}", b"one"])).await.unwrap();
        put(&tree, "app", &by_tag(&format!("two-{n}")), &image(&[b"{}", b"two"])).await.unwrap();
    }
    let tagged = tree.shared.tagged(&name, &one).await.unwrap();
    // Since then one tag went over to it, one left it, one came, and one is gone.
    put(&tree, "app", &by_tag("two-7"), &image(&[b"{}", b"one"])).await.unwrap();
    put(&tree, "app", &by_tag("one-7"), &image(&[b"{}", b"two"])).await.unwrap();
    put(&tree, "app", &by_tag("late"), &image(&[b"{}", b"one"])).await.unwrap();
    assert!(tree.delete_tag(&name, &tag("one-8")).await.unwrap());
    let delete = Edit::Delete { repository: name.clone(), what: Target::Manifest(one.clone(), tagged), unused: false };
    assert!(tree.send(delete).await.unwrap().did_something());
    let tags = tree.snapshot().tags(&name, None, 1000).await.unwrap().unwrap();
    let mut expected: Vec<String> = (0..50).filter(|n| *n != 7).map(|n| format!("two-{n}")).collect();
    expected.extend(["one-7".to_owned(), "v2".to_owned()]);
    expected.sort();
    assert_eq!(tags.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>(), expected);
    // Nor is it noted any more that a tag once stood for it.
    assert!(!paths(&store, &tree).await.iter().any(|path| path.contains("/tags/") && path.contains(one.hex())));
    assert!(tree.snapshot().manifest(&name, &by_digest(&two)).await.unwrap().is_some());
}

/// In one group, what one member makes a link of another may delete, and the other way round.
#[tokio::test]
async fn a_link_is_what_the_last_of_its_group_made_of_it() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let known = async |tree: &Tree| tree.snapshot().blob(&name, &digest_of(b"layer")).await.unwrap().is_some();
    let links = || store.links(&Namespace::local()).unwrap().len();

    let digest = push(&tree, &store, "app", "v1", &[b"{}", b"layer"]).await;
    tree.delete_manifest(&name, &digest).await.unwrap();
    let layer = digest_of(b"layer");
    let unname = || {
        let found = Unnamed { revisions: None, digests: [layer.clone(), digest_of(b"{}")].into() };
        tree.send(Edit::Unname { repository: name.clone(), found })
    };
    let delete = |what| tree.send(Edit::Delete { repository: name.clone(), what, unused: false });
    let (unnamed, deleted) = tokio::join!(unname(), delete(Target::Blob(layer.clone())));
    assert!(unnamed.unwrap().did_something() && deleted.unwrap().did_something());
    assert_eq!((known(&tree).await, links()), (false, 1), "only the config is left");

    // Linked, named, and without a name again: the journal must not lose what everybody sees.
    link(&tree, &store, "app", b"layer").await;
    let (reference, manifest) = (by_tag("v1"), image(&[b"{}", b"layer"]));
    let tagged = tree.shared.tagged(&name, &digest).await.unwrap();
    let gone = delete(Target::Manifest(digest.clone(), tagged));
    let group = tokio::join!(put(&tree, "app", &reference, &manifest), gone, unname());
    assert!(group.0.is_ok() && group.1.unwrap().did_something() && group.2.unwrap().did_something());
    assert_eq!((known(&tree).await, links()), (true, 2));
    drop(tree);
    assert!(known(&open(&store).await).await, "after a restart too");
}

/// A repository with a manifest that can't be read may hold on to blobs; the others are tidied.
#[tokio::test]
async fn one_damaged_repository_keeps_no_other_untidy() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let old = push(&tree, &store, "second", "old", &[b"{}", b"gone"]).await;
    push(&tree, &store, "second", "new", &[b"{}"]).await;
    push(&tree, &store, "first", "bad", &[b"{}", b"doubtful"]).await;
    tree.delete_manifest(&repository("second"), &old).await.unwrap();
    let root = tree.snapshot().root().unwrap();
    let (lost, damaged) = (cidery_core::Block::raw(bytes(&image(&[b"{}", b"doubtful"]))), MemoryStore::new());
    for cid in reachable(&store, root).await.into_iter().filter(|cid| cid != lost.cid()) {
        let block = cidery_core::Block::of(cid.codec(), store.get(&cid).unwrap().unwrap());
        damaged.put(&block, Origin::Pushed).unwrap();
    }
    damaged.commit(&Namespace::local(), None, root, &[]).unwrap();
    let tree = open(&damaged).await;
    assert!(tree.unname_blobs(true).await.is_err());
    let snapshot = tree.snapshot();
    let (fetcher, root) = (fetcher(&damaged), snapshot.root().unwrap());
    let in_tree = async |name: &str, bytes: &[u8]| {
        let path = from_root(crate::tree::layout::layer(&repository(name), &digest_of(bytes)));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        cidery_unixfs::resolve(&*fetcher, &root, &path).await.unwrap().is_some()
    };
    assert!(!in_tree("second", b"gone").await && in_tree("first", b"doubtful").await);
}

/// A link takes memory for as long as it is waited for.
#[tokio::test]
async fn with_very_many_links_what_lost_its_manifest_goes_at_once() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let app = repository("app");
    let manifest = push(&tree, &store, "app", "v1", &[b"{}", b"layer"]).await;
    let kept = push(&tree, &store, "app", "v2", &[b"{}"]).await;
    drop(tree);
    let waiting = *cidery_core::Block::raw(&b"waiting"[..]).cid();
    let link = |n: u32| Link {
        namespace: Namespace::local(),
        repository: repository("busy"),
        digest: digest_of(&n.to_be_bytes()),
        cid: waiting,
        size: 7,
    };
    store.link_all(&(0..64 << 10).map(link).collect::<Vec<_>>()).unwrap();
    let tree = open(&store).await;
    let layer = tree.snapshot().blob(&app, &digest_of(b"layer")).await.unwrap().unwrap().cid;
    assert!(tree.delete_manifest(&app, &manifest).await.unwrap());
    tree.unname_blobs(false).await.unwrap();
    assert_eq!(tree.snapshot().blob(&app, &digest_of(b"layer")).await.unwrap(), None);
    assert!(tree.snapshot().blob(&app, &digest_of(b"{}")).await.unwrap().is_some(), "{kept} names it");
    assert_eq!(store.links(&Namespace::local()).unwrap().len(), 64 << 10);
    assert!(store.is_forgotten(&layer));
}
