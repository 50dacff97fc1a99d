//! What is written here is read here, and nothing is lost on the way.

use super::support::{Layer, Node, config, files_of, gzip, layout, listed, manifest, noise, parse, sha256, tar_of};
use crate::{
    archive::{ArchiveError, Format, Source, export_image},
    hash::Hasher,
    tree::{NodeCache, Snapshot},
};
use cidery_core::{
    Block, Blockstore, Digest, Namespace, Network, Origin, PublishMode, Reference, RootStore, Scope, SessionSpec,
    memory::{MemoryStore, World},
};
use cidery_unixfs::{Change, FileBuilder, edit};
use std::sync::Arc;

fn layers() -> Vec<Layer> {
    // One larger than a leaf, one exactly a leaf, one compressed, one empty, one twice.
    let twice = Layer::plain(b"twice");
    vec![
        Layer::plain(&noise((1 << 20) * 2 + 12_345, 1)),
        Layer::plain(&noise(1 << 20, 2)),
        Layer::gzip(&b"compressible ".repeat(10_000)),
        Layer::plain(b""),
        twice.clone(),
        twice,
    ]
}

#[test]
fn an_oci_layout_keeps_digests_and_root() {
    let (from, to) = (Node::new(), Node::new());
    let pushed = from.push("team/app:v1", &layers());
    let (archive, exported) = from.export("team/app:v1", Format::Oci).unwrap();
    assert_eq!(exported.digest.as_ref(), Some(&pushed.digest));

    let imported = to.import(&archive).unwrap();
    assert_eq!((imported[0].name.as_str(), &imported[0].digest), ("team/app:v1", &pushed.digest));
    assert_eq!(to.manifest("team/app:v1").unwrap(), pushed.manifest);
    for layer in layers() {
        assert_eq!(to.blob("team/app", &sha256(&layer.bytes)).unwrap(), layer.bytes);
    }
    assert_eq!(to.root(), from.root(), "the same state has the same root");
    assert_eq!(to.export("team/app:v1", Format::Oci).unwrap().0, archive, "and the same archive");
}

#[test]
fn an_index_comes_with_every_platform() {
    let (from, to) = (Node::new(), Node::new());
    let (digest, images) = from.push_index("app:1", &["amd64", "arm64", "riscv64"]);
    let (archive, _) = from.export("app:1", Format::Oci).unwrap();
    assert_eq!(to.import(&archive).unwrap()[0].digest, digest);
    for image in &images {
        assert_eq!(to.manifest(&format!("app@{}", image.digest)).unwrap(), image.manifest);
        assert_eq!(to.blob("app", &sha256(&image.config)).unwrap(), image.config);
    }
    assert_eq!(to.root(), from.root());
}

#[test]
fn an_image_by_digest_has_no_tag() {
    let (from, to) = (Node::new(), Node::new());
    let pushed = from.push("app:1", &[Layer::plain(b"one")]);
    let name = format!("app@{}", pushed.digest);
    for format in [Format::Oci, Format::Car] {
        let (archive, _) = from.export(&name, format).unwrap();
        let imported = to.import(&archive).unwrap();
        assert_eq!(imported[0].name, name);
        assert!(to.tags("app").is_empty());
    }
}

#[test]
fn a_car_holds_a_tree_of_just_this_image() {
    let (from, to) = (Node::new(), Node::new());
    from.push("other/thing:1", &[Layer::plain(b"not to be exported")]);
    let pushed = from.push("team/app:v1", &layers());
    let (archive, exported) = from.export("team/app:v1", Format::Car).unwrap();
    assert!(!archive.windows(18).any(|window| window == b"not to be exported"));

    let imported = to.import(&archive).unwrap();
    assert_eq!(imported.len(), 1);
    assert_eq!((imported[0].name.as_str(), &imported[0].digest), ("team/app:v1", &pushed.digest));
    assert_eq!(to.root(), exported.root, "what was exported is the namespace with just this image");
    assert_eq!(to.blob("team/app", &sha256(&layers()[0].bytes)).unwrap(), layers()[0].bytes);
    assert_eq!(to.export("team/app:v1", Format::Car).unwrap().0, archive);
}

