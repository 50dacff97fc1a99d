//! Nodes that lie, and trees that are made to exhaust whoever reads them.

use crate::support::{Store, entry, pb, seeded_entries};
use cidery_core::{Block, Cid, MAX_BLOCK, codec};
use cidery_unixfs::{Change, Entry, FileReader, UnixfsError, edit, list, list_at_most, lookup, stat, write_directory};
use futures::executor::block_on;
use proptest::prelude::*;

/// A look-up reads one slot on its way: what is wrong with others it need not see, but it finds nothing there.
fn not_found(result: Result<Option<Entry>, UnixfsError>) {
    assert!(matches!(result, Ok(None) | Err(UnixfsError::Malformed { .. })), "{result:?}");
}

fn malformed<T: std::fmt::Debug>(result: Result<T, UnixfsError>) {
    assert!(matches!(result, Err(UnixfsError::Malformed { .. })), "{result:?}");
}

#[test]
fn sizes_that_lie() {
    let store = Store::new();
    let leaf = store.raw("12345");
    let pb_leaf = store.pb(pb::file(b"12345", 5, &[]));
    // A node whose own sums are wrong does not even open.
    for node in
        [pb::file(b"", 6, &[(leaf, 5)]), pb::file(b"12345", 6, &[]), pb::file(b"", 1, &[(leaf, u64::MAX), (leaf, 2)])]
    {
        malformed(store.read_all(store.pb(node)));
    }
    // One that says something else about its children than they do is noticed when they are read.
    for child in [leaf, pb_leaf] {
        for size in [4, 6] {
            for store in [store.clone(), store.cold()] {
                let root = store.pb(pb::file(b"", 5 + size, &[(child, 5), (child, size)]));
                block_on(async {
                    let mut stream = FileReader::open(store.fetcher(), root).await.unwrap().read(0..99, 99);
                    assert_eq!(stream.next().await.unwrap().unwrap(), "12345");
                    malformed(stream.next().await);
                    assert!(stream.next().await.unwrap().is_none());
                });
            }
        }
    }
    // The number of sizes differs from that of links; a chunk has a name.
    let file = |links: &[(&str, Cid)], sizes: &[u64]| {
        let sizes = sizes.iter().flat_map(|size| pb::number(4, *size)).collect();
        pb::node(links, &[pb::number(1, 2), pb::number(3, 5), sizes].concat())
    };
    malformed(store.read_all(store.pb(file(&[("", leaf)], &[]))));
    malformed(store.read_all(store.pb(file(&[("", leaf)], &[5, 0]))));
    malformed(store.read_all(store.pb(file(&[("x", leaf)], &[5]))));
    assert_eq!(store.read_all(store.pb(file(&[("", leaf)], &[5]))).unwrap(), b"12345");
}

#[test]
fn children_of_another_kind() {
    let store = Store::new();
    let directory = store.pb(pb::directory(&[]));
    let symlink = store.pb(pb::node(&[], &[pb::number(1, 4), pb::bytes(2, b"x")].concat()));
    let metadata = store.pb(pb::node(&[], &pb::number(1, 3)));
    for child in [directory, symlink, metadata] {
        assert!(matches!(store.read_all(child), Err(UnixfsError::NotAFile { .. })));
        let root = store.pb(pb::file(b"", 1, &[(child, 1)]));
        assert!(matches!(store.read_all(root), Err(UnixfsError::NotAFile { .. })));
    }
    assert!(matches!(block_on(stat(&store, &metadata)), Err(UnixfsError::Unsupported { .. })));
    let cbor = store.add(0x71, &b"\xa0"[..]);
    assert!(matches!(store.read_all(cbor), Err(UnixfsError::Unsupported { .. })));
    assert!(matches!(block_on(list(&store, &cbor)), Err(UnixfsError::NotADirectory { .. })));
    malformed(store.read_all(store.pb(&b""[..])));
    malformed(block_on(stat(&store, &store.pb(pb::node(&[], &[])))));
    let odd = store.pb(pb::node(&[], &[pb::number(1, 4), pb::bytes(2, &[0xff])].concat()));
    malformed(block_on(stat(&store, &odd)));
}

#[test]
fn a_tree_that_is_too_deep() {
    let store = Store::new();
    let mut cid = store.raw("x");
    for _ in 0..32 {
        cid = store.pb(pb::file(b"", 1, &[(cid, 1)]));
    }
    assert_eq!(store.read_all(cid).unwrap(), b"x");
    malformed(store.read_all(store.pb(pb::file(b"", 1, &[(cid, 1)]))));
}

