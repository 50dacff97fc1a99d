//! `[[webhook]]` of the configuration file.

use crate::units::Time;
use anyhow::{Context, Result, bail, ensure};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use cidery_registry::ops::{Action, Target};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

/// One webhook, as it is written.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Webhook {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "Said::usual")]
    actions: Vec<Said>,
    #[serde(default)]
    blobs: bool,
    #[serde(default = "usual_timeout")]
    timeout: Time,
    #[serde(default = "usual_queue")]
    queue: usize,
    #[serde(default = "usual_retry")]
    retry_for: Time,
    ca: Option<PathBuf>,
}

fn usual_timeout() -> Time {
    Time(Duration::from_secs(5))
}

fn usual_queue() -> usize {
    1000
}

fn usual_retry() -> Time {
    Time(Duration::from_secs(3600))
}

/// The actions that the envelope knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    Push,
    Pull,
    Mount,
    Delete,
}

impl Said {
    fn usual() -> Vec<Self> {
        vec![Self::Push, Self::Delete]
    }

    /// What an action is called there; some are not told.
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::Push | Action::Import => Some(Self::Push),
            Action::Pull => Some(Self::Pull),
            Action::Mount => Some(Self::Mount),
            Action::Delete | Action::Purge => Some(Self::Delete),
            Action::Pin | Action::Unpin | Action::Publish | Action::Unpublish => None,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

/// One webhook, checked. Its `Debug` tells no secrets: an address may contain one too.
#[derive(Clone)]
pub struct Hook {
    /// Where events are posted.
    pub url: Uri,
    /// What is sent along.
    pub headers: HeaderMap,
    /// Which events it gets.
    pub actions: Vec<Said>,
    /// Whether it gets those of blobs too.
    pub blobs: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Events that wait; further ones are dropped.
    pub queue: usize,
    /// How long an event is tried again.
    pub retry_for: Duration,
    /// Who vouches for it, besides those this machine trusts.
    pub ca: Option<PathBuf>,
}

impl Webhook {
    /// Checks it; `number` is which one in the file.
    pub fn check(self, number: usize) -> Result<Hook> {
        self.checked().with_context(|| format!("webhook {number}"))
    }

    fn checked(self) -> Result<Hook> {
        // The address itself is not shown: it may contain a secret.
        let url: Uri = self.url.parse().context("url is no address: write https://host/path")?;
        let Some(authority) = url.authority().filter(|_| matches!(url.scheme_str(), Some("http" | "https"))) else {
            bail!("url begins with https:// or http://, and a host");
        };
        let in_url = authority.as_str().contains('@');
        ensure!(!in_url, "credentials do not belong into url: write headers = {{ Authorization = \"…\" }}");
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let mut value =
                HeaderValue::from_str(value).with_context(|| format!("the value of the header {name:?}"))?;
            value.set_sensitive(true);
            let name: HeaderName = name.parse().with_context(|| format!("the header {name:?}"))?;
            headers.insert(name, value);
        }
        ensure!(!self.actions.is_empty(), "actions is empty: write [\"push\", \"delete\"], or leave it out");
        ensure!(self.queue > 0, "queue is 0: it holds the events that wait");
        Ok(Hook {
            url,
            headers,
            actions: self.actions,
            blobs: self.blobs,
            timeout: self.timeout.0,
            queue: self.queue,
            retry_for: self.retry_for.0,
            ca: self.ca,
        })
    }
}

impl Hook {
    /// Its host, which is what may be shown of it.
    pub fn host(&self) -> &str {
        self.url.host().unwrap_or_default()
    }

    /// Whether it gets an event about this.
    pub fn wants(&self, action: Said, target: &Target) -> bool {
        self.actions.contains(&action) && (self.blobs || !target.blob)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook")
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(text: &str) -> Result<Hook> {
        toml::from_str::<Webhook>(text)?.check(1)
    }

    #[test]
    fn a_webhook_needs_an_address_and_no_more() {
        let usual = hook("url = \"https://hooks.example/x?key=1\"").unwrap();
        assert_eq!((usual.host(), usual.timeout.as_secs(), usual.queue), ("hooks.example", 5, 1000));
        let (manifest, blob) = (Target::default(), Target { blob: true, ..Target::default() });
        assert!(usual.wants(Said::Push, &manifest) && usual.wants(Said::Delete, &manifest));
        assert!(!usual.wants(Said::Pull, &manifest) && !usual.wants(Said::Push, &blob));
        let text = "url = \"http://127.0.0.1:1/\"\nheaders = { Authorization = \"Bearer s3cret\" }\n\
                    actions = [\"pull\"]\nblobs = true\ntimeout = \"2s\"\nretry-for = \"1m\"\nqueue = 5";
        let all = hook(text).unwrap();
        assert!(all.wants(Said::Pull, &blob) && !all.wants(Said::Push, &manifest));
        assert_eq!((all.timeout.as_secs(), all.retry_for.as_secs(), all.queue), (2, 60, 5));
        assert_eq!(all.headers["authorization"], "Bearer s3cret");
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not() {
        for (text, said) in [
            ("url = \"hooks.example\"", "https://"),
            ("url = \"ftp://hooks.example/\"", "https://"),
            ("url = \"https://u:s3cret@hooks.example/\"", "Authorization"),
            ("url = \"https://h/\"\nactions = []", "actions"),
            ("url = \"https://h/\"\nactions = [\"explode\"]", "explode"),
            ("url = \"https://h/\"\nqueue = 0", "queue"),
            ("url = \"https://h/\"\nsecrets = 1", "secrets"),
            ("url = \"https://h/\"\nheaders = { A = \"s3cret\\n\" }", "\"A\""),
        ] {
            let error = format!("{:#}", hook(text).unwrap_err());
            assert!(error.contains(said) && !error.contains("s3cret"), "{text}: {error}");
        }
        let hook = hook("url = \"https://h/s3cret\"\nheaders = { A = \"s3cret\" }").unwrap();
        assert_eq!(format!("{hook:?}"), "Hook(h)");
    }
}
