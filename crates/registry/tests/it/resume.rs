//! Uploads that break, stop, meet, or outlive the process.

use crate::{
    network::Forbidden,
    store::Disk,
    support::{MIB, Node, noise, sha256, until},
};
use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use bytes::Bytes;
use cidery_core::RootStore;
use cidery_registry::{Config, Registry};
use std::{
    io,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::sync::mpsc;

/// A body that is fed by hand; dropping the sender ends it.
fn fed() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (sender, mut receiver) = mpsc::channel(4);
    (sender, Body::from_stream(futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the client went away")
}

async fn finish(node: &Node, location: &str, data: &[u8], from: usize) {
    let rest = node.request(Method::PATCH, location).body(data[from..].to_vec()).send().await;
    assert_eq!(rest.status, StatusCode::ACCEPTED, "{}", rest.text());
    let digest = sha256(data);
    let put = node.request(Method::PUT, format!("{location}?digest={digest}")).send().await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    assert!(node.get(format!("/v2/app/blobs/{digest}")).await.body == data);
}

#[tokio::test]
async fn what_arrived_before_a_patch_broke_stays() {
    let node = Node::new().await;
    for size in [0, 1, 1000, MIB, MIB + 5, 2 * MIB + 700_000] {
        let data = noise(1, 3 * MIB);
        let location = node.start("app").await;
        let pieces: Vec<_> = data[..size].chunks(65_536).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let body = Body::from_stream(futures::stream::iter(pieces.into_iter().chain([Err(broken())])));
        let answer = node.request(Method::PATCH, &location).body(body).send().await;
        answer.is_error(400, "BLOB_UPLOAD_INVALID");
        let status = node.get(&location).await;
        assert_eq!(status.header("range"), format!("0-{}", size.max(1) - 1));
        finish(&node, &location, &data, size).await;
    }
}

#[tokio::test]
async fn a_client_that_hangs_is_cut_off_and_can_go_on() {
    let node = Node::with(Config { stall_timeout: Duration::from_millis(100), ..Config::default() }).await;
    let data = noise(2, 100_000);
    let location = node.start("app").await;
    let (sender, body) = fed();
    sender.send(Ok(Bytes::copy_from_slice(&data[..40_000]))).await.unwrap();
    let answer = node.request(Method::PATCH, &location).body(body).send().await;
    assert!(answer.is_error(400, "BLOB_UPLOAD_INVALID").contains("nothing"));
    assert_eq!(answer.header("range"), "0-39999");
    finish(&node, &location, &data, 40_000).await;
}

#[tokio::test]
async fn two_requests_on_one_upload_do_not_mix() {
    let node = Arc::new(Node::new().await);
    let data = noise(3, 2 * MIB);
    let location = node.start("app").await;
    let (sender, body) = fed();
    let first = {
        let (node, location) = (node.clone(), location.clone());
        tokio::spawn(async move { node.request(Method::PATCH, location).body(body).send().await })
    };
    sender.send(Ok(Bytes::copy_from_slice(&data[..MIB]))).await.unwrap();
    node.taken(&location).await;
    let digest = sha256(&data);
    let put = node.request(Method::PUT, format!("{location}?digest={digest}")).send();
    let (patch, put, delete) =
        tokio::join!(node.request(Method::PATCH, &location).body("intruder").send(), put, node.delete(&location),);
    for answer in [patch, put, delete] {
        answer.is_error(409, "BLOB_UPLOAD_INVALID");
    }
    sender.send(Ok(Bytes::copy_from_slice(&data[MIB..]))).await.unwrap();
    drop(sender);
    assert_eq!(first.await.unwrap().status, StatusCode::ACCEPTED);
    finish(&node, &location, &data, data.len()).await;
}

#[tokio::test]
async fn a_patch_whose_handler_is_dropped_keeps_what_arrived() {
    let node = Node::new().await;
    let data = noise(4, 2 * MIB);
    let location = node.start("app").await;
    let (sender, body) = fed();
    let call = node.request(Method::PATCH, &location).body(body).begin();
    {
        let mut call = Box::pin(call);
        assert!(futures::poll!(&mut call).is_pending());
        node.taken(&location).await;
        sender.send(Ok(Bytes::copy_from_slice(&data[..MIB + 9]))).await.unwrap();
        // Hyper drops the handler when its connection is gone.
    }
    drop(sender);
    let status = node.get(&location).await;
    assert_eq!(status.header("range"), format!("0-{}", MIB + 8));
    finish(&node, &location, &data, MIB + 9).await;
}

async fn reopen(disk: &Disk) -> Node {
    let (blocks, roots) = (Arc::new(disk.clone()), Arc::new(disk.clone()));
    let registry = Registry::open(Config::default(), blocks, roots, Arc::new(Forbidden)).await.unwrap();
    Node { store: disk.memory.clone(), registry }
}

#[tokio::test]
async fn an_upload_survives_a_restart_at_its_last_leaf() {
    let disk = Disk::new();
    let data = noise(5, 5 * MIB + 77);
    let node = reopen(&disk).await;
    let location = node.start("app").await;
    for chunk in data[..3 * MIB + 12_345].chunks(MIB + 1) {
        let answer = node.request(Method::PATCH, &location).body(chunk.to_vec()).send().await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    node.registry.save_uploads().await;
    drop(node);
    let node = reopen(&disk).await;
    let status = node.get(&location).await;
    assert_eq!(status.status, StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), format!("0-{}", 3 * MIB - 1));
    finish(&node, &location, &data, 3 * MIB).await;
    // Ended uploads are not taken up again.
    while !disk.uploads().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(node);
    reopen(&disk).await.get(&location).await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_in_many_chunks_is_saved_now_and_then() {
    let disk = Disk::new();
    let (chunk, chunks) = (noise(13, MIB), 150);
    let node = reopen(&disk).await;
    let location = node.start("app").await;
    for _ in 0..chunks {
        let answer = node.request(Method::PATCH, &location).body(chunk.clone()).send().await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    let saves = disk.saves.load(SeqCst);
    assert!((1..=4).contains(&saves), "{saves} records for {chunks} chunks");
    // Without an orderly end it is not far behind.
    drop(node);
    let range = reopen(&disk).await.get(&location).await.header("range").to_owned();
    let kept = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!(kept > (chunks - 65) * MIB && kept.is_multiple_of(MIB), "{kept}");
}

#[tokio::test]
async fn a_long_patch_is_saved_now_and_then() {
    let disk = Disk::new();
    let node = reopen(&disk).await;
    let location = node.start("app").await;
    let chunk = Bytes::from(noise(14, MIB));
    let body = Body::from_stream(futures::stream::iter(vec![chunk; 150].into_iter().map(Ok::<_, io::Error>)));
    let answer = node.request(Method::PATCH, &location).body(body).send().await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert!((1..=3).contains(&disk.saves.load(SeqCst)));
}

#[tokio::test]
async fn an_idle_upload_is_saved_to_its_last_leaf() {
    let disk = Disk::new();
    let config = Config { session_idle: Duration::from_millis(100), ..Config::default() };
    let (blocks, roots) = (Arc::new(disk.clone()), Arc::new(disk.clone()));
    let registry = Registry::open(config, blocks, roots, Arc::new(Forbidden)).await.unwrap();
    let node = Node { store: disk.memory.clone(), registry };
    let (data, location) = (noise(15, 3 * MIB + 9), node.start("app").await);
    node.request(Method::PATCH, &location).body(data.clone()).send().await;
    assert_eq!(disk.saves.load(SeqCst), 0);
    until("its record", || !disk.uploads().unwrap().is_empty()).await;
    drop(node);
    finish(&reopen(&disk).await, &location, &data, 3 * MIB).await;
    assert_eq!(disk.saves.load(SeqCst), 1, "once, and not again while nothing comes");
}

#[tokio::test]
async fn an_upload_of_many_leaves_is_hashed_again_in_order() {
    let disk = Disk::new();
    let data = noise(6, 9 * MIB);
    let node = reopen(&disk).await;
    let location = node.start("app").await;
    node.request(Method::PATCH, &location).body(data[..8 * MIB].to_vec()).send().await;
    node.registry.save_uploads().await;
    drop(node);
    finish(&reopen(&disk).await, &location, &data, 8 * MIB).await;
}

#[tokio::test]
async fn idle_uploads_expire() {
    let disk = Disk::new();
    let node = reopen(&disk).await;
    let location = node.start("app").await;
    node.request(Method::PATCH, &location).body(noise(7, 2 * MIB)).send().await;
    node.registry.save_uploads().await;
    assert_eq!(disk.uploads().unwrap().len(), 1);
    drop(node);
    let config = Config { upload_expiry: Duration::ZERO, ..Config::default() };
    let (blocks, roots) = (Arc::new(disk.clone()), Arc::new(disk.clone()));
    let registry = Registry::open(config, blocks, roots, Arc::new(Forbidden)).await.unwrap();
    let node = Node { store: disk.memory.clone(), registry };
    node.get(&location).await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(disk.uploads().unwrap().is_empty());
}

#[tokio::test]
async fn a_saved_upload_that_is_garbage_does_not_stop_the_registry() {
    let disk = Disk::new();
    for (n, state) in
        [vec![], vec![9, 9, 9], vec![1, 255, 255, 255, 255], vec![1, 0, 0, 0, 2, b'{', b'}']].into_iter().enumerate()
    {
        disk.save_upload(&cidery_core::UploadRecord { id: format!("u{n}"), pins: Vec::new(), state }).unwrap();
    }
    let node = reopen(&disk).await;
    assert!(disk.uploads().unwrap().is_empty());
    node.push_blob("app", b"layer").await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_upload_goes_on_when_there_is_room() {
    let disk = Disk::new();
    let node = reopen(&disk).await;
    let data = noise(8, 6 * MIB + 3);
    let location = node.start("app").await;
    let first = node.request(Method::PATCH, &location).body(data[..2 * MIB + 5].to_vec()).send().await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    disk.full.store(true, SeqCst);
    let answer = node.request(Method::PATCH, &location).body(data[2 * MIB + 5..].to_vec()).send().await;
    let message = answer.is_error(507, "UNAVAILABLE");
    assert!(message.contains("no space left"), "{message}");
    disk.full.store(false, SeqCst);
    let range = node.get(&location).await.header("range").to_owned();
    let kept = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!((MIB..=2 * MIB + 5).contains(&kept), "{range}");
    finish(&node, &location, &data, kept).await;
}

#[tokio::test]
async fn a_disk_that_fills_anywhere_in_a_push_loses_nothing_that_was_acknowledged() {
    let data = noise(9, 3 * MIB + 1);
    for room in 0..12 {
        let disk = Disk::new();
        let node = reopen(&disk).await;
        disk.room.store(room, SeqCst);
        let location = node.start("app").await;
        let patch = node.request(Method::PATCH, &location).body(data.clone()).send().await;
        let path = format!("{location}?digest={}", sha256(&data));
        let put = match patch.status {
            StatusCode::ACCEPTED => node.request(Method::PUT, &path).send().await,
            _ => patch,
        };
        disk.room.store(usize::MAX / 2, SeqCst);
        if put.status == StatusCode::CREATED {
            assert!(node.get(format!("/v2/app/blobs/{}", sha256(&data))).await.body == data);
            continue;
        }
        put.is_error(507, "UNAVAILABLE");
        let range = node.get(&location).await.header("range").to_owned();
        let last = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap();
        finish(&node, &location, &data, if last == 0 { 0 } else { last + 1 }).await;
    }
}

#[tokio::test]
async fn small_blobs_take_no_writer_of_their_own() {
    let disk = Disk::new();
    let node = reopen(&disk).await;
    node.push_blob("app", &noise(10, MIB)).await;
    node.push_blob("app", b"small").await;
    assert_eq!(disk.writers.load(SeqCst), 0);
    node.push_blob("app", &noise(11, 4 * MIB)).await;
    assert_eq!(disk.writers.load(SeqCst), 1);
}

#[tokio::test]
async fn a_wrong_digest_after_a_full_disk_is_still_wrong() {
    let disk = Disk::new();
    let node = reopen(&disk).await;
    let data = noise(12, 2 * MIB);
    let location = node.start("app").await;
    node.request(Method::PATCH, &location).body(data).send().await;
    let path = format!("{location}?digest={}", sha256(b"another"));
    disk.full.store(true, SeqCst);
    node.request(Method::PUT, &path).send().await.is_error(400, "DIGEST_INVALID");
}
