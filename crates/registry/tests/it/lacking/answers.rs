//! What a registry tells peers of digests.

use super::*;
use cidery_core::{
    Block, BlockWriter, Cid, Digests, Namespace, Network, PublishMode, RootStore, StoreError,
    memory::{MemoryStore, World},
    ports::LocalFetcher,
    suite::{self, Answering},
};
use cidery_registry::Registry;
use cidery_unixfs::{Change, edit};
use futures::executor::block_on;

struct Out<'a>(&'a MemoryStore);

impl BlockWriter for Out<'_> {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        Blockstore::put(self.0, block, Origin::Pushed)
    }
}

struct Trees {
    store: MemoryStore,
    digests: Arc<dyn Digests>,
}

impl Answering for Trees {
    type Store = MemoryStore;

    fn store(&self) -> &MemoryStore {
        &self.store
    }

    fn digests(&self) -> &dyn Digests {
        &*self.digests
    }

    fn push(&mut self, blob: &[u8]) -> (Digest, BlobFile) {
        let mut builder = FileBuilder::new();
        builder.write(blob, &mut Out(&self.store)).unwrap();
        let file = builder.finish(&mut Out(&self.store)).unwrap();
        let digest = sha256(blob);
        put(&self.store, &digest, file.cid, file.tsize);
        (digest, BlobFile { cid: file.cid, size: file.size })
    }
}

/// Commits a tree in which a digest's blob is this.
fn put(store: &MemoryStore, digest: &Digest, cid: Cid, tsize: u64) -> Cid {
    let local = Namespace::local();
    let current = store.state(&local).unwrap().root.map(|entry| entry.cid);
    let path = ["docker", "registry", "v2", "blobs", digest.algorithm(), &digest.hex()[..2], digest.hex(), "data"];
    let change = (path.map(String::from).to_vec(), Change::Put { cid, tsize });
    let fetcher = LocalFetcher(Arc::new(store.clone()));
    let root = block_on(edit(&fetcher, current.as_ref(), vec![change], &mut Out(store))).unwrap();
    store.commit(&local, current, root.cid, &[]).unwrap();
    root.cid
}

async fn registry(store: &MemoryStore) -> Registry {
    let network: Arc<dyn Network> = Arc::new(World::new().join(store.clone()));
    Registry::open(Config::default(), Arc::new(store.clone()), Arc::new(store.clone()), network).await.unwrap()
}

#[tokio::test]
async fn a_registry_passes() {
    let store = MemoryStore::new();
    let digests = registry(&store).await.digests(Arc::new(store.clone()));
    suite::digests(Trees { store, digests });
}

/// Peers may go on reading below a root that was published lately, by its CID. But nobody is told of what is not
/// published any more: by its digest alone it would be found by whoever knows that, for as long as history is kept.
#[tokio::test]
async fn only_what_is_published_now_is_told_of() {
    let node = Node::new().await;
    let data = noise(4, 2 * MIB);
    let manifest = node.push_image("app", "1", &[&data]).await;
    let digests = node.registry.digests(Arc::new(node.store.clone()));
    let told = || digests.files(&sha256(&data)).unwrap().len();
    assert_eq!(told(), 0);
    node.publish();
    assert_eq!(told(), 1);
    let before = node.store.state(&Namespace::local()).unwrap().published.unwrap().root;
    node.store.unpublish(&Namespace::local()).unwrap();
    assert_eq!(told(), 0);
    // Again, and then it leaves what is published while the root that had it is still kept.
    node.publish();
    assert_eq!(told(), 1);
    assert_eq!(node.delete(format!("/v2/app/manifests/{manifest}")).await.status, StatusCode::ACCEPTED);
    node.registry.tidy(Duration::from_secs(3600)).await;
    let now = node.store.state(&Namespace::local()).unwrap().published.unwrap().root;
    assert_ne!(now, before);
    assert_eq!(node.head(format!("/v2/app/blobs/{}", sha256(&data))).await.status, StatusCode::OK, "it is a link");
    assert_eq!(told(), 0);
    // What was deleted is not told of either where an earlier root is published that has it.
    node.store.publish(&Namespace::local(), PublishMode::Once(before)).unwrap();
    assert_eq!(told(), 0);
    let config = sha256(br#"{"architecture":"amd64","os":"linux"}"#);
    assert_eq!(digests.files(&config).unwrap(), []);
}

#[tokio::test]
async fn files_are_named_and_nothing_else() {
    let store = MemoryStore::new();
    let digests = registry(&store).await.digests(Arc::new(store.clone()));
    let (directory, absent, garbage) = ([1; 32], [2; 32], [3; 32]);
    let digest = |hash: &[u8; 32]| Digest::sha256(hash);
    let tree = put(&store, &digest(&[9; 32]), *Block::raw(&b"x"[..]).cid(), 1);
    put(&store, &digest(&directory), tree, 1);
    put(&store, &digest(&absent), *suite::node(&[tree]).cid(), 1);
    let broken = Block::of(cidery_core::codec::DAG_PB, &b"\xff\xff"[..]);
    Blockstore::put(&store, &broken, Origin::Pushed).unwrap();
    put(&store, &digest(&garbage), *broken.cid(), 1);
    store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    for hash in [directory, absent, garbage, [9; 32]] {
        assert_eq!(digests.files(&digest(&hash)).unwrap(), []);
    }
    // A root that is no registry's is no error either.
    store.publish(&Namespace::local(), PublishMode::Once(*broken.cid())).unwrap();
    assert_eq!(digests.files(&digest(&directory)).unwrap(), []);
}

#[tokio::test]
async fn what_a_foreign_tree_links_wrongly_is_not_told_on() {
    let origin = Node::new().await;
    let (data, other) = (noise(1, 2 * MIB), noise(2, 2 * MIB));
    let named = origin.link("app", &other, &sha256(&data)).await;
    let manifest = image((origin.push_blob("app", b"{}").await, 2), &[(sha256(&data), data.len())]);
    assert_eq!(origin.push_manifest("app", "1", &manifest).await.status, StatusCode::CREATED);
    let pair = Pair::of(Config::default(), true, origin).await;
    let digests = pair.node.registry.digests(Arc::new(pair.node.store.clone()));
    assert!(pair.node.request(Method::GET, pair.blob(&data)).try_send().await.is_err());
    assert_eq!(digests.files(&sha256(&data)).unwrap(), []);
    // The origin vouches for its own.
    let said = pair.origin.registry.digests(Arc::new(pair.origin.store.clone())).files(&sha256(&data)).unwrap();
    assert_eq!(said, [BlobFile { cid: named.cid, size: named.size }]);
}

#[tokio::test]
async fn memory_networks_pass_claims_on() {
    let (world, origin) = (World::new(), Node::new().await);
    let data = noise(3, 2 * MIB);
    origin.push_image("app", "1", &[&data]).await;
    origin.publish();
    world.join(origin.store.clone());
    world.answer("origin", origin.registry.digests(Arc::new(origin.store.clone())));
    let store = MemoryStore::new();
    let node = Node::over(Config::default(), store.clone(), Arc::new(world.join(store))).await;
    name(&node, &[&data]).await;
    assert!(node.get(at(&data)).await.body == data);
    let network = world.join(MemoryStore::new());
    let claim = network.inquire(&sha256(&data)).await.next().await.unwrap();
    assert_eq!((claim.file.size, &*claim.peer), (data.len() as u64, "origin"));
    network.distrust(&claim);
    assert_eq!(network.inquire(&sha256(&data)).await.next().await, None);
}
