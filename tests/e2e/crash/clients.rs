//! What clients do while the node is killed under them. Each writes to a repository of its own, so
//! that it knows in which order its requests were answered.

use super::world::{PUBLISHED, World};
use cidery_tests::{
    content::Content,
    docker::noise,
    http::{self, digest},
    random::{IndexedRandom, Rng, StdRng},
};
use std::{thread, time::Duration};

/// What one of them does, again and again until the node is killed; it gets the client's name.
pub type Work = fn(&World, &str, &mut StdRng);

/// All of them.
pub const CLIENTS: &[(&str, Work)] = &[
    ("small", push_small),
    ("chunked", push_in_chunks),
    ("one", change_images),
    ("two", change_images),
    ("publisher", publish_or_not),
    ("reader", |world, _, random| world.read_any(random)),
    ("collector", |world, _, _| {
        world.command(&["gc"]);
    }),
];

/// The tags of a repository: few, so that they move.
const TAGS: usize = 12;
/// The bytes of a blob that comes in chunks, and of a chunk.
const LARGE: (usize, usize) = (612 << 12, 900_000);

/// A small blob, now and then an empty one, or one that is there already.
fn push_small(world: &World, name: &str, random: &mut StdRng) {
    let size = *[0, 1, 100, 3_000, 40_000].choose(random).unwrap();
    push_blob(world, name, &noise(&format!("{name}/{}", random.random_range(0..2_000)), 0, size));
}

/// A blob of several leaves; one that a kill interrupted is resumed where the node says.
fn push_in_chunks(world: &World, name: &str, random: &mut StdRng) {
    let host = world.host();
    let interrupted = world.uploads.lock().unwrap().remove(name);
    let (url, seed, mut sent) = match interrupted {
        Some((path, seed)) => {
            let url = format!("http://{host}{path}");
            let Some(status) = world.answered(http::get(&url), &[204, 404]) else { return };
            if status.status == 404 {
                // It was closed, or never acknowledged as far as it got.
                return;
            }
            let last: usize = status.headers["range"].strip_prefix("0-").unwrap().parse().unwrap();
            (url, seed, if last == 0 { 0 } else { last + 1 })
        }
        None => {
            let Some(url) = world.open_upload(name) else { return };
            (url, random.random_range(0..u64::MAX), 0)
        }
    };
    let bytes = Content::new(&format!("large/{seed}"), LARGE.0).bytes();
    assert!(sent < bytes.len(), "the node has {sent} bytes of {}", bytes.len());
    // A kill from here on leaves it to the next round.
    world.uploads.lock().unwrap().insert(name.to_owned(), (world.path(&url), seed));
    while bytes.len() - sent > LARGE.1 {
        let chunk = &bytes[sent..sent + LARGE.1];
        if world.answered(http::patch(&url, chunk), &[202]).is_none() {
            return;
        }
        sent += chunk.len();
    }
    let wanted = digest(&bytes);
    let change = vec![(format!("{name}/blobs/{wanted}"), Some(wanted.clone()))];
    if world.change(change, || world.answered(http::close_upload(&url, &wanted, &bytes[sent..]), &[201]).is_some()) {
        world.uploads.lock().unwrap().remove(name);
    }
}

/// An image more, or a tag moved, a tag or manifest deleted, or a deleted manifest pushed again.
fn change_images(world: &World, name: &str, random: &mut StdRng) {
    let prefix = format!("{name}/manifests/");
    let known = world.ledger.under(&prefix);
    let listed = |by_digest: bool| {
        let facts = known.iter().filter(|fact| fact.path[prefix.len()..].starts_with("sha256:") == by_digest);
        facts.map(|fact| (fact.path.clone(), fact.owed.clone())).collect::<Vec<_>>()
    };
    let (tags, manifests) = (listed(false), listed(true));
    let some = |list: &[(String, Option<String>)], random: &mut StdRng| {
        let there: Vec<_> = list.iter().filter_map(|(path, owed)| Some((path.clone(), owed.clone()?))).collect();
        there.choose(random).cloned()
    };
    match random.random_range(0..10) {
        // One that is there gets a tag more; one that was deleted comes back.
        0 | 1 => {
            if let Some((path, _)) = manifests.choose(random) {
                let bytes = world.manifests.lock().unwrap()[&path[prefix.len()..]].clone();
                push_manifest(world, name, &bytes, random);
            }
        }
        2 => {
            if let Some((path, _)) = some(&tags, random) {
                let url = world.url(&path);
                let gone = vec![(path, None)];
                world.change(gone, || world.answered(http::delete(&url), &[202]).is_some());
            }
        }
        // With every tag that stands for it.
        3 | 4 => {
            if let Some((path, digest)) = some(&manifests, random) {
                let url = world.url(&path);
                let tags = tags.into_iter().filter(|(_, owed)| owed.as_ref() == Some(&digest)).map(|(path, _)| path);
                let gone = tags.chain([path]).map(|path| (path, None)).collect();
                world.change(gone, || world.answered(http::delete(&url), &[202]).is_some());
            }
        }
        _ => push_image(world, name, random),
    }
}

/// Two layers, of which one may be another client's blob, mounted.
fn push_image(world: &World, name: &str, random: &mut StdRng) {
    let seed: u64 = random.random();
    let config = format!("{{\"note\":\"{name} {seed}\"}}").into_bytes();
    let layer = noise(&format!("{name}/{seed}"), 0, random.random_range(1..3_000));
    for blob in [&config, &layer] {
        if !push_blob(world, name, blob) {
            return;
        }
    }
    let mut layers = vec![(digest(&layer), layer.len())];
    if let Some(fact) = world.ledger.under("small/blobs/").choose(random)
        && let Some(mounted) = &fact.owed
    {
        let url = world.url(&format!("{name}/blobs/uploads/?mount={mounted}&from=small"));
        let change = vec![(format!("{name}/blobs/{mounted}"), Some(mounted.clone()))];
        if !world.change(change, || world.answered(http::post(&url), &[201]).is_some()) {
            return;
        }
        layers.push((mounted.clone(), 0));
    }
    let manifest = http::manifest((&digest(&config), config.len()), &layers);
    world.manifests.lock().unwrap().insert(digest(&manifest), manifest.clone());
    push_manifest(world, name, &manifest, random);
}

fn push_manifest(world: &World, name: &str, manifest: &[u8], random: &mut StdRng) {
    let (tag, wanted) = (format!("t{}", random.random_range(0..TAGS)), digest(manifest));
    let change = [&tag, &wanted].map(|reference| (format!("{name}/manifests/{reference}"), Some(wanted.clone())));
    let push = || http::push_manifest(&world.host(), name, &tag, manifest);
    world.change(change.into(), || world.answered(push(), &[201]).is_some());
}

fn push_blob(world: &World, name: &str, bytes: &[u8]) -> bool {
    let Some(url) = world.open_upload(name) else { return false };
    let wanted = digest(bytes);
    let change = vec![(format!("{name}/blobs/{wanted}"), Some(wanted.clone()))];
    world.change(change, || world.answered(http::close_upload(&url, &wanted, bytes), &[201]).is_some())
}

/// Public, private, public again.
fn publish_or_not(world: &World, _: &str, random: &mut StdRng) {
    let public = world.ledger.at(PUBLISHED).is_some_and(|fact| fact.owed.is_some());
    if public && random.random() {
        world.change(vec![(PUBLISHED.into(), None)], || world.command(&["unpublish"]));
    } else {
        world.change(vec![(PUBLISHED.into(), Some("all".into()))], || world.command(&["publish"]));
    }
    thread::sleep(Duration::from_millis(30));
}
