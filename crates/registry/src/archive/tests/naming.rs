//! What images are called after an import.

use super::support::{Layer, Node, config, layout, listed, manifest, tar_of};
use crate::archive::ArchiveError;
use serde_json::{Value, json};

const REF: &str = "org.opencontainers.image.ref.name";
const FULL: &str = "io.containerd.image.name";

/// A layout of images with these annotations, each another image.
fn archive(annotations: &[Value]) -> Vec<u8> {
    let mut descriptors = Vec::new();
    let mut blobs = Vec::new();
    for (number, annotations) in annotations.iter().enumerate() {
        let layers = [Layer::plain(format!("layer {number}").as_bytes())];
        let config = config("amd64", &layers);
        let manifest = manifest(&config, &layers);
        descriptors.push(listed(&manifest, annotations.clone()));
        blobs.extend([config, manifest.to_vec(), layers[0].bytes.clone()]);
    }
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    layout(descriptors.into(), &blobs)
}

fn names(annotations: &[Value], name: Option<&str>) -> Result<Vec<String>, ArchiveError> {
    let node = Node::new();
    let imported = node.import_as(&archive(annotations), name)?;
    for image in &imported {
        assert!(node.manifest(&image.name).is_some(), "{}", image.name);
    }
    Ok(imported.into_iter().map(|image| image.name).collect())
}

#[test]
fn names_come_from_annotations() {
    let name = |annotations: Value| names(&[annotations], None).map(|mut names| names.remove(0)).unwrap();
    assert_eq!(name(json!({ REF: "localhost:5000/hello:1" })), "hello:1");
    assert_eq!(name(json!({ REF: "hello:1" })), "hello:1");
    assert_eq!(name(json!({ REF: "quay.io/team/hello" })), "team/hello:latest");
    assert_eq!(name(json!({ REF: "2", FULL: "docker.io/library/hello:1" })), "hello:2");
    assert_eq!(name(json!({ FULL: "docker.io/library/hello:1" })), "hello:1");
    let two = [json!({ REF: "a:1" }), json!({ REF: "b:1" })];
    assert_eq!(names(&two, None).unwrap(), ["a:1", "b:1"]);
}

#[test]
fn a_tag_alone_needs_a_name() {
    for annotations in [json!({ REF: "1" }), json!({})] {
        let error = names(std::slice::from_ref(&annotations), None).unwrap_err();
        assert!(matches!(error, ArchiveError::NeedsName { .. }), "{error}");
        assert!(error.to_string().contains("--as"), "{error}");
    }
    assert_eq!(names(&[json!({ REF: "1" })], Some("app")).unwrap(), ["app:1"]);
    assert_eq!(names(&[json!({})], Some("app")).unwrap(), ["app:latest"]);
    assert_eq!(names(&[json!({ REF: "1" })], Some("app:2")).unwrap(), ["app:2"]);
    assert_eq!(names(&[json!({ REF: "other:1" })], Some("team/app")).unwrap(), ["team/app:1"]);
}

#[test]
fn several_images_cannot_have_one_name() {
    let two = [json!({ REF: "a:1" }), json!({ REF: "a:2" })];
    assert_eq!(names(&two, Some("app")).unwrap(), ["app:1", "app:2"]);
    assert!(matches!(names(&two, Some("app:3")), Err(ArchiveError::Ambiguous { count: 2, .. })));
    let same_name = [json!({ REF: "a:1" }), json!({ REF: "a:1" })];
    assert!(matches!(names(&same_name, None), Err(ArchiveError::Malformed { .. })));
    let same_tag = [json!({ REF: "a:1" }), json!({ REF: "b:1" })];
    assert!(matches!(names(&same_tag, Some("app")), Err(ArchiveError::Ambiguous { .. })));
    assert!(matches!(names(&[json!({}), json!({})], Some("app")), Err(ArchiveError::Ambiguous { .. })));
}

#[test]
fn what_has_no_name_goes_with_the_one_repository_that_has() {
    let mixed = [json!({ REF: "a:1" }), json!({})];
    let found = names(&mixed, None).unwrap();
    assert_eq!(found[0], "a:1");
    assert!(found[1].starts_with("a@sha256:"));
    let found = names(&mixed, Some("app:2")).unwrap();
    assert_eq!(found[0], "app:2");
    assert!(found[1].starts_with("app@sha256:"));
    let nobodys = [json!({ REF: "a:1" }), json!({ REF: "b:1" }), json!({})];
    assert!(matches!(names(&nobodys, None), Err(ArchiveError::NeedsName { .. })));
}

#[test]
fn names_that_are_not_valid_are_refused() {
    for bad in ["../../etc/passwd", "a/../b:1", "UPPER:1", "-", "a:b:c/d"] {
        let error = names(&[json!({ REF: bad })], None).unwrap_err();
        assert!(matches!(error, ArchiveError::Name(_)), "{bad}: {error}");
    }
}

#[test]
fn a_layout_in_a_folder_is_explained() {
    let error = Node::new().import(&tar_of(&[("image/index.json", b"{}")])).unwrap_err();
    assert!(error.to_string().contains("tar -C image"), "{error}");
}
