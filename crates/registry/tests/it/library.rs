//! The registry without HTTP: images, opening, pulling.

use crate::{
    cold::Pair,
    network::{Fault, Forbidden},
    support::{MIB, Node, image, noise, sha256},
};
use cidery_core::{Blockstore, Namespace, Origin, Reference, RootStore, memory::MemoryStore};
use cidery_registry::{Config, Error, tree::manifest::media_type};
use serde_json::json;
use std::{sync::Arc, time::SystemTime};

#[tokio::test]
async fn images_are_listed_with_size_and_time() {
    let example: Namespace = "example.com".parse().unwrap();
    let config = Config { namespaces: vec![example.clone()], ..Config::default() };
    let node = Node::over(config, MemoryStore::new(), Arc::new(Forbidden)).await;
    assert_eq!(node.registry.images().await.unwrap(), []);
    assert_eq!(node.registry.namespaces(), [example.clone(), Namespace::local()]);
    let start = SystemTime::now();
    let digest = node.push_image("app", "1", &[b"layer", b"layer", &[0; 1000]]).await;
    let between = SystemTime::now();
    node.push_image("example.com/web", "v2", &[b"other"]).await;
    node.push_image("app", "2", &[b"more"]).await;
    let images = node.registry.images().await.unwrap();
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["example.com/web:v2", "app:1", "app:2"]);
    let app = &images[1];
    assert_eq!((app.digest.as_ref(), &app.namespace), (Some(&digest), &Namespace::local()));
    let manifest = node.get("/v2/app/manifests/1").await.body.len() as u64;
    let config = br#"{"architecture":"amd64","os":"linux"}"#.len() as u64;
    assert_eq!(app.bytes, manifest + config + 5 + 1000, "equal layers count once");
    // The time of its own push, not of the ones that came after.
    assert!((start..=between).contains(&app.pushed));
    assert!(images[2].pushed >= between);
}

/// Damage is shown where it is, and hides nothing else.
#[tokio::test]
async fn images_are_listed_beside_one_that_is_damaged() {
    let node = Node::over(Config::default(), MemoryStore::new(), Arc::new(Forbidden)).await;
    for tag in ["1", "2", "3"] {
        node.push_image("app", tag, &[tag.as_bytes()]).await;
    }
    let damaged = node.push_image("app", "damaged", &[b"damaged"]).await;
    node.push_image("web", "1", &[b"web"]).await;
    node.push_image("whole", "1", &[b"whole"]).await;
    // Of one the manifest is something else, of another repository there is no directory of tags any more.
    let local = Namespace::local();
    let root = node.store.state(&local).unwrap().root.unwrap().cid;
    let mut out = node.store.writer(Origin::Pushed).unwrap();
    let mut file = cidery_unixfs::FileBuilder::new();
    file.write(b"something else", &mut *out).unwrap();
    let file = file.finish(&mut *out).unwrap();
    let path = |text: String| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let put = || cidery_unixfs::Change::Put { cid: file.cid, tsize: file.tsize };
    let hex = damaged.hex();
    let changes = vec![
        (path(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])), put()),
        (path("docker/registry/v2/repositories/web/_manifests/tags".into()), put()),
    ];
    let fetcher = cidery_core::ports::LocalFetcher(Arc::new(node.store.clone()));
    let edited = cidery_unixfs::edit(&fetcher, Some(&root), changes, &mut *out).await.unwrap();
    node.store.commit(&local, Some(root), edited.cid, &[]).unwrap();
    let node = Node::over(Config::default(), node.store.clone(), Arc::new(Forbidden)).await;
    let images = node.registry.images().await.unwrap();
    let shown: Vec<_> = images.iter().map(|image| (image.name.as_str(), image.damaged.is_some())).collect();
    let expected = [
        ("app:1", false),
        ("app:2", false),
        ("app:3", false),
        ("app:damaged", true),
        ("web", true),
        ("whole:1", false),
    ];
    assert_eq!(shown, expected);
    assert_eq!((images[3].digest.as_ref(), images[3].bytes), (Some(&damaged), 0));
    assert!(images[3].damaged.as_ref().unwrap().contains(damaged.as_str()), "{images:?}");
    assert_eq!(images[4].digest, None);
    assert!(images[5].digest.is_some() && images[5].pushed > SystemTime::UNIX_EPOCH);
}

#[tokio::test]
async fn image_names_are_listed_in_order_and_bounded() {
    let example: Namespace = "example.com".parse().unwrap();
    let config = Config { namespaces: vec![example.clone()], ..Config::default() };
    let node = Node::over(config, MemoryStore::new(), Arc::new(Forbidden)).await;
    for (repository, tag) in [("web", "2"), ("app", "1"), ("app", "latest"), ("app/tool", "1"), ("example.com/x", "1")]
    {
        node.push_image(repository, tag, &[b"layer"]).await;
    }
    node.push_blob("pending", b"no image yet").await;
    let names = async |namespace: &Namespace, limit| node.registry.image_names(namespace, limit).await.unwrap();
    let all = ["app:1", "app:latest", "app/tool:1", "web:2"];
    for limit in 0..6 {
        assert_eq!(names(&Namespace::local(), limit).await, all[..limit.min(4)]);
    }
    assert_eq!(names(&example, usize::MAX).await, ["x:1"]);
    let unknown = node.registry.image_names(&"example.org".parse().unwrap(), 10).await;
    assert!(matches!(unknown, Err(Error::Resolve(_))));
}

