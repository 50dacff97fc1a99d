//! Clients that push, each to a repository of its own, and delete what they pushed.

use crate::{
    CLIENTS, KEPT,
    connection::Connection,
    world::{Blob, Image, World},
};
use cidery_tests::{
    http::{self, MANIFEST, digest},
    random::{Rng, StdRng},
    wire::{Body, OCTETS, closing},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// The largest layer, and how many layers an image has at most.
const LAYER: usize = 20 << 20;
const LAYERS: usize = 6;
/// Layers that everybody has.
const BASES: u32 = 8;
/// Tags of a repository: few, so that they move.
const TAGS: usize = 3;

struct Pusher<'a> {
    world: &'a World,
    http: Connection<'a>,
    repository: String,
    images: VecDeque<Arc<Image>>,
    /// How many of them need a blob.
    uses: BTreeMap<String, usize>,
    count: u64,
}

/// Pushes and deletes until the end.
pub fn work(world: &World, n: u64, random: &mut StdRng) {
    let mut pusher = Pusher::new(world, format!("load/{n}"));
    while !world.ending() {
        pusher.push_image(random);
        if random.random_ratio(1, 8) {
            let any = random.random_range(0..pusher.images.len());
            pusher.delete(any);
        }
        if random.random_ratio(1, 4) {
            pusher.http.close();
        }
    }
}

/// Pushes an image to a new repository.
pub fn push_one(world: &World, random: &mut StdRng) {
    Pusher::new(world, format!("load/{CLIENTS}")).push_image(random);
}

/// Any size, small ones as likely as large ones.
fn size(random: &mut StdRng) -> usize {
    let size = (LAYER as f64).powf(random.random_range(0.0..=1.0)) as usize;
    size.clamp(1, LAYER)
}

impl<'a> Pusher<'a> {
    fn new(world: &'a World, repository: String) -> Self {
        Self {
            world,
            http: Connection::new(world),
            repository,
            images: VecDeque::new(),
            uses: BTreeMap::new(),
            count: 0,
        }
    }

    fn push_image(&mut self, random: &mut StdRng) {
        self.count += 1;
        let seed = format!("{}/{}", self.repository, self.count);
        let mut blobs = vec![Blob::new(seed.clone(), 100)];
        for n in 0..random.random_range(1..=LAYERS) {
            let (seed, size) = match random.random_range(0..BASES * 4) {
                base if base < BASES => (format!("base/{base}"), 1 << (base * 3)),
                _ => (format!("{seed}/{n}"), size(random)),
            };
            let blob = Blob::new(seed, size);
            let fits = blobs.iter().map(|(blob, _)| blob.size).sum::<usize>() + size <= KEPT;
            if fits && blobs.iter().all(|(other, _)| other.digest != blob.0.digest) {
                blobs.push(blob);
            }
        }
        let size = |blobs: &mut dyn Iterator<Item = &Blob>| blobs.map(|blob| blob.size).sum::<usize>();
        let new = size(&mut blobs.iter().map(|(blob, _)| blob));
        while size(&mut self.images.iter().flat_map(|image| &image.blobs)) + new > KEPT {
            self.delete(0);
        }
        for (blob, bytes) in &blobs {
            self.push_blob(blob, bytes, random);
        }
        let mut blobs: Vec<_> = blobs.into_iter().map(|(blob, _)| blob).collect();
        if let Some(mounted) = self.mount(random)
            && blobs.iter().all(|blob| blob.digest != mounted.digest)
        {
            blobs.push(mounted);
        }
        self.push_manifest(blobs, random);
    }

    fn push_manifest(&mut self, blobs: Vec<Blob>, random: &mut StdRng) {
        let layers: Vec<_> = blobs[1..].iter().map(|blob| (blob.digest.clone(), blob.size)).collect();
        let manifest = http::manifest((&blobs[0].digest, blobs[0].size), &layers);
        let (repository, digest) = (self.repository.clone(), digest(&manifest));
        let tag = format!("t{}", random.random_range(0..TAGS));
        let image = Image { repository, tag, digest, manifest, blobs };
        let path = image.manifest_path(&image.tag);
        let changes = [path.clone(), image.manifest_path(&image.digest)].map(|path| (path, Some(image.digest.clone())));
        let kind = format!("Content-Type: {MANIFEST}\r\n");
        let http = &mut self.http;
        self.world.change(changes.into(), || http.ask(("PUT", &path), &kind, Body::Sized(&image.manifest), 201));
        for blob in &image.blobs {
            *self.uses.entry(blob.digest.clone()).or_default() += 1;
        }
        let image = Arc::new(image);
        self.images.push_back(image.clone());
        self.world.add(image);
        self.world.counts.pushed.fetch_add(1, Relaxed);
    }

    fn uploads(&self) -> String {
        format!("{}/blobs/uploads/", self.repository)
    }