/// A node of thousands of links to one node of thousands of links, many times over: 2⁶⁴ leaves in
/// a few blocks. What has no bytes is not visited at all, and what has some is bounded.
#[test]
fn trees_that_multiply() {
    let store = Store::new();
    let mut empty = store.raw("");
    for _ in 0..10 {
        empty = store.pb(pb::file(b"", 0, &vec![(empty, 0); 5000]));
    }
    let quiet = store.again();
    let root = store.pb(pb::file(b"x", 1, &vec![(empty, 0); 5000]));
    assert_eq!(quiet.read_all(root).unwrap(), b"x");
    assert_eq!(quiet.reads(), 1);

    let (mut full, mut size) = (store.raw("x"), 1u64);
    for _ in 0..4 {
        size *= 40_000;
        full = store.pb(pb::file(b"", size, &vec![(full, size / 40_000); 40_000]));
    }
    // Its beginning can be read, and its end. All of it would hold too many links at once.
    for from in [0, size - 3] {
        assert_eq!(store.cold().read(full, from..from + 3, 1 << 20).unwrap(), b"xxx");
    }
    assert!(matches!(store.read_all(full), Err(UnixfsError::TooMany { .. })));
}

#[test]
fn too_many_links_in_a_node() {
    let store = Store::new();
    let inline = Cid::new_v1(codec::RAW, cidery_core::Multihash::wrap(0, b"").unwrap());
    malformed(store.read_all(store.pb(pb::file(b"", 0, &vec![(inline, 0); 70_000]))));
    malformed(block_on(list(&store, &store.pb(pb::directory(&vec![("", inline); 70_000])))));
    let sizes = pb::number(4, 0).repeat(70_000);
    malformed(store.read_all(store.pb(pb::node(&[], &[pb::number(1, 2), sizes].concat()))));
}

#[test]
fn fanouts_and_bitfields() {
    let store = Store::new();
    let leaf = store.raw("x");
    let look = |node: Vec<u8>| {
        let root = store.pb(node);
        malformed(block_on(list(&store, &root)));
        not_found(block_on(lookup(&store, &root, "470.txt")));
        malformed(block_on(stat(&store, &root)));
        let change = vec![(vec!["x".to_owned()], Change::Remove)];
        malformed(block_on(edit(&store, Some(&root), change, &mut store.clone())));
    };
    // CVE-2023-23625: fanouts that are huge, zero, not a power of two, or below 8.
    for fanout in [0, 1, 4, 7, 255, 2048, 1 << 40, 1 << 63, u64::MAX] {
        look(pb::shard(&[], &[], fanout));
    }
    // The name's hash begins with 00 6e: slot 0 of the root.
    let good = pb::shard(&[("00470.txt", leaf)], &[1], 256);
    let root = store.pb(good);
    assert_eq!(block_on(list(&store, &root)).unwrap()[0].name, "470.txt");
    assert!(block_on(lookup(&store, &root, "470.txt")).unwrap().is_some());
    for (name, bits) in [
        ("01470.txt", &[2][..]), // in the wrong slot
        ("01470.txt", &[1]),     // another number than its bit
        ("0470.txt", &[1]),
        ("0", &[1]),
        ("", &[1]),
        ("00470.txt", &[3]), // a bit without a link
        ("00470.txt", &[]),  // a link without a bit
        ("00470.txt", &[0; 33]),
    ] {
        look(pb::shard(&[(name, leaf)], bits, 256));
    }
    look(pb::node(&[], &[pb::number(1, 5), pb::number(5, 0x22)].concat())); // no fanout
    look(pb::node(&[], &[pb::number(1, 5), pb::number(5, 0x23), pb::number(6, 256)].concat())); // another hash
    look(pb::node(&[], &[pb::number(1, 5), pb::number(6, 256)].concat()));
}

#[test]
fn shards_below_shards() {
    let store = Store::new();
    let leaf = store.raw("x");
    let below = |child: Cid| {
        let root = store.pb(pb::shard(&[("00", child)], &[1], 256));
        malformed(block_on(list(&store, &root)));
        not_found(block_on(lookup(&store, &root, "470.txt")));
    };
    // "470.txt" is in slot 0, then in slot 6E.
    let bits = [&[0x40][..], &[0; 13]].concat();
    let good = pb::shard(&[("6E470.txt", leaf)], &bits, 256);
    let root = store.pb(pb::shard(&[("00", store.pb(good.clone()))], &[1], 256));
    assert!(block_on(lookup(&store, &root, "470.txt")).unwrap().is_some());
    assert_eq!(block_on(list(&store, &root)).unwrap().len(), 1);
    below(store.pb(pb::shard(&[], &[], 256))); // empty
    below(store.pb(pb::directory(&[("470.txt", leaf)]))); // not a shard
    below(store.pb(pb::shard(&[("00470.txt", leaf)], &[1], 256))); // where its hash does not lead
    below(store.pb(pb::shard(&[("6470.txt", leaf)], &[0x40], 16))); // of another width
    // The same sub-shard in many slots: its entries belong into one of them only.
    let names: Vec<_> = (0..256).map(|slot| format!("{slot:02X}")).collect();
    let child = store.pb(good);
    let links: Vec<_> = names.iter().map(|name| (name.as_str(), child)).collect();
    let bomb = store.pb(pb::shard(&links, &[0xff; 32], 256));
    malformed(block_on(list(&store, &bomb)));
    // A chain of shards without any entry ends below the last bit of the hash.
    let mut chain = store.pb(pb::shard(&[("00", leaf)], &[1], 256));
    for _ in 0..9 {
        chain = store.pb(pb::shard(&[("00", chain)], &[1], 256));
    }
    malformed(block_on(list_at_most(&store, &chain, 10)));
}

