//! What was done, as it is told to whoever wants to know: the audit log, webhooks.

use super::observers::Ticket;
use cidery_core::{Digest, Reference};
use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A manifest or a blob came.
    Push,
    /// A blob of one repository was put into another.
    Mount,
    /// A manifest was read.
    Pull,
    /// A tag, a manifest or a blob was taken out of a repository.
    Delete,
    /// Something was taken out of everything that is here.
    Purge,
    /// An image came out of a file.
    Import,
    /// Something is kept from now on.
    Pin,
    /// And is not any more.
    Unpin,
    /// A namespace is public from now on.
    Publish,
    /// And is not any more.
    Unpublish,
}

impl Action {
    /// As one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Mount => "mount",
            Self::Pull => "pull",
            Self::Delete => "delete",
            Self::Purge => "purge",
            Self::Import => "import",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
        }
    }
}

/// What it was done to. What is not known, or makes no sense there, is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A repository's full name; or a namespace's, or what is pinned.
    pub name: String,
    /// Whether it is a blob and no manifest.
    pub blob: bool,
    /// What it is.
    pub digest: Option<Digest>,
    /// The tags that were set or deleted.
    pub tags: Vec<String>,
    /// The media type it was pushed with.
    pub media_type: Option<String>,
    /// Its own bytes.
    pub size: Option<u64>,
    /// The repository that it was mounted from.
    pub from: Option<String>,
}

impl Target {
    /// A repository, a namespace, or a pin as a whole.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A blob of a repository.
    pub fn blob(name: impl Into<String>, digest: Digest, size: Option<u64>) -> Self {
        let media_type = Some("application/octet-stream".to_owned());
        Self { blob: true, digest: Some(digest), media_type, size, ..Self::named(name) }
    }

    /// A manifest or a tag of a repository.
    pub fn reference(name: impl Into<String>, reference: &Reference) -> Self {
        match reference {
            Reference::Tag(tag) => Self { tags: vec![tag.to_string()], ..Self::named(name) },
            Reference::Digest(digest) => Self { digest: Some(digest.clone()), ..Self::named(name) },
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A request to the registry.
    Http(Box<HttpOrigin>),
    /// A command on this machine.
    Control,
    /// A rule of retention.
    Retention,
}

/// A request. Nothing here is a secret: no credentials, no query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpOrigin {
    /// The request's id, which its answer and the log have too.
    pub id: String,
    /// Its method.
    pub method: String,
    /// The other end of the connection.
    pub address: Option<SocketAddr>,
    /// For whom a trusted proxy asked, if that is the other end.
    pub client: Option<IpAddr>,
    /// The host it was addressed to, and the port if it was named.
    pub host: Option<String>,
    /// Whether the client called by HTTPS.
    pub https: bool,
    /// What the client calls itself.
    pub agent: Option<String>,
    /// Who it is, if that is known.
    pub user: Option<String>,
}

/// Something that was done, and is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What.
    pub action: Action,
    /// To what; several for one command that did it to several.
    pub targets: Vec<Target>,
    /// By whom.
    pub origin: Origin,
}

impl Event {
    /// Now.
    pub fn new(action: Action, targets: Vec<Target>, origin: Origin) -> Self {
        Self { at: SystemTime::now(), action, targets, origin }
    }
}

/// Room with every observer for one event. To be had before what it tells of is done.
#[must_use]
pub struct Room(pub(super) Vec<Box<dyn Ticket>>);

impl Room {
    /// Tells it.
    pub fn tell(self, event: Event) {
        for ticket in self.0 {
            ticket.tell(&event);
        }
    }
}
