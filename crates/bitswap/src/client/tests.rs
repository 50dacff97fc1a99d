#![allow(clippy::unwrap_used)]

use super::*;
use crate::api::Misbehaviour;
use cidery_core::Block;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

struct Net {
    client: Client,
    now: Instant,
    sessions: u64,
}

type Said = Vec<(usize, &'static str)>;

impl Net {
    fn new() -> Self {
        let client = Client::new(Arc::new(Config::default()), Arc::new(AtomicWaker::new()));
        Self { client, now: Instant::now(), sessions: 0 }
    }

    fn peer(&mut self) -> PeerId {
        let id = PeerId::random();
        self.client.connected(PeerSlot::new(id), self.now);
        self.client.stream_opened(&id, Version::V1_2);
        id
    }

    fn session(&mut self) -> SessionId {
        self.sessions += 1;
        let id = SessionId(self.sessions);
        self.client.open(id, cid(0), Arc::default(), self.now);
        id
    }

    fn want(&mut self, session: SessionId, n: usize) -> (u64, oneshot::Receiver<Reply>) {
        match self.client.want(session, &cid(n), false, self.now) {
            Added::Wait(id, receiver) => (id, receiver),
            _ => panic!("not waiting for {n}"),
        }
    }

    /// What a peer is told now.
    fn said(&mut self, to: &PeerId) -> Said {
        let (mut full, mut entries) = (false, Vec::new());
        self.client.fill(to, &mut full, &mut entries);
        let number = |entry: &Entry| (0..1_000).find(|n| cid(*n).to_bytes() == entry.cid).unwrap();
        let kind = |entry: &Entry| match (entry.cancel, entry.want_type) {
            (true, _) => "cancel",
            (_, 0) => "block",
            _ => "have",
        };
        entries.iter().map(|entry| (number(entry), kind(entry))).collect()
    }

    fn answer(&mut self, from: PeerId, n: usize, has: bool) {
        self.client.presences(from, [(cid(n), has)], self.now);
    }

    fn block(&mut self, from: PeerId, n: usize) -> Claim {
        let block = block(n);
        let claim = self.client.claim(&from, block.cid().hash(), block.data().len() as u64);
        if claim == Claim::Wanted {
            self.client.complete(from, block.cid().hash(), block.data(), self.now);
        }
        claim
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.tick(self.now);
    }
}

fn block(n: usize) -> Block {
    Block::raw(n.to_le_bytes().to_vec())
}

fn cid(n: usize) -> Cid {
    *block(n).cid()
}

#[test]
fn one_want_on_the_wire_for_all_sessions_and_a_cancel_when_the_last_leaves() {
    let mut net = Net::new();
    let (peer, one, two) = (net.peer(), net.session(), net.session());
    let ((first, _r1), (second, _r2)) = (net.want(one, 1), net.want(two, 1));
    assert_eq!(net.said(&peer), [(1, "block")]);
    net.client.leave(cid(1).hash(), first, net.now);
    assert_eq!(net.said(&peer), []);
    net.client.leave(cid(1).hash(), second, net.now);
    assert_eq!(net.said(&peer), [(1, "cancel")]);
    assert!(net.client.is_idle());
}

#[test]
fn a_want_that_ends_before_it_was_said_is_never_said() {
    let mut net = Net::new();
    let (peer, session) = (net.peer(), net.session());
    let (waiter, _receiver) = net.want(session, 1);
    net.client.leave(cid(1).hash(), waiter, net.now);
    assert_eq!(net.said(&peer), []);
}

#[test]
fn several_peers_are_asked_and_one_that_has_it_gets_the_want_block() {
    let mut net = Net::new();
    let (a, b, session) = (net.peer(), net.peer(), net.session());
    let (_, mut receiver) = net.want(session, 1);
    assert_eq!((net.said(&a), net.said(&b)), (vec![(1, "have")], vec![(1, "have")]));
    net.answer(a, 1, true);
    assert_eq!((net.said(&a), net.said(&b)), (vec![(1, "block")], vec![]));
    net.answer(b, 1, true);
    assert_eq!(net.said(&b), [], "one is enough");
    assert_eq!(net.block(a, 1), Claim::Wanted);
    assert_eq!(receiver.try_recv().unwrap().unwrap(), block(1).data());
    assert_eq!((net.said(&a), net.said(&b)), (vec![], vec![]), "both answered: nothing to cancel");
    // What comes next goes straight to one of them.
    let _next = net.want(session, 2);
    assert_eq!([net.said(&a), net.said(&b)].concat(), [(2, "block")]);
}

#[test]
fn a_refused_want_goes_on_and_comes_back_when_the_peer_gets_it() {
    let mut net = Net::new();
    let (a, b, session) = (net.peer(), net.peer(), net.session());
    net.client.offer(session, vec![a], net.now);
    let _one = net.want(session, 1);
    assert_eq!(net.said(&a), [(1, "block")]);
    net.answer(a, 1, false);
    assert_eq!((net.said(&a), net.said(&b)), (vec![], vec![(1, "have")]), "it stays with a, and b is asked");
    net.answer(b, 1, true);
    assert_eq!((net.said(&a), net.said(&b)), (vec![(1, "cancel")], vec![(1, "block")]));
}

#[test]
fn late_blocks_are_duplicates_and_strange_ones_are_offences() {
    let mut net = Net::new();
    let (peer, session) = (net.peer(), net.session());
    let (waiter, _receiver) = net.want(session, 1);
    net.client.leave(cid(1).hash(), waiter, net.now);
    assert_eq!(net.block(peer, 1), Claim::Duplicate);
    assert_eq!(net.block(peer, 2), Claim::Unrequested);
    assert_eq!(net.client.stats().duplicate_blocks, 1);
    let _wanted = net.want(session, 3);
    for _ in 0..Config::default().max_strikes {
        net.client.offence(peer, Misbehaviour::UnrequestedBlock, net.now);
    }
    assert!(!net.client.expects_from(&peer, net.now));
    net.said(&peer);
    net.client.disconnected(&peer, net.now);
    net.client.connected(PeerSlot::new(peer), net.now);
    assert_eq!(net.said(&peer), [], "coming back does not help");
}

#[test]
fn what_arrived_a_moment_ago_is_looked_up_again_instead_of_fetched() {
    let mut net = Net::new();
    let (peer, session) = (net.peer(), net.session());
    let _receiver = net.want(session, 1);
    net.block(peer, 1);
    assert!(matches!(net.client.want(session, &cid(1), false, net.now), Added::Arrived));
    assert!(matches!(net.client.want(session, &cid(1), true, net.now), Added::Wait(..)));
}

#[test]
fn calls_for_providers_are_rare() {
    let mut net = Net::new();
    let session = net.session();
    let _receivers: Vec<_> = (1..100).map(|n| net.want(session, n)).collect();
    for _ in 0..5 {
        net.pass(100 * MS);
    }
    let mut calls = 0;
    while let Some(event) = net.client.next_event() {
        assert!(matches!(event, Event::NeedPeers { .. }));
        calls += 1;
    }
    assert_eq!(calls, 1);
    net.pass(Config::default().provider_interval);
    assert!(net.client.next_event().is_some());
}

#[test]
fn deadlines_count_from_the_last_progress() {
    let mut net = Net::new();
    let (peer, session) = (net.peer(), net.session());
    net.client.offer(session, vec![peer], net.now);
    let (_, mut one) = net.want(session, 1);
    let (_, mut two) = net.want(session, 2);
    let deadline = Config::default().no_progress;
    net.pass(deadline - MS);
    assert_eq!(net.block(peer, 1), Claim::Wanted);
    one.try_recv().unwrap().unwrap();
    net.pass(deadline - MS);
    assert!(two.try_recv().is_err(), "still waiting");
    net.pass(MS);
    assert!(matches!(two.try_recv().unwrap(), Err(FetchError::Stalled { waited, .. }) if waited == deadline));
}

#[test]
fn an_idle_peer_takes_over_the_end_of_a_slow_ones_list() {
    let mut net = Net::new();
    let (fast, slow, session) = (net.peer(), net.peer(), net.session());
    net.client.offer(session, vec![fast, slow], net.now);
    let _receivers: Vec<_> = (1..=8).map(|n| net.want(session, n)).collect();
    let (to_fast, to_slow) = (net.said(&fast), net.said(&slow));
    assert!(to_fast.len() == 4 && to_slow.len() == 4, "evenly, nothing else being known");
    // One block of 8 bytes in 200 ms makes a rate of 40 bytes a second.
    net.now += 200 * MS;
    assert_eq!(net.block(slow, to_slow[0].0), Claim::Wanted);
    for (n, _) in &to_fast {
        net.block(fast, *n);
    }
    assert_eq!(net.said(&slow), [(to_slow[3].0, "cancel"), (to_slow[2].0, "cancel")]);
    assert_eq!(net.said(&fast), [(to_slow[3].0, "block"), (to_slow[2].0, "block")]);
}

#[test]
fn after_a_broken_stream_everything_is_said_again() {
    let mut net = Net::new();
    let (peer, session) = (net.peer(), net.session());
    let _receivers = [net.want(session, 1), net.want(session, 2)];
    net.said(&peer);
    net.client.stream_closed(&peer);
    net.client.stream_opened(&peer, Version::V1_2);
    let (mut full, mut entries) = (false, Vec::new());
    net.client.fill(&peer, &mut full, &mut entries);
    assert!(full && entries.len() == 2);
}

#[test]
fn a_stopped_client_lets_nobody_wait() {
    let mut net = Net::new();
    let session = net.session();
    let (_, mut receiver) = net.want(session, 1);
    net.client.close();
    assert!(matches!(receiver.try_recv().unwrap(), Err(FetchError::Closed)));
    assert!(matches!(net.client.want(session, &cid(2), false, net.now), Added::Closed));
}
