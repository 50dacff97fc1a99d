//! A registry in memory, and a client that drives its router.

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request, StatusCode},
};
use bytes::Bytes;
use cidery_core::{
    Blockstore, Digest, Namespace, Network, PublishMode, RootStore,
    memory::{MemoryStore, World},
};
use cidery_registry::{
    Config, Registry,
    tree::{Blob, manifest::media_type},
};
use cidery_unixfs::FileBuilder;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tower::ServiceExt;

pub const MIB: usize = 1 << 20;

/// One node's registry.
pub struct Node {
    pub store: MemoryStore,
    pub registry: Registry,
}

impl Node {
    /// Alone in the world.
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let store = MemoryStore::new();
        let network = World::new().join(store.clone());
        Self::over(config, store, Arc::new(network)).await
    }

    pub async fn over(config: Config, store: MemoryStore, network: Arc<dyn Network>) -> Self {
        let blocks: Arc<dyn Blockstore> = Arc::new(store.clone());
        let roots: Arc<dyn RootStore> = Arc::new(store.clone());
        Self { store, registry: Registry::open(config, blocks, roots, network).await.unwrap() }
    }

    /// Makes its own namespace public, and gives the root.
    pub fn publish(&self) -> String {
        self.store.publish(&Namespace::local(), PublishMode::Continuous).unwrap();
        self.store.state(&Namespace::local()).unwrap().root.unwrap().cid.to_string()
    }

    pub fn request(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        let request = Request::builder().method(method).uri(path.into()).header("host", "localhost:5000");
        Call { registry: &self.registry, request, from: None, body: Body::empty() }
    }

    pub async fn get(&self, path: impl Into<String>) -> Answer {
        self.request(Method::GET, path).send().await
    }

    pub async fn head(&self, path: impl Into<String>) -> Answer {
        self.request(Method::HEAD, path).send().await
    }

    pub async fn delete(&self, path: impl Into<String>) -> Answer {
        self.request(Method::DELETE, path).send().await
    }

    /// Opens an upload and gives its location.
    pub async fn start(&self, repository: &str) -> String {
        let answer = self.request(Method::POST, format!("/v2/{repository}/blobs/uploads/")).send().await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        answer.header("location").to_owned()
    }

    /// Waits until another request has taken an upload: until then, a chunk is merely out of order.
    pub async fn taken(&self, location: &str) {
        let later =
            || self.request(Method::PATCH, location).header("content-range", "900000000-900000004").body("later");
        while later().send().await.status != StatusCode::CONFLICT {}
    }

    /// Pushes a blob the way docker does: POST, PATCH, PUT.
    pub async fn push_blob(&self, repository: &str, data: &[u8]) -> Digest {
        let location = self.start(repository).await;
        let answer = self.request(Method::PATCH, &location).body(data.to_vec()).send().await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        let digest = sha256(data);
        let answer = self.request(Method::PUT, format!("{location}?digest={digest}")).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        assert_eq!(answer.header("docker-content-digest"), digest.as_str());
        digest
    }

    pub async fn push_manifest(&self, repository: &str, reference: &str, manifest: &Value) -> Answer {
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        self.request(Method::PUT, format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", &media_type)
            .body(manifest.to_string())
            .send()
            .await
    }

    /// Pushes an image with these layers, and gives its manifest's digest.
    pub async fn push_image(&self, repository: &str, tag: &str, layers: &[&[u8]]) -> Digest {
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        let config_digest = self.push_blob(repository, config).await;
        let mut list = Vec::new();
        for layer in layers {
            list.push((self.push_blob(repository, layer).await, layer.len()));
        }
        let manifest = image((config_digest, config.len()), &list);
        let answer = self.push_manifest(repository, tag, &manifest).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.header("docker-content-digest").parse().unwrap()
    }

    /// Puts a file into the store, and links it by a digest that may be somebody else's.
    pub async fn link(&self, repository: &str, data: &[u8], digest: &Digest) -> Blob {
        let mut out = self.store.writer(cidery_core::Origin::Pushed).unwrap();
        let mut builder = FileBuilder::new();
        builder.write(data, &mut *out).unwrap();
        let file = builder.finish(&mut *out).unwrap();
        let blob = Blob { digest: digest.clone(), cid: file.cid, size: file.size };
        let tree = self.registry.tree(&Namespace::local()).unwrap();
        tree.link_blob(&repository.parse().unwrap(), &blob).await.unwrap();
        blob
    }
}

/// A request on its way.
pub struct Call<'a> {
    registry: &'a Registry,
    request: axum::http::request::Builder,
    from: Option<SocketAddr>,
    body: Body,
}

impl Call<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name == "host" {
            self.request.headers_mut().unwrap().remove("host");
        }
        self.request = self.request.header(name, value);
        self
    }

    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().unwrap());
        self
    }

    /// What the listener would say about the connection.
    pub fn extension(mut self, extension: impl Clone + Send + Sync + 'static) -> Self {
        self.request = self.request.extension(extension);
        self
    }

    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// The answer's head, with its body still to come.
    pub async fn begin(self) -> axum::response::Response {
        let mut request = self.request.body(self.body).unwrap();
        if let Some(from) = self.from {
            request.extensions_mut().insert(ConnectInfo(from));
        }
        self.registry.router().oneshot(request).await.unwrap()
    }

    pub async fn send(self) -> Answer {
        let response = self.begin().await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// For bodies that may break.
    pub async fn try_send(self) -> Result<Answer, axum::Error> {
        let response = self.begin().await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("<binary>")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks an OCI error: status, code, and a message that says something.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        let error = &self.json()["errors"][0];
        assert_eq!(error["code"], code, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty());
        message.to_owned()
    }
}

pub fn sha256(data: &[u8]) -> Digest {
    Digest::sha256(&Sha256::digest(data).into())
}

pub fn sha512(data: &[u8]) -> Digest {
    Digest::sha512(&Sha512::digest(data).into())
}

pub fn image(config: (Digest, usize), layers: &[(Digest, usize)]) -> Value {
    let layer = |(digest, size): &(Digest, usize)| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size });
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1 },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

/// Bytes that look random and are the same every time.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Until a condition holds; a test that waits for what never comes fails by its own clock.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what} did not come about"));
}
