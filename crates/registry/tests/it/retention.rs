//! Tags that go when no rule keeps them.

mod model;

use crate::{
    observers::Notes,
    support::{Node, image, noise, sha256},
};
use axum::http::{Method, StatusCode};
use cidery_access::Selection;
use cidery_core::{Digest, Namespace, RootStore};
use cidery_registry::{
    Config, Covered, Retained, Retention, TagRules,
    ops::{Action, Observers, Origin},
    tree::{Image, ImageManifest},
};
use serde_json::{Value, json};
use std::{
    num::NonZeroUsize,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant, SystemTime},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn covered(repositories: &str, tags: &str) -> Covered {
    Covered {
        repositories: Selection::read(repositories.split(',')).unwrap(),
        tags: Selection::read(tags.split(',')).unwrap(),
    }
}

fn last(tags: &str, count: usize) -> Retention {
    Retention { covered: covered("ci/**", tags), keep_last: NonZeroUsize::new(count), ..Retention::default() }
}

fn config(rules: Vec<Retention>) -> Config {
    Config { tag_rules: TagRules::new(Vec::new(), rules), ..Config::default() }
}

fn manifest(note: &str) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": { "note": note } })
}

/// Pushes a manifest that needs nothing, at a moment of its own; its digest.
async fn push(node: &Node, name: &str, manifest: &Value) -> Digest {
    // Times are kept in milliseconds.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let (repository, tag) = name.split_once(':').unwrap();
    let answer = node.push_manifest(repository, tag, manifest).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{name}: {}", answer.text());
    answer.header("docker-content-digest").parse().unwrap()
}

async fn push_all(node: &Node, repository: &str, tags: &[&str]) -> Vec<Digest> {
    let mut digests = Vec::new();
    for tag in tags {
        digests.push(push(node, &format!("{repository}:{tag}"), &manifest(&format!("{repository}:{tag}"))).await);
    }
    digests
}

async fn tags(node: &Node, repository: &str) -> Vec<String> {
    let answer = node.get(format!("/v2/{repository}/tags/list")).await;
    if answer.status == StatusCode::NOT_FOUND {
        return Vec::new();
    }
    serde_json::from_value(answer.json()["tags"].clone()).unwrap()
}

async fn status(node: &Node, repository: &str, reference: impl std::fmt::Display) -> u16 {
    node.head(format!("/v2/{repository}/manifests/{reference}")).await.status.as_u16()
}

/// A dry run, and then the same in earnest.
async fn retain(node: &Node) -> Retained {
    let now = SystemTime::now();
    let dry = node.registry.retain_at(true, now).await.unwrap();
    let done = node.registry.retain_at(false, now).await.unwrap();
    assert_eq!(dry, done);
    done
}

/// Their names, `repository:tag`.
fn gone(done: &Retained) -> Vec<String> {
    done.gone
        .iter()
        .flat_map(|gone| gone.tags.iter().map(move |tag| format!("{}:{}", gone.repository, tag.tag)))
        .collect()
}

#[tokio::test]
async fn the_last_are_kept_and_the_others_go_with_their_images() {
    let node = Node::with(config(vec![last("b*", 2)])).await;
    let digests = push_all(&node, "ci/app", &["b1", "b2", "b3", "b4", "latest"]).await;
    push_all(&node, "ci/web", &["b1", "b2"]).await;
    push_all(&node, "team/app", &["b1", "b2", "b3"]).await;
    let before = node.store.state(&Namespace::local()).unwrap().root;
    let dry = node.registry.retain(true).await.unwrap();
    assert_eq!(gone(&dry), ["ci/app:b1", "ci/app:b2"]);
    assert_eq!((dry.covered, dry.gone[0].manifests.len()), (6, 2));
    assert_eq!(dry.gone[0].tags[0].digest.as_ref(), Some(&digests[0]));
    assert!(dry.gone[0].tags[0].pushed < dry.gone[0].tags[1].pushed);
    assert_eq!(node.store.state(&Namespace::local()).unwrap().root, before, "a dry run changes nothing");
    let done = retain(&node).await;
    assert_eq!(gone(&done), gone(&dry));
    assert_eq!(tags(&node, "ci/app").await, ["b3", "b4", "latest"]);
    assert_eq!((tags(&node, "ci/web").await.len(), tags(&node, "team/app").await.len()), (2, 3));
    for (digest, expected) in digests.iter().zip([404, 404, 200, 200, 200]) {
        assert_eq!(status(&node, "ci/app", digest).await, expected);
    }
    let again = retain(&node).await;
    assert_eq!((again.covered, again.gone.len()), (4, 0));
    push_all(&node, "ci/app", &["b5"]).await;
    assert_eq!(gone(&retain(&node).await), ["ci/app:b3"]);
}

