//! Whatever is asked, the registry answers, and never that it failed.

use crate::support::{Answer, Node, image, sha256, sha512};
use axum::http::Method;
use cidery_registry::{Config, tree::manifest::media_type};
use proptest::{collection::vec, option, prelude::*, sample::select, string::string_regex};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// What is made up of a request.
#[derive(Debug, Clone)]
pub struct Made {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A digest that may be there, one that may not, and what is none.
fn digest() -> impl Strategy<Value = String> {
    let known = ["layer", "other", "{}", "nothing", ""].map(|text| sha256(text.as_bytes()).to_string());
    prop_oneof![
        4 => select(known.to_vec()),
        1 => Just(sha512(b"layer").to_string()),
        1 => string_regex("(sha256|sha512|sha257|md5|SHA256|):[0-9a-fA-F]{0,130}").expect("a pattern"),
        1 => ".{0,80}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["app", "team/app", "local/app", "new", "example.org/app"]).prop_map(str::to_owned),
        1 => string_regex("[a-z0-9]([a-z0-9._/-]{0,40})").expect("a pattern"),
        1 => string_regex("(baf[a-z2-7]{5,60}|k51[a-z0-9]{5,60}|ipfs|ipns)(/[a-z]{1,5}){0,3}").expect("a pattern"),
        1 => string_regex("[A-Za-z0-9_.%/:@~-]{0,300}").expect("a pattern"),
    ]
}

fn reference() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(vec!["1", "2", "latest", "-x", ".."]).prop_map(str::to_owned),
        2 => digest(),
        1 => ".{0,140}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => select(vec!["/", "/v2", "/v2/", "/v2/_catalog", "/v1/", "//v2//"]).prop_map(str::to_owned),
        2 => name().prop_map(|name| format!("/v2/{name}/tags/list")),
        4 => (name(), reference()).prop_map(|(name, reference)| format!("/v2/{name}/manifests/{reference}")),
        4 => (name(), digest()).prop_map(|(name, digest)| format!("/v2/{name}/blobs/{digest}")),
        2 => (name(), digest()).prop_map(|(name, digest)| format!("/v2/{name}/referrers/{digest}")),
        2 => name().prop_map(|name| format!("/v2/{name}/blobs/uploads/")),
        // The upload that is open stands in for `~`.
        4 => select(vec!["app", "new"]).prop_map(|name| format!("/v2/{name}/blobs/uploads/~")),
        1 => "/[a-zA-Z0-9%._~/:-]{0,200}",
    ]
}

fn query() -> impl Strategy<Value = String> {
    let number = prop_oneof![Just("n=0".to_owned()), "n=-?[0-9]{1,25}", "n=[a-z.%]{0,5}"];
    let pair = prop_oneof![
        number,
        "last=[A-Za-z0-9%/._-]{0,40}",
        digest().prop_map(|digest| format!("digest={digest}")),
        digest().prop_map(|digest| format!("mount={digest}")),
        name().prop_map(|name| format!("from={name}")),
        reference().prop_map(|tag| format!("tag={tag}")),
        "artifactType=[a-z/+.%]{0,30}",
        "ns=[a-z.:0-9]{0,20}",
        "[a-z%=&+]{0,20}",
    ];
    vec(pair, 0..4).prop_map(|pairs| pairs.join("&"))
}

fn range() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{0,20}-[0-9]{0,20}", "bytes=[0-9]{0,20}-[0-9]{0,20}(,[0-9]{0,3}-[0-9]{0,3})?", "[ -~]{0,20}"]
}

