//! What the registry can be told. Nothing here is read from a file or the environment.

use crate::{
    http::Origin,
    ops::{Observers, Surroundings},
    rules::TagRules,
    tree::{Missing, Platform},
};
use cidery_access::Access;
use cidery_core::Namespace;
use std::{sync::Arc, time::Duration};

/// Limits and settings, with defaults that suit a machine of 2 cores and 4 GiB.
#[derive(Debug, Clone)]
pub struct Config {
    /// Namespaces this node owns, besides `local` and those the store already has a root of.
    pub namespaces: Vec<Namespace>,
    /// `Host` header values that are accepted besides `localhost` and IP literals; without a port,
    /// any port matches.
    pub allowed_hosts: Vec<String>,
    /// Whether manifests are refused whose blobs or child manifests are not all in their repository. Otherwise they
    /// may come later, or never: mirrors of single platforms push such indexes.
    pub require_references: bool,
    /// With [`Config::require_references`], the platforms whose images an index must have; all if there are none.
    pub require_platforms: Vec<Platform>,
    /// Whether tags, manifests and blobs can be deleted over HTTP.
    pub deletes: bool,
    /// Whether nothing can be pushed or deleted over HTTP.
    pub read_only: bool,
    /// Which tags never change, and which are kept for how long.
    pub tag_rules: TagRules,
    /// How often tags are looked for that no rule keeps.
    pub retention_period: Duration,
    /// Web pages of other sites that may use the API with whatever rights their visitor has.
    pub cors: Vec<Origin>,
    /// Who may do what; without it, or as long as it knows no accounts, whoever reaches the listener may pull,
    /// and this machine may push.
    pub access: Option<Arc<Access>>,
    /// The largest manifest that is taken or passed on, in bytes (distribution-spec: at least 4 MiB).
    pub manifest_limit: usize,
    /// An upload that nobody touches for this long is cancelled.
    pub upload_expiry: Duration,
    /// A blob that no manifest of its repository names is removed after this long.
    pub blob_expiry: Duration,
    /// Uploads that may be open at once; each holds up to about 1 MiB while it is idle. Beyond it,
    /// those that were interrupted go before a new one is refused.
    pub max_uploads: usize,
    /// Blobs that may be on their way to clients at once; each takes up to about 3 MiB while its client is
    /// slow. Further ones wait for [`Config::queue_timeout`], then they are refused.
    pub max_downloads: usize,
    /// Connections that are served at once. Further ones wait for [`Config::queue_timeout`], then they are
    /// told to come back.
    pub max_connections: usize,
    /// How long a connection or a download waits for its turn.
    pub queue_timeout: Duration,
    /// How long a client may take to send a request's head, and to begin with it.
    pub header_timeout: Duration,
    /// How long a body may make next to no progress, in either direction. While others wait for their turn
    /// it is a twelfth of that.
    pub stall_timeout: Duration,
    /// The most names in one answer of the catalog or a tag list. A tag list's larger `n` is cut to it, the
    /// catalog's is refused.
    pub page_limit: usize,
    /// How long what a manifest names and nobody pushed is looked for among peers before the answer begins. Where peers
    /// contradict each other, it is a second longer for each MiB, since it is read whole first.
    pub search_timeout: Duration,
    /// How long a session for a foreign root is kept after its last use.
    pub session_idle: Duration,
    /// Foreign roots that may have a session at once.
    pub max_sessions: usize,
    /// Bytes fetched ahead of a client that pulls a foreign blob.
    pub window: usize,
    /// Bytes fetched ahead within each of the image's other blobs.
    pub sibling_window: usize,
    /// How many of the image's other blobs are fetched at once.
    pub sibling_streams: usize,
    /// How long the image's other blobs are still fetched after the last client was served whole.
    pub sibling_linger: Duration,
    /// Memory for decoded tree nodes and manifests, in bytes.
    pub node_cache: usize,
    /// What is around the registry, for readiness and metrics.
    pub surroundings: Option<Arc<dyn Surroundings>>,
    /// Who is told of what is written. If one of them has no room, nothing is written.
    pub observers: Observers,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            allowed_hosts: Vec::new(),
            require_references: false,
            require_platforms: Vec::new(),
            deletes: true,
            read_only: false,
            tag_rules: TagRules::default(),
            retention_period: Duration::from_secs(3600),
            cors: Vec::new(),
            access: None,
            manifest_limit: 4 << 20,
            upload_expiry: Duration::from_secs(24 * 3600),
            blob_expiry: Duration::from_secs(24 * 3600),
            max_uploads: 256,
            max_downloads: 256,
            max_connections: 1024,
            queue_timeout: Duration::from_secs(15),
            header_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(120),
            page_limit: 10_000,
            search_timeout: Duration::from_secs(30),
            session_idle: Duration::from_secs(45),
            max_sessions: 256,
            window: 5 << 20,
            sibling_window: 1 << 20,
            sibling_streams: 2,
            sibling_linger: Duration::from_secs(30),
            node_cache: 16 << 20,
            surroundings: None,
            observers: Observers::default(),
        }
    }
}

impl Config {
    /// What becomes of manifests that refer to what is not there.
    pub(crate) fn missing(&self) -> Missing {
        match (self.require_references, self.require_platforms.as_slice()) {
            (false, _) => Missing::Accept,
            (true, []) => Missing::Refuse,
            (true, platforms) => Missing::RefuseFor(platforms.to_vec()),
        }
    }
}
