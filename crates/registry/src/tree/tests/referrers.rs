use super::*;
use crate::tree::Descriptor;

/// An artifact about `subject`.
fn artifact(subject: &Digest, artifact_type: Option<&str>, note: &str) -> Value {
    let mut manifest = image(&[b"{}"]);
    manifest["config"]["mediaType"] = json!("application/vnd.example.config");
    manifest["subject"] = descriptor(OCI_MANIFEST, subject, 1);
    manifest["annotations"] = json!({"note": note});
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    manifest
}

async fn referrers(tree: &Tree, subject: &Digest, artifact_type: Option<&str>) -> Vec<Descriptor> {
    tree.snapshot().referrers(&repository("app"), subject, artifact_type).await.unwrap()
}

#[tokio::test]
async fn artifacts_are_found_by_their_subject() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let subject = digest_of(b"pushed later, or never");
    assert_eq!(referrers(&tree, &subject, None).await, []);
    link(&tree, &store, "app", b"{}").await;
    let signature = artifact(&subject, Some("application/vnd.example.signature"), "signed");
    let plain = artifact(&subject, None, "by its config");
    let mut list = index(&[]);
    list["subject"] = descriptor(OCI_MANIFEST, &subject, 1);
    let mut digests = Vec::new();
    for manifest in [&signature, &plain, &list] {
        let digest = digest_of(manifest.to_string().as_bytes());
        let done = put(&tree, "app", &by_digest(&digest), manifest).await.unwrap();
        assert_eq!((done.digest.clone(), done.subject), (digest, Some(subject.clone())));
        digests.push(done.digest);
    }
    put(&tree, "app", &by_tag("v1"), &image(&[b"{}"])).await.unwrap();
    let found = referrers(&tree, &subject, None).await;
    let mut sorted = digests.clone();
    sorted.sort();
    assert_eq!(found.iter().map(|one| one.digest.clone()).collect::<Vec<_>>(), sorted);
    let of = |digest: &Digest| found.iter().find(|one| one.digest == *digest).unwrap();
    let signed = of(&digests[0]);
    assert_eq!(signed.size, signature.to_string().len() as u64);
    assert_eq!((signed.media_type.as_str(), signed.annotations["note"].as_str()), (OCI_MANIFEST, "signed"));
    assert_eq!(of(&digests[1]).artifact_type.as_deref(), Some("application/vnd.example.config"));
    assert_eq!((of(&digests[2]).media_type.as_str(), &of(&digests[2]).artifact_type), (OCI_INDEX, &None));
    let signatures = referrers(&tree, &subject, Some("application/vnd.example.signature")).await;
    assert_eq!(signatures, std::slice::from_ref(signed));
    assert_eq!(referrers(&tree, &subject, Some("x/y")).await, []);
    assert_eq!(referrers(&tree, &digests[0], None).await, [], "nobody is about that one");

    assert!(tree.delete_manifest(&repository("app"), &digests[0]).await.unwrap());
    assert_eq!(referrers(&tree, &subject, None).await.len(), 2);
    let paths = files(&store, tree.snapshot().root().unwrap()).await;
    assert!(!paths.keys().any(|path| path.contains(digests[0].hex())));
}

#[tokio::test]
async fn a_list_kept_under_a_tag_is_taken_in() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let subject = digest_of(b"subject");
    link(&tree, &store, "app", b"{}").await;
    let own = artifact(&subject, None, "pushed to the API");
    let listed = put(&tree, "app", &by_tag("a"), &image(&[b"{}"])).await.unwrap().digest;
    let own = put(&tree, "app", &by_tag("b"), &own).await.unwrap().digest;
    let mut list = index(&[&listed, &own]);
    list["manifests"][0]["artifactType"] = json!("x/listed");
    put(&tree, "app", &Reference::Tag(crate::tree::layout::referrers_tag(&subject)), &list).await.unwrap();
    let found = referrers(&tree, &subject, None).await;
    assert_eq!(found.len(), 2, "one that is in both is listed once");
    let by = |digest: &Digest| found.iter().find(|one| one.digest == *digest).unwrap();
    assert_eq!(by(&own).annotations["note"], "pushed to the API", "as its own manifest says");
    assert_eq!(by(&listed).artifact_type.as_deref(), Some("x/listed"));
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let store = MemoryStore::new();
    let tree = open(&store).await;
    let subject = digest_of(b"subject");
    link(&tree, &store, "app", b"{}").await;
    let long = "x".repeat(1 << 20);
    for n in 0..6 {
        let manifest = artifact(&subject, None, &format!("{n}{long}"));
        put(&tree, "app", &by_tag(&format!("t{n}")), &manifest).await.unwrap();
    }
    assert_eq!(referrers(&tree, &subject, None).await.len(), 3, "not 6 MiB of them");
}
