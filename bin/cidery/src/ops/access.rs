//! The access log: what the registry says on `cidery::access`, one JSON object a line.

use super::lines::Lines;
use serde_json::{Map, Value};
use std::{fmt, sync::Arc, time::SystemTime};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// The target that requests are told on.
pub const TARGET: &str = "cidery::access";

/// Lines that wait for the disk; further ones are counted and dropped.
pub const QUEUE: usize = 8192;

/// Takes the events of one target, as the filter that it is given says.
pub struct AccessLog(pub Arc<Lines>);

impl<S: Subscriber> Layer<S> for AccessLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        fields.0.insert("time".into(), time.into());
        event.record(&mut fields);
        // The message says nothing that the target does not.
        fields.0.remove("message");
        self.0.offer(Value::Object(fields.0).to_string());
    }
}

/// An event's fields, as JSON, which escapes whatever a client sent.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::lines::{Care, Destination};
    use std::time::Duration;
    use tracing_subscriber::{filter::filter_fn, layer::SubscriberExt};

    #[tokio::test]
    async fn a_request_is_one_line_whatever_it_sends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access");
        let lines = Lines::open("access log", &Destination::File(path.clone()), 10, Care::Drop).unwrap();
        let lines = Arc::new(lines);
        let layer = AccessLog(lines.clone()).with_filter(filter_fn(|what| what.target() == TARGET));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let user: Option<&str> = None;
            tracing::info!(target: "cidery::access", path = "/v2/a\n\u{1b}[31m\"", status = 200_u64, whole = true, user, "request");
            tracing::info!(target: "cidery::other", "not for it");
        });
        lines.close(Duration::from_secs(5)).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{text:?}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((line["path"].as_str(), &line["status"]), (Some("/v2/a\n\u{1b}[31m\""), &Value::from(200)));
        assert!(line["time"].is_string() && line.get("message").is_none() && line.get("user").is_none(), "{line}");
    }
}