/// The value of a metric, as Prometheus gets it.
async fn measured(node: &Node, name: &str) -> f64 {
    let samples = crate::metrics::parse(node.get("/metrics").await.text());
    samples.iter().find(|sample| sample.name == name).unwrap_or_else(|| panic!("{name} is missing")).value
}

#[tokio::test]
async fn what_it_does_is_counted() {
    let node = Node::with(config(vec![last("*", 1)])).await;
    push_all(&node, "ci/app", &["a", "b", "c"]).await;
    push(&node, "ci/app:d", &manifest("ci/app:c")).await;
    node.registry.retain(true).await.unwrap();
    assert_eq!(measured(&node, "cidery_retention_passes_total").await, 0.0, "a dry run is none");
    let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    node.registry.retain(false).await.unwrap();
    node.registry.retain(false).await.unwrap();
    for (name, expected) in [("passes", 2.0), ("removed_tags", 3.0), ("removed_manifests", 2.0), ("failures", 0.0)] {
        assert_eq!(measured(&node, &format!("cidery_retention_{name}_total")).await, expected, "{name}");
    }
    assert!(measured(&node, "cidery_last_retention_timestamp_seconds").await >= begun - 1.0);
    assert!(measured(&node, "cidery_last_retention_duration_seconds").await > 0.0);
    // Where there is no rule there is nothing to count.
    let none = Node::new().await;
    assert!(!none.get("/metrics").await.text().contains("retention"));
}

#[tokio::test]
async fn the_young_are_kept_by_the_time_they_were_pushed_last() {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let keep = Some(Selection::read(["latest"]).unwrap());
    let rule = Retention { covered: covered("ci/**", "*"), keep_younger: Some(days(30)), keep, ..Retention::default() };
    let node = Node::with(config(vec![rule])).await;
    push_all(&node, "ci/app", &["1", "2", "latest"]).await;
    let before = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    // The same again: nothing changes but the time.
    push_all(&node, "ci/app", &["1"]).await;
    for (at, expected) in [
        (before - days(40), &[][..]),
        (before + days(29), &[]),
        (before + days(30), &["ci/app:2"]),
        (SystemTime::now() + days(30), &["ci/app:1"]),
    ] {
        let dry = node.registry.retain_at(true, at).await.unwrap();
        let done = node.registry.retain_at(false, at).await.unwrap();
        assert_eq!((gone(&done), &done), (expected.iter().map(|name| name.to_string()).collect(), &dry), "{at:?}");
    }
    assert_eq!(tags(&node, "ci/app").await, ["latest"]);
}

#[tokio::test]
async fn what_was_deleted_and_pushed_again_is_new() {
    let node = Node::with(config(vec![last("*", 1)])).await;
    push_all(&node, "ci/app", &["a", "b"]).await;
    assert_eq!(node.delete("/v2/ci/app/manifests/a").await.status, StatusCode::ACCEPTED);
    push_all(&node, "ci/app", &["a"]).await;
    assert_eq!(gone(&retain(&node).await), ["ci/app:b"]);
    // One that moved is as new as where it moved to.
    push_all(&node, "ci/app", &["b"]).await;
    push(&node, "ci/app:a", &manifest("another")).await;
    assert_eq!(gone(&retain(&node).await), ["ci/app:b"]);
}

