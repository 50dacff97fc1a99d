//! Since when tags stand for what they stand for.

use super::*;
use cidery_core::RootStore;
use std::time::SystemTime;

struct Node {
    store: MemoryStore,
    tree: Tree,
}

impl Node {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let tree = Tree::open(Namespace::local(), Arc::new(store.clone()), Arc::new(store.clone())).await.unwrap();
        Self { store, tree }
    }

    /// A manifest that needs nothing. Gives the time of the root that holds it.
    async fn push(&self, name: &str, tag: &str, content: usize) -> SystemTime {
        let body = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": { "n": content.to_string() } });
        self.tree.put_manifest(&repository(name), &by_tag(tag), None, body.to_string().into()).await.unwrap();
        self.now()
    }

    fn now(&self) -> SystemTime {
        self.store.state(&Namespace::local()).unwrap().root.unwrap().at
    }

    async fn times(&self, tags: &[(String, String)], work: &mut usize) -> Vec<SystemTime> {
        let tags = tags.iter().map(|(name, at)| (repository(name), tag(at))).collect();
        self.tree.tag_times(self.tree.snapshot().root(), tags, work).await.unwrap()
    }
}

#[tokio::test]
async fn they_are_those_of_the_last_change() {
    let node = Node::new().await;
    let names = ["a", "a/b", "a/b/c", "b", "c", "d", "e", "f"];
    let mut known: BTreeMap<(String, String), (usize, SystemTime)> = BTreeMap::new();
    let mut random = 7_u64;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    for step in 0..300 {
        let (name, at) = (names[below(names.len())].to_owned(), format!("t{}", below(7)));
        if below(4) == 0 {
            if node.tree.delete_tag(&repository(&name), &tag(&at)).await.unwrap() {
                known.remove(&(name, at));
            }
        } else {
            let content = below(3);
            let time = node.push(&name, &at, content).await;
            let entry = known.entry((name, at)).or_insert((content, time));
            if entry.0 != content {
                *entry = (content, time);
            }
        }
        if step % 50 == 49 {
            let tags: Vec<_> = known.keys().cloned().collect();
            let expected: Vec<_> = known.values().map(|(_, time)| *time).collect();
            assert_eq!(node.times(&tags, &mut usize::MAX.clone()).await, expected);
        }
    }
}

#[tokio::test]
async fn the_work_is_that_of_the_changes_and_bounded() {
    let node = Node::new().await;
    let (images, roots) = (60, 240);
    let mut tags = Vec::new();
    let mut times = Vec::new();
    for n in 0..roots {
        let name = format!("app{:03}", n % images);
        // Each root moves one tag that nobody asks for; those that are asked for are old.
        if n < images {
            times.push(node.push(&name, "old", 0).await);
            tags.push((name, "old".to_owned()));
        } else {
            node.push(&name, "new", n).await;
        }
    }
    let mut work = usize::MAX;
    assert_eq!(node.times(&tags, &mut work).await, times);
    let spent = usize::MAX - work;
    // Of each root one page of repositories, and the path to one tag.
    assert!(spent <= roots * (images + 12), "{spent}");
    // What half of it does not reach has the time it reached.
    let mut half = spent / 2;
    let found = node.times(&tags, &mut half).await;
    let newest = node.now();
    assert!(half < images && found.iter().all(|time| *time > times[0] && *time < newest));
    assert_eq!(node.times(&tags, &mut 0).await, vec![newest; images]);
}

#[tokio::test]
async fn without_history_it_is_now() {
    let node = Node::new().await;
    let time = node.push("app", "1", 0).await;
    assert!(node.times(&[], &mut 100).await.is_empty());
    // One that is gone in the meantime.
    assert_eq!(node.times(&[("app".into(), "2".into())], &mut 100).await, [time]);
}
