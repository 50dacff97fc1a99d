//! Kubo and the stock registry, each with its own idea of the same tree.

use cidery_tests::{
    Engine, Kubo, Node,
    docker::{below, noise},
    http::{self, digest},
    stock::StockRegistry,
};
use tempfile::TempDir;

/// What is exported from here, the stock registry serves.
#[test]
fn the_stock_registry_serves_an_exported_tree() {
    let node = Node::start(&[]);
    let layers = [noise("stock", 0, 2_500_000), b"small".to_vec()];
    let manifest = http::push_image(&node.http, "team/app", "v1", &layers);
    let root = node.json(&["status"])["namespaces"][0]["root"].as_str().unwrap().to_owned();
    let directory = TempDir::new().unwrap();
    let (storage, path) = below(directory.path(), "storage");
    node.run(&["export", &root, &path]);
    let Some(stock) = StockRegistry::start(&storage) else { return };
    let base = format!("http://{}/v2/team/app", stock.host);
    // Without the header that registry hides OCI manifests.
    let accept = [("accept", "application/vnd.oci.image.manifest.v1+json")];
    let answer = http::get_with(&format!("{base}/manifests/v1"), &accept);
    assert_eq!((answer.status, digest(&answer.body)), (200, manifest));
    for layer in &layers {
        assert_eq!(&http::get(&format!("{base}/blobs/{}", digest(layer))).body, layer);
    }
    assert_eq!(http::get(&format!("{base}/tags/list")).json()["tags"][0], "v1");
}

/// A storage directory the stock registry made, added to Kubo by Kubo's default import (another
/// chunk size, another leaf format, CIDv0), is pulled through a node here.
#[test]
fn a_stock_registrys_directory_is_pulled_from_kubo() {
    let Some(engine) = Engine::start() else { return };
    let storage = TempDir::new().unwrap();
    let Some(stock) = StockRegistry::start(storage.path()) else { return };
    let Some(kubo) = Kubo::start() else { return };
    let image = format!("{}/old/app:7", stock.host);
    engine.build(&image, "from-the-stock-registry", &[3_000_000, 100]);
    engine.run(&["push", "-q", &image]);
    let root = kubo.add(storage.path());

    let node = Node::with_peer(&kubo.address());
    let through = format!("{}/{root}/old/app:7", node.host());
    engine.forget();
    engine.run(&["pull", "-q", &through]);
    assert_eq!(engine.greeting(&through), "from-the-stock-registry");
}

/// Kubo reads a published namespace as what it is: a directory tree.
#[test]
fn kubo_browses_and_fetches_a_published_root() {
    let Some(kubo) = Kubo::start() else { return };
    let node = Node::start(&[]);
    let layer = noise("kubo", 0, 5_000_000);
    http::push_image(&node.http, "app", "1", std::slice::from_ref(&layer));
    let private = node.json(&["status"])["namespaces"][0]["root"].as_str().unwrap().to_owned();
    kubo.run(&["swarm", "connect", &node.address()]);
    cidery_tests::run_err(&mut kubo.ipfs(&["--timeout=2s", "ls", &format!("/ipfs/{private}")]));

    let root = node.publish();
    let base = format!("/ipfs/{root}/docker/registry/v2");
    assert!(kubo.run(&["--timeout=30s", "ls", &format!("{base}/repositories/app/_manifests/tags")]).contains("1"));
    let hex = digest(&layer).split_off(7);
    let blob = format!("{base}/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let directory = TempDir::new().unwrap();
    let (file, path) = below(directory.path(), "layer");
    kubo.run(&["--timeout=60s", "get", "-o", &path, &blob]);
    assert_eq!(std::fs::read(file).unwrap(), layer);
    // The same bytes have the same CID there, under the same profile.
    let added = kubo.run(&[
        "add",
        "-Q",
        "--only-hash",
        "--cid-version=1",
        "--raw-leaves",
        "--chunker=size-1048576",
        "--max-file-links=1024",
        &path,
    ]);
    let resolved = kubo.run(&["--timeout=30s", "resolve", &blob]);
    assert_eq!(resolved.trim(), format!("/ipfs/{}", added.trim()));
}
