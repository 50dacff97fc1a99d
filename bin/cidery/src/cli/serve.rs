//! `cidery serve`.

use super::{Accounts, Switch};
use crate::{
    ops::lines::Destination,
    units::{Size, Time, address},
};
use clap::Args;
use std::{net::SocketAddr, num::NonZeroUsize};

#[derive(Debug, Args, Default)]
#[command(after_help = "\
Examples:
  cidery serve
  cidery serve --data /srv/cidery --http 127.0.0.1:5001 --swarm /ip4/0.0.0.0/tcp/4002 --peer /ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…
  cidery serve --cache-limit 50GiB --reserve 5GiB --history 100
  cidery serve --http 0.0.0.0:5000 --hosts registry.lan --tls-cert registry.pem --tls-key registry.key

Sizes are bytes, or have a unit: 500MB, 50GiB. Durations: 90s, 30m, 24h, 7days.")]
pub struct Serve {
    /// Where the registry listens [default: 127.0.0.1:5000]
    #[arg(long, env = "CIDERY_HTTP", value_name = "ADDR:PORT", value_parser = address)]
    pub http: Option<SocketAddr>,
    /// A name, besides localhost, under which clients call the registry, e.g. registry.lan; may be repeated
    #[arg(long, env = "CIDERY_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Where /metrics, /healthz and /readyz are served to other machines too [default: on the registry's port, metrics
    /// to this machine only]
    #[arg(long, env = "CIDERY_METRICS", value_name = "ADDR:PORT", value_parser = address)]
    pub metrics: Option<SocketAddr>,
    /// Where every request is logged, as JSON lines [default: nowhere]
    #[arg(long, env = "CIDERY_ACCESS_LOG", value_name = "FILE|stderr")]
    pub access_log: Option<Destination>,
    /// Where every write is logged, as JSON lines; where that fails nothing is written [default: nowhere]
    #[arg(long, env = "CIDERY_AUDIT_LOG", value_name = "FILE|stderr")]
    pub audit_log: Option<Destination>,
    /// Where the swarm listens; may be repeated [default: port 4001, TCP and QUIC, every interface]
    #[arg(long, env = "CIDERY_SWARM", value_name = "MULTIADDR", value_delimiter = ',')]
    pub swarm: Vec<String>,
    #[command(flatten)]
    pub accounts: Accounts,
    /// A node to stay connected to; may be repeated
    #[arg(long, env = "CIDERY_PEER", value_name = "MULTIADDR", value_delimiter = ',')]
    pub peer: Vec<String>,
    /// How to join the public network; may be repeated [default: default]
    #[arg(long, env = "CIDERY_BOOTSTRAP", value_name = "default|none|MULTIADDR", value_delimiter = ',')]
    pub bootstrap: Vec<String>,
    /// Find nodes on the local network [default: on]
    #[arg(long, env = "CIDERY_MDNS", value_name = "on|off")]
    pub mdns: Option<Switch>,
    /// The DNS server to ask [default: the system's]
    #[arg(long, env = "CIDERY_DNS", value_name = "ADDR:PORT", value_parser = address)]
    pub dns: Option<SocketAddr>,
    /// How much of what came from peers is kept at most; the least recently used goes first [default: no limit]
    #[arg(long, env = "CIDERY_CACHE_LIMIT", value_name = "SIZE")]
    pub cache_limit: Option<Size>,
    /// How much is stored altogether at most; beyond it no more blobs are taken [default: no limit]
    #[arg(long, env = "CIDERY_STORE_LIMIT", value_name = "SIZE")]
    pub store_limit: Option<Size>,
    /// How much stays free on the disk; with less, no more blobs are taken [default: 1GiB or 5 % of the file
    /// system, whichever is less]
    #[arg(long, env = "CIDERY_RESERVE", value_name = "SIZE")]
    pub reserve: Option<Size>,
    /// How many states of each namespace are kept, the current one included [default: 32]
    #[arg(long, env = "CIDERY_HISTORY", value_name = "N")]
    pub history: Option<NonZeroUsize>,
    /// When an upload that nobody goes on with is given up [default: 24h]
    #[arg(long, env = "CIDERY_UPLOAD_EXPIRY", value_name = "DURATION")]
    pub upload_expiry: Option<Time>,
    /// When a blob that no manifest ever named is given up [default: 24h]
    #[arg(long, env = "CIDERY_BLOB_EXPIRY", value_name = "DURATION")]
    pub blob_expiry: Option<Time>,
    /// Refuse manifests that refer to what their repository does not hold, e.g. --require-references
    #[arg(long, env = "CIDERY_REQUIRE_REFERENCES", value_name = "BOOL", value_parser = truth())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub require_references: Option<bool>,
    /// With --require-references, the platforms whose images an index must have, e.g. linux/amd64; may be repeated
    /// [default: all]
    #[arg(long, env = "CIDERY_REQUIRE_PLATFORMS", value_name = "OS/ARCH", value_delimiter = ',')]
    pub require_platforms: Vec<String>,
    /// Take deletes over HTTP: --deletes=false refuses them with 405 [default: true]
    #[arg(long, env = "CIDERY_DELETES", value_name = "BOOL", value_parser = truth())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub deletes: Option<bool>,
    /// Take neither pushes nor deletes over HTTP; commands go on working
    #[arg(long, env = "CIDERY_READ_ONLY", value_name = "BOOL", value_parser = truth())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub read_only: Option<bool>,
    #[command(flatten)]
    pub listener: crate::listener::Flags,
}

/// true or false, as a flag, in the environment and in the file.
pub(super) fn truth() -> impl clap::builder::TypedValueParser<Value = bool> {
    clap::builder::BoolishValueParser::new()
}