#[tokio::test]
async fn with_an_index_go_its_images_and_what_is_about_them() {
    let node = Node::with(config(vec![last("b*", 1)])).await;
    let (layer, config_blob) = (noise(1, 2000), b"{}".to_vec());
    let shared = noise(2, 3000);
    for blob in [&layer, &config_blob, &shared] {
        node.push_blob("ci/app", blob).await;
    }
    let of = |blobs: &[&Vec<u8>]| {
        let layers: Vec<_> = blobs.iter().map(|blob| (sha256(blob), blob.len())).collect();
        image((sha256(&config_blob), 2), &layers)
    };
    let put = async |manifest: &Value| {
        let digest = sha256(manifest.to_string().as_bytes());
        assert_eq!(node.push_manifest("ci/app", digest.as_str(), manifest).await.status, StatusCode::CREATED);
        digest
    };
    let describe = |digest: &Digest, manifest: &Value| json!({ "mediaType": manifest["mediaType"], "digest": digest, "size": manifest.to_string().len() });
    let (amd, arm, kept) = (of(&[&layer, &shared]), of(&[&layer]), of(&[&shared]));
    let (amd_digest, arm_digest, kept_digest) = (put(&amd).await, put(&arm).await, put(&kept).await);
    let index = |children: &[(&Digest, &Value)]| {
        let children: Vec<_> = children.iter().map(|(digest, manifest)| describe(digest, manifest)).collect();
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children })
    };
    let first = push(&node, "ci/app:b1", &index(&[(&amd_digest, &amd), (&kept_digest, &kept)])).await;
    let mut signature = of(&[]);
    signature["subject"] = describe(&first, &index(&[]));
    let signature_digest = put(&signature).await;
    let tag = format!("{}.sig", first.as_str().replace(':', "-"));
    let cosign = push(&node, &format!("ci/app:{tag}"), &manifest("cosign")).await;
    let second = push(&node, "ci/app:b2", &index(&[(&kept_digest, &kept), (&arm_digest, &arm)])).await;
    let done = retain(&node).await;
    assert_eq!(gone(&done), ["ci/app:b1", &format!("ci/app:{tag}")]);
    for (digest, expected) in [
        (&first, 404),
        (&amd_digest, 404),
        (&signature_digest, 404),
        (&cosign, 404),
        (&second, 200),
        (&arm_digest, 200),
        (&kept_digest, 200),
    ] {
        assert_eq!(status(&node, "ci/app", digest).await, expected, "{digest}");
    }
    let referrers = node.get(format!("/v2/ci/app/referrers/{first}")).await;
    assert_eq!(referrers.json()["manifests"], json!([]));
    // Then the blobs that only they named are nobody's, and what others name stays.
    node.registry.tidy(Duration::ZERO).await;
    for (blob, expected) in [(&layer, 200), (&shared, 200)] {
        assert_eq!(node.head(format!("/v2/ci/app/blobs/{}", sha256(blob))).await.status.as_u16(), expected);
    }
    push(&node, "ci/app:b3", &index(&[(&kept_digest, &kept)])).await;
    assert_eq!(gone(&retain(&node).await), ["ci/app:b2"]);
    node.registry.tidy(Duration::ZERO).await;
    for (blob, expected) in [(&layer, 404), (&shared, 200)] {
        assert_eq!(node.head(format!("/v2/ci/app/blobs/{}", sha256(blob))).await.status.as_u16(), expected);
    }
}

#[tokio::test]
async fn many_go_in_parts_and_leave_no_trace() {
    let node = Node::with(config(vec![last("*", 3)])).await;
    let names: Vec<String> = (0..300).map(|n| format!("b{n:03}")).collect();
    for name in &names {
        push_all(&node, "ci/app", &[name]).await;
        // Two tags of three stand for the same.
        push(&node, &format!("ci/app:{name}-too"), &manifest(&format!("ci/app:{name}"))).await;
    }
    // It stood for something that goes.
    push(&node, "ci/app:zero", &manifest("ci/app:b000")).await;
    push(&node, "ci/app:zero", &manifest("zero")).await;
    let before = node.store.history(&Namespace::local(), 10_000).unwrap().len();
    let done = retain(&node).await;
    assert_eq!((done.covered, done.gone[0].tags.len(), done.gone[0].manifests.len()), (601, 598, 298 + 1));
    let commits = node.store.history(&Namespace::local(), 10_000).unwrap().len() - before;
    assert!((10..40).contains(&commits), "{commits}");
    assert_eq!(tags(&node, "ci/app").await, ["b299", "b299-too", "zero"]);
    // The same state has the same root, whatever there was before.
    let fresh = Node::new().await;
    push_all(&fresh, "ci/app", &["b299"]).await;
    push(&fresh, "ci/app:b299-too", &manifest("ci/app:b299")).await;
    push(&fresh, "ci/app:zero", &manifest("zero")).await;
    let root = |node: &Node| node.store.state(&Namespace::local()).unwrap().root.unwrap().cid;
    assert_eq!(root(&node), root(&fresh));
    assert_eq!(node.store.tag_times(&Namespace::local(), &"ci/app".parse().unwrap()).unwrap().len(), 3);
}

