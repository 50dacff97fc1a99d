//! Bits that flipped on the disk while the node was stopped: an error or a repair, never wrong
//! bytes, and never a state that silently went back.

use cidery_tests::{
    Node,
    docker::noise,
    http::{self, digest},
    process::{refusal, run, text},
    random::{self, IndexedRandom, Rng, StdRng},
};
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const ROUNDS: usize = 6;

/// A node that was stopped, and what is in it.
struct Stopped {
    directory: TempDir,
    blobs: Vec<Vec<u8>>,
    manifests: Vec<(String, String)>,
}

impl Stopped {
    /// A few images, each of a small and a large layer.
    fn new() -> Self {
        let directory = TempDir::with_prefix("cidery-damage-").unwrap();
        let mut node = Node::start_on(&directory.path().join("data"), &[]);
        let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
        for n in 0..4 {
            let layers = [noise("damage", 2 * n, 1_000), noise("damage", 2 * n + 1, 2_500_000)];
            manifests.push((format!("v{n}"), http::push_image(&node.http, "app", &format!("v{n}"), &layers)));
            blobs.extend(layers);
        }
        node.daemon().stop();
        drop(node);
        Self { directory, blobs, manifests }
    }

    /// A copy of its data to damage.
    fn copy(&self, n: usize) -> PathBuf {
        let to = self.directory.path().join(format!("copy-{n}"));
        run(Command::new("cp").args(["-a", text(&self.directory.path().join("data")), text(&to)]));
        to
    }

    /// Reads everything; how much of it failed. What does not fail is right.
    fn failures(&self, node: &Node) -> usize {
        let blobs = self.blobs.iter().filter(|blob| !reads(node, blob)).count();
        let manifests = self.manifests.iter().filter(|(tag, wanted)| {
            let answer = http::get(&format!("http://{}/v2/app/manifests/{tag}", node.http));
            assert!(answer.status >= 400 || digest(&answer.body) == *wanted, "{tag}: {answer:?}");
            answer.status >= 400
        });
        blobs + manifests.count()
    }
}

