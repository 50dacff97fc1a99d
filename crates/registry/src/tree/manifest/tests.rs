use super::{media_type::*, *};
use cidery_core::Digest;
use serde_json::json;

fn digest(n: u8) -> String {
    Digest::sha256(&[n; 32]).to_string()
}

fn descriptor(media_type: &str, n: u8) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": digest(n), "size": n})
}

fn image() -> serde_json::Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", 1),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 2)],
        "annotations": {"a": "b"},
    })
}

fn pushed(content_type: Option<&str>, value: &serde_json::Value) -> Result<Parsed, ManifestError> {
    Parsed::pushed(content_type, value.to_string().as_bytes())
}

#[test]
fn an_image_and_what_it_refers_to() {
    let parsed = pushed(Some(OCI_MANIFEST), &image()).unwrap();
    assert_eq!((parsed.kind, parsed.media_type.as_str()), (Kind::Image, OCI_MANIFEST));
    let blobs: Vec<_> = parsed.required_blobs().map(|blob| blob.digest.to_string()).collect();
    assert_eq!(blobs, [digest(1), digest(2)]);
    assert_eq!(parsed.artifact_type(), Some("application/vnd.oci.image.config.v1+json"));
    assert_eq!(parsed.annotations["a"], "b");
    assert!(!parsed.keeps_media_type() && parsed.subject.is_none());
}

#[test]
fn an_index_keeps_its_platforms() {
    let mut child = descriptor(OCI_MANIFEST, 3);
    child["platform"] = json!({"architecture": "arm64", "os": "linux", "variant": "v8", "os.features": null});
    let index = json!({"schemaVersion": 2, "manifests": [child], "subject": descriptor(OCI_MANIFEST, 9)});
    let parsed = pushed(None, &index).unwrap();
    assert_eq!((parsed.kind, parsed.media_type.as_str()), (Kind::Index, OCI_INDEX));
    let platform = parsed.manifests[0].platform.as_ref().unwrap();
    assert_eq!((platform.architecture.as_str(), platform.variant.as_deref()), ("arm64", Some("v8")));
    assert_eq!(parsed.subject.as_ref().map(|s| s.digest.to_string()), Some(digest(9)));
    assert_eq!(parsed.artifact_type(), None, "an index has none to fall back to");
    assert!(!parsed.keeps_media_type(), "its shape says it");
}

#[test]
fn docker_types_are_read_like_the_oci_ones() {
    let mut manifest = image();
    manifest["mediaType"] = json!(DOCKER_MANIFEST);
    assert_eq!(pushed(Some(DOCKER_MANIFEST), &manifest).unwrap().kind, Kind::Image);
    assert_eq!(pushed(None, &manifest).unwrap().media_type, DOCKER_MANIFEST);
    let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": []});
    assert_eq!(pushed(Some(DOCKER_LIST), &list).unwrap().kind, Kind::Index);
    // Without a mediaType of its own the header decides, and has to be kept.
    manifest.as_object_mut().unwrap().remove("mediaType");
    assert!(pushed(Some(DOCKER_MANIFEST), &manifest).unwrap().keeps_media_type());
}

