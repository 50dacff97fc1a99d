//! Images pushed and pulled by one client and by many, next to docker-registry.

use crate::{
    Options, images, local,
    report::Report,
    sides::{self, Sides},
};
use anyhow::{Result, ensure};
use cidery_tests::{
    docker::noise,
    http as client,
    wire::{self, Client, OCTETS},
};

/// Sizes of an image's layer in MiB, and how many images a client pushes or pulls in one figure.
const SIZES: [(usize, usize); 3] = [(1, 8), (10, 2), (100, 1)];
const CLIENTS: [usize; 3] = [1, 4, 16];
/// Layers of the image of many, and their size.
const TINY: usize = 100;
const TINY_BYTES: usize = 4 << 10;
/// An upload in pieces, as some clients send it.
const CHUNKED_MIB: usize = 50;
const CHUNK: usize = 5 << 20;
/// Layers of the image that is the first in a full registry.
const FIRST: usize = 10;

/// An image as it is pushed: prepared before anybody looks at a clock.
struct Image {
    repository: String,
    manifest: String,
    /// Digests and bytes.
    blobs: Vec<(String, Vec<u8>)>,
}

impl Image {
    fn new(repository: String, blobs: Vec<Vec<u8>>) -> Result<Self> {
        let mut named = Vec::new();
        let manifest = images::describe(blobs, |digest, bytes| {
            named.push((digest.to_owned(), bytes));
            Ok(())
        })?;
        Ok(Self { repository, manifest, blobs: named })
    }

    fn bytes(&self) -> usize {
        self.blobs.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn push(&self, http: &mut Client) -> Result<()> {
        for (digest, bytes) in &self.blobs {
            http.push(&self.repository, digest, bytes)?;
        }
        images::push_manifest(http, &self.repository, "latest", &self.manifest)
    }

    fn pull(&self, http: &mut Client) -> Result<()> {
        let length = Some(self.manifest.len() as u64);
        http.get(&format!("/v2/{}/manifests/latest", self.repository), length)?;
        for (digest, bytes) in &self.blobs {
            http.get(&format!("/v2/{}/blobs/{digest}", self.repository), Some(bytes.len() as u64))?;
        }
        Ok(())
    }
}

/// Every size by every number of clients; then many layers, and uploads in pieces.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut sides = Sides::start()?;
    for (mib, each) in SIZES {
        for clients in CLIENTS {
            transfer(&mut sides, options, report, mib, each, clients)?;
        }
    }
    many_layers(&mut sides, options, report)?;
    in_pieces(&mut sides, options, report)
}

fn transfer(
    sides: &mut Sides,
    options: &Options,
    report: &mut Report,
    mib: usize,
    each: usize,
    clients: usize,
) -> Result<()> {
    let images = |run: usize| -> Result<Vec<Image>> {
        let number = |n: usize| (run * clients + n / each) * each + n % each;
        let image = |n: usize| {
            let repository = format!("bench/{mib}-{clients}-{run}-{n}");
            // Other bytes for every size and number of clients, too.
            let config = noise(&repository, 0, 200);
            let mut layer = local::blob(mib, number(n));
            layer[16..16 + config.len()].copy_from_slice(&config);
            Image::new(repository, vec![config, layer])
        };
        (0..clients * each).map(image).collect()
    };
    let (mut pushed, mut at) = (images(0)?, 0);
    let what = |verb: &str| format!("{verb} images of {mib} MiB, {}", plural(clients));
    sides.compare(report, (&what("push"), "MB/s", options.runs), |host, run| {
        if run != at {
            (pushed, at) = (images(run)?, run);
        }
        sides::together(host, clients, |http, n| {
            let mine = &pushed[n * each..(n + 1) * each];
            mine.iter().try_for_each(|image| image.push(http))?;
            Ok(mine.iter().map(Image::bytes).sum::<usize>() as f64 / 1e6)
        })
    })?;
    sides.compare(report, (&what("pull"), "MB/s", options.runs), |host, _| {
        sides::together(host, clients, |http, n| {
            let mine = &pushed[n * each..(n + 1) * each];
            mine.iter().try_for_each(|image| image.pull(http))?;
            Ok(mine.iter().map(Image::bytes).sum::<usize>() as f64 / 1e6)
        })
    })
}

fn plural(clients: usize) -> String {
    if clients == 1 { "1 client".into() } else { format!("{clients} clients") }
}

fn many_layers(sides: &mut Sides, options: &Options, report: &mut Report) -> Result<()> {
    let image = |run: usize| {
        let repository = format!("tiny/{run}");
        let blobs = (0..=TINY).map(|n| noise(&repository, n, TINY_BYTES)).collect();
        Image::new(repository, blobs)
    };
    let images = (0..=options.runs).map(image).collect::<Result<Vec<_>>>()?;
    let what = |verb: &str| format!("{verb} an image of {TINY} layers of {} KiB", TINY_BYTES >> 10);
    sides.compare(report, (&what("push"), "images/s", options.runs), |host, run| {
        sides::together(host, 1, |http, _| images[run].push(http).map(|()| 1.0))
    })?;
    sides.compare(report, (&what("pull"), "images/s", options.runs), |host, run| {
        sides::together(host, 1, |http, _| images[run].pull(http).map(|()| 1.0))
    })
}

fn in_pieces(sides: &mut Sides, options: &Options, report: &mut Report) -> Result<()> {
    let blobs: Vec<_> = (0..=options.runs)
        .map(|run| {
            let mut bytes = local::blob(CHUNKED_MIB, run);
            bytes[16] ^= 1;
            (client::digest(&bytes), bytes)
        })
        .collect();
    let what = format!("push a blob of {CHUNKED_MIB} MiB in PATCHes of {} MiB", CHUNK >> 20);
    sides.compare(report, (&what, "MB/s", options.runs), |host, run| {
        let (digest, bytes) = &blobs[run];
        sides::together(host, 1, |http, _| {
            let mut at = http.request("POST", "/v2/pieces/blobs/uploads/", "", &[])?.location()?;
            for (n, piece) in bytes.chunks(CHUNK).enumerate() {
                let first = n * CHUNK;
                let range = format!("{OCTETS}Content-Range: {first}-{}\r\n", first + piece.len() - 1);
                at = wire::expect(http.request("PATCH", &at, &range, piece)?, 202)?.location()?;
            }
            wire::expect(http.request("PUT", &wire::closing(&at, digest), "", &[])?, 201)?;
            Ok(bytes.len() as f64 / 1e6)
        })
    })
}

/// The push of an image to registries that hold very many blobs.
pub fn first(options: &Options, report: &mut Report) -> Result<()> {
    let mut sides = Sides::start()?;
    for host in sides.hosts() {
        images::each(host, 0..options.blobs / images::BLOBS_PER_IMAGE, images::push_small)?;
    }
    ensure!(options.blobs > 0, "a registry of no blobs is none");
    // Filling made one due, which must not run beside what is measured.
    sides.node.json(&["gc"]);
    let image = |run: usize| {
        let repository = format!("first/{run}");
        Image::new(repository.clone(), (0..=FIRST).map(|n| noise(&repository, n, 64 << 10)).collect())
    };
    let images = (0..=options.runs).map(image).collect::<Result<Vec<_>>>()?;
    let what = format!("push an image of {FIRST} layers of 64 KiB into a registry of {} blobs", options.blobs);
    sides.compare(report, (&what, "images/s", options.runs), |host, run| {
        sides::together(host, 1, |http, _| images[run].push(http).map(|()| 1.0))
    })
}