/// Puts tags of a manifest each into a repository, as one commit.
async fn fill(node: &Node, repository: &str, numbers: Range<usize>) {
    let (mut manifests, mut tags) = (Vec::new(), Vec::new());
    for n in numbers {
        let bytes = manifest(&format!("filled {n}")).to_string();
        let digest = sha256(bytes.as_bytes());
        manifests.push(ImageManifest { digest: digest.clone(), media_type: None, bytes: bytes.into() });
        tags.push((format!("b{n:06}").parse().unwrap(), digest));
    }
    let tree = node.registry.tree(&Namespace::local()).unwrap();
    tree.adopt(&repository.parse().unwrap(), Image { blobs: Vec::new(), manifests, tags }).await.unwrap();
}

/// A repository of 10,000 tags is looked through in seconds, and does not keep those waiting who push meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_repository_keeps_nobody_waiting() {
    let node = Node::with(config(vec![last("b*", 9_000)])).await;
    fill(&node, "ci/app", 0..1_000).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    fill(&node, "ci/app", 1_000..10_000).await;
    let begun = Instant::now();
    let dry = node.registry.retain(true).await.unwrap();
    let planned = begun.elapsed();
    assert_eq!((dry.covered, dry.gone[0].tags.len(), dry.gone[0].manifests.len()), (10_000, 1_000, 1_000));
    let (registry, begun) = (node.registry.clone(), Instant::now());
    let run = tokio::spawn(async move { registry.retain(false).await.unwrap() });
    let (mut pushes, mut longest) = (0, Duration::ZERO);
    while !run.is_finished() {
        let begun = Instant::now();
        push(&node, "other:1", &manifest(&format!("meanwhile {pushes}"))).await;
        (pushes, longest) = (pushes + 1, longest.max(begun.elapsed()));
    }
    let (done, took) = (run.await.unwrap(), begun.elapsed());
    println!("planned in {planned:?}, done in {took:?}, {pushes} pushes meanwhile, the longest {longest:?}");
    assert_eq!(done, dry);
    assert_eq!(tags(&node, "ci/app").await.len(), 9_000);
    // Sane bounds for a build that is not optimized, on a machine that has much else to do.
    assert!(planned < Duration::from_secs(60) && longest < Duration::from_secs(10), "{planned:?}, {longest:?}");
    assert!(pushes > 20, "{pushes} pushes in {took:?}");
}

#[tokio::test]
async fn immutable_tags_stay() {
    let rules = TagRules::new(vec![covered("**", "v*")], vec![last("*", 1)]);
    let node = Node::with(Config { tag_rules: rules, ..Config::default() }).await;
    let digests = push_all(&node, "ci/app", &["v1", "a", "v2", "b"]).await;
    push(&node, "ci/app:c", &manifest("ci/app:v1")).await;
    push_all(&node, "ci/app", &["d"]).await;
    assert_eq!(gone(&retain(&node).await), ["ci/app:a", "ci/app:b", "ci/app:c"]);
    assert_eq!(tags(&node, "ci/app").await, ["d", "v1", "v2"]);
    assert_eq!(status(&node, "ci/app", &digests[0]).await, 200);
}

#[tokio::test]
async fn who_is_told_of_deletes_is_told_of_these_or_nothing_goes() {
    let notes = Notes::new(false);
    let observers = Observers::new(vec![notes.clone()]);
    let node = Node::with(Config { observers, ..config(vec![last("*", 1)]) }).await;
    let digests = push_all(&node, "ci/app", &["a", "b"]).await;
    notes.take();
    notes.fill(true);
    assert!(node.registry.retain(false).await.is_err());
    assert_eq!(tags(&node, "ci/app").await, ["a", "b"]);
    notes.fill(false);
    retain(&node).await;
    let events = notes.take();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].action, &events[0].origin), (Action::Delete, &Origin::Retention));
    let [tag, manifest] = &events[0].targets[..] else { panic!("{events:?}") };
    assert_eq!((tag.name.as_str(), &tag.tags[..], &tag.digest), ("ci/app", &["a".to_owned()][..], &None));
    assert_eq!(
        (manifest.name.as_str(), manifest.tags.len(), manifest.digest.as_ref()),
        ("ci/app", 0, Some(&digests[0]))
    );
    retain(&node).await;
    assert!(notes.take().is_empty());
}

