//! The files of a store, as far as packs, journal and format need them: small enough that a disk which
//! loses and tears whatever was not flushed can stand in for the real one.

use std::{io, sync::Arc};

#[cfg(test)]
pub(crate) mod faulty;
mod real;
mod sys;

pub use real::usual_reserve;
pub(crate) use real::{RealDisk, create_private_dir};
pub(crate) use sys::{give_way, try_lock, unlock};

/// A directory with files in it; names are relative, with at most one `/`.
pub(crate) trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file that must not exist, for its owner alone. Its name is durable after [`Disk::sync_dir`].
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Creates a directory unless it is there, for its owner alone.
    fn create_dir(&self, name: &str) -> io::Result<()>;
    /// The names in a directory (`""` for the top), in any order, without the directory's own.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Makes a directory's names durable.
    fn sync_dir(&self, directory: &str) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free(&self) -> io::Result<u64>;
}

/// One file.
pub(crate) trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset`; less only at the file's end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes the parts one after the other. After an error any part of them may have been written.
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts it.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Gives the room of a range back; it reads as zeros. Where the file system can't, nothing happens.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Bytes that it takes on the disk.
    fn allocated(&self) -> io::Result<u64>;
    /// Makes contents and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Asks for a range to be written back soon, so that the next flush is short. Promises nothing.
    fn start_writeback(&self, _offset: u64, _len: u64) {}
    /// Lets the system forget what it has read of the file, so that the next read is the disk's.
    fn forget_read(&self) {}
}
