//! Peers that say what is not so.

use super::*;
use crate::network::Fault;
use cidery_core::Cid;
use std::time::Instant;

/// Stores a file where everybody can fetch it.
pub(super) fn offer(pair: &Pair, data: &[u8]) -> BlobFile {
    struct Out<'a>(&'a cidery_core::memory::MemoryStore);
    impl cidery_core::BlockWriter for Out<'_> {
        fn put(&mut self, block: &cidery_core::Block) -> Result<(), cidery_core::StoreError> {
            self.0.put(block, Origin::Peer)
        }
    }
    let mut builder = FileBuilder::new();
    builder.write(data, &mut Out(&pair.origin.store)).unwrap();
    let file = builder.finish(&mut Out(&pair.origin.store)).unwrap();
    BlobFile { cid: file.cid, size: file.size }
}

/// The same bytes as another file: one that has the file as its only part.
pub(super) fn wrapped(pair: &Pair, file: BlobFile) -> BlobFile {
    let varint = |mut n: u64| {
        let mut bytes = Vec::new();
        while n >= 0x80 {
            bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    };
    // UnixFS (type 2, a file; its size; the sizes of its parts), in a DAG-PB node of one link.
    let data = [&[0x08, 2, 0x18][..], &varint(file.size), &[0x20], &varint(file.size)].concat();
    let cid = file.cid.to_bytes();
    let link = [&[0x0a, cid.len() as u8][..], &cid, &[0x12, 0, 0x18], &varint(file.size + 1000)].concat();
    let node = [&[0x12, link.len() as u8][..], &link, &[0x0a, data.len() as u8], &data].concat();
    let block = cidery_core::Block::of(cidery_core::codec::DAG_PB, node);
    Blockstore::put(&pair.origin.store, &block, Origin::Peer).unwrap();
    BlobFile { cid: *block.cid(), size: file.size }
}

/// Has a peer, who is asked first, say that these files hold a digest.
pub(super) fn lie(pair: &Pair, peer: &str, digest: &Digest, files: &[BlobFile]) {
    let lies = MemoryDigests::new(pair.origin.store.clone());
    files.iter().for_each(|file| lies.add(digest, *file));
    pair.network.answering.lock().insert(0, (peer.into(), Arc::new(lies)));
}

pub(super) fn distrusted(pair: &Pair) -> Vec<String> {
    pair.network.distrusted.lock().clone()
}

#[tokio::test]
async fn an_honest_peer_is_found_among_liars() {
    let data = noise(11, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let lies: Vec<_> = (0..MAX_FILES as u64).map(|n| offer(&pair, &noise(100 + n, 3 * MIB))).collect();
    lie(&pair, "liar", &sha256(&data), &lies);
    assert!(pair.node.get(at(&data)).await.body == data, "one request is enough");
    assert_eq!(distrusted(&pair), ["liar"]);
    // One lie was fetched, not all of them.
    assert!(pair.network.sent() < 7 * MIB as u64, "{}", pair.network.sent());
    assert_eq!(pair.node.head(at(&data)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_most_peers_say_comes_first() {
    let data = noise(12, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let digests = pair.origin.registry.digests(Arc::new(pair.origin.store.clone()));
    pair.network.answering.lock().push(("another".into(), digests));
    let wrong = offer(&pair, &noise(13, 3 * MIB));
    lie(&pair, "liar", &sha256(&data), &[wrong]);
    assert!(pair.node.get(at(&data)).await.body == data);
    assert!(pair.network.sent() < 4 * MIB as u64, "{}", pair.network.sent());
    assert_eq!(distrusted(&pair), [""; 0]);
}

#[tokio::test]
async fn a_liar_that_is_alone_breaks_one_answer_and_spoils_nothing() {
    let data = noise(14, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let honest = pair.network.answering.lock().pop().unwrap();
    let wrong = noise(15, 3 * MIB);
    let file = offer(&pair, &wrong);
    lie(&pair, "liar", &sha256(&data), &[file]);
    let response = pair.node.request(Method::GET, at(&data)).begin().await;
    let mut body = response.into_body().into_data_stream();
    let (mut got, mut broke) = (0, false);
    while let Some(frame) = body.next().await {
        match frame {
            Ok(bytes) => got += bytes.len(),
            Err(_) => broke = true,
        }
    }
    assert!(broke && got <= 2 * MIB, "the last leaf was withheld: {got}");
    assert_eq!(distrusted(&pair), ["liar"]);
    assert_eq!(pair.node.head(at(&data)).await.status, StatusCode::NOT_FOUND);
    assert!(lacks(&pair.node, &data).await);
    // The pair is remembered, whoever names it.
    lie(&pair, "friend of the liar", &sha256(&data), &[file]);
    let sent = pair.network.sent();
    pair.node.get(at(&data)).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(pair.network.sent(), sent);
    pair.network.answering.lock().push(honest);
    assert!(pair.node.get(at(&data)).await.body == data);
    // Also where the client asked for a part, and so could not be told half-way.
    let (part, other) = (noise(16, 2 * MIB), offer(&pair, &noise(17, 2 * MIB)));
    name(&pair.node, &[&part]).await;
    lie(&pair, "second", &sha256(&part), &[other]);
    let answer = pair.node.request(Method::GET, at(&part)).header("range", "bytes=0-9").send().await;
    answer.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(distrusted(&pair), ["liar", "second"]);
}

#[tokio::test]
async fn another_size_is_no_claim() {
    let data = noise(18, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    pair.network.answering.lock().clear();
    let file = offer(&pair, &noise(19, 3 * MIB + 1));
    lie(&pair, "larger", &sha256(&data), &[file]);
    pair.node.get(at(&data)).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!((pair.network.sent(), pair.network.sessions.load(SeqCst)), (0, 0));
    // The right size, of a file that has another one.
    lie(&pair, "liar", &sha256(&data), &[BlobFile { size: data.len() as u64, ..file }]);
    pair.node.get(at(&data)).await.is_error(404, "BLOB_UNKNOWN");
    assert!(pair.network.sent() < 1000, "the root tells");
    assert_eq!(distrusted(&pair), ["liar"]);
    // A leaf that is the hash of something else needs no look at all.
    let leaf = offer(&pair, b"leaf");
    lie(&pair, "leaf", &sha256(&data), &[BlobFile { size: data.len() as u64, ..leaf }]);
    let sent = pair.network.sent();
    pair.node.get(at(&data)).await.is_error(404, "BLOB_UNKNOWN");
    assert_eq!(pair.network.sent(), sent);
}

#[tokio::test]
async fn what_is_no_file_is_no_answer() {
    let data = noise(20, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let root: Cid = pair.root.parse().unwrap();
    lie(&pair, "directory", &sha256(&data), &[BlobFile { cid: root, size: data.len() as u64 }]);
    assert!(pair.node.get(at(&data)).await.body == data);
    assert_eq!(distrusted(&pair), ["directory"]);
}

#[tokio::test]
async fn who_names_what_never_comes_costs_little() {
    let data = noise(21, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let lies: Vec<_> = (0..3).map(|n| offer(&pair, &noise(200 + n, 3 * MIB))).collect();
    let faults = [Fault::Never, Fault::Missing, Fault::Stalled];
    for (file, fault) in lies.iter().zip(faults) {
        pair.network.faults.lock().insert(file.cid, fault);
    }
    lie(&pair, "liar", &sha256(&data), &lies);
    let begun = Instant::now();
    assert!(pair.node.get(at(&data)).await.body == data);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// The first block comes, and then nothing: where others say otherwise, that has an end.
#[tokio::test(start_paused = true)]
async fn who_begins_and_does_not_go_on_has_a_time() {
    let data = noise(22, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let wrong = noise(23, 3 * MIB);
    let file = offer(&pair, &wrong);
    let leaf = *cidery_core::Block::raw(Bytes::copy_from_slice(&wrong[MIB..2 * MIB])).cid();
    pair.network.faults.lock().insert(leaf, Fault::Never);
    lie(&pair, "liar", &sha256(&data), &[file]);
    let begun = tokio::time::Instant::now();
    assert!(pair.node.get(at(&data)).await.body == data);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
