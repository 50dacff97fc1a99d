//! Requests to a registry, and what came back.

use std::{collections::HashMap, io::Read, time::Duration};

/// An answer, read to the end (or to where the connection broke).
#[derive(Debug)]
pub struct Answer {
    /// Status; 0 if there was none.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body ended as announced.
    pub whole: bool,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first OCI error code.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(120)))
        .max_redirects(0)
        .build()
        .into()
}

/// GET.
pub fn get(url: &str) -> Answer {
    get_with(url, &[])
}

/// GET with headers.
pub fn get_with(url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = agent().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.call())
}

/// HEAD.
pub fn head(url: &str) -> Answer {
    answer(agent().head(url).call())
}

/// DELETE.
pub fn delete(url: &str) -> Answer {
    answer(agent().delete(url).call())
}

/// POST without a body.
pub fn post(url: &str) -> Answer {
    answer(agent().post(url).send_empty())
}

/// POST of bytes.
pub fn post_bytes(url: &str, body: &[u8]) -> Answer {
    answer(agent().post(url).header("content-type", "application/octet-stream").send(body))
}

/// PUT.
pub fn put(url: &str, content_type: &str, body: &[u8]) -> Answer {
    answer(agent().put(url).header("content-type", content_type).send(body))
}

/// PATCH.
pub fn patch(url: &str, body: &[u8]) -> Answer {
    answer(agent().patch(url).header("content-type", "application/octet-stream").send(body))
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let Ok(mut response) = result else {
        return Answer { status: 0, headers: HashMap::new(), body: Vec::new(), whole: false };
    };
    let mut body = Vec::new();
    let whole = response.body_mut().as_reader().read_to_end(&mut body).is_ok();
    let headers = response.headers().iter();
    let headers = headers.map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()));
    Answer { status: response.status().as_u16(), headers: headers.collect(), body, whole }
}

/// `sha256:<hex>` of these bytes.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Opens an upload: where its chunks go, or the answer if it was refused.
pub fn open_upload(host: &str, repository: &str) -> Result<String, Answer> {
    let start = post(&format!("http://{host}/v2/{repository}/blobs/uploads/"));
    let Some(location) = start.headers.get("location") else { return Err(start) };
    Ok(if location.starts_with('/') { format!("http://{host}{location}") } else { location.clone() })
}

/// Sends the last bytes of an upload and closes it.
pub fn close_upload(url: &str, digest: &str, bytes: &[u8]) -> Answer {
    put(&crate::wire::closing(url, digest), "application/octet-stream", bytes)
}

/// Pushes a blob in one piece; the closing status.
pub fn push_blob(host: &str, repository: &str, bytes: &[u8]) -> u16 {
    match open_upload(host, repository) {
        Ok(url) => close_upload(&url, &digest(bytes), bytes).status,
        Err(refused) => refused.status,
    }
}

/// The media type of an image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image's manifest; config and layers are named by digest and size.
pub fn manifest(config: (&str, usize), layers: &[(String, usize)]) -> Vec<u8> {
    let describe =
        |kind: &str, digest: &str, size: usize| serde_json::json!({"mediaType": kind, "digest": digest, "size": size});
    let layers = layers.iter().map(|(digest, size)| describe("application/vnd.oci.image.layer.v1.tar", digest, *size));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", config.0, config.1),
        "layers": layers.collect::<Vec<_>>(),
    });
    manifest.to_string().into_bytes()
}

/// Pushes a manifest under a tag or its digest.
pub fn push_manifest(host: &str, repository: &str, reference: &str, manifest: &[u8]) -> Answer {
    put(&format!("http://{host}/v2/{repository}/manifests/{reference}"), MANIFEST, manifest)
}

/// Pushes an image of these layers; its manifest's digest.
pub fn push_image(host: &str, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
    let config =
        format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"note\":\"{repository}:{tag}\"}}").into_bytes();
    for blob in layers.iter().chain([&config]) {
        assert_eq!(push_blob(host, repository, blob), 201);
    }
    let layers: Vec<_> = layers.iter().map(|layer| (digest(layer), layer.len())).collect();
    let manifest = manifest((&digest(&config), config.len()), &layers);
    assert_eq!(push_manifest(host, repository, tag, &manifest).status, 201);
    digest(&manifest)
}
