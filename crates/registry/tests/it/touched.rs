//! Which images blocks belong to.

use crate::support::{MIB, Node, noise};
use cidery_core::{Block, Cid, Namespace};
use cidery_registry::Touched;

#[tokio::test]
async fn blocks_are_told_by_the_images_that_need_them() {
    let node = Node::new().await;
    let (shared, own) = (noise(1, 3 * MIB), noise(2, 1000));
    node.push_image("app", "1", &[&shared, &own]).await;
    node.push_image("team/tool", "2", &[&shared]).await;
    node.push_image("other", "3", &[b"other"]).await;
    let replaced = node.push_image("app", "2", &[b"replaced"]).await;
    node.push_image("app", "2", &[b"new"]).await;
    let leaf = |bytes: &[u8]| *Block::raw(bytes.to_vec()).cid();
    let touched = async |cids: &[Cid]| node.registry.touched(cids.to_vec()).await.unwrap();
    let only =
        |images: &[&str]| Touched { images: images.iter().map(ToString::to_string).collect(), namespaces: vec![] };
    assert_eq!(touched(&[]).await, Touched::default());
    assert_eq!(touched(&[leaf(b"nobody's")]).await, Touched::default());
    // A leaf in the middle of a layer that two share, a whole layer, both, and a manifest.
    let middle = leaf(&shared[MIB..2 * MIB]);
    assert_eq!(touched(&[middle]).await, only(&["app:1", "team/tool:2"]));
    assert_eq!(touched(&[leaf(&own)]).await, only(&["app:1"]));
    assert_eq!(touched(&[leaf(&own), middle]).await, only(&["app:1", "team/tool:2"]));
    let manifest = node.get("/v2/other/manifests/3").await.body;
    assert_eq!(touched(&[leaf(&manifest)]).await, only(&["other:3"]));
    // What has no tag any more, and the tree itself.
    let replaced = node.get(format!("/v2/app/manifests/{replaced}")).await.body;
    let elsewhere = |images: &[&str]| Touched { namespaces: vec![Namespace::local()], ..only(images) };
    assert_eq!(touched(&[leaf(&replaced)]).await, elsewhere(&[]));
    let root = node.registry.tree(&Namespace::local()).unwrap().snapshot().root().unwrap();
    assert_eq!(touched(&[root, leaf(&own)]).await, elsewhere(&["app:1"]));
}
