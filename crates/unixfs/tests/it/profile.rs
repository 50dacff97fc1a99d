//! The published CID vectors of profile `unixfs-v1-2025` (IPIP-499, with Kubo's recipe for them).

use crate::support::{Sink, Store, Stream, cid, entry};
use cidery_core::codec;
use cidery_unixfs::{CHUNK, Entry, FileBuilder, THRESHOLD, WIDTH, list, write_directory};
use futures::executor::block_on;

#[test]
fn small_file() {
    let file = Store::new().file(b"hello world");
    assert_eq!(file.cid, cid("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"));
}

#[test]
fn files_at_and_over_one_chunk() {
    let bytes = Stream::bytes("chunk-v1-seed", CHUNK + 1);
    let at = Store::new().file(&bytes[..CHUNK]);
    assert_eq!(at.cid, cid("bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"));
    let over = Store::new().file(&bytes);
    assert_eq!(over.cid, cid("bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"));
}

#[test]
fn files_at_and_over_the_width_of_a_node() {
    // One pass over 1 GiB gives both: a state is saved before the last byte.
    let mut bytes = Stream::new("v1-2025-seed");
    let mut buffer = vec![0; CHUNK];
    let mut builder = FileBuilder::new();
    for _ in 0..WIDTH {
        bytes.fill(&mut buffer);
        builder.write(&buffer, &mut Sink).unwrap();
    }
    let at = FileBuilder::resume(&builder.save()).unwrap().finish(&mut Sink).unwrap();
    assert_eq!(at.cid, cid("bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"));
    bytes.fill(&mut buffer[..1]);
    builder.write(&buffer[..1], &mut Sink).unwrap();
    let over = builder.finish(&mut Sink).unwrap();
    assert_eq!(over.cid, cid("bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"));
    assert_eq!(over.size, (WIDTH * CHUNK) as u64 + 1);
}

/// The names that Kubo's recipe makes: `count` of 11 letters, the last of another length.
fn entries(count: usize, last: usize) -> Vec<Entry> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz01234567890-_";
    let mut bytes = Stream::new("hamt-unixfs-v1-2025");
    let names = (1..=count).map(|number| {
        let mut name = vec![0; if number == count { last } else { 11 }];
        bytes.fill(&mut name);
        name.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect::<String>()
    });
    names.map(|name| entry(&name, "x")).collect()
}

#[test]
fn directories_at_and_over_the_threshold() {
    let mut store = Store::new();
    let at = write_directory(entries(4766, 21), &mut store).unwrap();
    assert_eq!(at.cid, cid("bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4"));
    assert_eq!(store.get(&at.cid).len(), THRESHOLD);
    let over = write_directory(entries(4766, 22), &mut store).unwrap();
    assert_eq!(over.cid, cid("bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu"));
    let mut expected = entries(4766, 22);
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(block_on(list(&store, &over.cid)).unwrap(), expected);
}

#[test]
fn the_empty_directory() {
    let empty = write_directory([], &mut Sink).unwrap();
    assert_eq!(empty.cid, cid("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"));
    assert_eq!((empty.cid.codec(), empty.tsize), (codec::DAG_PB, 4));
}
