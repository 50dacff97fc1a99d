//! Choosing a step, and taking it against a real node.

use super::registry::{Chunk, Digest, Manifest, Registry, Step};
use cidery_tests::{
    Node,
    docker::noise,
    http::{self, digest},
    random::{IndexedRandom, Rng, StdRng},
};
use std::collections::BTreeMap;

/// Repositories of which one is below another.
pub const REPOSITORIES: [&str; 4] = ["app", "app/part", "base", "team/tool"];
pub const TAGS: [&str; 4] = ["1", "2", "latest", "next"];

/// Blobs of nothing, of little, around the borders of leaves, and of several MiB.
const SIZES: [usize; 12] =
    [0, 1, 2, 17, 300, 4_096, 262_144, 1 << 20, (1 << 20) + 1, (2 << 20) - 1, (3 << 20) + 7, 5_500_000];

/// The blobs that are pushed, by digest: few, so that they are in several repositories.
pub fn blobs() -> BTreeMap<Digest, Vec<u8>> {
    let bytes = (0..24).map(|n| noise("model", n, SIZES[n % SIZES.len()]));
    bytes.map(|bytes| (digest(&bytes), bytes)).collect()
}

/// A step that makes sense more often than not.
pub fn choose(model: &mut Registry, contents: &mut BTreeMap<Digest, Vec<u8>>, random: &mut StdRng) -> Step {
    let repository = REPOSITORIES.choose(random).unwrap().to_string();
    let any = |random: &mut StdRng| {
        let blobs = contents.keys().filter(|digest| !model.known.contains_key(*digest));
        // Now and then what is a manifest too.
        let of: Vec<_> = if random.random_ratio(1, 6) { contents.keys().collect() } else { blobs.collect() };
        of.choose(random).copied().unwrap().clone()
    };
    match random.random_range(0..100) {
        0..24 => {
            let chunk = match random.random_range(0..4) {
                0 => Chunk::OneRequest,
                1 => Chunk::Bytes(random.random_range(100_000..2_000_000)),
                _ => Chunk::Whole,
            };
            Step::PushBlob { repository, digest: any(random), chunk }
        }
        24..27 => Step::PushWrong { repository, digest: any(random) },
        27..37 => {
            let from = REPOSITORIES.choose(random).unwrap().to_string();
            let there: Vec<_> = model.repositories[&from].blobs.keys().cloned().collect();
            let digest = there.choose(random).filter(|_| random.random_ratio(4, 5)).cloned();
            Step::Mount { repository, digest: digest.unwrap_or_else(|| any(random)), from }
        }
        37..62 => {
            let digest = match random.random_range(0..10) {
                0..3 => known_manifest(model, random),
                3 => Some(new_index(model, contents, &repository, random)),
                _ => None,
            };
            let digest = digest.unwrap_or_else(|| new_manifest(model, contents, &repository, random));
            let tag = random.random_ratio(5, 6).then(|| TAGS.choose(random).unwrap().to_string());
            Step::PushManifest { repository, digest, tag }
        }
        62..70 => Step::DeleteTag { repository, tag: TAGS.choose(random).unwrap().to_string() },
        70..79 => {
            let there: Vec<_> = model.repositories[&repository].manifests.iter().cloned().collect();
            let digest = there.choose(random).cloned().or_else(|| known_manifest(model, random));
            Step::DeleteManifest { repository, digest: digest.unwrap_or_else(|| any(random)) }
        }
        79..85 => {
            let there: Vec<_> = model.repositories[&repository].blobs.keys().cloned().collect();
            Step::DeleteBlob { repository, digest: there.choose(random).cloned().unwrap_or_else(|| any(random)) }
        }
        85..90 => Step::Publish { once: false },
        90..93 => Step::Publish { once: true },
        93..96 => Step::Unpublish,
        _ => Step::Restart,
    }
}

fn known_manifest(model: &Registry, random: &mut StdRng) -> Option<Digest> {
    model.known.keys().collect::<Vec<_>>().choose(random).map(|digest| (*digest).clone())
}

