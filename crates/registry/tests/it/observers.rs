//! Who is told what was written.

use crate::support::{Node, image, noise, sha256, until};
use async_trait::async_trait;
use axum::http::{Method, StatusCode};
use cidery_registry::{
    Config,
    ops::{Action, Event, NoRoom, Observer, Observers, Origin, Ticket},
};
use futures::FutureExt;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;

/// Writes down what it is told.
#[derive(Debug, Default)]
pub struct Notes {
    events: Arc<Mutex<Vec<Event>>>,
    pulls: bool,
    full: Mutex<bool>,
}

struct Note(Arc<Mutex<Vec<Event>>>);

impl Ticket for Note {
    fn tell(self: Box<Self>, event: &Event) {
        self.0.lock().push(event.clone());
    }
}

#[async_trait]
impl Observer for Notes {
    async fn room(&self) -> Result<Box<dyn Ticket>, NoRoom> {
        if *self.full.lock() {
            Err(NoRoom("the notebook is full".into()))
        } else {
            Ok(Box::new(Note(self.events.clone())))
        }
    }

    fn wants_pulls(&self) -> bool {
        self.pulls
    }

    fn pulled(&self, event: &Event) {
        self.events.lock().push(event.clone());
    }
}

impl Notes {
    /// With `pulls`, of them too.
    pub fn new(pulls: bool) -> Arc<Self> {
        Arc::new(Self { pulls, ..Self::default() })
    }

    /// Whether there is no more room.
    pub fn fill(&self, full: bool) {
        *self.full.lock() = full;
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock())
    }
}

async fn node(pulls: bool) -> (Node, Arc<Notes>) {
    let notes = Notes::new(pulls);
    let observers = Observers::new(vec![notes.clone()]);
    let config = Config { observers, require_references: true, ..Config::default() };
    (Node::with(config).await, notes)
}

fn index() -> serde_json::Value {
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] })
}