#[test]
fn a_car_of_a_whole_namespace_brings_all_of_it() {
    let (from, to) = (Node::new(), Node::new());
    from.push("a:1", &[Layer::plain(b"one")]);
    from.push("a:2", &[Layer::plain(b"two")]);
    let (index, images) = from.push_index("b/c:1", &["amd64", "arm64"]);
    let archive = from.export_cid(from.root().unwrap(), Format::Car).unwrap();
    let mut names: Vec<String> = to.import(&archive).unwrap().into_iter().map(|image| image.name).collect();
    names.sort();
    assert_eq!(names, ["a:1", "a:2", "b/c:1"]);
    assert_eq!(sha256(&to.manifest("b/c:1").unwrap()), index);
    assert_eq!(to.manifest(&format!("b/c@{}", images[1].digest)).unwrap(), images[1].manifest);
    assert_eq!(to.root(), from.root());
}

#[test]
fn referrers_come_with_a_whole_namespace() {
    let (from, to) = (Node::new(), Node::new());
    let pushed = from.push("app:1", &[Layer::plain(b"one")]);
    let repository = "app".parse().unwrap();
    let empty = from.put_blob(&repository, b"{}");
    let signature = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x-signature",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.digest, "size": 2 },
        "layers": [],
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": pushed.digest,
            "size": pushed.manifest.len(),
        },
    })
    .to_string();
    from.put_manifest(&repository, &Reference::Digest(sha256(signature.as_bytes())), signature.into());
    let archive = from.export_cid(from.root().unwrap(), Format::Car).unwrap();
    to.import(&archive).unwrap();
    let found = to.runtime.block_on(to.tree.snapshot().referrers(&repository, &pushed.digest, None)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(to.root(), from.root());
}

#[test]
fn layers_to_be_had_elsewhere_need_not_be_there() {
    let (from, to) = (Node::new(), Node::new());
    let config = config("amd64", &[Layer::plain(b"elsewhere")]);
    let repository = "app".parse().unwrap();
    from.put_blob(&repository, &config);
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest(&config, &[])).unwrap();
    manifest["layers"] = serde_json::json!([{
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": sha256(b"elsewhere"),
        "size": 9,
        "urls": ["https://example.com/layer"],
    }]);
    from.put_manifest(&repository, &parse("app:1").1, manifest.to_string().into());
    for format in [Format::Oci, Format::Car] {
        let (archive, _) = from.export("app:1", format).unwrap();
        to.import(&archive).unwrap();
        assert_eq!(to.root(), from.root());
    }
    assert!(matches!(from.export("app:1", Format::Docker), Err(ArchiveError::Missing { .. })));
}

#[test]
fn sha512_digests_stay() {
    let to = Node::new();
    let mut hasher = Hasher::like(&Digest::sha512(&[0; 64]));
    hasher.update(b"a layer");
    let layer = hasher.finish();
    let config = config("amd64", &[Layer::plain(b"a layer")]);
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest(&config, &[])).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar";
    manifest["layers"] = serde_json::json!([{ "mediaType": media_type, "digest": layer, "size": 7 }]);
    let manifest = manifest.to_string();
    let listed = listed(manifest.as_bytes(), serde_json::json!({ "org.opencontainers.image.ref.name": "app:1" }));
    let blob = tar_of(&[(&format!("blobs/sha512/{}", layer.hex()), b"a layer")]);
    let rest = layout(serde_json::json!([listed]), &[&config, manifest.as_bytes()]);
    // Without the end of the first tar, the two are one.
    to.import(&[&blob[..blob.len() - 1024], &rest].concat()).unwrap();
    assert_eq!(to.blob("app", &layer).unwrap(), b"a layer");
    for format in [Format::Oci, Format::Car, Format::Docker] {
        let again = Node::new();
        let (archive, _) = to.export("app:1", format).unwrap();
        again.import(&archive).unwrap();
        assert_eq!(again.blob("app", &layer).unwrap(), b"a layer", "{format:?}");
    }
}

