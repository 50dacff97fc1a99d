//! What is answered as done is durable, and many pushes share what that costs.

use crate::{
    network::Forbidden,
    store::Disk,
    support::{Answer, Node, noise, sha256, until},
};
use axum::http::{Method, StatusCode};
use cidery_registry::{Config, Registry, tree::manifest::media_type};
use serde_json::{Value, json};
use std::sync::{Arc, atomic::Ordering::SeqCst};

async fn open(disk: &Disk) -> Arc<Node> {
    let (blocks, roots) = (Arc::new(disk.clone()), Arc::new(disk.clone()));
    let registry = Registry::open(Config::default(), blocks, roots, Arc::new(Forbidden)).await.unwrap();
    Arc::new(Node { store: disk.memory.clone(), registry })
}

/// An index that needs nothing.
fn manifest(n: usize) -> Value {
    let annotations = json!({ "n": n.to_string() });
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "annotations": annotations })
}

/// A request that changes something, and where that shows.
struct Change {
    request: (Method, String, Vec<u8>),
    done: StatusCode,
    shows: String,
    before: StatusCode,
    after: StatusCode,
}

impl Change {
    async fn send(&self, node: &Node) -> Answer {
        let (method, path, body) = self.request.clone();
        let call = node.request(method, path).header("content-type", media_type::OCI_INDEX);
        call.body(body).send().await
    }

    async fn shown(&self, node: &Node) -> StatusCode {
        node.head(&self.shows).await.status
    }
}

/// Every kind of change, over a registry of its own.
async fn changes() -> Vec<(Disk, Arc<Node>, Change)> {
    use StatusCode as S;
    let (large, small) = (noise(1, (2 << 20) + 1), b"small".to_vec());
    let mut all = Vec::new();
    for kind in 0.. {
        let disk = Disk::new();
        let node = open(&disk).await;
        let image = node.push_image("app", "1", &[b"layer"]).await;
        let layer = sha256(b"layer");
        let loose = node.push_blob("app", b"loose").await;
        let blob = |data: &[u8]| format!("/v2/app/blobs/{}", sha256(data));
        let manifests = "/v2/app/manifests";
        let (method, path, body, shows) = match kind {
            0 => {
                let location = node.start("app").await;
                (Method::PUT, format!("{location}?digest={}", sha256(&small)), small.clone(), blob(&small))
            }
            1 | 2 => {
                let data = if kind == 1 { &small } else { &large };
                let path = format!("/v2/app/blobs/uploads/?digest={}", sha256(data));
                (Method::POST, path, data.clone(), blob(data))
            }
            3 => {
                let path = format!("/v2/other/blobs/uploads/?mount={layer}&from=app");
                (Method::POST, path, Vec::new(), format!("/v2/other/blobs/{layer}"))
            }
            4 => {
                let path = format!("{manifests}/2");
                (Method::PUT, path.clone(), manifest(0).to_string().into_bytes(), path)
            }
            5 => (Method::DELETE, format!("{manifests}/1"), Vec::new(), format!("{manifests}/1")),
            6 => (Method::DELETE, format!("{manifests}/{image}"), Vec::new(), format!("{manifests}/{image}")),
            7 => {
                // In use until then.
                assert_eq!(node.delete(format!("{manifests}/{image}")).await.status, S::ACCEPTED);
                (Method::DELETE, blob(b"layer"), Vec::new(), blob(b"layer"))
            }
            8 => (Method::DELETE, format!("/v2/app/blobs/{loose}"), Vec::new(), format!("/v2/app/blobs/{loose}")),
            _ => return all,
        };
        let adds = method != Method::DELETE;
        let (done, before, after) =
            if adds { (S::CREATED, S::NOT_FOUND, S::OK) } else { (S::ACCEPTED, S::OK, S::NOT_FOUND) };
        all.push((disk, node, Change { request: (method, path, body), done, shows, before, after }));
    }
    unreachable!("the last kind returns")
}