#[test]
fn the_media_type_is_the_one_pushed() {
    let parsed = |header| pushed(header, &image()).map(|parsed| parsed.media_type);
    for header in [None, Some(""), Some("application/json"), Some("application/octet-stream; q=1")] {
        assert_eq!(parsed(header).unwrap(), OCI_MANIFEST, "{header:?}");
    }
    assert_eq!(parsed(Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap(), OCI_MANIFEST);
    assert!(matches!(parsed(Some(DOCKER_MANIFEST)), Err(ManifestError::MediaType { .. })));
    assert!(matches!(parsed(Some(OCI_INDEX)), Err(ManifestError::MediaType { .. })));
    let unknown = json!({"x": 1});
    assert!(matches!(pushed(None, &unknown), Err(ManifestError::NoMediaType)));
    assert!(matches!(pushed(Some("application/json"), &unknown), Err(ManifestError::NoMediaType)));
    assert!(matches!(pushed(Some("a/b\r\nc"), &unknown), Err(ManifestError::BadMediaType(_))));
    let kept = pushed(Some("application/vnd.example+json"), &unknown).unwrap();
    assert_eq!((kept.kind, kept.keeps_media_type()), (Kind::Other, true));
    // An unknown type may mean something else by the known names, but not by `mediaType`.
    let own = |media_type: &str| json!({"mediaType": media_type, "config": {"a": 1}, "layers": 7});
    let kept = pushed(Some("application/vnd.example+json"), &own("application/vnd.example+json")).unwrap();
    assert!(kept.config.is_none() && kept.layers.is_empty() && !kept.keeps_media_type());
    let disguised = pushed(Some("application/vnd.example+json"), &own(OCI_MANIFEST));
    assert!(matches!(disguised, Err(ManifestError::MediaType { .. })));
    assert!(matches!(pushed(Some("application/json"), &own(OCI_MANIFEST)), Err(ManifestError::Json(_))));
}

#[test]
fn what_is_refused() {
    let with = |field: &str, value: serde_json::Value| {
        let mut manifest = image();
        manifest[field] = value;
        pushed(Some(OCI_MANIFEST), &manifest)
    };
    assert!(matches!(with("schemaVersion", json!(1)), Err(ManifestError::Schema1)));
    assert!(matches!(with("schemaVersion", json!(3)), Err(ManifestError::SchemaVersion)));
    assert!(matches!(with("schemaVersion", json!(null)), Err(ManifestError::SchemaVersion)));
    assert!(matches!(with("config", json!(null)), Err(ManifestError::Missing { field: "config", .. })));
    assert!(matches!(with("manifests", json!([])), Err(ManifestError::Ambiguous { field: "manifests", .. })));
    assert!(matches!(with("Layers", json!([])), Err(ManifestError::Json(_))), "clients in Go would read it");
    assert!(matches!(with("layerſ", json!([])), Err(ManifestError::Json(_))));
    assert!(matches!(with("config", json!({"digest": "sha256:x"})), Err(ManifestError::Json(_))));
    assert!(matches!(with("layers", json!([{"digest": "md5:abc"}])), Err(ManifestError::Json(_))));
    assert!(matches!(with("layers", json!([{"digest": digest(1), "size": -1}])), Err(ManifestError::Json(_))));
    assert!(matches!(with("annotations", json!({"a": 1})), Err(ManifestError::Json(_))));
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(matches!(pushed(Some(signed), &json!({})), Err(ManifestError::Schema1)));
    let twice = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[],"manifests":[]}}"#);
    assert!(matches!(Parsed::pushed(None, twice.as_bytes()), Err(ManifestError::Json(_))));
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "layers": []});
    assert!(matches!(pushed(None, &index), Err(ManifestError::Ambiguous { field: "layers", .. })));
    for text in ["", "null", "[]", "1", "{", "\"x\"", "{}x", "\u{feff}{}"] {
        assert!(matches!(Parsed::pushed(Some(OCI_MANIFEST), text.as_bytes()), Err(ManifestError::Json(_))), "{text}");
    }
}

#[test]
fn sizes_and_depth_are_bounded() {
    let padded = |size: usize| {
        let mut text = image().to_string().into_bytes();
        text.resize(size, b' ');
        text
    };
    assert!(Parsed::pushed(None, &padded(MAX_MANIFEST)).is_ok());
    let over = Parsed::pushed(None, &padded(MAX_MANIFEST + 1));
    assert!(matches!(over, Err(ManifestError::TooLarge { size }) if size == MAX_MANIFEST as u64 + 1));
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(Parsed::pushed(Some("a/b"), deep.as_bytes()).is_ok(), "passed over, and the stack holds");
    let deep = deep.replacen('x', "config", 1);
    assert!(matches!(Parsed::pushed(Some(OCI_MANIFEST), deep.as_bytes()), Err(ManifestError::Json(_))));
}

#[test]
fn foreign_layers_need_not_be_held() {
    let mut manifest = image();
    let urls = json!(["https://example.com/x"]);
    let mut far = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", 3);
    far["urls"] = urls.clone();
    let docker = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 4);
    let mut near = descriptor("application/vnd.oci.image.layer.v1.tar", 5);
    near["urls"] = urls;
    manifest["layers"] = json!([far, docker, near]);
    let parsed = pushed(None, &manifest).unwrap();
    let required: Vec<_> = parsed.required_blobs().map(|blob| blob.digest.to_string()).collect();
    assert_eq!(required, [digest(1), digest(5)]);
    assert_eq!(parsed.layers.len(), 3);
}

#[test]
fn a_stored_manifest_says_its_type() {
    let of = |value: serde_json::Value| media_type_of(value.to_string().as_bytes());
    assert_eq!(of(image()), OCI_MANIFEST);
    assert_eq!(of(json!({"manifests": null})), OCI_INDEX);
    assert_eq!(of(json!({"schemaVersion": 1})), DOCKER_SCHEMA1_SIGNED);
    assert_eq!(of(json!({"mediaType": "evil\r\nX: y"})), OCTET_STREAM);
    assert_eq!(media_type_of(b"not json"), OCTET_STREAM);
}

#[test]
fn descriptors_are_written_as_the_image_spec_says() {
    let parsed = pushed(None, &image()).unwrap();
    let text = serde_json::to_value(&parsed.layers[0]).unwrap();
    assert_eq!(text, descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 2));
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes: Vec<u8>, header: Option<String>) {
        let _ = Parsed::pushed(header.as_deref(), &bytes);
        let _ = media_type_of(&bytes);
    }
}
