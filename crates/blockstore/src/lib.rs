//! Blocks on disk, and everything that is not a block: the durable implementation of
//! [`Blockstore`](cidery_core::Blockstore), [`RootStore`](cidery_core::RootStore) and
//! [`PublicBlocks`](cidery_core::PublicBlocks).
//!
//! ```text
//!   DATA/format     version and identity of the store            format.rs
//!   DATA/lock       held while a process has the store open      format.rs
//!   DATA/packs/     append-only files of block records: the truth about blocks    pack/
//!   DATA/journal    roots, links, publications, uploads: the truth about the rest journal/
//!   DATA/index/     sled, multihash → pack, offset, length: rebuilt when in doubt index/
//! ```
//!
//! **The life of a block.** `put` claims the multihash in the table of recent blocks (`recent.rs`), so
//! that no block is written twice, appends header and payload to a pack with one system call, and
//! publishes the place. It can be read from then on. A commit takes its turn in the group
//! (`commit.rs`): one leader flushes every pack that was written to, appends all waiting records to the
//! journal as one batch, flushes that, and answers everybody. Later a checkpoint
//! (`store/checkpoint.rs`) moves recent blocks into the index and notes per pack how far the index
//! goes, so that the next start reads only what follows.
//!
//! The leader also writes the journal anew when most of it says nothing any more (`store/shorten.rs`).
//!
//! **Damage.** Checksums are compared on every read, and hashes by a scrub (`store/scrub.rs`), which repairs
//! what it can (`store/repair.rs`).
//!
//! **Backup.** A copy of the running store is made, or brought up to date, pack by pack (`store/backup/`).
//!
//! **Threads.** Four belong to an open store: one writes checkpoints, one keeps the marks of what is
//! published (`marks.rs`), one collects what nothing reaches (`store/gc/`), one hands written pages to the
//! disk ahead of the flush. They end when the store is closed or its last handle is dropped. No lock is
//! held across input or output but these: a pack's append lock, and the locks that let one checkpoint, one
//! walk and one leader run at a time.
//!
//! The formats on disk are described in `docs/storage-format.md`.

mod buffers;
mod codec;
mod commit;
mod disk;
mod format;
mod index;
mod journal;
mod marks;
mod notes;
mod options;
mod pack;
mod reach;
mod recent;
mod small;
mod store;
#[cfg(test)]
mod tests;

pub use disk::usual_reserve;
pub use options::{OpenError, Options, Progress, Stage};
pub use store::{
    Amount, BackedUp, Collected, Collections, DiskStore, DiskUsage, Measures, Obstacle, ScrubOptions, Scrubbed,
};
