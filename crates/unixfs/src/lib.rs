//! Files and directories as trees of blocks: UnixFS over dag-pb, profile `unixfs-v1-2025`.
//!
//! ```text
//!   bytes ──► FileBuilder ──► blocks ──► FileReader ──► bytes, or a range of them
//!   paths ──► edit        ──► blocks ──► resolve, lookup, list, stat
//!   disk  ──► tree::import ─► blocks ──► tree::export ─► disk
//!   a DAG ◄─► car
//! ```
//!
//! What is written is byte-exact: the same bytes, or the same entries, have the same CID on every
//! machine. What others wrote is read: other chunk sizes and layouts, leaves of dag-pb, shards of
//! other widths, CIDv0, identity CIDs. All of it may be hostile: decoding is bounded in memory and
//! in the work that it causes, and what does not fit is an error.
//!
//! Blocks are read through a [`Fetcher`](cidery_core::Fetcher), trying what is local first. So one
//! implementation serves both a blocking thread over a local store, where nothing is ever awaited,
//! and a cold read over the network. `Fetcher::local` may block: over a store on a disk, drive the
//! futures of this crate from a blocking thread.

pub mod car;
mod dagpb;
mod data;
mod directory;
mod edit;
mod error;
mod fetch;
mod file;
mod path;
mod progress;
pub mod tree;
mod wire;

pub use directory::{
    Difference, Entry, MAX_ENTRIES, MAX_NAME, Sizes, THRESHOLD, compare, list, list_at_most, lookup, write_directory,
};
pub use edit::{Change, edit, edit_again};
pub use error::UnixfsError;
pub use file::{CHUNK, File, FileBuilder, FileReader, FileStream, WIDTH};
pub use path::{Kind, resolve, stat};
pub use progress::Progress;
pub use wire::Defect;