#[test]
fn directories_with_one_name_twice() {
    let store = Store::new();
    let (a, b) = (store.raw("a"), store.raw("b"));
    let root = store.pb(pb::directory(&[("n", a), ("n", b)]));
    assert_eq!(block_on(lookup(&store, &root, "n")).unwrap().unwrap().cid, a, "the first counts");
    let change = || vec![(vec!["x".to_owned()], Change::Put { cid: a, tsize: 1 })];
    malformed(block_on(edit(&store, Some(&root), change(), &mut store.clone())));
    // Without a name it could not be told from a sub-shard.
    let root = store.pb(pb::directory(&[("", a)]));
    malformed(block_on(edit(&store, Some(&root), change(), &mut store.clone())));
    // Names so long that a new node could not be read any more.
    let long = "x".repeat(1_500_000);
    assert_eq!(block_on(list(&store, &store.pb(pb::directory(&[(&long, a)])))).unwrap().len(), 1);
    let node = |short: usize| pb::directory(&[(&long, a), (&"y".repeat(short), a)]);
    let full = node(500_000 + MAX_BLOCK - node(500_000).len());
    assert_eq!(full.len(), MAX_BLOCK);
    let foreign = store.pb(full);
    let refused = block_on(edit(&store, Some(&foreign), change(), &mut store.clone()));
    assert!(matches!(refused, Err(UnixfsError::TooMany { .. })), "{refused:?}");
}

/// Such names can be computed, since the hash is none for adversaries.
#[test]
fn names_with_one_hash() {
    let mut store = Store::new();
    let names = ["two names that have one hash: #0", "0000000002c01aa3Yw4ZeXOj+3&`JY5D"];
    let twins = names.map(|name| entry(name, "x"));
    let small = write_directory(twins.clone(), &mut store).unwrap();
    assert_eq!(block_on(list(&store, &small.cid)).unwrap().len(), 2, "no harm in one node");
    let many = seeded_entries("over", 3500);
    let refused = write_directory(many.iter().chain(&twins).cloned(), &mut store);
    assert!(matches!(refused, Err(UnixfsError::Collision { .. })));
    // The same later on, where the first of them stands already.
    let root = write_directory(many.iter().chain(&twins[..1]).cloned(), &mut store).unwrap();
    assert!(block_on(lookup(&store, &root.cid, names[1])).unwrap().is_none());
    let put = vec![(vec![names[1].to_owned()], Change::Put { cid: twins[1].cid, tsize: 1 })];
    let refused = block_on(edit(&store, Some(&root.cid), put.clone(), &mut store.clone()));
    assert!(matches!(refused, Err(UnixfsError::Collision { name }) if name == names[1]));
    let remove = (vec![names[0].to_owned()], Change::Remove);
    let swapped = block_on(edit(&store, Some(&root.cid), [vec![remove], put].concat(), &mut store.clone()));
    let fresh = write_directory(many.iter().chain(&twins[1..]).cloned(), &mut store).unwrap();
    assert_eq!(swapped.unwrap(), fresh, "what goes makes room for what comes");
}

/// A store that gives any block for any CID would be caught before; here only the nodes are wild.
fn try_everything(block: &Block) {
    let store = Store::new();
    store.put_block(block);
    let cid = *block.cid();
    let _ = store.read_all(cid);
    let _ = store.cold().read(cid, 1..9, 5);
    let _ = block_on(stat(&store, &cid));
    let _ = block_on(list(&store, &cid));
    let _ = block_on(lookup(&store, &cid, "470.txt"));
    let change = vec![(vec!["x".to_owned()], Change::Put { cid, tsize: u64::MAX })];
    let _ = block_on(edit(&store, Some(&cid), change, &mut store.clone()));
}

proptest! {
    #[test]
    fn damaged_nodes_never_panic(which in 0usize..4, at in 0usize..2000, value in any::<u8>(), cut in any::<bool>()) {
        let leaf = *Block::raw(&b"x"[..]).cid();
        let mut bytes = match which {
            0 => pb::directory(&[("a", leaf), ("b", leaf)]),
            1 => pb::file(b"xy", 4, &[(leaf, 1), (leaf, 1)]),
            2 => pb::shard(&[("00470.txt", leaf)], &[1], 256),
            _ => pb::node(&[], &[pb::number(1, 4), pb::bytes(2, b"target")].concat()),
        };
        let at = at % bytes.len();
        bytes[at] = value;
        if cut {
            bytes.truncate(at);
        }
        try_everything(&Block::of(codec::DAG_PB, bytes));
    }

    #[test]
    fn random_messages_never_panic(data in proptest::collection::vec(any::<u8>(), 0..80)) {
        try_everything(&Block::of(codec::DAG_PB, pb::node(&[], &data)));
        try_everything(&Block::of(codec::DAG_PB, data));
    }
}