#[tokio::test]
async fn times_outlast_a_restart_and_rules_that_come_and_go() {
    let node = Node::with(config(vec![last("*", 1)])).await;
    push_all(&node, "ci/app", &["a", "b", "c"]).await;
    push_all(&node, "ci/app", &["b"]).await;
    let open = async |rules: Vec<Retention>| {
        let network = cidery_core::memory::World::new().join(node.store.clone());
        Node::over(config(rules), node.store.clone(), std::sync::Arc::new(network)).await
    };
    let again = open(vec![last("*", 2)]).await;
    assert_eq!(gone(&again.registry.retain(true).await.unwrap()), ["ci/app:a"]);
    drop(again);
    let times = || node.store.tag_times(&Namespace::local(), &"ci/app".parse().unwrap()).unwrap();
    assert_eq!(times().len(), 3);
    // Without a rule nobody looks when tags are pushed: what was known would be wrong later.
    let none = open(Vec::new()).await;
    assert!(times().is_empty());
    push(&none, "ci/app:a", &manifest("moved")).await;
    drop(none);
    // Then it is known since when they stand for what they stand for: a was moved last, and b is as old as it was.
    let back = open(vec![last("*", 2)]).await;
    assert_eq!(gone(&retain(&back).await), ["ci/app:b"]);
    assert_eq!(times().len(), 2);
}

#[tokio::test]
async fn it_runs_by_itself_but_not_where_nothing_may_change() {
    for read_only in [false, true] {
        let node = Node::with(config(Vec::new())).await;
        push_all(&node, "ci/app", &["a", "b"]).await;
        let network = cidery_core::memory::World::new().join(node.store.clone());
        let config = Config { retention_period: Duration::from_millis(100), read_only, ..config(vec![last("*", 1)]) };
        let node = Node::over(config, node.store.clone(), std::sync::Arc::new(network)).await;
        let mut found = tags(&node, "ci/app").await;
        for _ in 0..if read_only { 100 } else { 1000 } {
            if found.len() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            found = tags(&node, "ci/app").await;
        }
        assert_eq!(found.len(), if read_only { 2 } else { 1 }, "{found:?}");
        // By hand it works nevertheless.
        node.registry.retain(false).await.unwrap();
        assert_eq!(tags(&node, "ci/app").await, ["b"]);
    }
}

/// While others push the same tags and delete them, nothing that stays is broken, and the last one pushed stays.
#[tokio::test(flavor = "multi_thread")]
async fn beside_pushes_nothing_goes_that_was_pushed_again() {
    let node = Node::with(config(vec![last("*", 2)])).await;
    // A run that nobody waits for any more would go on beside the last one.
    let pushing = AtomicBool::new(true);
    let pushes = async {
        for round in 0..40 {
            for n in 0..6 {
                let note = format!("content {}", (round + n) % 5);
                let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
                    { "mediaType": INDEX, "digest": sha256(manifest(&note).to_string().as_bytes()), "size": 100 }
                ] });
                let child = manifest(&note);
                let digest = sha256(child.to_string().as_bytes());
                let answer = node.push_manifest("ci/app", digest.as_str(), &child).await;
                assert_eq!(answer.status, StatusCode::CREATED);
                push(&node, &format!("ci/app:t{n}"), &index).await;
                // It was the last: no run may have taken it, nor what it stands for.
                assert_eq!(status(&node, "ci/app", format!("t{n}")).await, 200, "round {round}, t{n}");
            }
        }
        pushing.store(false, SeqCst);
    };
    let runs = async {
        while pushing.load(SeqCst) {
            let done = node.registry.retain(false).await.unwrap();
            assert!(done.failed.is_empty(), "{done:?}");
        }
    };
    tokio::join!(pushes, runs);
    retain(&node).await;
    assert_eq!(tags(&node, "ci/app").await, ["t4", "t5"]);
    for tag in ["t4", "t5"] {
        let index = node.request(Method::GET, format!("/v2/ci/app/manifests/{tag}")).send().await;
        assert_eq!(index.status, StatusCode::OK);
    }
}
