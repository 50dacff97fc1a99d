//! Clients that pull what others pushed, and know what they have to get.

use crate::{
    connection::{Connection, gone},
    world::{Blob, Image, World},
};
use cidery_tests::{
    content::Content,
    http::{MANIFEST, digest},
    random::{Rng, SliceRandom, StdRng},
    wire::{Body, Head},
};
use std::{io, ops::Range, sync::atomic::Ordering::Relaxed, thread, time::Duration};

/// Pulls until the end.
pub fn work(world: &World, random: &mut StdRng) {
    let mut puller = Puller { world, http: Connection::new(world) };
    while !world.ending() {
        let image = if random.random_ratio(1, 16) { world.any_deleted(random) } else { world.any(random) };
        match image {
            Some(image) => puller.pull(&image, random),
            None => thread::sleep(Duration::from_millis(10)),
        }
        if random.random_ratio(1, 4) {
            puller.http.close();
        }
    }
}

/// Every image that is there, whole, with nobody else about.
pub fn check_all(world: &World) {
    let mut puller = Puller { world, http: Connection::new(world) };
    for image in world.all() {
        assert!(puller.manifest(&image, &image.digest));
        for blob in &image.blobs {
            let path = image.blob_path(blob);
            assert_eq!(world.ledger.at(&path).unwrap().owed.as_ref(), Some(&blob.digest));
            puller.whole(&path, blob, Duration::ZERO, usize::MAX);
        }
    }
}

struct Puller<'a> {
    world: &'a World,
    http: Connection<'a>,
}

impl Puller<'_> {
    /// An image as a client pulls it, or parts of it.
    fn pull(&mut self, image: &Image, random: &mut StdRng) {
        if random.random_ratio(1, 3) {
            self.tag(image);
        }
        if !self.manifest(image, &image.digest) {
            return;
        }
        let mut blobs: Vec<_> = image.blobs.iter().collect();
        blobs.shuffle(random);
        for blob in blobs {
            if self.world.ending() {
                return;
            }
            let path = image.blob_path(blob);
            match random.random_range(0..16) {
                0 => self.head(&path, blob),
                1..=3 => self.part(&path, blob, random),
                // Slowly: some seconds for a large one.
                4 => self.whole(&path, blob, Duration::from_millis(30), usize::MAX),
                5 => self.whole(&path, blob, Duration::ZERO, random.random_range(0..blob.size)),
                _ => self.whole(&path, blob, Duration::ZERO, usize::MAX),
            }
        }
        self.world.counts.pulled.fetch_add(1, Relaxed);
    }

    /// Asks for something that is owed or not, or may be either while somebody changes it; whether it was there.
    fn get(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> Option<Head> {
        let (world, http) = (self.world, &mut self.http);
        let (head, owed) = world.read(path, || http.exchange((method, path), headers, Body::Sized(&[]), take));
        let head = head?;
        let found = match head.status {
            200 | 206 => true,
            404 => false,
            _ => panic!("{method} {path}: {head:?}"),
        };
        if let Some(owed) = owed {
            assert_eq!(found, owed.is_some(), "{method} {path}: {owed:?} is owed: {head:?}");
        }
        if !found {
            world.counts.not_found.fetch_add(1, Relaxed);
            return None;
        }
        Some(head)
    }

    /// Whether the manifest is there under this digest; then it is the right one.
    fn manifest(&mut self, image: &Image, digest: &str) -> bool {
        let (path, mut body) = (image.manifest_path(digest), Vec::new());
        let found = self.get("GET", &path, &format!("Accept: {MANIFEST}\r\n"), &mut |_, bytes| {
            body.extend_from_slice(bytes);
            Ok(())
        });
        assert!(found.is_none() || body == image.manifest, "{path} came back different");
        found.is_some()
    }

    /// Whatever has the image's tag now.
    fn tag(&mut self, image: &Image) {
        let (path, mut body) = (image.manifest_path(&image.tag), Vec::new());
        let before = self.world.ledger.at(&path);
        let found = self.get("GET", &path, &format!("Accept: {MANIFEST}\r\n"), &mut |_, bytes| {
            body.extend_from_slice(bytes);
            Ok(())
        });
        let Some(head) = found else { return };
        assert_eq!(head.headers["docker-content-digest"], digest(&body), "{path}");
        if let Some(before) = before.filter(|before| self.world.ledger.at(&path).as_ref() == Some(before)) {
            assert_eq!(before.owed, Some(digest(&body)), "{path}");
        }
    }

    fn head(&mut self, path: &str, blob: &Blob) {
        if let Some(head) = self.get("HEAD", path, "", &mut |_, _| Ok(())) {
            assert_eq!(head.length, blob.size as u64, "{path}");
        }
    }

    /// The blob, slowly if there is a pause, and not further than `until`. What has begun with 200 has to end
    /// well, also if somebody deletes it meanwhile.
    fn whole(&mut self, path: &str, blob: &Blob, pause: Duration, until: usize) {
        let (content, mut at, world) = (blob.content(), 0, self.world);
        self.get("GET", path, "", &mut |status, bytes| {
            if status != 200 {
                return Ok(());
            }
            at += same(path, &content, at, bytes);
            world.counts.pulled_bytes.fetch_add(bytes.len() as u64, Relaxed);
            if at > until {
                world.counts.went_away.fetch_add(1, Relaxed);
                return Err(gone());
            }
            if !world.ending() {
                thread::sleep(pause);
            }
            Ok(())
        })
        .inspect(|_| assert_eq!(at, blob.size, "{path}"));
    }

    fn part(&mut self, path: &str, blob: &Blob, random: &mut StdRng) {
        let first = random.random_range(0..blob.size);
        let last = random.random_range(first..blob.size);
        let (range, header): (Range<usize>, _) = match random.random_range(0..3) {
            0 => (first..blob.size, format!("{first}-")),
            1 => (blob.size - first.max(1)..blob.size, format!("-{}", first.max(1))),
            _ => (first..last + 1, format!("{first}-{last}")),
        };
        let (content, mut at) = (blob.content(), range.start);
        let found = self.get("GET", path, &format!("Range: bytes={header}\r\n"), &mut |status, bytes| {
            if status == 206 {
                at += same(path, &content, at, bytes);
            }
            Ok(())
        });
        if let Some(head) = found {
            assert_eq!((head.status, at), (206, range.end), "{path} {header}: {head:?}");
            let said = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.size);
            assert_eq!(head.headers["content-range"], said, "{path} {header}");
            self.world.counts.ranges.fetch_add(1, Relaxed);
        }
    }
}

/// Checks bytes that stand at an offset; how many they are.
fn same(path: &str, content: &Content, at: usize, bytes: &[u8]) -> usize {
    assert!(at + bytes.len() <= content.size, "{path} is too long");
    if content.range(at..at + bytes.len()) != bytes {
        panic!("{path} has wrong bytes from {at} to {}", at + bytes.len());
    }
    bytes.len()
}
