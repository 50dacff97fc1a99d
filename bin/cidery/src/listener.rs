//! What the registry's listener is told: TLS, limits, and pages of other sites.

use crate::{tls::Files, units::Time};
use anyhow::{Context, Result, bail};
use cidery_registry::{Config, Origin};
use clap::{Args, ValueEnum};
use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

/// Options of `serve` about its listener. The file has the same keys.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of the registry's listener")]
pub struct Flags {
    /// The certificate to serve HTTPS with, followed by those between it and its authority (PEM); read again when it
    /// changes
    #[arg(long, env = "CIDERY_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM, not encrypted)
    #[arg(long, env = "CIDERY_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Authorities that sign the certificates of clients (PEM)
    #[arg(long, env = "CIDERY_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are turned away [default: require, with --tls-client-ca]
    #[arg(long, env = "CIDERY_TLS_CLIENT", value_name = "require|optional")]
    pub tls_client: Option<ClientMode>,
    /// A web page's origin that may use the registry, e.g. https://ui.example; may be repeated [default: none]
    #[arg(long, env = "CIDERY_CORS", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors: Vec<String>,
    /// Connections that are served at once; further ones wait a moment, then they are answered 503 [default: 1024]
    #[arg(long, env = "CIDERY_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,
    /// Uploads that are open at once; further ones are answered 429 [default: 256]
    #[arg(long, env = "CIDERY_MAX_UPLOADS", value_name = "N")]
    pub max_uploads: Option<NonZeroUsize>,
    /// Blobs that are sent at once; further ones wait a moment, then they are answered 429 [default: 256]
    #[arg(long, env = "CIDERY_MAX_DOWNLOADS", value_name = "N")]
    pub max_downloads: Option<NonZeroUsize>,
    /// How long a client may take to send a request's head, and between requests [default: 30s]
    #[arg(long, env = "CIDERY_HEADER_TIMEOUT", value_name = "DURATION")]
    pub header_timeout: Option<Time>,
    /// How long a client may send or take next to nothing of a body [default: 2m]
    #[arg(long, env = "CIDERY_STALL_TIMEOUT", value_name = "DURATION")]
    pub stall_timeout: Option<Time>,
    /// How long what a manifest names and nobody pushed is looked for among peers [default: 30s]
    #[arg(long, env = "CIDERY_SEARCH_TIMEOUT", value_name = "DURATION")]
    pub search_timeout: Option<Time>,
}

/// Whether clients have to have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientMode {
    Require,
    Optional,
}

/// What the listener runs with; `None` for what the registry has a default for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub tls: Option<Files>,
    pub cors: Vec<Origin>,
    pub max_connections: Option<usize>,
    pub max_uploads: Option<usize>,
    pub max_downloads: Option<usize>,
    pub header_timeout: Option<Duration>,
    pub stall_timeout: Option<Duration>,
    pub search_timeout: Option<Duration>,
}

impl Flags {
    /// These, completed by those of the file.
    pub fn over(self, file: Self) -> Self {
        // An environment variable that is empty names nothing.
        let path = |flag: Option<PathBuf>, file| flag.filter(|path| !path.as_os_str().is_empty()).or(file);
        let cors: Vec<_> = self.cors.into_iter().filter(|origin| !origin.trim().is_empty()).collect();
        Self {
            tls_cert: path(self.tls_cert, file.tls_cert),
            tls_key: path(self.tls_key, file.tls_key),
            tls_client_ca: path(self.tls_client_ca, file.tls_client_ca),
            tls_client: self.tls_client.or(file.tls_client),
            cors: if cors.is_empty() { file.cors } else { cors },
            max_connections: self.max_connections.or(file.max_connections),
            max_uploads: self.max_uploads.or(file.max_uploads),
            max_downloads: self.max_downloads.or(file.max_downloads),
            header_timeout: self.header_timeout.or(file.header_timeout),
            stall_timeout: self.stall_timeout.or(file.stall_timeout),
            search_timeout: self.search_timeout.or(file.search_timeout),
        }
    }

