//! CARs, with iroh-car as the oracle in both directions, and CARs that are broken.

use crate::{
    others,
    support::{Store, pb, seeded_bytes, seeded_entries},
};
use cidery_core::{Block, Cid, Multihash, codec, identity_bytes};
use cidery_unixfs::{CHUNK, Progress, UnixfsError, car, write_directory};
use futures::{StreamExt, executor::block_on};
use iroh_car::{CarHeader, CarReader, CarWriter};
use proptest::prelude::*;
use std::io::{self, ErrorKind};

fn write(store: &Store, roots: &[Cid]) -> (Vec<u8>, Progress) {
    let (mut out, mut told) = (Vec::new(), Vec::new());
    let done = block_on(car::write(store, roots, &mut out, &mut |progress| told.push(progress))).unwrap();
    assert_eq!(told.last().copied().unwrap_or_default(), done);
    assert_eq!(told.len() as u64, done.items);
    (out, done)
}

fn read(bytes: &[u8]) -> Result<(Vec<Cid>, Vec<Block>), car::CarError> {
    let reader = car::Reader::new(bytes)?;
    Ok((reader.roots().to_vec(), reader.collect::<Result<_, _>>()?))
}

fn tokio_block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn sample() -> (Store, Vec<Cid>) {
    let mut store = Store::new();
    let file = store.file(&seeded_bytes("car", 3 * CHUNK + 7)).cid;
    let entries = seeded_entries("over", 3500);
    for entry in &entries {
        store.raw(entry.name.clone());
    }
    let directory = write_directory(entries, &mut store).unwrap().cid;
    (store, vec![file, directory])
}

#[test]
fn the_oracle_reads_what_is_written() {
    let (store, roots) = sample();
    let (bytes, done) = write(&store, &roots);
    let blocks = tokio_block_on(async {
        let reader = CarReader::new(&bytes[..]).await.unwrap();
        assert_eq!(reader.header().roots(), roots);
        reader.stream().map(Result::unwrap).collect::<Vec<_>>().await
    });
    assert_eq!(blocks.len() as u64, done.items);
    assert_eq!(blocks.iter().map(|(_, data)| data.len() as u64).sum::<u64>(), done.bytes);
    assert_eq!(blocks[0].0, roots[0], "parents come first");
    let (read_roots, own) = read(&bytes).unwrap();
    assert_eq!(read_roots, roots);
    assert!(own.iter().map(|block| (*block.cid(), block.data().to_vec())).eq(blocks));
    // The same DAG cold, or a second time: the same bytes.
    assert!(write(&store.cold(), &roots).0 == bytes);
    assert!(write(&store, &[roots[0], roots[1], roots[0]]).1 == done);
}

#[test]
fn what_the_oracle_writes_is_read() {
    let (store, roots) = sample();
    let (_, blocks) = read(&write(&store, &roots).0).unwrap();
    let bytes = tokio_block_on(async {
        let mut writer = CarWriter::new(CarHeader::new_v1(roots.clone()), Vec::new());
        for block in &blocks {
            writer.write(*block.cid(), block.data()).await.unwrap();
        }
        writer.finish().await.unwrap()
    });
    assert_eq!(read(&bytes).unwrap(), (roots.clone(), blocks));
    assert!(bytes == write(&store, &roots).0);
}

#[test]
fn what_kubo_exports_is_written_alike() {
    for fixture in ["balanced-v0", "trickle-raw", "hamt-16", "inline-raw", "rabin-blake3", "metadata"] {
        let path = format!("{}/tests/it/fixtures/{fixture}.car", env!("CARGO_MANIFEST_DIR"));
        let (root, store) = others::load(fixture);
        let mut theirs = read(&std::fs::read(path).unwrap()).unwrap().1;
        // Kubo writes the bytes of identity CIDs a second time.
        theirs.retain(|block| identity_bytes(block.cid()).is_none());
        assert!(read(&write(&store, &[root]).0).unwrap() == (vec![root], theirs), "{fixture}");
    }
}