#[tokio::test]
async fn nothing_is_answered_as_done_before_it_is_durable() {
    for (disk, node, change) in changes().await {
        let change = Arc::new(change);
        disk.gate.close();
        let answer = {
            let (node, change) = (node.clone(), change.clone());
            tokio::spawn(async move { change.send(&node).await })
        };
        until("the change on its way to the disk", || disk.gate.waiting.load(SeqCst) == 1).await;
        let path = &change.request.1;
        assert_eq!(change.shown(&node).await, change.before, "{path}");
        assert!(!answer.is_finished(), "{path}");
        disk.gate.open();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, change.done, "{path}: {}", answer.text());
        assert_eq!(change.shown(&node).await, change.after, "{path}");
    }
}

#[tokio::test]
async fn nothing_is_answered_as_done_that_did_not_become_durable() {
    for (disk, node, change) in changes().await {
        disk.broken.store(true, SeqCst);
        let path = &change.request.1;
        for _ in 0..2 {
            change.send(&node).await.is_error(500, "UNKNOWN");
            assert_eq!(change.shown(&node).await, change.before, "{path}");
        }
        disk.broken.store(false, SeqCst);
        let answer = change.send(&node).await;
        assert_eq!(answer.status, change.done, "{path}: {}", answer.text());
        assert_eq!(change.shown(&node).await, change.after, "{path}");
        // It is so for the next start, too.
        assert_eq!(change.shown(&*open(&disk).await).await, change.after, "{path}");
    }
}

#[tokio::test]
async fn pushes_at_once_share_commits_and_write_nothing_else() {
    const PUSHES: usize = 64;
    let disk = Disk::new();
    let node = open(&disk).await;
    let manifests: Vec<_> = (0..PUSHES)
        .map(|n| {
            let node = node.clone();
            tokio::spawn(async move { node.push_manifest(&format!("app{n}"), "1", &manifest(n)).await.status })
        })
        .collect();
    let blobs: Vec<_> = (0..PUSHES)
        .map(|n| {
            let node = node.clone();
            tokio::spawn(async move { node.push_blob("app", format!("blob {n}").as_bytes()).await })
        })
        .collect();
    let blobs = futures::future::try_join_all(blobs).await.unwrap();
    let statuses = futures::future::try_join_all(manifests).await.unwrap();
    assert_eq!(statuses, [StatusCode::CREATED; PUSHES]);
    for digest in &blobs {
        assert_eq!(node.head(format!("/v2/app/blobs/{digest}")).await.status, StatusCode::OK);
    }
    assert_eq!(disk.links.load(SeqCst), PUSHES, "one for each blob");
    assert_eq!((disk.writers.load(SeqCst), disk.saves.load(SeqCst)), (0, 0));
    assert_eq!(cidery_core::Blockstore::stats(&disk).syncs, 0, "the journal's own flushes are all");
    // While one commit is on its way to the disk, those that come make the next one together.
    disk.gate.close();
    let before = disk.commits.load(SeqCst);
    let again: Vec<_> = (0..PUSHES)
        .map(|n| {
            let node = node.clone();
            tokio::spawn(async move { node.push_manifest(&format!("app{n}"), "2", &manifest(n)).await.status })
        })
        .collect();
    until("the first commit", || disk.gate.waiting.load(SeqCst) == 1).await;
    // On this one thread every request has its turn.
    for _ in 0..10 * PUSHES {
        tokio::task::yield_now().await;
    }
    disk.gate.open();
    assert_eq!(futures::future::try_join_all(again).await.unwrap(), [StatusCode::CREATED; PUSHES]);
    let commits = disk.commits.load(SeqCst) - before;
    assert!((1..=2).contains(&commits), "{commits} commits for {PUSHES} manifests");
    for n in 0..PUSHES {
        assert_eq!(node.head(format!("/v2/app{n}/manifests/2")).await.status, StatusCode::OK);
    }
}
