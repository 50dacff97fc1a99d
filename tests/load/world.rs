//! What the clients share: what was pushed, and what is owed of it.

use cidery_tests::{
    Node,
    content::Content,
    http::digest,
    ledger::{Fact, Ledger, Owed},
    random::{IndexedRandom, StdRng},
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

/// Images that were deleted and are asked for once more.
const DELETED: usize = 256;

/// A blob by what it was made from.
#[derive(Clone)]
pub struct Blob {
    pub seed: String,
    pub size: usize,
    pub digest: String,
}

impl Blob {
    /// One, and its bytes.
    pub fn new(seed: String, size: usize) -> (Self, Vec<u8>) {
        let bytes = Content::new(&seed, size).bytes();
        (Self { seed, size, digest: digest(&bytes) }, bytes)
    }

    pub fn content(&self) -> Content {
        Content::new(&self.seed, self.size)
    }
}

/// An image that was pushed.
pub struct Image {
    pub repository: String,
    pub tag: String,
    pub digest: String,
    pub manifest: Vec<u8>,
    /// The config first.
    pub blobs: Vec<Blob>,
}

impl Image {
    /// Paths below `/v2/`.
    pub fn manifest_path(&self, reference: &str) -> String {
        format!("{}/manifests/{reference}", self.repository)
    }

    pub fn blob_path(&self, blob: &Blob) -> String {
        format!("{}/blobs/{}", self.repository, blob.digest)
    }
}

pub struct World {
    pub host: String,
    /// What is owed at each path.
    pub ledger: Ledger,
    pub counts: Counts,
    images: Mutex<Images>,
    ending: AtomicBool,
}

#[derive(Default)]
struct Images {
    pushed: Vec<Arc<Image>>,
    deleted: VecDeque<Arc<Image>>,
}

/// What was done.
#[derive(Default)]
pub struct Counts {
    pub pushed: AtomicU64,
    pub pushed_bytes: AtomicU64,
    pub mounted: AtomicU64,
    pub deleted: AtomicU64,
    pub pulled: AtomicU64,
    pub pulled_bytes: AtomicU64,
    pub ranges: AtomicU64,
    pub went_away: AtomicU64,
    pub not_found: AtomicU64,
    pub told_to_wait: AtomicU64,
}

impl World {
    pub fn new(node: &Node) -> Self {
        Self {
            host: node.http.clone(),
            ledger: Ledger::default(),
            counts: Counts::default(),
            images: Mutex::default(),
            ending: AtomicBool::new(false),
        }
    }

    /// Everybody ends what he is at, and stops.
    pub fn end(&self) {
        self.ending.store(true, Relaxed);
    }

    pub fn ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    /// Should the thread that has it panic, nobody goes on.
    pub fn ends_if_this_fails(&self) -> impl Drop {
        struct Ends<'a>(&'a World);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.end();
                }
            }
        }
        Ends(self)
    }

    /// Sends what makes these changes, which are acknowledged when `send` returns.
    pub fn change<T>(&self, changes: Vec<(String, Owed)>, send: impl FnOnce() -> T) -> T {
        let request = self.ledger.sent(changes);
        let sent = send();
        self.ledger.acknowledged(request);
        sent
    }

    /// What is owed for certain at a path while `read` reads it, which gives whatever it finds.
    pub fn read<T>(&self, path: &str, read: impl FnOnce() -> T) -> (T, Option<Owed>) {
        let before = self.ledger.at(path);
        let found = read();
        let fact = before.filter(|fact| self.ledger.at(path).as_ref() == Some(fact));
        (found, fact.map(|Fact { owed, .. }| owed))
    }

    pub fn add(&self, image: Arc<Image>) {
        self.images.lock().unwrap().pushed.push(image);
    }

    /// One is going to be deleted: it is not chosen any more.
    pub fn remove(&self, image: &Arc<Image>) {
        let mut images = self.images.lock().unwrap();
        images.pushed.retain(|other| !Arc::ptr_eq(other, image));
        images.deleted.push_back(image.clone());
        if images.deleted.len() > DELETED {
            images.deleted.pop_front();
        }
    }

    pub fn any(&self, random: &mut StdRng) -> Option<Arc<Image>> {
        self.images.lock().unwrap().pushed.choose(random).cloned()
    }

    pub fn any_deleted(&self, random: &mut StdRng) -> Option<Arc<Image>> {
        self.images.lock().unwrap().deleted.make_contiguous().choose(random).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Image>> {
        self.images.lock().unwrap().pushed.clone()
    }

    /// Bytes of all images that are there, each blob counted once.
    pub fn owed_bytes(&self) -> u64 {
        let images = self.all();
        let blobs = images.iter().flat_map(|image| &image.blobs).map(|blob| (&blob.digest, blob.size as u64));
        blobs.collect::<BTreeMap<_, _>>().into_values().sum()
    }
}

impl Counts {
    /// Whether every kind of work was done.
    pub fn did_everything(&self) -> bool {
        let all =
            [&self.pushed, &self.mounted, &self.deleted, &self.pulled, &self.ranges, &self.went_away, &self.not_found];
        all.into_iter().all(|count| count.load(Relaxed) > 0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [pushed, mounted, deleted, pulled, ranges, away, missing, wait] = [
            &self.pushed,
            &self.mounted,
            &self.deleted,
            &self.pulled,
            &self.ranges,
            &self.went_away,
            &self.not_found,
            &self.told_to_wait,
        ]
        .map(|count| count.load(Relaxed));
        let [sent, received] = [&self.pushed_bytes, &self.pulled_bytes].map(|count| count.load(Relaxed) >> 20);
        write!(
            f,
            "{pushed} images pushed ({sent} MiB, {mounted} mounts), {deleted} deleted, {pulled} pulled ({received} MiB, \
             {ranges} ranges, {away} left early), {missing} not there, {wait} told to wait"
        )
    }
}
