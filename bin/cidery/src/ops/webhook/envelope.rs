//! The envelope of Docker's registry: `application/vnd.docker.distribution.events.v2+json`.

use super::config::Said;
use axum::body::Bytes;
use cidery_registry::ops::{Event, HttpOrigin, Origin, Target};
use serde::Serialize;

/// What is sent.
pub const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v2+json";

/// The node that tells.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where its registry listens.
    pub address: String,
    /// Which node it is: stays the same when it is started again.
    pub instance: String,
}

/// One event, ready to be sent.
pub struct Message<'a> {
    /// What it tells.
    pub action: Said,
    /// Of what.
    pub target: &'a Target,
    /// The envelope.
    pub body: Bytes,
}

/// The messages that an event makes: one for each tag of each target.
pub fn messages<'a>(event: &'a Event, source: &Source) -> Vec<Message<'a>> {
    let Some(action) = Said::of(event.action) else { return Vec::new() };
    let mut messages = Vec::new();
    for target in &event.targets {
        let mut tags: Vec<Option<&str>> = target.tags.iter().map(|tag| Some(tag.as_str())).collect();
        if tags.is_empty() {
            tags.push(None);
        }
        for tag in tags {
            let envelope = Envelope { events: [Told::new(event, action, target, tag, source)] };
            // There is nothing in it that JSON cannot say.
            let body = serde_json::to_vec(&envelope).unwrap_or_default().into();
            messages.push(Message { action, target, body });
        }
    }
    messages
}

#[derive(Serialize)]
struct Envelope<'a> {
    events: [Told<'a>; 1],
}

#[derive(Serialize)]
struct Told<'a> {
    id: String,
    timestamp: String,
    action: &'static str,
    target: ToldTarget<'a>,
    request: ToldRequest<'a>,
    actor: Actor<'a>,
    source: ToldSource<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldTarget<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    /// The same as `size`, for those who read what came before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    repository: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
}

/// Empty for what was done by a command.
#[derive(Serialize)]
struct ToldRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    useragent: Option<&'a str>,
}

#[derive(Serialize)]
struct Actor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldSource<'a> {
    addr: &'a str,
    #[serde(rename = "instanceID")]
    instance: &'a str,
}

impl<'a> Told<'a> {
    fn new(event: &'a Event, action: Said, target: &'a Target, tag: Option<&'a str>, source: &'a Source) -> Self {
        let http: Option<&HttpOrigin> = match &event.origin {
            Origin::Http(http) => Some(http),
            Origin::Control | Origin::Retention => None,
        };
        let host = http.and_then(|http| http.host.as_deref());
        let called = http.filter(|_| action != Said::Delete);
        Self {
            id: uuid(),
            timestamp: humantime::format_rfc3339_nanos(event.at).to_string(),
            action: action.as_str(),
            target: ToldTarget {
                media_type: target.media_type.as_deref(),
                size: target.size,
                digest: target.digest.as_ref().map(|digest| digest.as_str()),
                length: target.size,
                repository: &target.name,
                from_repository: target.from.as_deref(),
                // What is gone has no address.
                url: called.and_then(|http| url(http, target)),
                tag,
            },
            request: ToldRequest {
                id: http.map(|http| http.id.as_str()),
                addr: http.and_then(address),
                host,
                method: http.map(|http| http.method.as_str()),
                useragent: http.and_then(|http| http.agent.as_deref()),
            },
            actor: Actor { name: http.and_then(|http| http.user.as_deref()) },
            source: ToldSource { addr: &source.address, instance: &source.instance },
        }
    }
}

/// Where the client is, as far as that is known.
fn address(http: &HttpOrigin) -> Option<String> {
    let client = http.client.map(|client| client.to_string());
    client.or_else(|| http.address.map(|address| address.to_string()))
}

/// Where its client would find it.
fn url(http: &HttpOrigin, target: &Target) -> Option<String> {
    let (host, digest) = (http.host.as_ref()?, target.digest.as_ref()?);
    let scheme = if http.https { "https" } else { "http" };
    let kind = if target.blob { "blobs" } else { "manifests" };
    Some(format!("{scheme}://{host}/v2/{}/{kind}/{digest}", target.name))
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> String {
    let random = rand::random::<u128>() & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{random:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_registry::ops::Action;
    use serde_json::{Value, json};
    use std::time::{Duration, SystemTime};

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(event: &Event) -> Vec<Value> {
        let source = Source { address: "127.0.0.1:5000".into(), instance: "12D3".into() };
        let one = |message: Message<'_>| {
            let mut body: Value = serde_json::from_slice(&message.body).unwrap();
            assert_eq!(body["events"].as_array().unwrap().len(), 1);
            body["events"][0].take()
        };
        messages(event, &source).into_iter().map(one).collect()
    }

    #[test]
    fn a_push_of_two_tags_is_two_events_with_every_field() {
        let target = Target {
            digest: Some(DIGEST.parse().unwrap()),
            tags: vec!["1".into(), "latest".into()],
            media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
            size: Some(708),
            ..Target::named("team/app")
        };
        let origin = HttpOrigin {
            id: "00ff".into(),
            method: "PUT".into(),
            address: Some("192.0.2.7:9".parse().unwrap()),
            host: Some("localhost:5000".into()),
            https: true,
            agent: Some("docker/28".into()),
            user: Some("alice".into()),
            ..HttpOrigin::default()
        };
        let mut event = Event::new(Action::Push, vec![target], Origin::Http(Box::new(origin)));
        event.at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let mut told = read(&event);
        assert_eq!((told.len(), &told[1]["target"]["tag"]), (2, &json!("latest")));
        let first = told.remove(0);
        let id = first["id"].as_str().unwrap().to_owned();
        assert!(id != told[0]["id"] && id.len() == 36 && &id[14..15] == "4", "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
        let expected = json!({
            "id": id,
            "timestamp": "1970-01-01T00:00:01.000000000Z",
            "action": "push",
            "target": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "size": 708,
                "digest": DIGEST,
                "length": 708,
                "repository": "team/app",
                "url": format!("https://localhost:5000/v2/team/app/manifests/{DIGEST}"),
                "tag": "1",
            },
            "request": {
                "id": "00ff",
                "addr": "192.0.2.7:9",
                "host": "localhost:5000",
                "method": "PUT",
                "useragent": "docker/28",
            },
            "actor": { "name": "alice" },
            "source": { "addr": "127.0.0.1:5000", "instanceID": "12D3" },
        });
        assert_eq!(first, expected);
    }

    #[test]
    fn commands_are_told_by_the_words_of_the_envelope() {
        let blob = Target::blob("team/app", DIGEST.parse().unwrap(), None);
        let told = read(&Event::new(Action::Purge, vec![blob, Target::named("other")], Origin::Control));
        assert_eq!(told.len(), 2);
        assert_eq!((&told[0]["action"], &told[0]["target"]["digest"]), (&json!("delete"), &json!(DIGEST)));
        assert_eq!((&told[0]["request"], &told[0]["actor"]), (&json!({}), &json!({})));
        assert!(told[0]["target"].get("url").is_none());
        assert!(read(&Event::new(Action::Publish, vec![Target::named("local")], Origin::Control)).is_empty());
    }
}
