//! Between what is found to go and the commit that takes it out, others write.

use super::*;
use crate::{
    rules::{Covered, Retention, TagRules},
    tree::{
        commit::Edit,
        retire::{Retired, Retirement},
        writer::Did,
    },
};
use cidery_core::{RootStore, TagTime};
use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    time::{Duration, SystemTime},
};

const NAME: &str = "app";

struct Rig {
    store: MemoryStore,
    tree: Tree,
}

/// A manifest that needs nothing.
fn manifest(note: &str) -> Value {
    let mut manifest = index(&[]);
    manifest["annotations"] = json!({ "note": note });
    manifest
}

fn of(manifest: &Value) -> Digest {
    digest_of(&bytes(manifest))
}

impl Rig {
    /// One where a rule keeps nothing, with some tags of one manifest each.
    async fn new(tags: &[(&str, &str)]) -> Self {
        Self::keeping(None, tags).await
    }

    /// One where the last so many are kept.
    async fn keeping(last: Option<usize>, tags: &[(&str, &str)]) -> Self {
        let store = MemoryStore::new();
        let keep_last = last.and_then(NonZeroUsize::new);
        let rule = Retention { covered: Covered::default(), keep_last, ..Retention::default() };
        let rules = TagRules::new(Vec::new(), vec![rule]);
        let (blocks, roots) = (Arc::new(store.clone()), Arc::new(store.clone()));
        let tree = Tree::open_with(Namespace::local(), blocks, roots, rules).await.unwrap();
        let rig = Self { store, tree };
        for (tag, note) in tags {
            rig.push(tag, note).await;
            // What comes now comes later.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        rig
    }

    async fn push(&self, tag: &str, note: &str) {
        put(&self.tree, NAME, &by_tag(tag), &manifest(note)).await.unwrap();
    }

    async fn plan(&self, tags: &[&str]) -> Retirement {
        self.plan_at(tags, SystemTime::now()).await
    }

    async fn plan_at(&self, tags: &[&str], now: SystemTime) -> Retirement {
        let name = repository(NAME);
        let wanted: BTreeSet<_> = tags.iter().map(|name| tag(name)).collect();
        let plan = self.tree.plan(&name, wanted.clone(), None).await.unwrap();
        let mut times = self.store.tag_times(&Namespace::local(), &name).unwrap();
        times.retain(|tag, _| wanted.contains(tag));
        self.tree.shared.prepare_backlinks().await.unwrap();
        plan.part(times, now)
    }

    /// What goes: tags, and manifests by what they say of themselves.
    async fn retire(&self, what: Retirement) -> (Vec<String>, Vec<Digest>) {
        let retired = self.send(what).await;
        assert!(!retired.stale);
        (retired.tags.iter().map(|(tag, _)| tag.to_string()).collect(), retired.manifests)
    }

    async fn send(&self, what: Retirement) -> Retired {
        let done = self.tree.send(Edit::Retire { repository: repository(NAME), what }).await.unwrap();
        let Did::Retired(retired) = done.did else { panic!("it retires") };
        retired
    }

    async fn stands_for(&self, name: &str) -> Option<Digest> {
        let found = self.tree.snapshot().manifest(&repository(NAME), &by_tag(name)).await.unwrap();
        found.map(|manifest| manifest.digest.clone())
    }
}

#[tokio::test]
async fn a_tag_that_was_pushed_again_stays() {
    let rig = Rig::new(&[("same", "one"), ("moved", "two"), ("goes", "three")]).await;
    let plan = rig.plan(&["same", "moved", "goes"]).await;
    rig.push("same", "one").await;
    rig.push("moved", "four").await;
    assert_eq!(rig.retire(plan).await, (vec!["goes".to_owned()], vec![of(&manifest("three"))]));
    assert_eq!(rig.stands_for("same").await, Some(of(&manifest("one"))));
    assert_eq!(rig.stands_for("moved").await, Some(of(&manifest("four"))));
}

/// A tag that is among the last only since others went is among the last.
#[tokio::test]
async fn a_tag_that_a_rule_keeps_by_now_stays() {
    for together in [false, true] {
        let rig = Rig::keeping(Some(1), &[("a", "one"), ("b", "two"), ("c", "three")]).await;
        let plan = rig.plan(&["a", "b"]).await;
        let name = repository(NAME);
        let gone = tag("c");
        let delete = async {
            rig.tree.delete_tag(&name, &gone).await.unwrap();
        };
        let done = if together {
            // Their order is that of the queue.
            tokio::join!(delete, rig.retire(plan)).1
        } else {
            delete.await;
            rig.retire(plan).await
        };
        assert_eq!(done, (vec!["a".to_owned()], vec![of(&manifest("one"))]), "together: {together}");
        assert_eq!(rig.stands_for("b").await, Some(of(&manifest("two"))));
    }
}

/// Then its time does not tell: the latest that there was is kept.
#[tokio::test]
async fn a_tag_that_moved_after_the_clock_was_set_back_stays() {
    let rig = Rig::new(&[("moved", "one"), ("goes", "two")]).await;
    let later = |hours: u64| SystemTime::now() + Duration::from_secs(hours * 3600);
    let ahead = ["moved", "goes"].map(|name| TagTime::new(repository(NAME), tag(name), later(1)));
    rig.store.note_tags(&Namespace::local(), &ahead).unwrap();
    let plan = rig.plan_at(&["moved", "goes"], later(2)).await;
    rig.push("moved", "three").await;
    assert_eq!(rig.retire(plan).await, (vec!["goes".to_owned()], vec![of(&manifest("two"))]));
    assert_eq!(rig.stands_for("moved").await, Some(of(&manifest("three"))));
}

/// Everybody waits for the writer: what would take it long is looked for beside it.
#[tokio::test]
async fn the_writer_reads_little_and_nothing_anew() {
    let rig = Rig::new(&[("a", "one"), ("b", "two")]).await;
    let plan = rig.plan(&["a"]).await;
    // Very much comes meanwhile.
    for batch in 0..3 {
        let tags: Vec<_> = (0..500).map(|n| tag(&format!("t{batch}-{n}"))).collect();
        let push = crate::tree::Push {
            reference: by_digest(&of(&manifest("two"))),
            tags,
            media_type: None,
            bytes: bytes(&manifest("two")),
            missing: crate::tree::Missing::Accept,
            may: crate::tree::May::default(),
        };
        rig.tree.push(&repository(NAME), push).await.unwrap();
    }
    assert!(rig.send(plan).await.stale);
    // What it was planned from is lost, as after a collection.
    let plan = rig.plan(&["a"]).await;
    plan.forget();
    let lost = rig.send(plan).await;
    assert!(lost.stale && lost.tags.is_empty() && lost.manifests.is_empty(), "{lost:?}");
    assert_eq!(rig.stands_for("a").await, Some(of(&manifest("one"))));
    let plan = rig.plan(&["a"]).await;
    assert_eq!(rig.retire(plan).await, (vec!["a".to_owned()], vec![of(&manifest("one"))]));
}

/// A builder pushes its platforms first, and the index that names them afterwards: one that was there already leaves no
/// trace in the tree.
#[tokio::test]
async fn a_manifest_that_was_pushed_again_by_its_digest_waits_for_an_index() {
    for before_the_plan in [true, false] {
        let rig = Rig::new(&[]).await;
        let children = [manifest("one"), manifest("two")];
        for child in &children {
            put(&rig.tree, NAME, &by_digest(&of(child)), child).await.unwrap();
        }
        put(&rig.tree, NAME, &by_tag("old"), &index(&[&of(&children[0]), &of(&children[1])])).await.unwrap();
        let reference = by_digest(&of(&children[0]));
        let again = || put(&rig.tree, NAME, &reference, &children[0]);
        if before_the_plan {
            again().await.unwrap();
        }
        let plan = rig.plan(&["old"]).await;
        if !before_the_plan {
            again().await.unwrap();
        }
        let (tags, manifests) = rig.retire(plan).await;
        assert_eq!((tags, manifests.len()), (vec!["old".to_owned()], 2));
        assert!(!manifests.contains(&of(&children[0])));
        let left = rig.tree.snapshot().manifest(&repository(NAME), &by_digest(&of(&children[0]))).await.unwrap();
        assert!(left.is_some());
    }
}

#[tokio::test]
async fn also_in_the_same_group() {
    let rig = Rig::new(&[("same", "one"), ("goes", "two")]).await;
    let plan = rig.plan(&["same", "goes"]).await;
    // Their order is that of the queue.
    let ((), (tags, manifests)) = tokio::join!(rig.push("same", "one"), rig.retire(plan));
    assert_eq!((tags, manifests), (vec!["goes".to_owned()], vec![of(&manifest("two"))]));
    assert_eq!(rig.stands_for("same").await, Some(of(&manifest("one"))));
    // And what comes after it in the group comes back.
    let plan = rig.plan(&["same"]).await;
    let ((tags, manifests), ()) = tokio::join!(rig.retire(plan), rig.push("same", "one"));
    assert_eq!((tags, manifests), (vec!["same".to_owned()], vec![of(&manifest("one"))]));
    assert_eq!(rig.stands_for("same").await, Some(of(&manifest("one"))));
    let file = *cidery_core::Block::raw(bytes(&manifest("one"))).cid();
    assert!(!rig.store.is_forgotten(&file));
    assert_eq!(rig.store.tag_times(&Namespace::local(), &repository(NAME)).unwrap().len(), 1);
}

#[tokio::test]
async fn what_somebody_needs_since_stays_without_its_tag() {
    let rig = Rig::new(&[("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")]).await;
    let plan = rig.plan(&["a", "b", "c", "d"]).await;
    rig.push("another", "one").await;
    let child = of(&manifest("two"));
    put(&rig.tree, NAME, &by_tag("index"), &index(&[&child])).await.unwrap();
    let mut about = manifest("about");
    about["subject"] = descriptor(OCI_INDEX, &of(&manifest("three")), 100);
    put(&rig.tree, NAME, &by_tag("about"), &about).await.unwrap();
    let (tags, manifests) = rig.retire(plan).await;
    assert_eq!((tags.len(), manifests), (4, vec![of(&manifest("four"))]));
    for (note, expected) in [("one", true), ("two", true), ("three", true), ("four", false)] {
        let found = rig.tree.snapshot().manifest(&repository(NAME), &by_digest(&of(&manifest(note)))).await.unwrap();
        assert_eq!(found.is_some(), expected, "{note}");
    }
}

#[tokio::test]
async fn what_others_deleted_meanwhile_is_no_error() {
    let rig = Rig::new(&[("a", "one"), ("b", "two"), ("c", "one")]).await;
    let plan = rig.plan(&["a", "b", "c"]).await;
    rig.tree.delete_tag(&repository(NAME), &tag("a")).await.unwrap();
    rig.tree.delete_manifest(&repository(NAME), &of(&manifest("two"))).await.unwrap();
    assert_eq!(rig.retire(plan).await, (vec!["c".to_owned()], vec![of(&manifest("one"))]));
    assert!(rig.tree.snapshot().all_repositories().await.unwrap().is_empty());
}

/// A repository of which something cannot be read is left alone: what cannot be read may need the rest.
#[tokio::test]
async fn of_what_cannot_be_read_nothing_goes() {
    let rig = Rig::new(&[("a", "one"), ("b", "two")]).await;
    let damaged = {
        let root = rig.tree.snapshot().root().unwrap();
        let path = crate::tree::layout::blob_data(&of(&manifest("two")));
        let path = crate::tree::layout::PREFIX.iter().map(|part| (*part).to_owned()).chain(path).collect();
        let mut out = rig.store.writer(Origin::Pushed).unwrap();
        let file = write_file(b"not what it is named by", &mut *out);
        let change = cidery_unixfs::Change::Put { cid: file.cid, tsize: file.tsize };
        let edited = cidery_unixfs::edit(&*fetcher(&rig.store), Some(&root), vec![(path, change)], &mut *out).await;
        let root_now = edited.unwrap().cid;
        rig.store.commit(&Namespace::local(), Some(root), root_now, &[]).unwrap();
        open(&rig.store).await
    };
    let plan = damaged.plan(&repository(NAME), [tag("a")].into(), None).await;
    assert!(matches!(plan.err(), Some(TreeError::DigestMismatch { .. })));
}
