//! What is not published looks like what is not here.

use crate::{harness::*, raw::*};
use cidery_core::{Block, Blockstore, Namespace, Origin, PublishMode, RootStore};

#[tokio::test(flavor = "multi_thread")]
async fn refusing_looks_like_not_having() {
    let (node, peer) = (Node::new().await, Raw::new().await);
    node.dial(&peer.address).await;
    let private = Block::raw(vec![1; 2_000]);
    let absent = Block::raw(vec![2; 2_000]);
    node.store.put(&private, Origin::Pushed).unwrap();
    let mut stream = peer.open(node.id).await;
    let mut answers = Vec::new();
    for want_type in [HAVE, BLOCK] {
        for block in [&private, &absent] {
            send(&mut stream, &wants([block.cid()], want_type)).await;
            if answers.is_empty() {
                answers.push((None, peer.accept().await));
            }
            let (_, replies) = &mut answers[0];
            let mut reply = receive(replies).await.unwrap();
            assert_eq!(reply.presences[0].cid, block.cid().to_bytes());
            reply.presences[0].cid.clear();
            let expected = answers[0].0.get_or_insert(reply.clone());
            assert_eq!(*expected, reply, "every refusal is the same");
        }
    }
    let (said, mut replies) = answers.remove(0);
    assert_eq!(said.unwrap().presences[0].kind, 1, "and says DONT_HAVE");
    // Published, it goes to the peer that waits for it.
    let name: Namespace = "local".parse().unwrap();
    node.store.commit(&name, None, *private.cid(), &[]).unwrap();
    node.store.publish(&name, PublishMode::Continuous).unwrap();
    node.bitswap.announce([*private.cid(), *absent.cid()]);
    let reply = receive(&mut replies).await.unwrap();
    assert_eq!(reply.payload, [payload(private.data())]);
    // Unpublished, not any more.
    node.store.unpublish(&name).unwrap();
    send(&mut stream, &wants([private.cid()], BLOCK)).await;
    assert_eq!(receive(&mut replies).await.unwrap().presences[0].kind, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn want_haves_are_answered_with_small_blocks() {
    let (node, peer) = (Node::new().await, Raw::new().await);
    node.dial(&peer.address).await;
    let (small, large) = (Block::raw(vec![1; 1_024]), Block::raw(vec![2; 1_025]));
    node.add(&[small.clone(), large.clone()]);
    let mut stream = peer.open(node.id).await;
    send(&mut stream, &wants([large.cid()], HAVE)).await;
    let mut replies = peer.accept().await;
    assert_eq!(receive(&mut replies).await.unwrap(), presence(&large.cid().to_bytes(), true));
    send(&mut stream, &wants([small.cid()], HAVE)).await;
    assert_eq!(receive(&mut replies).await.unwrap().payload, [payload(small.data())]);
    // Both answers were final.
    assert_eq!(node.bitswap.stats().peer_wants, 0);
}