fn header() -> impl Strategy<Value = (String, String)> {
    let types = vec![media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, "application/json"];
    let named = |name: &'static str| move |value: String| (name.to_owned(), value);
    prop_oneof![
        3 => range().prop_map(named("range")),
        3 => range().prop_map(named("content-range")),
        2 => "[0-9]{1,20}".prop_map(named("content-length")),
        3 => select(types).prop_map(str::to_owned).prop_map(named("content-type")),
        1 => "[ -~]{0,60}".prop_map(named("content-type")),
        1 => digest().prop_map(|digest| ("if-none-match".into(), format!("\"{digest}\""))),
        1 => "[ -~]{0,40}".prop_map(named("if-none-match")),
        1 => "[ -~]{0,40}".prop_map(named("if-range")),
        1 => "[ -~]{0,40}".prop_map(named("accept")),
        1 => "[ -~]{0,60}".prop_map(named("authorization")),
        1 => "[a-z0-9.:@/-]{0,30}".prop_map(named("host")),
        1 => "[a-z0-9.:/-]{0,30}".prop_map(named("origin")),
        1 => ("x-[a-z]{1,20}", "[ -~]{0,100}"),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let manifest = image((sha256(b"{}"), 2), &[(sha256(b"layer"), 5)]).to_string();
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
    prop_oneof![
        3 => select(vec!["", "layer", "other", "{}"]).prop_map(|text| text.as_bytes().to_vec()),
        2 => select(vec![manifest.clone(), index]).prop_map(String::into_bytes),
        // A manifest that is broken somewhere.
        2 => (0..manifest.len(), any::<u8>()).prop_map(move |(at, byte)| {
            let mut bytes = manifest.clone().into_bytes();
            bytes[at] = byte;
            bytes
        }),
        1 => vec(any::<u8>(), 0..2000),
    ]
}

pub fn made() -> impl Strategy<Value = Made> {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"];
    let method = prop_oneof![8 => select(methods[..6].to_vec()), 1 => select(methods.to_vec())];
    (method, path(), option::of(query()), vec(header(), 0..4), body()).prop_map(
        |(method, path, query, headers, body)| Made {
            method: method.to_owned(),
            path,
            query: query.unwrap_or_default(),
            headers,
            body,
        },
    )
}

/// Sends it, unless it is nothing that could come over HTTP.
pub async fn send(node: &Node, made: &Made, upload: &str) -> Option<Answer> {
    let path = made.path.replace('~', upload);
    let target = if made.query.is_empty() { path } else { format!("{path}?{}", made.query) };
    let method: Method = made.method.parse().ok()?;
    let uri: axum::http::Uri = target.parse().ok()?;
    uri.path().starts_with('/').then_some(())?;
    let mut call = node.request(method, target);
    for (name, value) in &made.headers {
        axum::http::HeaderValue::from_str(value).ok()?;
        call = call.header(name, value);
    }
    Some(call.body(made.body.clone()).send().await)
}

/// What every answer is, whatever was asked.
pub fn check(made: &Made, answer: &Answer) -> Result<(), TestCaseError> {
    let status = answer.status.as_u16();
    prop_assert!((200..500).contains(&status), "{made:?}: {status} {}", answer.text());
    prop_assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    prop_assert_eq!(answer.header("x-request-id").len(), 16);
    if status >= 400 && made.method != "HEAD" {
        let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
        prop_assert!(!errors.is_empty(), "{made:?}: {}", answer.text());
        for error in errors {
            let (code, message) = (error["code"].as_str(), error["message"].as_str());
            prop_assert!(code.is_some_and(|code| code != "UNKNOWN") && message.is_some_and(|m| !m.is_empty()));
        }
    }
    Ok(())
}

/// The cases, as a number that a long run by hand may set.
pub fn cases() -> u32 {
    std::env::var("CIDERY_TEST_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[test]
fn no_request_makes_the_registry_fail() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (sent, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for require_references in [false, true] {
        let node = runtime.block_on(async {
            let config = Config { require_references, max_uploads: 1 << 16, page_limit: 10, ..Config::default() };
            let node = Node::with(config).await;
            node.push_image("app", "1", &[b"layer"]).await;
            node.push_image("team/app", "2", &[b"other"]).await;
            node
        });
        let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(requests in vec(made(), 1..8))| {
            runtime.block_on(async {
                let opened = node.request(Method::POST, "/v2/app/blobs/uploads/").send().await;
                let location = opened.headers.get("location").map(|location| location.to_str().unwrap().to_owned());
                let upload = location.as_deref().and_then(|location| location.rsplit('/').next()).unwrap_or("none");
                for made in &requests {
                    if let Some(answer) = send(&node, made, upload).await {
                        sent.fetch_add(1, SeqCst);
                        refused.fetch_add(usize::from(answer.status.as_u16() >= 400), SeqCst);
                        check(made, &answer)?;
                    }
                }
                if let Some(location) = &location {
                    node.delete(location).await;
                }
                Ok::<_, TestCaseError>(())
            })?;
        });
        // It is as well as before.
        runtime.block_on(async {
            assert_eq!(node.get("/v2/").await.text(), "{}");
            node.push_image("after", "1", &[b"layer"]).await;
            assert_eq!(node.get("/v2/after/manifests/1").await.status.as_u16(), 200);
        });
    }
    // Neither all of them refused nor none: the requests are worth something.
    let (sent, refused) = (sent.load(SeqCst), refused.load(SeqCst));
    assert!(sent > cases() as usize && refused < sent && sent - refused > sent / 50, "{refused} of {sent} refused");
}