    /// As some client or other does it.
    fn push_blob(&mut self, blob: &Blob, bytes: &[u8], random: &mut StdRng) {
        let path = format!("{}/blobs/{}", self.repository, blob.digest);
        if random.random_ratio(1, 2) {
            // Nobody else deletes in this repository: what is there now stays.
            let (head, owed) = self
                .world
                .read(&path, || self.http.exchange(("HEAD", &path), "", Body::Sized(&[]), &mut |_, _| Ok(())));
            let status = head.unwrap().status;
            assert_eq!(status, if owed.flatten().is_some() { 200 } else { 404 }, "HEAD {path}");
            if status == 200 {
                return;
            }
        }
        let (world, uploads, http) = (self.world, self.uploads(), &mut self.http);
        world.counts.pushed_bytes.fetch_add(bytes.len() as u64, Relaxed);
        world.change(vec![(path, Some(blob.digest.clone()))], || match random.random_range(0..5) {
            0 => {
                http.ask(("POST", &closing(&uploads, &blob.digest)), OCTETS, Body::Sized(bytes), 201);
            }
            kind => {
                let mut place = http.ask(("POST", &uploads), "", Body::Sized(&[]), 202).location().unwrap();
                let rest = match kind {
                    1 => bytes,
                    2 | 3 => {
                        let piece = random.random_range(1..=bytes.len().max(64 << 10));
                        place =
                            http.ask(("PATCH", &place), OCTETS, Body::Streamed(bytes, piece), 202).location().unwrap();
                        &[]
                    }
                    _ => {
                        let mut chunks = bytes.chunks(random.random_range(bytes.len().div_ceil(8)..=bytes.len()));
                        let last = chunks.next_back().unwrap();
                        for chunk in chunks {
                            place = http.ask(("PATCH", &place), OCTETS, Body::Sized(chunk), 202).location().unwrap();
                        }
                        last
                    }
                };
                if random.random_ratio(1, 16) && rest.is_empty() {
                    // Given up, and begun anew.
                    http.ask(("DELETE", &place), "", Body::Sized(&[]), 204);
                    http.ask(("POST", &closing(&uploads, &blob.digest)), OCTETS, Body::Sized(bytes), 201);
                } else {
                    http.ask(("PUT", &closing(&place, &blob.digest)), OCTETS, Body::Sized(rest), 201);
                }
            }
        });
    }

    /// A blob of somebody else's image, which may be deleted while it is mounted: then its bytes are sent.
    fn mount(&mut self, random: &mut StdRng) -> Option<Blob> {
        let image = self.world.any(random)?;
        let blob = &image.blobs[random.random_range(0..image.blobs.len())];
        if blob.size > 1 << 20 || random.random() {
            return None;
        }
        let (world, http) = (self.world, &mut self.http);
        let change = vec![(format!("{}/blobs/{}", self.repository, blob.digest), Some(blob.digest.clone()))];
        let path = format!("{}/blobs/uploads/?mount={}&from={}", self.repository, blob.digest, image.repository);
        // In one's own repository it is in the middle of a change.
        world.change(change, || {
            let (head, owed) = world.read(&image.blob_path(blob), || {
                http.exchange(("POST", &path), "", Body::Sized(&[]), &mut |_, _| Ok(())).unwrap()
            });
            match head.status {
                201 => world.counts.mounted.fetch_add(1, Relaxed),
                202 => {
                    assert!(owed.flatten().is_none(), "{path}: it is there, and was not mounted");
                    let place = closing(&head.location().unwrap(), &blob.digest);
                    http.ask(("PUT", &place), OCTETS, Body::Sized(&blob.content().bytes()), 201);
                    0
                }
                _ => panic!("{path}: {head:?}"),
            }
        });
        Some(blob.clone())
    }

    /// Deletes an image, and those of its blobs that no other one needs.
    fn delete(&mut self, which: usize) {
        let image = self.images.remove(which).unwrap();
        self.world.remove(&image);
        let tags = (0..TAGS).map(|n| image.manifest_path(&format!("t{n}")));
        // A manifest takes its tags along.
        let tags = tags
            .filter(|path| self.world.ledger.at(path).is_some_and(|fact| fact.owed.as_ref() == Some(&image.digest)));
        let path = image.manifest_path(&image.digest);
        let changes = tags.chain([path.clone()]).map(|path| (path, None)).collect();
        let (world, http) = (self.world, &mut self.http);
        world.change(changes, || http.ask(("DELETE", &path), "", Body::Sized(&[]), 202));
        for blob in &image.blobs {
            let uses = self.uses.get_mut(&blob.digest).unwrap();
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&blob.digest);
                let path = image.blob_path(blob);
                world.change(vec![(path.clone(), None)], || http.ask(("DELETE", &path), "", Body::Sized(&[]), 202));
            }
        }
        world.counts.deleted.fetch_add(1, Relaxed);
    }
}
