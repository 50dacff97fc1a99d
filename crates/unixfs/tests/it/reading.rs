//! Reading our own files: ranges, what is read for them, and what is fetched ahead.

use crate::support::{Store, Stream};
use cidery_unixfs::{CHUNK, FileReader, WIDTH, car, edit, list, lookup, resolve, stat, tree};
use futures::{StreamExt, executor::block_on};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

const LEN: usize = 7 * CHUNK / 2 + 5;
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| Stream::bytes("reading", LEN));

#[test]
fn whole_and_in_parts() {
    let store = Store::new();
    let file = store.file(&BYTES);
    assert_eq!((file.size, file.tsize > file.size), (LEN as u64, true));
    for store in [store.clone(), store.cold()] {
        for window in [0, 1, 2 * CHUNK, usize::MAX] {
            assert!(store.read(file.cid, 0..u64::MAX, window).unwrap() == *BYTES);
        }
    }
    assert_eq!(store.read(file.cid, 5..5, 0).unwrap(), b"");
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 9..5;
    assert_eq!(store.read(file.cid, reversed, 0).unwrap(), b"");
    assert_eq!(store.read(file.cid, LEN as u64 + 5..u64::MAX, 0).unwrap(), b"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_range(from in 0..LEN, len in 0..LEN, window in 0..3 * CHUNK, cold in any::<bool>()) {
        static STORE: LazyLock<(Store, cidery_core::Cid)> = LazyLock::new(|| {
            let store = Store::new();
            let file = store.file(&BYTES);
            (store, file.cid)
        });
        let (store, cid) = &*STORE;
        let store = if cold { store.cold() } else { store.again() };
        let to = LEN.min(from + len);
        let read = store.read(*cid, from as u64..to as u64, window).unwrap();
        prop_assert!(read == BYTES[from..to]);
        // The root, and the leaves that the range touches.
        let leaves = if from == to { 0 } else { (to - 1) / CHUNK - from / CHUNK + 1 };
        prop_assert_eq!(store.reads(), 1 + leaves);
    }
}

#[test]
fn the_window_bounds_what_is_asked_for() {
    let store = Store::new();
    let file = store.file(&Stream::bytes("window", 16 * CHUNK));
    for (window, most) in [(0, 1), (1, 2), (CHUNK, 2), (4 * CHUNK, 5), (usize::MAX, 16)] {
        let cold = store.cold();
        cold.read(file.cid, 0..u64::MAX, window).unwrap();
        let seen = cold.log.lock().unwrap().most_in_flight;
        assert_eq!(seen, most, "window {window}");
        assert_eq!(cold.reads(), 17, "every block once");
    }
}

#[test]
fn a_wide_file_is_read_where_it_is_needed() {
    // All leaves but the last are equal, so this takes 1 MiB of memory.
    let store = Store::new();
    let file = block_on(async {
        let mut out = store.clone();
        let mut builder = cidery_unixfs::FileBuilder::new();
        let zeros = vec![0; CHUNK];
        for _ in 0..WIDTH + 3 {
            builder.write(&zeros, &mut out).unwrap();
        }
        builder.write(b"the end", &mut out).unwrap();
        builder.finish(&mut out).unwrap()
    });
    let end = file.size;
    assert_eq!(end, ((WIDTH + 3) * CHUNK + 7) as u64);
    let cold = store.cold();
    assert_eq!(cold.read(file.cid, end - 9..end, CHUNK).unwrap(), b"\0\0the end");
    assert_eq!(cold.reads(), 4, "root, second node, two leaves");
    // Across the border of two nodes, with the second node fetched ahead.
    let border = (WIDTH * CHUNK) as u64;
    let cold = store.cold();
    assert_eq!(cold.read(file.cid, border - 1..border + 1, 4 * CHUNK).unwrap(), [0, 0]);
    assert_eq!(cold.reads(), 5);
    let cold = store.cold();
    let all = block_on(async {
        let reader = FileReader::open(cold.fetcher(), file.cid).await.unwrap();
        reader
            .read(border - (8 * CHUNK) as u64..end, 4 * CHUNK)
            .fold(0, async |sum, part| sum + part.unwrap().len())
            .await
    });
    assert_eq!(all, 11 * CHUNK + 7);
}

#[test]
fn what_is_missing_is_told_after_what_is_there() {
    let store = Store::new();
    let bytes = Stream::bytes("missing", 3 * CHUNK);
    let full = Store::new();
    let file = full.file(&bytes);
    store.raw(bytes[..CHUNK].to_vec());
    store.pb(full.get(&file.cid));
    for store in [store.clone(), store.cold()] {
        block_on(async {
            let reader = FileReader::open(Arc::new(store), file.cid).await.unwrap();
            let mut stream = reader.read(0..u64::MAX, 8 * CHUNK);
            assert_eq!(stream.next().await.unwrap().unwrap().len(), CHUNK);
            assert!(stream.next().await.is_err());
            assert!(stream.next().await.unwrap().is_none(), "nothing follows an error");
        });
    }
}

/// All futures are such that a multi-threaded executor takes them.
#[test]
fn work_can_move_between_threads() {
    fn check(_: impl Send) {}
    let store = Store::new();
    let cid = store.file(b"x").cid;
    let (mut out, mut bytes, mut tell) = (store.clone(), Vec::new(), |_| ());
    check(block_on(FileReader::open(store.fetcher(), cid)).unwrap().read(0..1, 0));
    check(async { FileReader::open(store.fetcher(), cid).await.unwrap().read(0..1, 0).next().await });
    check(lookup(&store, &cid, "x"));
    check(list(&store, &cid));
    check(resolve(&store, &cid, &["x"]));
    check(stat(&store, &cid));
    check(edit(&store, None, Vec::new(), &mut out));
    check(car::write(&store, &[cid], &mut bytes, &mut tell));
    check(tree::export(store.fetcher(), &cid, "x".as_ref(), &mut |_| ()));
}
