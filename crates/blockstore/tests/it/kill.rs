//! A child process writes and is killed, again and again; what it said was durable is there.

use cidery_blockstore::{DiskStore, Options};
use cidery_core::{Block, Blockstore, Digest, Link, Namespace, Origin, RootStore, StoreError, UploadRecord};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const CHILD: &str = "CIDERY_TEST_KILL_CHILD";
const WRITERS: u64 = 4;

/// Block `n` of a writer: most are small, some are large leaves.
fn block(writer: u64, n: u64) -> Block {
    let len = if n.is_multiple_of(5) { 300 << 10 } else { 200 + (n as usize * 37) % 3000 };
    let mut data = vec![writer as u8; len];
    data[..8].copy_from_slice(&n.to_le_bytes());
    Block::raw(data)
}

fn link(writer: u64, n: u64) -> Link {
    let block = block(writer, n);
    Link {
        namespace: Namespace::local(),
        repository: format!("app{writer}").parse().unwrap(),
        digest: Digest::sha256(block.cid().hash().digest().try_into().unwrap()),
        cid: *block.cid(),
        size: block.data().len() as u64,
    }
}

/// What the child does: blocks, then something durable, then a line on standard output.
fn work(store: &DiskStore, writer: u64) -> Result<(), StoreError> {
    let start = store.uploads()?.into_iter().find(|upload| upload.id == format!("w{writer}"));
    let mut n = start.map_or(0, |upload| u64::from_le_bytes(upload.state[..].try_into().unwrap()));
    loop {
        let mut leaves = store.writer(Origin::Pushed)?;
        for _ in 0..7 {
            n += 1;
            leaves.put(&block(writer, n))?;
        }
        store.link(&link(writer, n))?;
        store.save_upload(&UploadRecord {
            id: format!("w{writer}"),
            pins: vec![*block(writer, n).cid()],
            state: n.to_le_bytes().to_vec(),
        })?;
        let line = format!("{writer} {n}\n");
        // One write: lines of several threads do not mix.
        if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
            return Ok(());
        }
    }
}

/// Does nothing unless it runs as the child of the test below.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let store = DiskStore::open(Path::new(&dir), Options::default()).unwrap();
    println!("open");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || work(store, writer).unwrap());
        }
    });
}

/// Lets a child work until so many lines came and a bit longer, kills it, and says what it acknowledged.
fn round(dir: &Path, lines: usize, longer: Duration) -> BTreeMap<u64, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut read = |line: &str| {
        if let Some((writer, n)) = line.split_once(' ')
            && let (Ok(writer), Ok(n)) = (writer.parse(), n.parse())
        {
            acknowledged.insert(writer, n);
            return true;
        }
        false
    };
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut seen, mut kill_at) = (0, None::<Instant>);
    while kill_at.is_none_or(|at| Instant::now() < at) {
        let line = output.next().expect("the child works until it is killed").unwrap();
        seen += usize::from(read(&line));
        if seen >= lines && kill_at.is_none() {
            kill_at = Some(Instant::now() + longer);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said already counts too; the last line may be cut.
    for line in output.map_while(Result::ok) {
        read(&line);
    }
    acknowledged
}

#[test]
fn killed_again_and_again_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    let rounds = crate::rounds(24);
    for n in 0..rounds {
        for (writer, n) in round(dir.path(), 1 + n % 4, Duration::from_micros(n as u64 * 977 % 20_000)) {
            acknowledged.insert(writer, n);
        }
        if n % 12 == 11 {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let started = Instant::now();
        let store = DiskStore::open(dir.path(), Options::default()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "reopened within {:?}", started.elapsed());
        if n % 12 != 11 {
            // An index that had no checkpoint yet is not a damaged one.
            let notes = store.damage();
            assert!(notes.iter().all(|note| note.contains("unfinished batch")), "{notes:?}");
        }
        let links = store.links(&Namespace::local()).unwrap();
        for (writer, last) in &acknowledged {
            let upload = store.uploads().unwrap().into_iter().find(|upload| upload.id == format!("w{writer}"));
            let saved = u64::from_le_bytes(upload.unwrap().state[..].try_into().unwrap());
            assert!(saved >= *last, "writer {writer} had {last} acknowledged, and {saved} came back");
            assert!(links.contains(&link(*writer, *last)));
            for n in 1..=*last {
                let block = block(*writer, n);
                assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()), "block {n} of {writer}");
            }
        }
    }
    assert_eq!(acknowledged.len(), WRITERS as usize);
}
