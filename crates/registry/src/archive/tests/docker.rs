//! docker-archives of others' making, and ours as `docker load` wants them.

use super::support::{Layer, Node, config, files_of, manifest, noise, sha256, tar_of};
use crate::archive::{ArchiveError, Format};
use cidery_core::Digest;
use serde_json::{Value, json};

/// A tar entry: a file, a symbolic link, or a hard link.
enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

fn tar_with_links(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        match entry {
            Entry::File(path, bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, *bytes).unwrap();
            }
            Entry::Symlink(path, target) | Entry::Hardlink(path, target) => {
                let symlink = matches!(entry, Entry::Symlink(..));
                header.set_entry_type(if symlink { tar::EntryType::Symlink } else { tar::EntryType::Link });
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn list(config: &str, tags: Value, layers: &[&str]) -> Vec<u8> {
    json!([{ "Config": config, "RepoTags": tags, "Layers": layers }]).to_string().into()
}

fn layers_of(node: &Node, name: &str) -> Vec<(String, Digest)> {
    let manifest: Value = serde_json::from_slice(&node.manifest(name).unwrap()).unwrap();
    let layer = |layer: &Value| {
        let digest = layer["digest"].as_str().unwrap().parse().unwrap();
        (layer["mediaType"].as_str().unwrap().to_owned(), digest)
    };
    manifest["layers"].as_array().unwrap().iter().map(layer).collect()
}

#[test]
fn the_older_layout_with_links_between_layers() {
    let layers = [Layer::plain(b"base"), Layer::plain(b"top"), Layer::plain(b"base"), Layer::plain(b"top")];
    let config = config("amd64", &layers);
    let name = format!("{}.json", sha256(&config).hex());
    let listed = list(
        &name,
        json!(["localhost:5000/app:1", "app:2"]),
        &["aaaa/layer.tar", "bbbb/layer.tar", "cccc/layer.tar", "dddd/layer.tar"],
    );
    let archive = tar_with_links(&[
        // Links may come before what they lead to, and the list after everything.
        Entry::Symlink("cccc/layer.tar", "../aaaa/layer.tar"),
        Entry::File("aaaa/VERSION", b"1.0"),
        Entry::File("aaaa/json", b"{}"),
        Entry::File("aaaa/layer.tar", b"base"),
        Entry::File("./bbbb/layer.tar", b"top"),
        Entry::Hardlink("dddd/layer.tar", "bbbb/layer.tar"),
        Entry::File(&name, &config),
        Entry::File("repositories", b"{}"),
        Entry::File("manifest.json", &listed),
    ]);
    let node = Node::new();
    let names: Vec<String> = node.import(&archive).unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(names, ["app:1", "app:2"]);
    assert_eq!(node.blob("app", &sha256(&config)).unwrap(), config);
    let expected: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let found = layers_of(&node, "app:1");
    assert!(found.iter().all(|(media_type, _)| media_type == "application/vnd.oci.image.layer.v1.tar"));
    assert_eq!(found.into_iter().map(|(_, digest)| digest).collect::<Vec<_>>(), expected);
    assert_eq!(node.manifest("app:1"), node.manifest("app:2"));
}

#[test]
fn compressed_layers_keep_their_form_and_are_checked() {
    let plain = noise(300_000, 9);
    let layers = [Layer::gzip(&plain), Layer::zstd(&b"zstd ".repeat(1000)), Layer::plain(b"plain")];
    let config = config("amd64", &layers);
    let listed = list("c.json", json!(["app:1"]), &["1.tar", "2.tar", "3.tar"]);
    let archive = |first: &[u8]| {
        tar_of(&[
            ("manifest.json", &listed),
            ("c.json", &config),
            ("1.tar", first),
            ("2.tar", &layers[1].bytes),
            ("3.tar", &layers[2].bytes),
        ])
    };
    let node = Node::new();
    node.import(&archive(&layers[0].bytes)).unwrap();
    let types: Vec<String> = layers_of(&node, "app:1").into_iter().map(|(media_type, _)| media_type).collect();
    let layer = "application/vnd.oci.image.layer.v1.tar";
    assert_eq!(types, [format!("{layer}+gzip"), format!("{layer}+zstd"), layer.to_owned()]);

    // A layer that unpacks to something else is not the image's.
    let other = Layer::gzip(b"something else");
    let fresh = Node::new();
    let error = fresh.import(&archive(&other.bytes)).unwrap_err();
    assert!(matches!(error, ArchiveError::DigestMismatch { .. }), "{error}");
    let cut = &layers[0].bytes[..layers[0].bytes.len() - 100];
    assert!(fresh.import(&archive(cut)).is_err());
    assert_eq!(fresh.root(), None);
}

#[test]
fn a_layer_that_looks_compressed_may_be_plain() {
    // A tar that starts with a file named by these bytes would look so; its diff_id tells.
    let layers = [Layer::plain(b"\x1f\x8b looks like gzip")];
    let config = config("amd64", &layers);
    let listed = list("c.json", json!(["app:1"]), &["1.tar"]);
    let node = Node::new();
    node.import(&tar_of(&[("c.json", &config), ("1.tar", &layers[0].bytes), ("manifest.json", &listed)])).unwrap();
    assert_eq!(layers_of(&node, "app:1")[0].0, "application/vnd.oci.image.layer.v1.tar");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let layers = [Layer::plain(b"one")];
    let config = config("amd64", &layers);
    let other_name = format!("{}.json", sha256(b"other").hex());
    let import = |files: &[(&str, &[u8])]| {
        let node = Node::new();
        let error = node.import(&tar_of(files)).unwrap_err();
        assert_eq!(node.root(), None);
        error
    };
    let tags = || json!(["app:1"]);
    let error =
        import(&[("manifest.json", &list("c.json", tags(), &["l.tar"])), ("c.json", &config), ("l.tar", b"two")]);
    assert!(matches!(error, ArchiveError::DigestMismatch { .. }), "{error}");
    let error =
        import(&[("manifest.json", &list(&other_name, tags(), &["l.tar"])), (&other_name, &config), ("l.tar", b"one")]);
    assert!(matches!(error, ArchiveError::DigestMismatch { .. }), "{error}");
    let error = import(&[("manifest.json", &list("c.json", tags(), &[])), ("c.json", &config)]);
    assert!(matches!(error, ArchiveError::Malformed { .. }), "{error}");
    let error = import(&[("manifest.json", &list("c.json", tags(), &["l.tar", "../l.tar"])), ("c.json", &config)]);
    assert!(matches!(error, ArchiveError::Missing { .. }), "{error}");
    let error =
        import(&[("manifest.json", &list("c.json", tags(), &["l.tar"])), ("c.json", b"not JSON"), ("l.tar", b"one")]);
    assert!(matches!(error, ArchiveError::Json { .. }), "{error}");
    let error =
        import(&[("manifest.json", &list("c.json", Value::Null, &["l.tar"])), ("c.json", &config), ("l.tar", b"one")]);
    assert!(matches!(error, ArchiveError::NeedsName { .. }), "{error}");
    let error = import(&[("manifest.json", b"[]")]);
    assert!(matches!(error, ArchiveError::Malformed { .. }), "{error}");
}

#[test]
fn an_index_gives_the_image_of_this_machine() {
    let node = Node::new();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (_, images) = node.push_index("app:1", &["riscv64", "arm64", "amd64"]);
    let (archive, exported) = node.export("app:1", Format::Docker).unwrap();
    assert_eq!(exported.platform, Some(format!("linux/{arch}")));
    let image = &images[if arch == "arm64" { 1 } else { 2 }];
    assert_eq!(exported.digest.as_ref(), Some(&image.digest));
    let files = files_of(&archive);
    let listed: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(listed[0]["RepoTags"], json!(["app:1"]));
    assert_eq!(files[listed[0]["Config"].as_str().unwrap()], image.config);

    node.push_index("other:1", &["s390x", "riscv64"]);
    let error = node.export("other:1", Format::Docker).unwrap_err();
    assert!(error.to_string().contains("linux/s390x, linux/riscv64"), "{error}");
}

#[test]
fn zstd_layers_are_written_plain_for_docker() {
    let node = Node::new();
    let plain = b"older engines cannot unpack this ".repeat(5000);
    let gzip = Layer::gzip(b"but this they can");
    let pushed = node.push("app:1", &[Layer::zstd(&plain), gzip.clone()]);
    let (archive, _) = node.export("app:1", Format::Docker).unwrap();
    let files = files_of(&archive);
    let listed: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(files[listed[0]["Layers"][0].as_str().unwrap()], plain);
    assert_eq!(files[listed[0]["Layers"][1].as_str().unwrap()], gzip.bytes);
    let to = Node::new();
    to.import(&archive).unwrap();
    assert_eq!(to.blob("app", &sha256(&pushed.config)).unwrap(), pushed.config);

    // One whose diff_id is another's would be refused by the engine: here it is said at once.
    let mut wrong = Layer::zstd(&plain);
    wrong.diff_id = sha256(b"another");
    node.push("wrong:1", &[wrong]);
    assert!(matches!(node.export("wrong:1", Format::Docker), Err(ArchiveError::DigestMismatch { .. })));
}

#[test]
fn only_images_can_be_loaded() {
    let node = Node::new();
    let repository = "app".parse().unwrap();
    let artifact = b"an artifact";
    node.put_blob(&repository, artifact);
    let manifest = manifest(artifact, &[]);
    node.put_manifest(&repository, &super::support::parse("app:1").1, manifest);
    let error = node.export("app:1", Format::Docker).unwrap_err();
    assert!(error.to_string().contains("not a container image"), "{error}");
    assert!(node.export("app:1", Format::Oci).is_ok());
    assert!(matches!(node.export("app:2", Format::Oci), Err(ArchiveError::NotFound { .. })));
}
