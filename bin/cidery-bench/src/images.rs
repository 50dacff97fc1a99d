//! Images that are pushed to have something in a store, on kept connections.

use crate::http::Client;
use anyhow::{Result, ensure};
use cidery_tests::{docker::noise, http as client};
use std::thread;

const WORKERS: usize = 16;
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

/// The repository of the small image of this number.
fn repository(image: usize) -> String {
    format!("many/images-{}", image % 64)
}

fn small_blobs(image: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..BLOBS_PER_IMAGE).map(move |n| noise("memory", image * BLOBS_PER_IMAGE + n, 200))
}

/// Pushes the image of this number, of 100 blobs of 200 bytes.
pub fn push_small(http: &mut Client, image: usize) -> Result<()> {
    push(http, &repository(image), &format!("v{image}"), small_blobs(image))
}

/// Pushes so many small images, several at once.
pub fn push_many(host: &str, images: usize) -> Result<()> {
    in_turns(host, images, push_small)
}

/// Deletes the manifests of these small images, with their tags.
pub fn delete_many(host: &str, images: impl Iterator<Item = usize>) -> Result<()> {
    delete(host, images.map(|image| (repository(image), format!("v{image}"))).collect())
}

/// Deletes the manifests that these tags stand for, in these repositories.
pub fn delete(host: &str, images: Vec<(String, String)>) -> Result<()> {
    in_turns(host, images.len(), |http, n| {
        let (repository, tag) = &images[n];
        let digest = http.manifest_digest(repository, tag)?;
        let answer = http.request("DELETE", &format!("/v2/{repository}/manifests/{digest}"), "", &[])?;
        ensure!(answer.status == 202, "the delete was answered {}", answer.status);
        Ok(())
    })
}

/// Does something for each number, on several connections at once.
pub fn in_turns(host: &str, count: usize, each: impl Fn(&mut Client, usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let each = &each;
        let handles: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || -> Result<()> {
                    let mut http = Client::connect(host)?;
                    (worker..count).step_by(WORKERS).try_for_each(|n| each(&mut http, n))
                })
            })
            .collect();
        handles.into_iter().try_for_each(|h| h.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })
}
