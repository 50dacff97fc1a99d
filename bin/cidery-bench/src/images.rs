//! Images that are pushed to have something in a store, on kept connections.

use anyhow::{Context, Result};
use cidery_tests::{
    docker::noise,
    http as client,
    wire::{self, Client},
};
use std::{ops::Range, thread};

const WORKERS: usize = 16;
/// The config among them.
pub const BLOBS_PER_IMAGE: usize = 100;

/// Pushes an image of these blobs, the first of which is its config.
pub fn push(http: &mut Client, repository: &str, tag: &str, blobs: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut described = Vec::new();
    for (n, bytes) in blobs.into_iter().enumerate() {
        let digest = client::digest(&bytes);
        http.push(repository, &digest, &bytes)?;
        let media_type = if n == 0 { "image.config.v1+json" } else { "image.layer.v1.tar" };
        described.push(serde_json::json!({
            "mediaType": format!("application/vnd.oci.{media_type}"), "digest": digest, "size": bytes.len()
        }));
    }
    let layers = described.split_off(1);
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": described[0], "layers": layers})
        .to_string();
    let target = format!("/v2/{repository}/manifests/{tag}");
    let answer = http.request("PUT", &target, &format!("Content-Type: {kind}\r\n"), manifest.as_bytes())?;
    anyhow::ensure!(answer.status == 201, "the manifest was answered {}", answer.status);
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

/// Deletes the small image of this number, and its blobs.
fn delete_small(http: &mut Client, image: usize) -> Result<()> {
    let repository = repository(image);
    let manifest = http.request("HEAD", &format!("/v2/{repository}/manifests/v{image}"), "", &[])?;
    let digest = manifest.headers.get("docker-content-digest").context("the manifest's digest")?;
    let blobs = (0..BLOBS_PER_IMAGE).map(|n| format!("blobs/{}", client::digest(&small_blob(image, n))));
    std::iter::once(format!("manifests/{digest}")).chain(blobs).try_for_each(|what| {
        wire::expect(http.request("DELETE", &format!("/v2/{repository}/{what}"), "", &[])?, 202)?;
        Ok(())
    })
}

/// Pushes these small images, several at once.
pub fn push_many(host: &str, images: Range<usize>) -> Result<()> {
    each(host, images, push_small)
}

/// Deletes these small images, several at once.
pub fn delete_many(host: &str, images: Range<usize>) -> Result<()> {
    each(host, images, delete_small)
}

fn each(host: &str, images: Range<usize>, work: fn(&mut Client, usize) -> Result<()>) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let handles: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let mut images = images.clone().skip(worker).step_by(WORKERS);
                scope.spawn(move || -> Result<()> {
                    let mut http = Client::connect(host)?;
                    images.try_for_each(|image| work(&mut http, image))
                })
            })
            .collect();
        handles.into_iter().try_for_each(|h| h.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })
}