fn new_manifest(
    model: &mut Registry,
    contents: &mut BTreeMap<Digest, Vec<u8>>,
    repository: &str,
    random: &mut StdRng,
) -> Digest {
    // Now and then of blobs that may not be there.
    let anything = random.random_ratio(1, 8);
    let there: Vec<_> = model.repositories[repository].blobs.keys().cloned().collect();
    let all: Vec<_> = contents.keys().cloned().collect();
    let from = if anything || there.is_empty() { &all } else { &there };
    let picked = (0..random.random_range(1..=4)).map(|_| from.choose(random).unwrap().clone());
    let blobs: Vec<_> = picked.collect();
    let sized: Vec<_> = blobs.iter().map(|blob| (blob.clone(), contents[blob].len())).collect();
    let bytes = http::manifest((&sized[0].0, sized[0].1), &sized[1..]);
    learn(model, contents, Manifest { bytes, kind: http::MANIFEST, blobs, manifests: Vec::new() })
}

fn new_index(
    model: &mut Registry,
    contents: &mut BTreeMap<Digest, Vec<u8>>,
    repository: &str,
    random: &mut StdRng,
) -> Digest {
    let there: Vec<_> = model.repositories[repository].manifests.iter().cloned().collect();
    let manifests: Vec<_> = there.choose_multiple(random, 2).cloned().collect();
    let describe = |digest: &Digest| {
        let Manifest { bytes, kind, .. } = &model.known[digest];
        serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let described: Vec<_> = manifests.iter().map(describe).collect();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": http::INDEX, "manifests": described});
    let bytes = index.to_string().into_bytes();
    learn(model, contents, Manifest { bytes, kind: http::INDEX, blobs: Vec::new(), manifests })
}

/// A manifest's bytes may be pushed as a blob too.
fn learn(model: &mut Registry, contents: &mut BTreeMap<Digest, Vec<u8>>, manifest: Manifest) -> Digest {
    let digest = digest(&manifest.bytes);
    contents.insert(digest.clone(), manifest.bytes.clone());
    model.known.insert(digest.clone(), manifest);
    digest
}

/// Takes it; the status, where commands that succeed count as 200 and others as 422.
pub fn take(node: &mut Node, step: &Step, model: &Registry, contents: &BTreeMap<Digest, Vec<u8>>) -> u16 {
    let host = node.http.clone();
    let url = |repository: &str, rest: &str| format!("http://{host}/v2/{repository}/{rest}");
    let command = |node: &Node, arguments: &[&str]| {
        if node.command(arguments).output().unwrap().status.success() { 200 } else { 422 }
    };
    match step {
        Step::PushBlob { repository, digest, chunk: Chunk::OneRequest } if !contents[digest].is_empty() => {
            let url = url(repository, &format!("blobs/uploads/?digest={digest}"));
            http::post_bytes(&url, &contents[digest]).status
        }
        Step::PushBlob { repository, digest, chunk } => {
            let upload = http::open_upload(&host, repository).unwrap();
            let mut bytes = &contents[digest][..];
            while let Chunk::Bytes(size) = chunk
                && bytes.len() > *size
            {
                let (chunk, rest) = bytes.split_at(*size);
                assert_eq!(http::patch(&upload, chunk).status, 202);
                bytes = rest;
            }
            http::close_upload(&upload, digest, bytes).status
        }
        Step::PushWrong { repository, digest } => {
            let upload = http::open_upload(&host, repository).unwrap();
            let wrong = [&contents[digest][..], &[0]].concat();
            http::close_upload(&upload, digest, &wrong).status
        }
        Step::Mount { repository, digest, from } => {
            http::post(&url(repository, &format!("blobs/uploads/?mount={digest}&from={from}"))).status
        }
        Step::PushManifest { repository, digest, tag } => {
            let Manifest { bytes, kind, .. } = &model.known[digest];
            let reference = tag.as_ref().unwrap_or(digest);
            http::put(&url(repository, &format!("manifests/{reference}")), kind, bytes).status
        }
        Step::DeleteTag { repository, tag: reference } | Step::DeleteManifest { repository, digest: reference } => {
            http::delete(&url(repository, &format!("manifests/{reference}"))).status
        }
        Step::DeleteBlob { repository, digest } => http::delete(&url(repository, &format!("blobs/{digest}"))).status,
        Step::Publish { once: true } => command(node, &["publish", "--once"]),
        Step::Publish { once: false } => command(node, &["publish"]),
        Step::Unpublish => command(node, &["unpublish"]),
        Step::Restart => {
            node.daemon().stop();
            node.restart();
            200
        }
    }
}
