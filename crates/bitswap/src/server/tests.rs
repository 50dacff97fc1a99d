#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::DONT_HAVE;
use bytes::Bytes;
use cidery_core::Block;

fn cid(n: usize) -> Cid {
    *Block::raw(n.to_le_bytes().to_vec()).cid()
}

fn entry(n: usize, priority: i32) -> Entry {
    Entry { cid: Bytes::from(cid(n).to_bytes()), priority, send_dont_have: true, ..Entry::default() }
}

fn list(entries: impl IntoIterator<Item = Entry>) -> Wantlist {
    Wantlist { entries: entries.into_iter().collect(), full: false }
}

fn server(config: Config) -> (Server, PeerId) {
    let mut server = Server::new(Arc::new(config));
    let peer = PeerId::random();
    server.connected(PeerSlot::new(peer));
    (server, peer)
}

/// Looks everything up: what `size` says is here.
fn look(server: &mut Server, peer: &PeerId, size: impl Fn(&Cid) -> Option<u64>) {
    loop {
        let cids = server.take_lookups(peer);
        if cids.is_empty() {
            return;
        }
        server.looked_up(peer, cids.into_iter().map(|cid| (cid, size(&cid))).collect());
    }
}

fn presences(server: &mut Server, peer: &PeerId) -> Vec<(Vec<u8>, i32)> {
    let mut all = Vec::new();
    server.fill(peer, &mut all);
    all.into_iter().map(|presence| (presence.cid.to_vec(), presence.kind)).collect()
}

fn wishes(server: &Server) -> usize {
    let mut stats = Stats::default();
    server.add_stats(&mut stats);
    assert_eq!(stats.peer_wants, server.wishers.total(), "the index agrees with the lists");
    stats.peer_wants
}

#[test]
fn blocks_go_out_by_priority_large_ones_alone_and_small_ones_together() {
    let (mut server, peer) = server(Config { message_target: 100, ..Config::default() });
    server.wantlist(&peer, list([entry(1, 1), entry(2, 5), entry(3, 5), entry(4, 9)]));
    look(&mut server, &peer, |wanted| Some(if *wanted == cid(4) { 900 } else { 40 }));
    assert_eq!(server.fill(&peer, &mut Vec::new()), 900 + 3 * 40, "all of it is pending");
    assert_eq!(server.take_blocks(&peer, 1_000, true), Some((vec![cid(4)], 900)));
    assert_eq!(server.take_blocks(&peer, 100, false), Some((vec![cid(2), cid(3)], 80)));
    assert_eq!(server.take_blocks(&peer, 20, false), None, "no room while those are not written");
    assert_eq!(server.take_blocks(&peer, 1_000, true), Some((vec![cid(1)], 40)));
}

#[test]
fn a_full_list_replaces_and_a_cancel_removes_even_what_is_being_read() {
    let (mut server, peer) = server(Config::default());
    server.wantlist(&peer, list([entry(1, 1), entry(2, 1)]));
    look(&mut server, &peer, |_| Some(2_000_000));
    assert_eq!(server.take_blocks(&peer, 1_000, true).unwrap().0, [cid(1)]);
    server.wantlist(&peer, list([Entry { cancel: true, ..entry(1, 0) }]));
    assert!(!server.still_wanted(&peer, cid(1).hash()));
    server.wantlist(&peer, Wantlist { full: true, ..list([entry(3, 1)]) });
    assert_eq!(wishes(&server), 1);
    look(&mut server, &peer, |_| Some(5));
    assert_eq!(server.take_blocks(&peer, 1_000, true).unwrap().0, [cid(3)]);
}

#[test]
fn what_is_absent_stays_on_the_list_and_is_granted_when_it_comes() {
    let (mut server, peer) = server(Config::default());
    server.wantlist(&peer, list([entry(1, 1), Entry { want_type: WANT_HAVE, ..entry(2, 1) }]));
    look(&mut server, &peer, |_| None);
    assert_eq!(presences(&mut server, &peer), [1, 2].map(|n| (cid(n).to_bytes(), DONT_HAVE)));
    for n in [1, 2] {
        server.arrived(cid(n).hash());
    }
    look(&mut server, &peer, |_| Some(5_000));
    assert_eq!(presences(&mut server, &peer), [(cid(2).to_bytes(), 0)], "HAVE for the want-have");
    assert_eq!(server.take_blocks(&peer, 1_000, true).unwrap().0, [cid(1)], "the block for the want-block");
    server.sent(&peer, cid(1).hash(), 5_000);
    assert_eq!(wishes(&server), 0);
}

