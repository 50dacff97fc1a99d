//! A tree from a disk, with the profile that everything here is written with.

use super::{MAX_DEPTH, at};
use crate::{Entry, FileBuilder, Progress, UnixfsError, dagpb, data, write_directory};
use cidery_core::{Block, BlockWriter, codec};
use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Bytes read from a file at once.
const READ: usize = 1 << 20;

/// Writes the file or directory at `source`, and everything below it, as blocks; its root, without
/// a name. `tell` hears of progress.
///
/// Empty directories and hidden files belong to it. Symbolic links below `source` become symbolic
/// links, and are never followed. Names that are not UTF-8, and what is neither file, directory
/// nor symbolic link, are errors.
pub fn import(
    source: &Path,
    out: &mut dyn BlockWriter,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Entry, UnixfsError> {
    let kind = fs::metadata(source).map_err(at("reading", source))?.file_type();
    let flags = libc::O_NONBLOCK; // A pipe must not be waited for before it is refused.
    let mut import = Import { out, tell, progress: Progress::default(), buffer: vec![0; READ] };
    if kind.is_dir() { import.directory(source, 0) } else { import.file(source, flags) }
}

struct Import<'a> {
    out: &'a mut dyn BlockWriter,
    tell: &'a mut (dyn FnMut(Progress) + Send),
    progress: Progress,
    buffer: Vec<u8>,
}

impl Import<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<Entry, UnixfsError> {
        if depth > MAX_DEPTH {
            return Err(UnixfsError::Depth { limit: MAX_DEPTH });
        }
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(path).map_err(at("reading", path))? {
            names.push(entry.map_err(at("reading", path))?.file_name());
        }
        // In a fixed order, so that the blocks lie in a fixed order, too.
        names.sort_unstable();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let path = path.join(&name);
            let name =
                name.into_string().map_err(|name| UnixfsError::name(&name.to_string_lossy(), "it is not UTF-8"))?;
            let kind = fs::symlink_metadata(&path).map_err(at("reading", &path))?.file_type();
            let entry = if kind.is_dir() {
                self.directory(&path, depth + 1)?
            } else if kind.is_symlink() {
                self.symlink(&path)?
            } else {
                self.file(&path, libc::O_NONBLOCK | libc::O_NOFOLLOW)?
            };
            entries.push(Entry { name, ..entry });
        }
        self.progress.item(0, self.tell);
        write_directory(entries, self.out)
    }

    fn symlink(&mut self, path: &Path) -> Result<Entry, UnixfsError> {
        let target = fs::read_link(path).map_err(at("reading", path))?;
        let target = target.to_str().ok_or_else(|| UnixfsError::name(&target.to_string_lossy(), "it is not UTF-8"))?;
        let block = Block::of(codec::DAG_PB, dagpb::encode(std::iter::empty(), &data::symlink(target)));
        self.out.put(&block)?;
        self.progress.item(0, self.tell);
        Ok(Entry { name: String::new(), cid: *block.cid(), tsize: block.data().len() as u64 })
    }

    fn file(&mut self, path: &Path, flags: libc::c_int) -> Result<Entry, UnixfsError> {
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(at("opening", path))?;
        if !file.metadata().map_err(at("reading", path))?.is_file() {
            let special = io::Error::new(io::ErrorKind::InvalidInput, "it is neither a file nor a directory");
            return Err(at("importing", path)(special));
        }
        let mut builder = FileBuilder::new();
        loop {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(at("reading", path)(error)),
            };
            builder.write(&self.buffer[..count], self.out)?;
            self.progress.add(count as u64, self.tell);
        }
        let file = builder.finish(self.out)?;
        self.progress.item(0, self.tell);
        Ok(Entry { name: String::new(), cid: file.cid, tsize: file.tsize })
    }
}
