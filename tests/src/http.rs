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

/// DELETE.
pub fn delete(url: &str) -> Answer {
    answer(agent().delete(url).call())
}

/// POST without a body.
pub fn post(url: &str) -> Answer {
    answer(agent().post(url).send_empty())
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

/// Pushes a blob in one piece; the closing status.
pub fn push_blob(host: &str, repository: &str, bytes: &[u8]) -> u16 {
    let start = post(&format!("http://{host}/v2/{repository}/blobs/uploads/"));
    let Some(location) = start.headers.get("location") else { return start.status };
    let url = if location.starts_with('/') { format!("http://{host}{location}") } else { location.clone() };
    let join = if url.contains('?') { '&' } else { '?' };
    put(&format!("{url}{join}digest={}", digest(bytes)), "application/octet-stream", bytes).status
}

/// Pushes an image of these layers; its manifest's digest.
pub fn push_image(host: &str, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
    try_push_image(host, repository, tag, layers).expect("every part is answered 201")
}

/// As [`push_image`]; `None` if any part was not answered 201.
pub fn try_push_image(host: &str, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Option<String> {
    let config =
        format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"note\":\"{repository}:{tag}\"}}").into_bytes();
    let describe =
        |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    for blob in layers.iter().chain([&config]) {
        if push_blob(host, repository, blob) != 201 {
            return None;
        }
    }
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|l| describe("application/vnd.oci.image.layer.v1.tar", l)).collect::<Vec<_>>(),
    })
    .to_string();
    let answer = put(&format!("http://{host}/v2/{repository}/manifests/{tag}"), kind, manifest.as_bytes());
    (answer.status == 201).then(|| digest(manifest.as_bytes()))
}
