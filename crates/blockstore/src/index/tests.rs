//! The index in its database, against a table in memory.

use super::{Index, IndexHome, SledHome};
use crate::pack::Location;
use cidery_core::{Multihash, Origin};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};
use tempfile::TempDir;

const SHA2_256: u64 = 0x12;
const BLAKE2B_256: u64 = 0xb220;

fn home(dir: &TempDir) -> SledHome {
    SledHome { path: dir.path().join("index"), cache: 1 << 20 }
}

fn hash(code: u64, digest: &[u8]) -> Multihash {
    Multihash::wrap(code, digest).unwrap()
}

fn sha(n: u32) -> Multihash {
    hash(SHA2_256, &StdRng::seed_from_u64(n.into()).random::<[u8; 32]>())
}

fn place(n: u64) -> Location {
    let origin = if n.is_multiple_of(3) { Origin::Peer } else { Origin::Pushed };
    Location { pack: 1 + n % 5, offset: 32 + 300 * n, head: 56 + (n % 2) as u16, len: n as u32 % 70_000, origin }
}

/// Sets places and checks that the former ones are told.
fn set(index: &dyn Index, table: &mut HashMap<Multihash, Location>, places: &[(Multihash, Location)]) {
    let mut told = Vec::new();
    index.set(places, &mut |hash, former| told.push((*hash, former))).unwrap();
    let mut expected: Vec<_> =
        places.iter().filter_map(|(hash, place)| Some((*hash, table.insert(*hash, *place)?))).collect();
    let sort =
        |list: &mut Vec<(Multihash, Location)>| list.sort_by_key(|(hash, place)| (hash.to_bytes(), place.offset));
    sort(&mut told);
    sort(&mut expected);
    assert_eq!(told, expected);
}

fn check(index: &dyn Index, table: &HashMap<Multihash, Location>) {
    for (hash, place) in table {
        assert_eq!(index.get(hash).unwrap(), Some(*place));
    }
    let (mut hashes, absent): (Vec<_>, _) = (table.keys().copied().collect(), hash(SHA2_256, &[7; 3]));
    hashes.push(absent);
    for in_order in [false, true] {
        if in_order {
            hashes.sort_by_key(Multihash::to_bytes);
        }
        let expected: Vec<_> = hashes.iter().map(|hash| table.get(hash).copied()).collect();
        assert_eq!(index.get_all(&hashes).unwrap(), expected);
    }
    let key = |place: &Location| (place.pack, place.offset, place.len, place.head, place.origin as u8);
    let (mut found, mut expected) = (Vec::new(), table.values().map(key).collect::<Vec<_>>());
    index.each(&mut |place| found.push(key(&place))).unwrap();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn many_blocks_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = home(&dir).open().unwrap();
    let mut table = HashMap::new();
    let mut random = StdRng::seed_from_u64(1);
    let mut all: Vec<_> = (0..20_000).map(|n| (sha(n), place(n.into()))).collect();
    set(&*index, &mut table, &all[..9000]);
    all.shuffle(&mut random);
    for some in all.chunks(1500) {
        set(&*index, &mut table, some);
    }
    check(&*index, &table);
    // Every number that a record can have.
    let extreme =
        Location { pack: u64::MAX, offset: u64::MAX, head: u16::MAX, len: u32::MAX, origin: Origin::Upstream };
    set(&*index, &mut table, &[(sha(7), extreme)]);
    assert_eq!(index.get(&sha(20_001)).unwrap(), None);
    index.flush().unwrap();
    drop(index);
    index = home(&dir).open().unwrap();
    check(&*index, &table);
}

fn any_hash() -> impl Strategy<Value = Multihash> {
    // Few values, so that pages meet ends of keys, and keys that begin alike.
    let digest = proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 3);
    let code = prop_oneof![3 => Just((SHA2_256, 32)), 1 => Just((BLAKE2B_256, 32)), 1 => Just((BLAKE2B_256, 20))];
    (code, digest).prop_map(|((code, len), mut digest)| {
        digest.resize(len, 0);
        hash(code, &digest)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hashes_that_are_not_spread_evenly(
        sets in proptest::collection::vec(proptest::collection::vec((any_hash(), 0..1000_u64), 0..300), 1..8)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let index = home(&dir).open().unwrap();
        let mut table = HashMap::new();
        for places in sets {
            let places: Vec<_> = places.into_iter().map(|(hash, n)| (hash, place(n))).collect();
            set(&*index, &mut table, &places);
            check(&*index, &table);
        }
    }
}

#[test]
fn a_block_is_found_at_any_moment_while_others_are_added() {
    let dir = tempfile::tempdir().unwrap();
    let index = home(&dir).open().unwrap();
    let mut table = HashMap::new();
    let first: Vec<_> = (0..500).map(|n| (sha(n), place(n.into()))).collect();
    set(&*index, &mut table, &first);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Relaxed) || rounds == 0 {
                for (hash, place) in &first {
                    assert_eq!(index.get(hash).unwrap(), Some(*place));
                }
                rounds += 1;
            }
        });
        for n in 1..60 {
            let more: Vec<_> = (n * 500..(n + 1) * 500).map(|n| (sha(n), place(n.into()))).collect();
            set(&*index, &mut table, &more);
        }
        done.store(true, Relaxed);
        reader.join().unwrap();
    });
    check(&*index, &table);
}

#[test]
fn a_split_that_was_not_finished_counts_no_block_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = HashMap::new();
    let index = home(&dir).open().unwrap();
    let before: Vec<_> = (0..40).map(|n| (sha(n), place(n.into()))).collect();
    set(&*index, &mut table, &before);
    drop(index);
    let first_page = || {
        // sled's threads may hold the lock of what was just closed for a moment longer.
        let open = || sled::open(dir.path().join("index"));
        let mut tries = std::iter::repeat_with(|| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            open().ok()
        });
        let db = tries.by_ref().take(1000).find_map(|db| db).unwrap();
        let page = db.get(b"").unwrap().unwrap();
        (db, page)
    };
    let (db, whole) = first_page();
    drop(db);
    let index = home(&dir).open().unwrap();
    let more: Vec<_> = (40..200).map(|n| (sha(n), place(n.into()))).collect();
    set(&*index, &mut table, &more);
    drop(index);
    // As it is when all later pages were stored and the first one was not.
    let (db, part) = first_page();
    assert!(part.len() < 2 * whole.len());
    db.insert(b"", whole).unwrap();
    drop(db);
    let index = home(&dir).open().unwrap();
    let mut places = 0;
    index.each(&mut |_| places += 1).unwrap();
    assert!((200 - 48..200).contains(&places), "{places}");
    // What went missing is set again, as after a stop, and what is in a later page stays as it is there.
    let moved = place(5000);
    let last = *table.keys().max_by_key(|hash| hash.to_bytes()).unwrap();
    set(&*index, &mut table, &[(last, moved)]);
    index.set(&more, &mut |_, _| {}).unwrap();
    table.extend(more);
    check(&*index, &table);
}
