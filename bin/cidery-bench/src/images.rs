//! Images that are pushed to have something in a store, on kept connections.

use anyhow::{Context, Result, ensure};
use cidery_tests::{
    docker::noise,
    http as client,
    wire::{self, Client},
};
use std::{io, thread};

const WORKERS: usize = 16;
/// Where a store is to be filled, and nobody looks at how.
const FILLERS: usize = 64;
/// The config among them.
pub const BLOBS_PER_IMAGE: usize = 100;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes an image of these blobs, the first of which is its config.
pub fn push(http: &mut Client, repository: &str, tag: &str, blobs: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
    let manifest = push_blobs(http, repository, blobs)?;
    push_manifest(http, repository, tag, &manifest)
}

/// Pushes the blobs of an image; its manifest, which is still to be pushed.
pub fn push_blobs(http: &mut Client, repository: &str, blobs: impl IntoIterator<Item = Vec<u8>>) -> Result<String> {
    describe(blobs, |digest, bytes| http.push(repository, digest, &bytes))
}

/// The manifest of an image of these blobs, each of which `take` gets.
pub fn describe(
    blobs: impl IntoIterator<Item = Vec<u8>>,
    mut take: impl FnMut(&str, Vec<u8>) -> io::Result<()>,
) -> Result<String> {
    let mut described = Vec::new();
    for (n, bytes) in blobs.into_iter().enumerate() {
        let (digest, size) = (client::digest(&bytes), bytes.len());
        take(&digest, bytes)?;
        let media_type = if n == 0 { "image.config.v1+json" } else { "image.layer.v1.tar" };
        described.push(serde_json::json!({
            "mediaType": format!("application/vnd.oci.{media_type}"), "digest": digest, "size": size
        }));
    }
    let layers = described.split_off(1);
    let config = &described[0];
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    Ok(manifest.to_string())
}

/// Pushes a manifest whose blobs are there.
pub fn push_manifest(http: &mut Client, repository: &str, tag: &str, manifest: &str) -> Result<()> {
    let target = format!("/v2/{repository}/manifests/{tag}");
    let answer = http.request("PUT", &target, &format!("Content-Type: {MANIFEST}\r\n"), manifest.as_bytes())?;
    ensure!(answer.status == 201, "the manifest was answered {}", answer.status);
    Ok(())
}

/// Where the small image of this number is pushed to.
pub fn repository(image: usize) -> String {
    format!("many/images-{}", image % 64)
}

/// A blob of the small image of this number.
pub fn small_blob(image: usize, n: usize) -> Vec<u8> {
    noise("memory", image * BLOBS_PER_IMAGE + n, 200)
}

/// Pushes the image of this number, of 100 blobs of 200 bytes.
pub fn push_small(http: &mut Client, image: usize) -> Result<()> {
    push(http, &repository(image), &format!("v{image}"), (0..BLOBS_PER_IMAGE).map(|n| small_blob(image, n)))
}

/// Pushes so many small images as fast as it goes.
pub fn fill(host: &str, images: usize) -> Result<()> {
    each_by(FILLERS, host, 0..images, |http, image| {
        let (repository, blobs) = (repository(image), (0..BLOBS_PER_IMAGE).map(|n| small_blob(image, n)));
        let manifest = describe(blobs, |digest, bytes| http.post(&repository, digest, &bytes))?;
        push_manifest(http, &repository, &format!("v{image}"), &manifest)
    })
}

/// Puts so many tags on one image.
pub fn tag_many(host: &str, repository: &str, tags: usize) -> Result<()> {
    let manifest = push_blobs(&mut Client::connect(host)?, repository, [noise(repository, 0, 200)])?;
    each_by(FILLERS, host, 0..tags, |http, n| push_manifest(http, repository, &format!("s{n:05}"), &manifest))
}

/// Deletes the small image of this number, and its blobs.
pub fn delete_small(http: &mut Client, image: usize) -> Result<()> {
    let repository = repository(image);
    delete(http, &repository, &format!("v{image}"))?;
    (0..BLOBS_PER_IMAGE).try_for_each(|n| {
        let digest = client::digest(&small_blob(image, n));
        wire::expect(http.request("DELETE", &format!("/v2/{repository}/blobs/{digest}"), "", &[])?, 202)?;
        Ok(())
    })
}

/// Deletes the manifest that a tag stands for.
pub fn delete(http: &mut Client, repository: &str, tag: &str) -> Result<()> {
    let manifest = http.request("HEAD", &format!("/v2/{repository}/manifests/{tag}"), "", &[])?;
    let digest = manifest.headers.get("docker-content-digest").context("the manifest's digest")?;
    wire::expect(http.request("DELETE", &format!("/v2/{repository}/manifests/{digest}"), "", &[])?, 202)?;
    Ok(())
}

/// Does something for each number, on several connections at once.
pub fn each(
    host: &str,
    numbers: impl Iterator<Item = usize> + Clone + Send + Sync,
    work: impl Fn(&mut Client, usize) -> Result<()> + Sync,
) -> Result<()> {
    each_by(WORKERS, host, numbers, work)
}

fn each_by(
    workers: usize,
    host: &str,
    numbers: impl Iterator<Item = usize> + Clone + Send + Sync,
    work: impl Fn(&mut Client, usize) -> Result<()> + Sync,
) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let work = &work;
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let mut numbers = numbers.clone().skip(worker).step_by(workers);
                scope.spawn(move || -> Result<()> {
                    let mut http = Client::connect(host)?;
                    numbers.try_for_each(|number| work(&mut http, number))
                })
            })
            .collect();
        handles.into_iter().try_for_each(|h| h.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })
}
