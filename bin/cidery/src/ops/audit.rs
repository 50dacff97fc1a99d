//! The audit log: every write that was done, one JSON object a line.
//!
//! Nothing is lost of it: whoever wants to write something takes room in the queue first, and where there is none,
//! since the file cannot be written, is refused. A line is in the file a moment after the client has its answer; what
//! was acknowledged in the last moment before the process is killed may not be.

use super::lines::{Care, Destination, Lines, Place};
use anyhow::Result;
use async_trait::async_trait;
use cidery_registry::ops::{Event, HttpOrigin, NoRoom, Observer, Origin, Target, Ticket};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// Lines that wait for the disk.
const QUEUE: usize = 1024;

/// How long a write waits for room before it is refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    lines: Arc<Lines>,
    patience: Duration,
}

impl Audit {
    /// Opens it.
    pub fn open(destination: &Destination) -> Result<Self> {
        Self::with(destination, QUEUE, PATIENCE)
    }

    fn with(destination: &Destination, queue: usize, patience: Duration) -> Result<Self> {
        Ok(Self { lines: Arc::new(Lines::open("audit log", destination, queue, Care::Keep)?), patience })
    }

    /// Its file.
    pub fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }
}

#[async_trait]
impl Observer for Audit {
    async fn room(&self) -> Result<Box<dyn Ticket>, NoRoom> {
        match self.lines.room(self.patience).await {
            Some(place) => Ok(Box::new(Entry(place))),
            None => Err(NoRoom("the audit log cannot be written; look at its disk".into())),
        }
    }
}

/// A place in the log.
struct Entry(Place);

impl Ticket for Entry {
    fn tell(self: Box<Self>, event: &Event) {
        self.0.put(text(event));
    }
}

/// A line for each target.
fn text(event: &Event) -> String {
    let lines = event.targets.iter().map(|target| {
        // There is nothing in it that JSON cannot say.
        serde_json::to_string(&Line::new(event, target)).unwrap_or_default()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    /// RFC 3339, UTC.
    time: String,
    action: &'static str,
    name: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    /// `http`, `command` for what was typed on this machine, or `retention` for what a rule removed.
    via: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    /// For whom a trusted proxy asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn new(event: &'a Event, target: &'a Target) -> Self {
        let http: Option<&HttpOrigin> = match &event.origin {
            Origin::Http(http) => Some(http),
            Origin::Control | Origin::Retention => None,
        };
        Self {
            time: humantime::format_rfc3339_micros(event.at).to_string(),
            action: event.action.as_str(),
            name: &target.name,
            kind: kind(target),
            digest: target.digest.as_ref().map(|digest| digest.as_str()),
            tags: &target.tags,
            media_type: target.media_type.as_deref(),
            size: target.size,
            from: target.from.as_deref(),
            via: match event.origin {
                Origin::Http(_) => "http",
                Origin::Control => "command",
                Origin::Retention => "retention",
            },
            user: http.and_then(|http| http.user.as_deref()),
            remote: http.and_then(|http| http.address).map(|address| address.to_string()),
            client: http.and_then(|http| http.client).map(|client| client.to_string()),
            request: http.map(|http| http.id.as_str()),
            method: http.map(|http| http.method.as_str()),
            host: http.and_then(|http| http.host.as_deref()),
            agent: http.and_then(|http| http.agent.as_deref()),
        }
    }
}

fn kind(target: &Target) -> &'static str {
    match target {
        Target { blob: true, .. } => "blob",
        Target { digest: Some(_), .. } => "manifest",
        Target { tags, .. } if !tags.is_empty() => "tag",
        _ => "name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_registry::ops::{Action, Observers};

    fn event() -> Event {
        let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".parse().unwrap();
        let target =
            Target { digest: Some(digest), tags: vec!["1".into()], size: Some(7), ..Target::named("team/app") };
        let origin = HttpOrigin {
            id: "ab".into(),
            method: "PUT".into(),
            address: Some("192.0.2.7:9".parse().unwrap()),
            agent: Some("evil\r\n\u{1b}]0;x\u{7}".into()),
            user: Some("alice".into()),
            ..Default::default()
        };
        Event::new(Action::Push, vec![target, Target::named("other")], Origin::Http(Box::new(origin)))
    }

    #[tokio::test]
    async fn a_write_is_a_line_for_each_target() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let audit = Arc::new(Audit::open(&Destination::File(path.clone())).unwrap());
        let observers = Observers::new(vec![audit.clone()]);
        observers.room().await.unwrap().tell(event());
        // Room that was not used leaves nothing.
        drop(observers.room().await.unwrap());
        audit.lines().close(Duration::from_secs(5)).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{text:?}");
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        let first = &lines[0];
        assert_eq!(
            (&first["action"], &first["name"], &first["kind"]),
            (&"push".into(), &"team/app".into(), &"manifest".into())
        );
        assert_eq!(
            (&first["user"], &first["remote"], &first["tags"][0]),
            (&"alice".into(), &"192.0.2.7:9".into(), &"1".into())
        );
        assert_eq!((&lines[1]["kind"], &lines[1]["request"]), (&"name".into(), &"ab".into()));
    }

    #[tokio::test]
    async fn what_cannot_be_written_down_is_refused_before_it_is_done() {
        let audit = Audit::with(&Destination::File("/dev/full".into()), 1, Duration::from_millis(50)).unwrap();
        let observers = Observers::new(vec![Arc::new(audit)]);
        let mut done = 0;
        let refused = loop {
            match observers.room().await {
                Ok(room) => room.tell(event()),
                Err(refused) => break refused,
            }
            done += 1;
            assert!(done < 10, "the queue is bounded");
        };
        assert!(refused.to_string().contains("audit log"), "{refused}");
    }
}