#[tokio::test]
async fn every_write_is_told_with_its_target() {
    let (node, notes) = node(false).await;
    let layer = noise(1, 1000);
    let blob = node.push_blob("team/app", &layer).await;
    let events = notes.take();
    assert_eq!(events.len(), 1);
    let target = &events[0].targets[0];
    assert_eq!((events[0].action, target.blob, target.name.as_str()), (Action::Push, true, "team/app"));
    assert_eq!((target.digest.as_ref(), target.size), (Some(&blob), Some(1000)));

    let whole = noise(2, 10);
    let path = format!("/v2/team/app/blobs/uploads/?digest={}", sha256(&whole));
    assert_eq!(node.request(Method::POST, path).body(whole.clone()).send().await.status, StatusCode::CREATED);
    assert_eq!(notes.take()[0].targets[0].digest, Some(sha256(&whole)));

    let path = format!("/v2/other/blobs/uploads/?mount={blob}&from=team/app");
    assert_eq!(node.request(Method::POST, path).send().await.status, StatusCode::CREATED);
    let event = notes.take().remove(0);
    assert_eq!((event.action, event.targets[0].name.as_str()), (Action::Mount, "other"));
    assert_eq!(event.targets[0].from.as_deref(), Some("team/app"));

    let manifest = image((blob.clone(), 1000), &[]);
    let path = format!("/v2/team/app/manifests/{}?tag=1&tag=2&token=s3cret", sha256(manifest.to_string().as_bytes()));
    let put = node.request(Method::PUT, path).body(manifest.to_string());
    let put = put.header("content-type", manifest["mediaType"].as_str().unwrap()).header("user-agent", "test/1");
    let put = put.header("authorization", "Basic s3cret").from("127.0.0.1:9");
    let answer = put.send().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let event = notes.take().remove(0);
    let target = &event.targets[0];
    assert_eq!((event.action, target.tags.clone()), (Action::Push, vec!["1".to_owned(), "2".to_owned()]));
    assert_eq!(target.digest.as_ref().unwrap().as_str(), answer.header("docker-content-digest"));
    assert_eq!(
        (target.media_type.as_deref(), target.size),
        (manifest["mediaType"].as_str(), Some(manifest.to_string().len() as u64))
    );
    let Origin::Http(origin) = &event.origin else { panic!("{event:?}") };
    assert_eq!((origin.method.as_str(), origin.id.as_str()), ("PUT", answer.header("x-request-id")));
    assert_eq!((origin.agent.as_deref(), origin.address), (Some("test/1"), Some("127.0.0.1:9".parse().unwrap())));
    assert!(!format!("{event:?}").contains("s3cret"));

    let digest = answer.header("docker-content-digest");
    for (path, tags, digest) in [
        ("/v2/team/app/manifests/2".to_owned(), vec!["2".to_owned()], None),
        (format!("/v2/team/app/manifests/{digest}"), vec![], Some(digest)),
        (format!("/v2/team/app/blobs/{blob}"), vec![], Some(blob.as_str())),
    ] {
        assert_eq!(node.delete(&path).await.status, StatusCode::ACCEPTED, "{path}");
        let event = notes.take().remove(0);
        let target = &event.targets[0];
        assert_eq!(
            (event.action, &target.tags, target.digest.as_ref().map(|d| d.as_str())),
            (Action::Delete, &tags, digest)
        );
        // What is not there any more is not deleted.
        assert_eq!(node.delete(&path).await.status, StatusCode::NOT_FOUND);
        assert!(notes.take().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn what_was_refused_or_only_read_is_not_told() {
    let (node, notes) = node(false).await;
    let refused = image((sha256(b"missing"), 7), &[]);
    node.push_manifest("app", "1", &refused).await.is_error(400, "MANIFEST_BLOB_UNKNOWN");
    node.push_manifest("app", "1", &index()).await;
    assert_eq!(notes.take().len(), 1);
    assert_eq!(node.get("/v2/app/manifests/1").await.status, StatusCode::OK);
    assert!(notes.take().is_empty());
}

#[tokio::test]
async fn pulls_are_told_to_who_wants_them() {
    let (node, notes) = node(true).await;
    let digest = node.push_manifest("app", "1", &index()).await.header("docker-content-digest").to_owned();
    notes.take();
    assert_eq!(node.head("/v2/app/manifests/1").await.status, StatusCode::OK);
    let etag = format!("\"{digest}\"");
    let again = node.request(Method::GET, "/v2/app/manifests/1").header("if-none-match", &etag);
    assert_eq!(again.send().await.status, StatusCode::NOT_MODIFIED);
    assert!(notes.take().is_empty(), "nothing was sent");
    assert_eq!(node.get("/v2/app/manifests/1").await.status, StatusCode::OK);
    let event = notes.take().remove(0);
    assert_eq!((event.action, event.targets[0].tags.len()), (Action::Pull, 1));
    assert_eq!(event.targets[0].digest.as_ref().map(|d| d.as_str()), Some(digest.as_str()));
}

#[tokio::test]
async fn without_room_nothing_is_written() {
    let (node, notes) = node(false).await;
    let digest = node.push_manifest("app", "1", &index()).await.header("docker-content-digest").to_owned();
    let blob = node.push_blob("app", b"blob").await;
    let location = node.start("app").await;
    *notes.full.lock() = true;
    let answer = node.push_manifest("app", "2", &index()).await;
    answer.is_error(503, "UNAVAILABLE");
    assert!(!answer.header("retry-after").is_empty());
    for path in [format!("/v2/app/manifests/{digest}"), "/v2/app/manifests/1".into(), format!("/v2/app/blobs/{blob}")] {
        node.delete(&path).await.is_error(503, "UNAVAILABLE");
        assert_eq!(node.get(&path).await.status, StatusCode::OK, "{path}");
    }
    let close = format!("{location}?digest={}", sha256(b"new"));
    node.request(Method::PUT, &close).body("new").send().await.is_error(503, "UNAVAILABLE");
    assert_eq!(node.get("/v2/app/manifests/2").await.status, StatusCode::NOT_FOUND);
    *notes.full.lock() = false;
    // The upload is still there.
    assert_eq!(node.request(Method::PUT, &close).body("new").send().await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_write_is_told_when_its_client_went_meanwhile() {
    let (node, notes) = node(false).await;
    let manifest = index();
    let put = node.request(Method::PUT, "/v2/app/manifests/1").body(manifest.to_string());
    let put = put.header("content-type", manifest["mediaType"].as_str().unwrap());
    // One step, and then it is dropped.
    assert!(put.begin().now_or_never().is_none());
    until("the event", || !notes.events.lock().is_empty()).await;
    assert_eq!(node.get("/v2/app/manifests/1").await.status, StatusCode::OK);
}
