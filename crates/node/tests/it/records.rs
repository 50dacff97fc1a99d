use crate::common::*;
use cidery_core::{Bytes, Cid, codec};
use futures::StreamExt;
use libp2p::{Multiaddr, StreamProtocol, kad, swarm::SwarmEvent};

/// A node of the local DHT that is not ours.
fn foreign() -> libp2p::Swarm<kad::Behaviour<kad::store::MemoryStore>> {
    raw(|key| {
        let id = key.public().to_peer_id();
        let config = kad::Config::new(StreamProtocol::new("/ipfs/lan/kad/1.0.0"));
        let mut behaviour = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
        behaviour.set_mode(Some(kad::Mode::Client));
        behaviour
    })
}

fn some_cid(n: u32) -> Cid {
    *cidery_core::Block::of(codec::RAW, Bytes::from(n.to_be_bytes().to_vec())).cid()
}

#[tokio::test]
async fn records_of_others_are_kept_if_they_are_usable() {
    let a = start(quiet()).await;
    let address: Multiaddr = a.address().await.parse().unwrap();
    let mut swarm = foreign();
    swarm.behaviour_mut().add_address(&a.id(), address.clone());
    let own = *swarm.local_peer_id();
    // Without an address, with one of the wrong network, then with one that is of use.
    for (n, at, kept) in
        [(1, None, false), (2, Some("/ip4/8.8.8.8/tcp/1"), false), (3, Some("/ip4/127.0.0.1/tcp/5"), true)]
    {
        let external: Option<Multiaddr> = at.map(|at| at.parse().unwrap());
        if let Some(external) = &external {
            swarm.add_external_address(external.clone());
        }
        let key = kad::RecordKey::new(&some_cid(n).hash().to_bytes());
        let query = swarm.behaviour_mut().start_providing(key).unwrap();
        within(async {
            loop {
                if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, .. }) =
                    swarm.select_next_some().await
                    && id == query
                {
                    return;
                }
            }
        })
        .await;
        let at = a.address().await;
        let drive = async { while swarm.next().await.is_some() {} };
        let look = async {
            if kept {
                let there = || async { providers(&at, &some_cid(n)).await.contains(&own) };
                eventually("the record is kept", there).await;
            } else {
                assert!(providers(&at, &some_cid(n)).await.is_empty());
            }
        };
        tokio::select! { () = drive => unreachable!("a swarm does not end"), () = look => {} }
        if let Some(external) = &external {
            swarm.remove_external_address(external);
        }
    }
}

#[tokio::test]
async fn a_provider_that_is_in_no_routing_table_is_dialled() {
    let middle = start(quiet()).await;
    // A client of the DHT: only its record leads to it.
    let mut swarm = foreign();
    let at: Multiaddr = middle.address().await.parse().unwrap();
    swarm.behaviour_mut().add_address(&middle.id(), at);
    swarm.listen_on(LOOPBACK.parse().unwrap()).unwrap();
    let seeker = start_with(&[&middle]).await;
    let (wanted, seeker_id) = (some_cid(9), seeker.id());
    let session = seeker.session(wanted, &[]);
    let dialled = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    swarm.add_external_address(address);
                    let key = kad::RecordKey::new(&wanted.hash().to_bytes());
                    swarm.behaviour_mut().start_providing(key).unwrap();
                }
                SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == seeker_id => return,
                _ => {}
            }
        }
    };
    let calls = async {
        // It has nothing to give, so every call ends in vain.
        loop {
            assert!(session.fetch(&wanted).await.is_err());
        }
    };
    tokio::select! { () = within(dialled) => {}, () = calls => unreachable!("it does not end") }
}

#[tokio::test]
async fn values_that_nobody_can_check_are_not_kept() {
    let a = start(quiet()).await;
    let address: Multiaddr = a.address().await.parse().unwrap();
    let mut swarm = foreign();
    swarm.behaviour_mut().add_address(&a.id(), address);
    let key = libp2p::identity::Keypair::generate_ed25519().public();
    let name = |prefix: &str| kad::RecordKey::from([prefix.as_bytes(), &key.to_peer_id().to_bytes()].concat());
    for (name, value, kept) in [
        (name("/ipns/"), b"forged".to_vec(), false),
        (name("/pk/"), b"forged".to_vec(), false),
        (name("/pk/"), key.encode_protobuf(), true),
    ] {
        let put =
            swarm.behaviour_mut().put_record(kad::Record::new(name.clone(), value.clone()), kad::Quorum::One).unwrap();
        finished(&mut swarm, put).await;
        swarm.behaviour_mut().remove_record(&name);
        let get = swarm.behaviour_mut().get_record(name.clone());
        assert_eq!(finished(&mut swarm, get).await, kept.then_some(value));
    }
}

/// Waits for a query; gives the value it found.
async fn finished(
    swarm: &mut libp2p::Swarm<kad::Behaviour<kad::store::MemoryStore>>,
    query: kad::QueryId,
) -> Option<Vec<u8>> {
    within(async {
        let mut value = None;
        loop {
            let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, result, step, .. }) =
                swarm.select_next_some().await
            else {
                continue;
            };
            if id != query {
                continue;
            }
            if let kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) = result {
                value = Some(found.record.value);
            }
            if step.last {
                return value;
            }
        }
    })
    .await
}