#[test]
fn each_block_once_in_depth_first_order() {
    let store = Store::new();
    let [a, b] = ["a", "b"].map(|text| store.raw(text));
    let inline = Cid::new_v1(codec::RAW, Multihash::wrap(0, b"inline").unwrap());
    let inner = store.pb(pb::directory(&[("a", a), ("i", inline)]));
    let outer = store.pb(pb::directory(&[("b", b), ("x", inner), ("y", inner), ("z", b)]));
    let (bytes, done) = write(&store, &[outer]);
    let order: Vec<_> = read(&bytes).unwrap().1.iter().map(|block| *block.cid()).collect();
    assert_eq!(order, [outer, b, inner, a]);
    assert_eq!(done.items, 4);
    assert_eq!(write(&store, &[]).1, Progress::default());
}

#[test]
fn what_is_missing_or_malformed_stops_the_writing() {
    let store = Store::new();
    let gone = *Block::raw(&b"gone"[..]).cid();
    let root = store.pb(pb::directory(&[("gone", gone)]));
    let result = block_on(car::write(&store, &[root], &mut Vec::new(), &mut |_| ()));
    assert!(matches!(result, Err(UnixfsError::Fetch(_))));
    let bad = store.pb(&b"\xff\xff"[..]);
    let result = block_on(car::write(&store, &[bad], &mut Vec::new(), &mut |_| ()));
    assert!(matches!(result, Err(UnixfsError::Links(_))));
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let result = block_on(car::write(&store, &[root], &mut Full, &mut |_| ()));
    assert!(matches!(result, Err(UnixfsError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull));
}

fn small() -> Vec<u8> {
    let store = Store::new();
    let a = store.raw("some bytes");
    write(&store, &[store.pb(pb::directory(&[("a", a)]))]).0
}

#[test]
fn a_car_that_is_cut_is_noticed() {
    let bytes = small();
    let header = 1 + usize::from(bytes[0]);
    let second = header + 1 + usize::from(bytes[header]);
    for cut in 0..bytes.len() {
        match read(&bytes[..cut]) {
            Ok((_, blocks)) => assert_eq!(blocks.len(), if cut == header { 0 } else { 1 }, "only between sections"),
            Err(car::CarError::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::UnexpectedEof),
            Err(other) => panic!("{other}"),
        }
        assert_eq!(read(&bytes[..cut]).is_ok(), [header, second].contains(&cut), "{cut}");
    }
}

#[test]
fn damage_and_absurd_lengths_are_errors() {
    let good = small();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut reader = car::Reader::new(&damaged[..]).unwrap();
    assert!(reader.next().unwrap().is_ok(), "what comes before is good");
    assert!(matches!(reader.next(), Some(Err(car::CarError::Block { .. }))));
    assert!(reader.next().is_none(), "an error is the end");

    let header = 1 + usize::from(good[0]);
    let with = |section: &[u8]| read(&[&good[..header], section].concat()).unwrap_err();
    assert!(matches!(with(&[0]), car::CarError::Section { .. }), "an empty section");
    assert!(matches!(with(&[0xff, 0xff, 0xff, 0x7f]), car::CarError::Section { .. }), "too long");
    assert!(matches!(with(&[0xff; 10]), car::CarError::Section { .. }), "no end of a length");
    assert!(matches!(with(&[0xff, 0xff, 0x7f, 1]), car::CarError::Io { .. }), "2 MiB that are not there");
    assert!(matches!(with(&[3, 9, 9, 9]), car::CarError::Section { .. }), "no CID");
    let unknown = Cid::new_v1(codec::RAW, Multihash::wrap(0x9999, &[1; 32]).unwrap()).to_bytes();
    let section = [&[unknown.len() as u8 + 1][..], &unknown, b"x"].concat();
    assert!(matches!(with(&section), car::CarError::Block { .. }), "a hash that is not known");

    for no_header in
        [&b""[..], &b"\x00"[..], &b"\xff\xff\xff\xff\x7f"[..], &b"\x0aPK\x03\x04..."[..], &b"\x02\xa0\xa0"[..]]
    {
        assert!(car::Reader::new(no_header).is_err(), "{no_header:?}");
    }
    let v2 = [b"\x0a\xa1\x67version\x02".as_slice(), &[0; 60]].concat();
    assert!(matches!(car::Reader::new(&v2[..]), Err(car::CarError::Header(_))));
}

proptest! {
    #[test]
    fn reading_never_panics(at in 0usize..300, value in any::<u8>(), cut in 0usize..300) {
        let mut bytes = small();
        let len = bytes.len();
        bytes[at % len] = value;
        let _ = read(&bytes);
        let _ = read(&bytes[..cut % len]);
    }
}