/// Whether a blob is read to its end. If not, what came is right as far as it goes.
fn reads(node: &Node, blob: &[u8]) -> bool {
    let answer = http::get(&format!("http://{}/v2/app/blobs/{}", node.http, digest(blob)));
    if answer.status == 200 {
        assert!(blob.starts_with(&answer.body), "wrong bytes");
        assert_eq!(answer.whole, answer.body.len() == blob.len(), "a short body that ended well");
        return answer.whole;
    }
    assert!(answer.status == 0 || answer.status >= 400 && !answer.code().is_empty(), "{answer:?}");
    false
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Flips a bit somewhere in a range of a file.
fn flip(file: &Path, range: Range<usize>, random: &mut StdRng) {
    let mut bytes = fs::read(file).unwrap();
    let at = random.random_range(range);
    println!("{} byte {at}", file.display());
    bytes[at] ^= 1 << random.random_range(0..8);
    fs::write(file, bytes).unwrap();
}

/// Where these bytes are in the packs.
pub fn find(data: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let found = files(&data.join("packs")).into_iter().find_map(|file| {
        let bytes = fs::read(&file).unwrap();
        let at = bytes.windows(needle.len()).position(|window| window == needle)?;
        Some((file, at))
    });
    found.expect("the bytes are in a pack")
}

/// Two blobs are hit in their bytes: they fail, all else is fine, and pushing them again heals them.
#[test]
fn flipped_bits_in_two_blobs() {
    let mut random = random::choices(random::seed(), 0);
    let stopped = Stopped::new();
    let data = stopped.copy(0);
    let (small, large) = (&stopped.blobs[0], &stopped.blobs[3]);
    for needle in [&small[..], &large[1 << 20..(1 << 20) + 500]] {
        let (file, at) = find(&data, needle);
        flip(&file, at..at + needle.len(), &mut random);
    }
    let mut node = Node::start_on(&data, &[]);
    assert_eq!(stopped.failures(&node), 2);
    assert!(!reads(&node, small) && !reads(&node, large));
    // The leaf before the damage is fine.
    let url = format!("http://{}/v2/app/blobs/{}", node.http, digest(large));
    assert_eq!(http::get_with(&url, &[("range", "bytes=1000-500000")]).body, large[1_000..=500_000]);
    for blob in [small, large] {
        assert_eq!(http::push_blob(&node.http, "app", blob), 201);
    }
    assert_eq!(stopped.failures(&node), 0);
    node.daemon().kill();
    node.restart();
    assert_eq!(stopped.failures(&node), 0);
}

/// Bits flip anywhere in the packs, headers included, with and without an index.
#[test]
fn flipped_bits_in_packs() {
    let mut random = random::choices(random::seed(), 1);
    let stopped = Stopped::new();
    for n in 0..ROUNDS {
        let data = stopped.copy(n);
        for _ in 0..=n {
            let packs = files(&data.join("packs"));
            let pack = packs.choose(&mut random).unwrap();
            let size = fs::metadata(pack).unwrap().len() as usize;
            // Half of them near the beginning: the payloads take nearly all of a pack.
            let range = if random.random() { 0..size.min(500) } else { 0..size };
            flip(pack, range, &mut random);
        }
        if random.random() {
            fs::remove_dir_all(data.join("index")).unwrap();
        }
        let node = Node::start_on(&data, &[]);
        println!("{} things failed", stopped.failures(&node));
        // The damage is not in the way of anything new.
        let fresh = noise("fresh", n, 100_000);
        assert_eq!(http::push_blob(&node.http, "app", &fresh), 201);
        assert!(reads(&node, &fresh));
    }
}

/// Bits flip in the index: it is made anew, if only in part, and nothing is missing.
#[test]
fn flipped_bits_in_the_index() {
    let mut random = random::choices(random::seed(), 2);
    let stopped = Stopped::new();
    for n in 0..ROUNDS {
        let data = stopped.copy(n);
        for file in files(&data.join("index")) {
            let size = fs::metadata(&file).unwrap().len() as usize;
            for _ in 0..if size == 0 { 0 } else { 1 + 20 * n } {
                flip(&file, 0..size.min(20_000), &mut random);
            }
        }
        let mut node = Node::start_on(&data, &[]);
        assert_eq!(stopped.failures(&node), 0);
        http::push_image(&node.http, "app", "new", &[noise("new", n, 100_000)]);
        node.daemon().stop();
        node.restart();
        assert_eq!(stopped.failures(&node), 0);
    }
}

/// A journal that is damaged before its last batch, or lost, stops the start and is left as it is.
#[test]
fn flipped_bits_in_the_journal() {
    let mut random = random::choices(random::seed(), 3);
    let stopped = Stopped::new();
    let data = stopped.copy(0);
    let journal = data.join("journal");
    let mut node = Node::start_on(&data, &[]);
    let before = fs::metadata(&journal).unwrap().len() as usize;
    let last = http::push_image(&node.http, "last", "1", &[]);
    node.daemon().kill();
    let whole = fs::read(&journal).unwrap();
    for n in 0..2 * ROUNDS {
        let range = if n == 0 { 0..32 } else { 32..before };
        flip(&journal, range, &mut random);
        let damaged = fs::read(&journal).unwrap();
        let said = refusal(&mut Node::serve(&data, &[] as &[&str]));
        assert!(said.contains("the journal is damaged") && said.contains("restore it"), "{said}");
        assert!(fs::read(&journal).unwrap() == damaged, "it was changed");
        fs::write(&journal, &whole).unwrap();
    }
    fs::remove_file(&journal).unwrap();
    let said = refusal(&mut Node::serve(&data, &[] as &[&str]));
    assert!(said.contains("the journal is damaged"), "{said}");
    // Its very end may be a batch that was torn: that one is cut off, and no other.
    fs::write(&journal, &whole).unwrap();
    flip(&journal, whole.len() - 1..whole.len(), &mut random);
    node.restart();
    assert!(node.daemon().log().contains("unfinished batch"));
    assert_eq!(stopped.failures(&node), 0);
    let answer = http::get(&format!("http://{}/v2/last/manifests/1", node.http));
    assert!(answer.status == 404 || digest(&answer.body) == last, "{answer:?}");
    http::push_image(&node.http, "last", "1", &[]);
    fs::write(data.join("format"), "cidery-store 1 0123456789abcdef\n").unwrap();
    node.daemon().kill();
    let said = refusal(&mut Node::serve(&data, &[] as &[&str]));
    assert!(said.contains("belongs to store"), "{said}");
}