    /// Turned into what can be used.
    pub fn settle(self) -> Result<Listener> {
        let clients = match (self.tls_client_ca, self.tls_client) {
            (Some(authorities), mode) => Some((authorities, mode != Some(ClientMode::Optional))),
            (None, None) => None,
            (None, Some(_)) => bail!("--tls-client needs --tls-client-ca FILE: who signs the certificates of clients"),
        };
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Some(Files { cert, key, clients }),
            (None, None) if clients.is_some() => {
                bail!("client certificates need TLS: name a certificate with --tls-cert FILE and --tls-key FILE")
            }
            (None, None) => None,
            (Some(_), None) => bail!("--tls-cert needs the certificate's private key: --tls-key FILE"),
            (None, Some(_)) => bail!("--tls-key needs the certificate it belongs to: --tls-cert FILE"),
        };
        Ok(Listener {
            tls,
            cors: self.cors.iter().map(|text| text.trim().parse().context("--cors")).collect::<Result<_>>()?,
            max_connections: self.max_connections.map(NonZeroUsize::get),
            max_uploads: self.max_uploads.map(NonZeroUsize::get),
            max_downloads: self.max_downloads.map(NonZeroUsize::get),
            header_timeout: self.header_timeout.map(|time| time.0),
            stall_timeout: self.stall_timeout.map(|time| time.0),
            search_timeout: self.search_timeout.map(|time| time.0),
        })
    }
}

impl Listener {
    /// Tells the registry.
    pub fn apply(&self, config: Config) -> Config {
        Config {
            cors: self.cors.clone(),
            max_connections: self.max_connections.unwrap_or(config.max_connections),
            max_uploads: self.max_uploads.unwrap_or(config.max_uploads),
            max_downloads: self.max_downloads.unwrap_or(config.max_downloads),
            header_timeout: self.header_timeout.unwrap_or(config.header_timeout),
            stall_timeout: self.stall_timeout.unwrap_or(config.stall_timeout),
            search_timeout: self.search_timeout.unwrap_or(config.search_timeout),
            ..config
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Flags {
        Flags { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..Flags::default() }
    }

    #[test]
    fn by_default_there_is_no_tls_and_no_other_page() {
        let listener = Flags::default().settle().expect("valid");
        assert_eq!((listener.scheme(), listener.tls.is_none(), listener.cors.is_empty()), ("http", true, true));
        let (ours, theirs) = (listener.apply(Config::default()), Config::default());
        assert_eq!((ours.max_uploads, ours.stall_timeout), (theirs.max_uploads, theirs.stall_timeout));
    }

    #[test]
    fn what_belongs_together_comes_together() {
        assert_eq!(pair().settle().expect("valid").scheme(), "https");
        for (wrong, hint) in [
            (Flags { tls_key: None, ..pair() }, "--tls-key"),
            (Flags { tls_cert: None, ..pair() }, "--tls-cert"),
            (Flags { tls_client: Some(ClientMode::Require), ..pair() }, "--tls-client-ca"),
            (Flags { tls_client_ca: Some("a".into()), ..Flags::default() }, "--tls-cert"),
            (Flags { cors: vec!["*".into()], ..Flags::default() }, "https://ui.example"),
        ] {
            let error = format!("{:#}", wrong.settle().expect_err(hint));
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn client_certificates_are_required_unless_said_otherwise() {
        for (mode, required) in [(None, true), (Some(ClientMode::Require), true), (Some(ClientMode::Optional), false)] {
            let flags = Flags { tls_client_ca: Some("a".into()), tls_client: mode, ..pair() };
            let files = flags.settle().expect("valid").tls.expect("there is TLS");
            assert_eq!(files.clients, Some(("a".into(), required)));
        }
    }

    #[test]
    fn flags_beat_the_file() {
        let file = Flags {
            cors: vec!["https://file.example".into()],
            max_uploads: NonZeroUsize::new(1),
            max_downloads: NonZeroUsize::new(1),
            stall_timeout: Some(Time(Duration::from_secs(1))),
            ..pair()
        };
        let flags = Flags {
            tls_cert: Some("".into()),
            tls_key: Some("other".into()),
            cors: vec![" ".into(), "https://flag.example".into()],
            max_uploads: NonZeroUsize::new(2),
            ..Flags::default()
        };
        let listener = flags.over(file).settle().expect("valid");
        let files = listener.tls.as_ref().expect("there is TLS");
        assert_eq!((files.cert.as_os_str(), files.key.as_os_str()), ("c".as_ref(), "other".as_ref()));
        assert_eq!(listener.cors, ["https://flag.example".parse().expect("valid")]);
        let config = listener.apply(Config::default());
        assert_eq!((config.max_uploads, config.max_downloads, config.stall_timeout.as_secs()), (2, 1, 1));
    }
}
