//! Files of the operating system.

use super::{Disk, DiskFile, sys};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, IoSlice},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A directory of the operating system.
pub(crate) struct RealDisk(pub(crate) PathBuf);

struct RealFile(File);

/// Creates a directory that only its owner can enter, unless it is there: what lies in it may be private.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Bytes to keep free where nobody says how many: 1 GiB, or 5 % of the file system where that is less.
pub fn usual_reserve(data: &Path) -> io::Result<u64> {
    Ok((sys::room(data)?.total / 20).min(1 << 30))
}

impl Disk for RealDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(self.0.join(name))?)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.0.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        create_private_dir(&self.0.join(name))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.0.join(directory))?;
        // A name that is not UTF-8 is not one of ours.
        names.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default())).collect()
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        File::open(self.0.join(directory))?.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        Ok(sys::room(&self.0)?.free)
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match sys::pwritev(&self.0, left, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    IoSlice::advance_slices(&mut left, n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        sys::punch(&self.0, offset, len)
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        sys::start_writeback(&self.0, offset, len);
    }

    fn forget_read(&self) {
        sys::forget_read(&self.0);
    }
}
