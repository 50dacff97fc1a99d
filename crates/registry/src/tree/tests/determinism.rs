//! The same repositories have the same root, however they came about.

use super::*;
use proptest::prelude::*;

const LAYERS: [&[u8]; 4] = [b"{}", b"one", b"two", b"three"];

/// An image of some layers in one of three repositories, under a tag of its own.
#[derive(Debug, Clone)]
struct One {
    repository: usize,
    layers: Vec<usize>,
}

const NAMES: [&str; 3] = ["app", "app/sub", "web"];

impl One {
    fn blobs(&self) -> Vec<&'static [u8]> {
        // Layer 0 is the config of all.
        std::iter::once(0).chain(self.layers.iter().copied()).map(|n| LAYERS[n]).collect()
    }

    async fn push(&self, n: usize, tree: &Tree, store: &MemoryStore) -> Digest {
        push(tree, store, NAMES[self.repository], &format!("t{n}"), &self.blobs()).await
    }
}

fn images() -> impl Strategy<Value = Vec<One>> {
    let one = (0..3usize, prop::collection::vec(1..4usize, 0..4));
    prop::collection::vec(one.prop_map(|(repository, layers)| One { repository, layers }), 1..6)
}

/// Images, and an order of them.
fn shuffled() -> impl Strategy<Value = (Vec<One>, Vec<usize>)> {
    images().prop_flat_map(|images| {
        let order: Vec<usize> = (0..images.len()).collect();
        (Just(images), Just(order).prop_shuffle())
    })
}

async fn root(images: &[One], order: impl IntoIterator<Item = usize>) -> Option<Cid> {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    for n in order {
        images[n].push(n, &tree, &store).await;
    }
    tree.snapshot().root()
}

fn run<T>(work: impl std::future::Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_pushes_does_not_matter((images, order) in shuffled()) {
        let (first, second, at_once) = run(async {
            let store = MemoryStore::new();
            let tree = open(&store).await;
            // All blobs first, then all manifests in groups as they come.
            for one in &images {
                for bytes in one.blobs() {
                    link(&tree, &store, NAMES[one.repository], bytes).await;
                }
            }
            let puts = images.iter().enumerate().map(|(n, one)| {
                let (tree, blobs) = (&tree, one.blobs());
                async move { put(tree, NAMES[one.repository], &by_tag(&format!("t{n}")), &image(&blobs)).await.unwrap() }
            });
            futures::future::join_all(puts).await;
            (root(&images, 0..images.len()).await, root(&images, order).await, tree.snapshot().root())
        });
        prop_assert_eq!(first, second);
        prop_assert_eq!(first, at_once);
    }

    #[test]
    fn what_was_deleted_leaves_no_trace((images, order) in shuffled(), kept in any::<prop::sample::Index>()) {
        let kept = kept.index(images.len());
        let (without, deleted) = run(async {
            let store = MemoryStore::new();
            let tree = open(&store).await;
            let mut digests = vec![None; images.len()];
            for n in order {
                digests[n] = Some(images[n].push(n, &tree, &store).await);
            }
            let keeps = (NAMES[images[kept].repository], digests[kept].clone());
            for (n, one) in images.iter().enumerate() {
                let name = repository(NAMES[one.repository]);
                tree.delete_tag(&name, &tag(&format!("t{n}"))).await.unwrap();
                if (NAMES[one.repository], &digests[n]) != (keeps.0, &keeps.1) {
                    tree.delete_manifest(&name, digests[n].as_ref().unwrap()).await.unwrap();
                }
                for bytes in one.blobs() {
                    if one.repository != images[kept].repository || !images[kept].blobs().contains(&bytes) {
                        tree.delete_blob(&name, &digest_of(bytes)).await.unwrap();
                    }
                }
            }
            images[kept].push(kept, &tree, &store).await;
            (root(&images, [kept]).await, tree.snapshot().root())
        });
        prop_assert_eq!(without, deleted);
    }
}