#[test]
fn a_docker_archive_keeps_the_image_id() {
    let (from, to) = (Node::new(), Node::new());
    let pushed = from.push("app:1", &layers());
    let (archive, _) = from.export("app:1", Format::Docker).unwrap();
    let imported = to.import(&archive).unwrap();
    assert_eq!(imported[0].name, "app:1");
    assert_eq!(to.blob("app", &sha256(&pushed.config)).unwrap(), pushed.config);
    // The fixtures' manifests have the very form that import makes, but for spacing and key order.
    let made: serde_json::Value = serde_json::from_slice(&to.manifest("app:1").unwrap()).unwrap();
    let original: serde_json::Value = serde_json::from_slice(&pushed.manifest).unwrap();
    assert_eq!(made, original);
    assert_eq!(to.export("app:1", Format::Docker).unwrap().0, archive);
}

#[test]
fn a_registry_export_is_the_stock_layout() {
    let from = Node::new();
    from.push("unrelated:1", &[Layer::plain(b"unrelated")]);
    let layer = Layer::plain(&noise(3000, 5));
    let pushed = from.push("team/app:v1", std::slice::from_ref(&layer));
    let (archive, exported) = from.export("team/app:v1", Format::Registry).unwrap();
    let mut expected = std::collections::BTreeMap::new();
    let mut blob = |bytes: &[u8]| {
        let digest = sha256(bytes);
        let path = format!("docker/registry/v2/blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex());
        expected.insert(path, bytes.to_vec());
        digest
    };
    let (config, layer, manifest) = (blob(&pushed.config), blob(&layer.bytes), blob(&pushed.manifest));
    let repository = "docker/registry/v2/repositories/team/app";
    let mut link = |path: String, digest: &Digest| {
        expected.insert(format!("{repository}/{path}/link"), digest.as_str().as_bytes().to_vec());
    };
    link(format!("_layers/sha256/{}", config.hex()), &config);
    link(format!("_layers/sha256/{}", layer.hex()), &layer);
    link(format!("_manifests/revisions/sha256/{}", manifest.hex()), &manifest);
    link("_manifests/tags/v1/current".into(), &manifest);
    link(format!("_manifests/tags/v1/index/sha256/{}", manifest.hex()), &manifest);
    assert_eq!(files_of(&archive), expected);
    // The same by the root that it has.
    let fresh = Node::new();
    fresh.push("team/app:v1", &[Layer::plain(&noise(3000, 5))]);
    assert_eq!(fresh.root(), exported.root);
    assert_eq!(fresh.export_cid(fresh.root().unwrap(), Format::Registry).unwrap(), archive);
}

#[test]
fn a_cid_is_exported_as_it_is() {
    let node = Node::new();
    let mut writer = node.store.writer(Origin::Pushed).unwrap();
    let mut builder = FileBuilder::new();
    builder.write(b"content", &mut *writer).unwrap();
    let file = builder.finish(&mut *writer).unwrap();
    let link = Block::of(0x70, link_node("../some where/a"));
    writer.put(&link).unwrap();
    let target = "t".repeat(110);
    let far = Block::of(0x70, link_node(&target));
    writer.put(&far).unwrap();
    let long = "n".repeat(200);
    let put = |cid, tsize| Change::Put { cid, tsize };
    let path = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let changes = vec![
        (path(&["a"]), put(file.cid, file.tsize)),
        (path(&["d", "link"]), put(*link.cid(), link.data().len() as u64)),
        (path(&["d", "long link"]), put(*far.cid(), far.data().len() as u64)),
        (path(&["d", &long, &long]), put(file.cid, file.tsize)),
    ];
    let fetcher = node.source().fetcher;
    let root = node.runtime.block_on(edit(&*fetcher, None, changes, &mut *writer)).unwrap().cid;
    let archive = node.export_cid(root, Format::Registry).unwrap();
    let files = files_of(&archive);
    assert_eq!(files["a"], b"content");
    assert_eq!(files[&format!("d/{long}/{long}")], b"content");
    let mut links = Vec::new();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap().map(Result::unwrap) {
        if entry.header().entry_type().is_symlink() {
            links.push((entry.path_bytes().into_owned(), entry.link_name_bytes().unwrap().into_owned()));
        }
    }
    let expected = [("d/link", "../some where/a"), ("d/long link", &target)];
    assert_eq!(links, expected.map(|(path, target)| (path.as_bytes().to_vec(), target.as_bytes().to_vec())));
    // A file alone is called by its CID; and a format for images does not fit.
    assert_eq!(files_of(&node.export_cid(file.cid, Format::Registry).unwrap())[&file.cid.to_string()], b"content");
    assert!(node.export_cid(root, Format::Oci).unwrap_err().to_string().contains("name one in it"));
}

/// A UnixFS symbolic link: Data of a dag-pb node with Type 4 and the target.
fn link_node(target: &str) -> Vec<u8> {
    let mut data = vec![0x08, 4, 0x12, target.len() as u8];
    data.extend_from_slice(target.as_bytes());
    let mut node = vec![0x0a, data.len() as u8];
    node.extend(data);
    node
}

#[test]
fn a_compressed_archive_is_unpacked_on_the_way() {
    let from = Node::new();
    let pushed = from.push("app:1", &[Layer::plain(&noise(100_000, 1)), Layer::gzip(b"two")]);
    for format in [Format::Oci, Format::Docker, Format::Car] {
        let to = Node::new();
        let (archive, _) = from.export("app:1", format).unwrap();
        let imported = to.import(&gzip(&archive)).unwrap();
        assert_eq!(imported[0].name, "app:1");
        assert_eq!(to.blob("app", &sha256(&pushed.config)).unwrap(), pushed.config);
    }
    from.push("small:1", &[Layer::plain(b"small")]);
    let (archive, _) = from.export("small:1", Format::Oci).unwrap();
    assert_eq!(Node::new().import(&Layer::zstd(&archive).bytes).unwrap()[0].name, "small:1");
}

#[test]
fn what_lies_with_a_peer_is_exported_too() {
    let from = Node::new();
    let pushed = from.push("app:1", &layers());
    from.push_index("multi:1", &["amd64", "arm64"]);
    from.store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    let root = from.root().unwrap();
    for format in [Format::Oci, Format::Docker, Format::Car, Format::Registry] {
        for name in ["app:1", "multi:1"] {
            let world = World::new();
            world.join(from.store.clone());
            let network = world.join(MemoryStore::new());
            let session = network.session(SessionSpec { root, hints: Vec::new(), scope: Scope::Public });
            let snapshot = Snapshot::foreign(session.clone(), root, &[], Arc::new(NodeCache::default()));
            let source = Source { snapshot, fetcher: session };
            let (repository, reference) = parse(name);
            let mut out = Vec::new();
            let handle = from.runtime.handle();
            let done = export_image(handle, &source, &repository, &reference, format, &mut out, &mut |_| {});
            assert_eq!(done.unwrap().bytes, out.len() as u64);
            assert_eq!(out, from.export(name, format).unwrap().0, "{name} {format:?}");
        }
    }
    assert!(from.manifest(&format!("app@{}", pushed.digest)).is_some());
}

#[test]
fn progress_reaches_the_total() {
    let from = Node::new();
    from.push("app:1", &layers());
    let (repository, reference) = parse("app:1");
    for format in [Format::Oci, Format::Docker, Format::Car, Format::Registry] {
        let mut seen = Vec::new();
        let mut tell = |at: crate::archive::Progress<'_>| seen.push((at.bytes, at.total));
        let handle = from.runtime.handle();
        export_image(handle, &from.source(), &repository, &reference, format, &mut std::io::sink(), &mut tell).unwrap();
        assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        let (bytes, total) = *seen.last().unwrap();
        // docker-archives hold no manifest.
        assert!(bytes <= total.unwrap() && bytes + 5000 > total.unwrap(), "{format:?}: {bytes} of {total:?}");
    }
}

#[test]
fn an_output_that_fails_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let taken = buf.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let from = Node::new();
    from.push("app:1", &layers());
    let (repository, reference) = parse("app:1");
    for format in [Format::Oci, Format::Docker, Format::Car, Format::Registry] {
        let mut out = Full(1_500_000);
        let handle = from.runtime.handle();
        let failed = export_image(handle, &from.source(), &repository, &reference, format, &mut out, &mut |_| {});
        assert!(matches!(failed, Err(ArchiveError::Write(_))), "{format:?}: {failed:?}");
    }
}
