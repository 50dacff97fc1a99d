//! Which file holds a blob, asked between real nodes.

use crate::common::*;
use cidery_core::{
    BlobFile, Block, Blockstore, Claim, Digest, Namespace, Network, Origin, PublishMode, RootStore,
    memory::MemoryDigests, suite::node as dag_node,
};
use cidery_node::Questions;
use futures::StreamExt;
use libp2p::{
    StreamProtocol,
    request_response::{self, ProtocolSupport},
    swarm::SwarmEvent,
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// A file in a node's store that is said to hold a digest, whatever it holds.
fn file(peer: &Peer, n: u8) -> (Digest, BlobFile) {
    let leaf = Block::raw(vec![n; 1000]);
    let root = dag_node(&[*leaf.cid()]);
    for block in [&leaf, &root] {
        peer.store.put(block, Origin::Pushed).unwrap();
    }
    let current = peer.store.state(&Namespace::local()).unwrap().root.map(|entry| entry.cid);
    peer.store.commit(&Namespace::local(), current, *root.cid(), &[]).unwrap();
    (Digest::sha256(&[n; 32]), BlobFile { cid: *root.cid(), size: u64::from(n) << 20 })
}

/// A node that knows of one file, which it published or not.
async fn knowing(peers: &[&Peer], n: u8, public: bool) -> (Peer, Digest, BlobFile) {
    let peer = start_with(peers).await;
    let (digest, file) = file(&peer, n);
    let digests = MemoryDigests::new(peer.store.clone());
    digests.add(&digest, file);
    if public {
        peer.store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    }
    peer.node.answer_with(Arc::new(digests));
    (peer, digest, file)
}

async fn all(peer: &Peer, digest: &Digest) -> Vec<Claim> {
    let mut inquiry = peer.node.inquire(digest).await;
    let mut claims = Vec::new();
    while let Some(claim) = within(inquiry.next()).await {
        claims.push(claim);
    }
    claims
}

#[tokio::test]
async fn a_connected_peer_answers() {
    let (a, digest, file) = knowing(&[], 1, true).await;
    let b = start_with(&[&a]).await;
    let claim = Claim { file, peer: a.node.peer_id().into() };
    assert_eq!(all(&b, &digest).await, std::slice::from_ref(&claim));
    let mut inquiry = b.node.inquire(&digest).await;
    let begun = Instant::now();
    assert_eq!(within(inquiry.next()).await, Some(claim.clone()));
    assert!(begun.elapsed().as_millis() < 1500, "the first answer is not waited for: {:?}", begun.elapsed());
    drop(inquiry);
    // Whoever is asked for what he does not have says so, and that is all.
    assert_eq!(all(&b, &Digest::sha256(&[9; 32])).await, []);
    assert_eq!(all(&b, &Digest::sha512(&[9; 64])).await, []);
    // Who was found out is not believed again, and others still are.
    b.node.distrust(&claim);
    assert_eq!(all(&b, &digest).await, []);
    let c = start_with(&[&a]).await;
    assert_eq!(all(&c, &digest).await, [claim]);
}

#[tokio::test]
async fn what_is_private_is_told_to_nobody() {
    let (a, digest, _) = knowing(&[], 2, false).await;
    let b = start_with(&[&a]).await;
    assert_eq!(all(&b, &digest).await, []);
    a.store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
    assert_eq!(all(&b, &digest).await.len(), 1);
    a.store.unpublish(&Namespace::local()).unwrap();
    assert_eq!(all(&b, &digest).await, []);
    // Nor does a node say anything that nobody told it what to say.
    let quiet = start_with(&[&a]).await;
    assert_eq!(all(&a, &digest).await, []);
    drop(quiet);
}

#[tokio::test]
async fn a_provider_that_only_a_third_one_knows_is_found_by_the_digest() {
    let middle = start(quiet()).await;
    let (a, digest, file) = knowing(&[&middle], 3, true).await;
    let key = digest.raw_cid().unwrap();
    a.node.provide(&Namespace::local(), vec![file.cid, key]).await.unwrap();
    let at = middle.address().await;
    eventually("the record is in the middle", || async { providers(&at, &key).await.contains(&a.id()) }).await;
    let c = start_with(&[&middle]).await;
    assert_eq!(all(&c, &digest).await, [Claim { file, peer: a.node.peer_id().into() }]);
    assert_eq!(c.node.peers().await, 2);
}

#[tokio::test]
async fn several_peers_answer_each_for_itself() {
    let (a, digest, honest) = knowing(&[], 4, true).await;
    let (b, _, other) = knowing(&[&a], 5, true).await;
    let lie = MemoryDigests::new(b.store.clone());
    lie.add(&digest, other);
    b.node.answer_with(Arc::new(lie));
    let c = start_with(&[&a, &b]).await;
    let mut claims = all(&c, &digest).await;
    claims.sort_by_key(|claim| claim.file.cid != honest.cid);
    let claim = |peer: &Peer, file| Claim { file, peer: peer.node.peer_id().into() };
    assert_eq!(claims, [claim(&a, honest), claim(&b, other)]);
}

#[tokio::test]
async fn a_node_that_stopped_asks_nobody() {
    let a = start(quiet()).await;
    a.node.shutdown().await;
    assert_eq!(all(&a, &Digest::sha256(&[1; 32])).await, []);
}

/// Bytes as they come and go, by whoever does not keep to the protocol.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        futures::AsyncReadExt::read_to_end(io, &mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        self.read_request(protocol, io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        futures::AsyncWriteExt::write_all(io, &bytes).await
    }

    async fn write_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        self.write_request(protocol, io, bytes).await
    }
}