#[test]
fn what_arrives_while_it_is_looked_up_is_looked_up_again() {
    let (mut server, peer) = server(Config::default());
    server.wantlist(&peer, list([entry(1, 1)]));
    let looking = server.take_lookups(&peer);
    server.arrived(cid(1).hash());
    server.looked_up(&peer, looking.into_iter().map(|cid| (cid, None)).collect());
    assert!(presences(&mut server, &peer).is_empty(), "no DONT_HAVE in between");
    look(&mut server, &peer, |_| Some(10));
    assert_eq!(server.take_blocks(&peer, 1_000, true).unwrap().0, [cid(1)]);
}

#[test]
fn what_was_being_read_when_the_stream_broke_is_sent_on_the_next() {
    let (mut server, peer) = server(Config::default());
    server.wantlist(&peer, list([entry(1, 1)]));
    look(&mut server, &peer, |_| Some(10));
    server.take_blocks(&peer, 1_000, true).unwrap();
    assert!(!server.has_work(&peer));
    server.stream_closed(&peer);
    assert!(server.has_work(&peer));
    look(&mut server, &peer, |_| Some(10));
    assert!(server.take_blocks(&peer, 1_000, true).is_some());
}

#[test]
fn overflow_drops_what_is_absent_then_what_is_less_wanted() {
    let (mut server, peer) = server(Config { max_wantlist: 4, ..Config::default() });
    server.wantlist(&peer, list((1..=4).map(|n| entry(n, n as i32))));
    look(&mut server, &peer, |wanted| (*wanted != cid(3)).then_some(10));
    presences(&mut server, &peer);
    // 5 takes the place of the absent 3, 6 of the least wanted 1; 7 is less wanted than all.
    server.wantlist(&peer, list([entry(5, 0), entry(6, 9), entry(7, 0)]));
    assert_eq!(presences(&mut server, &peer), [1, 7].map(|n| (cid(n).to_bytes(), DONT_HAVE)));
    assert_eq!(wishes(&server), 4);
    look(&mut server, &peer, |_| Some(10));
    assert_eq!(server.take_blocks(&peer, 1_000, true).unwrap().0, [cid(6), cid(4), cid(2), cid(5)]);
}

#[test]
fn in_a_crowd_nobody_has_more_than_the_floor() {
    let config = Config { max_wantlists: 3 * FLOOR_WANTLIST, ..Config::default() };
    let (mut server, greedy) = server(config);
    server.wantlist(&greedy, list((0..5_000).map(|n| entry(n, 1))));
    assert_eq!(wishes(&server), 3 * FLOOR_WANTLIST);
    let modest = PeerId::random();
    server.connected(PeerSlot::new(modest));
    server.wantlist(&modest, list((0..5_000).map(|n| entry(n, 1))));
    assert_eq!(wishes(&server), 4 * FLOOR_WANTLIST);
    server.disconnected(&greedy);
    assert_eq!(wishes(&server), FLOOR_WANTLIST);
}

#[test]
fn a_peer_that_reads_no_answers_is_not_listened_to() {
    let (mut server, peer) = server(Config { max_wantlist: 10, ..Config::default() });
    for n in 0..1_000 {
        server.wantlist(&peer, list([entry(n, 1), Entry { cancel: true, ..entry(n, 1) }, entry(n, 1)]));
        look(&mut server, &peer, |_| None);
    }
    assert!(presences(&mut server, &peer).len() <= 20);
    assert!(server.ledgers[&peer].fresh.len() <= 20);
}

#[test]
fn entries_nobody_can_grant_are_ignored() {
    let (mut server, peer) = server(Config::default());
    let inline = Cid::new_v1(0x55, Multihash::wrap(0, b"x").unwrap());
    let bad = [&inline.to_bytes()[..], b"", b"nonsense", &[0; 500]];
    server.wantlist(&peer, list(bad.map(|bytes| Entry { cid: Bytes::copy_from_slice(bytes), ..entry(0, 1) })));
    assert_eq!(wishes(&server), 0);
}