#[tokio::test]
async fn images_are_opened_by_name() {
    let node = Node::over(Config::default(), MemoryStore::new(), Arc::new(Forbidden)).await;
    let digest = node.push_image("team/app", "latest", &[b"x"]).await;
    for name in ["team/app", "team/app:latest", "local/team/app:latest", &format!("team/app@{digest}")] {
        let (snapshot, repository, reference) = node.registry.open_image(name).await.unwrap();
        assert_eq!(repository.as_str(), "team/app");
        let manifest = snapshot.manifest(&repository, &reference).await.unwrap().unwrap();
        assert_eq!(manifest.digest, digest);
        assert_eq!(matches!(reference, Reference::Digest(_)), name.contains('@'));
    }
    for bad in ["", "A", "a:b:c", "team/app:-", "../x"] {
        assert!(matches!(node.registry.open_image(bad).await, Err(Error::Name(_))), "{bad}");
    }
    let missing = node.registry.pull("team/other:1", |_| {}).await;
    assert!(matches!(missing, Err(Error::NoManifest { .. })));
}

#[tokio::test]
async fn a_pull_brings_every_platform() {
    let origin = Node::new().await;
    let layers = [noise(1, 2 * MIB), noise(2, 1000), noise(3, 3 * MIB)];
    let mut manifests = Vec::new();
    for layer in &layers {
        let config = origin.push_blob("app", b"{}").await;
        origin.push_blob("app", layer).await;
        let manifest = image((config, 2), &[(sha256(layer), layer.len())]);
        let digest = sha256(manifest.to_string().as_bytes());
        origin.push_manifest("app", digest.as_str(), &manifest).await;
        manifests.push(
            json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": manifest.to_string().len() }),
        );
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
    origin.push_manifest("app", "1", &index).await;
    let pair = Pair::of(Config::default(), true, origin).await;
    let name = format!("{}/app:1", pair.root);
    let mut seen = Vec::new();
    let pulled = pair.node.registry.pull(&name, |progress| seen.push(progress)).await.unwrap();
    assert_eq!(pulled.digest, sha256(index.to_string().as_bytes()));
    assert_eq!(pulled.blobs, 4);
    let last = seen.last().unwrap();
    assert_eq!((last.bytes, last.blobs, last.total_blobs), (last.total, 4, 4));
    assert_eq!(pulled.bytes, last.bytes);
    assert!(seen.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
    // Every byte is here: the origin is not needed any more.
    let sent = pair.network.sent();
    for layer in &layers {
        assert!(pair.node.get(pair.blob(layer)).await.body == *layer);
    }
    assert_eq!(pair.network.sent(), sent);
    assert_eq!(pair.node.registry.pull(&name, |_| {}).await.unwrap(), pulled);
}

#[tokio::test]
async fn a_pull_fails_when_a_byte_is_missing_or_wrong() {
    let data = noise(4, 2 * MIB);
    let pair = Pair::new(true, &[&data]).await;
    let name = format!("{}/app:1", pair.root);
    let tree = pair.origin.registry.tree(&Namespace::local()).unwrap();
    let blob = tree.snapshot().blob(&"app".parse().unwrap(), &sha256(&data)).await.unwrap().unwrap();
    pair.network.faults.lock().insert(blob.cid, Fault::Missing);
    assert!(matches!(pair.node.registry.pull(&name, |_| {}).await, Err(Error::Unixfs(_) | Error::Tree(_))));

    let origin = Node::new().await;
    let claimed = sha256(b"something else");
    origin.link("app", &data, &claimed).await;
    let config = origin.push_blob("app", b"{}").await;
    origin.push_manifest("app", "1", &image((config, 2), &[(claimed, data.len())])).await;
    let pair = Pair::of(Config::default(), true, origin).await;
    let name = format!("{}/app:1", pair.root);
    for _ in 0..2 {
        assert!(matches!(pair.node.registry.pull(&name, |_| {}).await, Err(Error::BadBlob(_))));
    }
}

#[tokio::test]
async fn the_manifests_of_one_image_are_bounded_and_the_list_of_images_goes_on() {
    let node = Node::over(Config::default(), MemoryStore::new(), Arc::new(Forbidden)).await;
    node.push_image("small", "1", &[b"layer"]).await;
    let config = node.push_blob("large", b"{}").await;
    let mut manifests = Vec::new();
    for n in 0..17 {
        let mut manifest = image((config.clone(), 2), &[]);
        manifest["annotations"] = json!({ "n": n.to_string(), "long": "x".repeat(4_000_000) });
        let answer = node.push_manifest("large", "each", &manifest).await;
        let digest = answer.header("docker-content-digest");
        manifests.push(json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 4_000_300 }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
    let digest = node.push_manifest("large", "all", &index).await.header("docker-content-digest").to_owned();
    let pulled = node.registry.pull("large:all", |_| {}).await;
    assert!(matches!(pulled, Err(Error::Tree(_))), "{pulled:?}");
    // Listed by what there is of it.
    let images = node.registry.images().await.unwrap();
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["large:all", "large:each", "small:1"]);
    assert_eq!(
        (images[0].digest.as_ref().unwrap().as_str(), images[0].bytes),
        (&*digest, index.to_string().len() as u64)
    );
}
