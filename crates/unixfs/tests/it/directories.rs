//! Directories that are written at once, looked into, and listed.

use crate::support::{Sink, Store, cid, entry, seeded_bytes, seeded_entries, seeded_name};
use cidery_unixfs::{Kind, THRESHOLD, UnixfsError, list, list_at_most, lookup, resolve, stat, write_directory};
use futures::executor::block_on;

/// What Kubo 0.43 (`ipfs add` under profile unixfs-v1-2025) and ipfs-unixfs-importer 17.1 both say.
#[test]
fn other_implementations_give_the_same_roots() {
    for (seed, count, root) in [
        ("plain", 10, "bafybeih5mqaxyyx7gxksrslxateqg7utljqyd4ix56oujxxbct7auqbazi"),
        ("under", 3300, "bafybeifwz7zsbnp7k2n3zdcinrg7xv4rt6zy3mhmtpnzhr2omxgdv67dvq"),
        ("edge", 3375, "bafybeifldd6n2fdmnnfomocuvacrkkj4f3kdb553buxwhd7icclfbp7jkm"),
        ("over", 3500, "bafybeifol65jrwbdm2ymvqeiwjj2kjfw2o33ti5wxod6pki6sk4yekinu4"),
        ("deep", 20000, "bafybeibzxduezhphazpu5ylftuf6d3tpsfng5lgn6tjqwy5rqdqj35wyji"),
    ] {
        let mut store = Store::new();
        let entries = seeded_entries(seed, count);
        let written = write_directory(entries.clone(), &mut store).unwrap();
        assert_eq!(written.cid, cid(root), "{seed}");
        assert!(block_on(list(&store, &written.cid)).unwrap() == entries, "{seed}");
        assert!(block_on(list(&store.cold(), &written.cid)).unwrap() == entries, "{seed}, cold");
        for wanted in entries.iter().step_by(1 + count / 50) {
            assert_eq!(block_on(lookup(&store, &written.cid, &wanted.name)).unwrap().as_ref(), Some(wanted));
        }
        let root = block_on(resolve(&store, &written.cid, &[])).unwrap().unwrap();
        assert_eq!(root, written, "{seed}: its size follows from its links");
    }
    for (seed, len, root) in [
        ("f1", 1, "bafkreiekl3nlfatderbsdhqfdzfn4li5lo6gohdycbi36fbxrf6l37va6e"),
        ("f3", (3 << 20) + 17, "bafybeidbqdky3lvyrbuz4ze5vi3ogmjvhynwoks4wiahekb5mpk3ekpfc4"),
        ("f5", 5 << 20, "bafybeicd3u346akr7kzxlbg2ngpghez7fqpdu2kzln5su6naioen3jqkta"),
    ] {
        assert_eq!(Store::new().file(&seeded_bytes(seed, len)).cid, cid(root), "{seed}");
    }
}

#[test]
fn the_order_of_entries_does_not_matter() {
    let mut store = Store::new();
    let mut entries = seeded_entries("order", 4000);
    let forwards = write_directory(entries.clone(), &mut store).unwrap();
    entries.reverse();
    assert_eq!(write_directory(entries.clone(), &mut store).unwrap(), forwards);
    // The later of two entries with one name counts.
    entries.insert(0, entry(&entries[5].name, "older"));
    assert_eq!(write_directory(entries, &mut store).unwrap(), forwards);
}

#[test]
fn a_lookup_reads_only_the_shards_on_its_way() {
    let mut store = Store::new();
    let root = write_directory(seeded_entries("deep", 20000), &mut store).unwrap();
    let store = store.again();
    assert!(block_on(lookup(&store, &root.cid, &seeded_name("deep", 77))).unwrap().is_some());
    assert!(store.reads() <= 3);
    assert!(block_on(lookup(&store, &root.cid, "not there")).unwrap().is_none());
    assert!(store.reads() <= 3);
}

#[test]
fn listings_are_bounded() {
    for count in [10, 5000] {
        let mut store = Store::new();
        let root = write_directory(seeded_entries("bounded", count), &mut store).unwrap();
        assert_eq!(block_on(list_at_most(&store, &root.cid, count)).unwrap().len(), count);
        let refused = block_on(list_at_most(&store.cold(), &root.cid, count - 1));
        assert!(matches!(refused, Err(UnixfsError::TooMany { limit, .. }) if limit == count - 1));
    }
}

#[test]
fn cold_listings_ask_for_several_shards_at_once() {
    let mut store = Store::new();
    let root = write_directory(seeded_entries("over", 3500), &mut store).unwrap();
    let cold = store.cold();
    block_on(list(&cold, &root.cid)).unwrap();
    let most = cold.log.lock().unwrap().most_in_flight;
    assert!((8..=32).contains(&most), "{most}");
}

#[test]
fn names_that_cannot_be_written() {
    for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
        let refused = write_directory([entry(name, "x")], &mut Sink);
        assert!(matches!(refused, Err(UnixfsError::Name { .. })), "{name:?}");
    }
    assert!(write_directory([entry(&"x".repeat(255), "x"), entry("...", "x")], &mut Sink).is_ok());
}

#[test]
fn paths_are_followed() {
    let mut store = Store::new();
    let leaf = store.file(b"content");
    let file = |name: &str| cidery_unixfs::Entry { name: name.into(), cid: leaf.cid, tsize: leaf.tsize };
    let inner = write_directory([file("c")], &mut store).unwrap();
    let inner = cidery_unixfs::Entry { name: "b".into(), ..inner };
    let root = write_directory([inner.clone(), file("a")], &mut store).unwrap();
    let at = |path: &[&str]| block_on(resolve(&store, &root.cid, path)).unwrap();
    assert_eq!(at(&["a"]), Some(file("a")));
    assert_eq!(at(&["b"]), Some(inner.clone()));
    assert_eq!(at(&["b", "c"]), Some(file("c")));
    assert_eq!(at(&["b", "x"]), None);
    assert_eq!(at(&["a", "x"]), None, "below a file");
    assert_eq!(at(&["x", "y"]), None);
    assert_eq!(block_on(stat(&store, &root.cid)).unwrap(), Kind::Directory);
    assert_eq!(block_on(stat(&store, &leaf.cid)).unwrap(), Kind::File { size: 7 });
    assert!(matches!(block_on(lookup(&store, &leaf.cid, "x")), Err(UnixfsError::NotADirectory { .. })));
    let gone = block_on(stat(&store, &seeded_entries("gone", 1)[0].cid));
    assert!(matches!(gone, Err(UnixfsError::Fetch(cidery_core::FetchError::NotFound(_)))));
}

#[test]
fn the_threshold_counts_to_the_byte() {
    // 2,113 entries of 124 bytes and the 4 of an empty directory leave 128, which a name of 84 fills.
    let mut entries: Vec<_> = (0..2113).map(|number| entry(&format!("{number:080}"), "x")).collect();
    entries.push(entry("", ""));
    for (letters, len) in [(84, Some(THRESHOLD)), (85, None)] {
        let mut store = Store::new();
        entries[2113] = entry(&"z".repeat(letters), "x");
        let root = write_directory(entries.clone(), &mut store).unwrap();
        let node = store.get(&root.cid).len();
        assert_eq!((node > THRESHOLD / 2).then_some(node), len);
    }
}