type RawSwarm = libp2p::Swarm<request_response::Behaviour<Raw>>;

fn stranger() -> RawSwarm {
    raw(|_| {
        let config = request_response::Config::default()
            .with_max_concurrent_streams(1000)
            .with_request_timeout(Duration::from_secs(3));
        request_response::Behaviour::new([(StreamProtocol::new("/cidery/digest/1"), ProtocolSupport::Full)], config)
    })
}

/// Answers to these requests, sent at once; `None` for each that was not answered.
async fn ask(swarm: &mut RawSwarm, peer: libp2p::PeerId, requests: Vec<Vec<u8>>) -> Vec<Option<Vec<u8>>> {
    let ids: Vec<_> = requests.into_iter().map(|request| swarm.behaviour_mut().send_request(&peer, request)).collect();
    let mut answers = std::collections::HashMap::new();
    within(async {
        while answers.len() < ids.len() {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(request_response::Event::Message {
                    message: request_response::Message::Response { request_id, response },
                    ..
                }) => {
                    answers.insert(request_id, Some(response));
                }
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure { request_id, .. }) => {
                    answers.insert(request_id, None);
                }
                _ => {}
            }
        }
    })
    .await;
    ids.iter().map(|id| answers.remove(id).unwrap()).collect()
}

fn request(digest: &Digest) -> Vec<u8> {
    let hash = digest.raw_cid().unwrap().hash().to_bytes();
    [&[hash.len() as u8 + 2, 0x0a, hash.len() as u8][..], &hash].concat()
}

#[tokio::test]
async fn strangers_get_answers_to_questions_and_nothing_else() {
    let (a, digest, file) = knowing(&[], 6, true).await;
    let mut swarm = stranger();
    swarm.add_peer_address(a.id(), a.address().await.parse().unwrap());
    let good = ask(&mut swarm, a.id(), vec![request(&digest)]).await.remove(0).unwrap();
    let cid = file.cid.to_bytes();
    assert!(good.windows(cid.len()).any(|window| window == cid), "{good:?}");
    let bad = vec![Vec::new(), vec![0], vec![0xff, 0x7f], vec![0xff; 1 << 20], request(&digest)[..20].to_vec()];
    for answer in ask(&mut swarm, a.id(), bad).await {
        assert!(answer.is_none_or(|answer| answer.is_empty()), "a question that is none has no answer");
    }
    // A flood is answered as if there were nothing, in part; and it ends there.
    let mut said = 0;
    for _ in 0..20 {
        let answers = ask(&mut swarm, a.id(), vec![request(&digest); 30]).await;
        said += answers.iter().flatten().filter(|answer| **answer == good).count();
        assert!(answers.iter().flatten().all(|answer| answer.is_empty() || *answer == [0] || *answer == good));
    }
    assert!((1..500).contains(&said), "{said} of 600");
    let b = start_with(&[&a]).await;
    assert_eq!(all(&b, &digest).await.len(), 1, "others are answered all the same");
    let questions = a.node.questions();
    assert!(questions.answered > said as u64 && questions.refused > 0 && questions.asked == 0, "{questions:?}");
    assert_eq!(b.node.questions(), Questions { asked: 1, answered: 0, refused: 0 });
}

/// What a peer may ask is not more because it connects anew.
#[tokio::test]
async fn who_connects_anew_has_asked_what_he_has_asked() {
    let (a, digest, _) = knowing(&[], 8, true).await;
    let mut swarm = stranger();
    let address: libp2p::Multiaddr = a.address().await.parse().unwrap();
    let mut answered = Vec::new();
    let begun = Instant::now();
    for _ in 0..4 {
        swarm.add_peer_address(a.id(), address.clone());
        let before = a.node.questions().answered;
        for _ in 0..10 {
            ask(&mut swarm, a.id(), vec![request(&digest); 15]).await;
        }
        answered.push(a.node.questions().answered - before);
        swarm.disconnect_peer_id(a.id()).unwrap();
        within(async { while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {} }).await;
        eventually("it is gone", || async { a.node.peers().await == 0 }).await;
    }
    // 256 at once, and 16 a second.
    let most = 256 + 16 * (begun.elapsed().as_secs() + 1);
    assert!(answered[0] > 100 && answered.iter().sum::<u64>() <= most, "{answered:?}, {most}");
}

#[tokio::test]
async fn answers_that_are_none_do_no_harm() {
    let (a, digest, file) = knowing(&[], 7, true).await;
    let mut swarm = stranger();
    swarm.listen_on(LOOPBACK.parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let b = start_with(&[&a]).await;
    b.node.connect(&format!("{address}/p2p/{}", swarm.local_peer_id())).await.ok();
    let many = (0..200u8).flat_map(|n| [0x0a, 6, 0x0a, 4, 1, 0x70, 0, n]).collect::<Vec<u8>>();
    let answers = [Vec::new(), vec![0xff; 3000], [&[0xc0, 0x0c][..], &many].concat(), vec![5, 0x0a, 0x80, 0x80, 1, 0]];
    let mut next = 0;
    let drive = async {
        loop {
            if let SwarmEvent::Behaviour(request_response::Event::Message {
                message: request_response::Message::Request { channel, .. },
                ..
            }) = swarm.select_next_some().await
            {
                let answer = answers[next % answers.len()].clone();
                next += 1;
                let _ = swarm.behaviour_mut().send_response(channel, answer);
            }
        }
    };
    let look = async {
        for _ in 0..4 {
            assert_eq!(all(&b, &digest).await, [Claim { file, peer: a.node.peer_id().into() }]);
        }
    };
    tokio::select! { () = drive => unreachable!("it does not end"), () = look => {} }
}
