//! The OCI / Docker v2 registry API over a tree that *is* the registry's state.
//!
//! ```text
//!   Registry ─┬─ http      routes, checks, replies: one file per resource
//!             │              (who may do what: the crate cidery-access)
//!             ├─ names     which registry a name belongs to, by rules in order
//!             ├─ upload    socket ──► leaves in the store + whole-blob sha256 ──► link
//!             ├─ stream    blobs on their way out, local or while they arrive
//!             ├─ foreign   other people's roots: one session each, fetched ahead of a pull
//!             ├─ lacking   what manifests name and nobody pushed, by digest from any peer
//!             ├─ digests   which file holds a digest, for peers that ask so
//!             ├─ archive   images in and out as files
//!             ├─ ops       health, metrics, and who hears what was done
//!             ├─ rules     tags that never change, and which tags are kept for how long; retention removes the others
//!             └─ tree      a namespace's state; the one writer and immutable snapshots
//! ```
//!
//! What is written lands in a namespace of this node ([`Registry::tree`]); every other name is
//! read-through. The crate knows no peers: foreign content comes through the ports
//! [`cidery_core::Network`] and [`cidery_core::Session`]. A request in an owned namespace uses neither, but for
//! content that a manifest there names and nobody pushed.
//!
//! Tasks: one for housekeeping (expired uploads, idle sessions), one for retention if there are rules, one writer per owned namespace, one
//! per connection, one per upload request, one per blob response, and one per image that is fetched
//! ahead. All end with what they serve. Hashing and reading of local blocks happen on blocking
//! threads, for one batch or leaf at a time, so that no slow client holds one.

pub mod archive;
mod config;
mod digests;
mod error;
mod foreign;
mod hash;
mod http;
mod images;
mod lacking;
mod names;
pub mod ops;
mod patience;
mod pin;
mod places;
mod pull;
mod purge;
mod registry;
mod retention;
mod rules;
mod stream;
mod touched;
pub mod tree;
mod upload;

pub use config::Config;
pub use error::{Error, OpenError};
pub use foreign::BadBlob;
pub use http::{ClientCertificates, Connection, Credentials, Origin, OriginError, Tls, TlsError};
pub use images::Image;
pub use names::Rule;
pub use pin::{PinError, Pinning};
pub use pull::{Progress, Pulled};
pub use purge::{Purge, Purged};
pub use registry::Registry;
pub use retention::{Gone, GoneTag, Retained};
pub use rules::{Covered, Retention, TagRules};
pub use touched::Touched;
pub use upload::OpenUploads;
