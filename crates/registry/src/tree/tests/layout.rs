use super::*;
use crate::tree::{May, Missing, Push, Put};

#[tokio::test]
async fn an_image_lies_as_in_the_stock_registry() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let blobs: [&[u8]; 2] = [b"{}", b"layer"];
    for bytes in blobs {
        link(&tree, &store, "team/app", bytes).await;
    }
    let part = |bytes: &[u8]| {
        let (digest, size) = (digest_of(bytes), bytes.len());
        format!(r#"{{"digest":"{digest}","mediaType":"application/vnd.oci.image.layer.v1.tar","size":{size}}}"#)
    };
    let (config, layer) = (part(blobs[0]), part(blobs[1]));
    let image = format!(r#"{{"config":{config},"layers":[{layer}],"mediaType":"{OCI_MANIFEST}","schemaVersion":2}}"#);
    let bytes = Bytes::from(image.clone());
    let Put { digest: manifest, root, .. } =
        tree.put_manifest(&repository("team/app"), &by_tag("v1"), None, bytes).await.unwrap();

    let storage = "/docker/registry/v2";
    let below = format!("{storage}/repositories/team/app");
    let manifests = format!("{below}/_manifests");
    let data = |digest: &Digest| format!("{storage}/blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex());
    let named = |place: String, digest: &Digest| {
        (format!("{place}/sha256/{}/link", digest.hex()), digest.as_str().as_bytes().to_vec())
    };
    let mut expected = BTreeMap::from([
        (data(&manifest), image.into_bytes()),
        named(format!("{manifests}/revisions"), &manifest),
        named(format!("{manifests}/tags/v1/index"), &manifest),
        (format!("{manifests}/tags/v1/current/link"), manifest.as_str().as_bytes().to_vec()),
    ]);
    for bytes in blobs {
        let digest = digest_of(bytes);
        expected.insert(data(&digest), bytes.to_vec());
        expected.extend([named(format!("{below}/_layers"), &digest)]);
    }
    assert_eq!(files(&store, root).await, expected);
    assert_eq!(root.to_string(), ROOT, "the same image has the same root everywhere, for ever");
}

/// What `ipfs add -r --cid-version=1 --raw-leaves --chunker=size-1048576` gives for the same files.
const ROOT: &str = "bafybeiahswfgz6oblkx6bk5m2nq5dezaxbk5jgyo2lndwi2vpekkxofxtu";

#[tokio::test]
async fn what_was_pushed_comes_back() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let large = vec![7; 5 << 19];
    let blobs: [&[u8]; 3] = [b"{}", &large, b""];
    let digest = push(&tree, &store, "app", "latest", &blobs).await;
    let (name, snapshot) = (repository("app"), tree.snapshot());
    let manifest = snapshot.manifest(&name, &by_tag("latest")).await.unwrap().unwrap();
    assert_eq!((&manifest.digest, manifest.media_type.as_str()), (&digest, OCI_MANIFEST));
    assert_eq!(manifest.bytes, bytes(&image(&blobs)));
    assert_eq!(snapshot.manifest(&name, &by_digest(&digest)).await.unwrap(), Some(manifest));
    for content in blobs {
        let blob = snapshot.blob(&name, &digest_of(content)).await.unwrap().unwrap();
        assert_eq!(blob, store_blob(&store, content));
    }
    assert_eq!(snapshot.tags(&name, None, 10).await.unwrap(), Some(vec![tag("latest")]));
    assert!(snapshot.exists(&name).await.unwrap());
    // What is not there.
    let other = repository("other");
    assert_eq!(snapshot.manifest(&name, &by_tag("v2")).await.unwrap(), None);
    assert_eq!(snapshot.manifest(&other, &by_tag("latest")).await.unwrap(), None);
    assert_eq!(snapshot.blob(&other, &digest_of(b"{}")).await.unwrap(), None, "linked elsewhere is not linked here");
    assert_eq!(snapshot.blob(&name, &digest).await.unwrap(), None, "a manifest is not a blob");
    assert_eq!(snapshot.manifest(&name, &by_digest(&digest_of(b"{}"))).await.unwrap(), None, "nor the reverse");
    assert_eq!(snapshot.tags(&other, None, 10).await.unwrap(), None);
    assert!(!snapshot.exists(&other).await.unwrap());
    let team = repository("team");
    push(&tree, &store, "team/app", "v1", &blobs).await;
    assert!(!tree.snapshot().exists(&team).await.unwrap(), "a directory of repositories is none itself");
}

#[tokio::test]
async fn the_media_type_is_kept_only_where_the_manifest_does_not_say_it() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let mut manifest = image(&[b"{}"]);
    manifest.as_object_mut().unwrap().remove("mediaType");
    link(&tree, &store, "app", b"{}").await;
    let reference = by_tag("v1");
    let put = |media_type: &'static str| tree.put_manifest(&name, &reference, Some(media_type), bytes(&manifest));
    let kept = async |root| {
        let files = files(&store, root).await;
        files.into_iter().find(|(path, _)| path.ends_with("/mediatype")).map(|(_, content)| content)
    };
    let read = async || tree.snapshot().manifest(&name, &by_tag("v1")).await.unwrap().unwrap().media_type.clone();
    let Put { root, digest, .. } = put(DOCKER_MANIFEST).await.unwrap();
    assert_eq!(kept(root).await.as_deref(), Some(DOCKER_MANIFEST.as_bytes()));
    assert_eq!(read().await, DOCKER_MANIFEST);
    // Pushed again under the type that its shape says.
    let again = put(OCI_MANIFEST).await.unwrap();
    assert_eq!(again.digest, digest);
    assert_eq!(kept(again.root).await, None);
    assert_eq!(read().await, OCI_MANIFEST);
}

