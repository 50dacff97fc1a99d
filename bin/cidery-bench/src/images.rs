//! Images that are pushed to have something in a store, on kept connections.

use crate::http::Client;
use anyhow::Result;
use cidery_tests::{docker::noise, http as client};
use std::thread;

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

/// Pushes the image of this number, of 100 blobs of 200 bytes.
pub fn push_small(http: &mut Client, image: usize) -> Result<()> {
    let blobs = (0..BLOBS_PER_IMAGE).map(|n| noise("memory", image * BLOBS_PER_IMAGE + n, 200));
    push(http, &format!("many/images-{}", image % 64), &format!("v{image}"), blobs)
}

/// Pushes so many small images, several at once.
pub fn push_many(host: &str, images: usize) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let handles: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || -> Result<()> {
                    let mut http = Client::connect(host)?;
                    (worker..images).step_by(WORKERS).try_for_each(|image| push_small(&mut http, image))
                })
            })
            .collect();
        handles.into_iter().try_for_each(|h| h.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })
}