#[tokio::test]
async fn a_manifest_has_the_digest_it_was_named_by() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    link(&tree, &store, "app", b"{}").await;
    let manifest = bytes(&image(&[b"{}"]));
    let mut hasher = crate::hash::Hasher::like(&Digest::sha512(&[0; 64]));
    hasher.update(&manifest);
    let digest = hasher.finish();
    let push = |reference, tags| Push {
        reference,
        tags,
        media_type: None,
        bytes: manifest.clone(),
        missing: Missing::default(),
        may: May::default(),
    };
    let wrong = tree.push(&repository("app"), push(by_digest(&digest_of(b"other")), Vec::new())).await;
    assert!(matches!(wrong, Err(TreeError::DigestMismatch { .. })));
    let done = tree.push(&repository("app"), push(by_digest(&digest), vec![tag("a"), tag("b")])).await.unwrap();
    assert_eq!(done.digest, digest);
    for reference in [by_tag("a"), by_tag("b"), by_digest(&digest)] {
        let found = tree.snapshot().manifest(&repository("app"), &reference).await.unwrap().unwrap();
        assert_eq!((&found.digest, &found.bytes), (&digest, &manifest));
    }
}

#[tokio::test]
async fn names_come_in_pages_and_in_order() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "b/c", "zz"];
    for name in names.iter().rev() {
        push(&tree, &store, name, "v1", &[b"{}"]).await;
    }
    let snapshot = tree.snapshot();
    let page = async |after: Option<&str>, limit| -> Vec<String> {
        let names = snapshot.repositories(after, limit).await.unwrap();
        names.into_iter().map(String::from).collect()
    };
    assert_eq!(page(None, 100).await, names);
    assert_eq!(page(None, 0).await, [""; 0]);
    for limit in 1..=names.len() {
        let (mut all, mut last) = (Vec::new(), None);
        loop {
            let some = page(last.as_deref(), limit).await;
            let Some(name) = some.last() else { break };
            last = Some(name.clone());
            all.extend(some);
        }
        assert_eq!(all, names, "in pages of {limit}");
    }
    assert_eq!(page(Some("a/"), 100).await, names[3..], "from where nothing is");
    assert_eq!(page(Some("a/bb"), 100).await, names[5..]);
}

#[tokio::test]
async fn ten_thousand_tags() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let name = repository("app");
    let digest = push(&tree, &store, "app", "first", &[b"{}"]).await;
    let tags: Vec<_> = (0..10_000).map(|n| (tag(&format!("t{n:05}")), digest.clone())).collect();
    let image = crate::tree::Image { tags, ..Default::default() };
    tree.adopt(&name, image).await.unwrap();
    let snapshot = tree.snapshot();
    let page = snapshot.tags(&name, Some("t04999"), 3).await.unwrap().unwrap();
    assert_eq!(page, [tag("t05000"), tag("t05001"), tag("t05002")]);
    assert_eq!(snapshot.tags(&name, None, usize::MAX).await.unwrap().map(|tags| tags.len()), Some(10_001));
    assert_eq!(snapshot.tags(&name, Some("t09999"), 5).await.unwrap(), Some(Vec::new()));
    let found = snapshot.manifest(&name, &by_tag("t07777")).await.unwrap().unwrap();
    assert_eq!(found.digest, digest);
    // One more push touches only its own path.
    let before = store.stats().blocks;
    push(&tree, &store, "app", "one-more", &[b"{}", b"x"]).await;
    assert!(store.stats().blocks - before < 40, "{} new blocks", store.stats().blocks - before);
}
