//! The two small files at the top of a data directory: `format` says what it is, `lock` who has it.

use crate::{
    disk::{Disk, DiskFile, try_lock, unlock},
    options::OpenError,
};
use cidery_core::StoreError;
use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The format of the directory as a whole.
const VERSION: u64 = 1;
pub(crate) const NAME: &str = "format";
pub(crate) const LOCK: &str = "lock";

/// Writes a small file so that it is there whole, or not at all.
pub(crate) fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    stage(disk, name, bytes)?;
    settle(disk, name)
}

/// Writes a file's new contents beside it, durably. After a failure nothing has changed.
pub(crate) fn stage(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<Arc<dyn DiskFile>, StoreError> {
    let temporary = temporary(name);
    let write = || {
        remove_if_there(disk, &temporary)?;
        let file = disk.create(&temporary)?;
        file.write_at(&[bytes], 0)?;
        file.sync_data()?;
        Ok(file)
    };
    write().map_err(|error| {
        // It may have been the room that was missing.
        let _ = disk.remove(&temporary);
        StoreError::io(format!("creating {name}"), error)
    })
}

/// Puts what was staged in place. After a failure it may be there or not.
pub(crate) fn settle(disk: &dyn Disk, name: &str) -> Result<(), StoreError> {
    let renamed = disk.rename(&temporary(name), name).and_then(|()| disk.sync_dir(""));
    renamed.map_err(|error| StoreError::io(format!("putting {name} in place"), error))
}

/// What a stop left of a file that was being staged goes.
pub(crate) fn remove_staged(disk: &dyn Disk, name: &str) -> Result<(), StoreError> {
    let temporary = temporary(name);
    remove_if_there(disk, &temporary).map_err(|error| StoreError::io(format!("removing {temporary}"), error))
}

fn temporary(name: &str) -> String {
    format!("{name}.new")
}

fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The id of the store in a directory: one line, `cidery-store <version> <id in 16 hex digits>`.
/// `None` if there is no such file.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<u64>, OpenError> {
    let failed = |error| StoreError::io(format!("reading {NAME}"), error);
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error).into()),
    };
    let mut bytes = [0; 64];
    let got = file.read_at(&mut bytes, 0).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes[..got]);
    let mut words = text.trim_end().split(' ');
    let damaged = || OpenError::Damaged {
        what: format!("the file {NAME:?} in the data directory"),
        detail: "it does not read `cidery-store <version> <id>`".into(),
    };
    if words.next() != Some("cidery-store") {
        return Err(damaged());
    }
    let version: u64 = words.next().and_then(|word| word.parse().ok()).ok_or_else(damaged)?;
    if version > VERSION {
        return Err(OpenError::Newer { what: "the data directory".into(), found: version, supported: VERSION });
    }
    let id = words.next().filter(|word| word.len() == 16).and_then(|word| u64::from_str_radix(word, 16).ok());
    id.map(Some).ok_or_else(damaged)
}

/// Makes a directory a store with a new id.
pub(crate) fn create(disk: &dyn Disk) -> Result<u64, StoreError> {
    let id = RandomState::new().hash_one(std::process::id());
    write(disk, id)?;
    Ok(id)
}

/// Says which store a directory is.
pub(crate) fn write(disk: &dyn Disk, id: u64) -> Result<(), StoreError> {
    write_whole(disk, NAME, format!("cidery-store {VERSION} {id:016x}\n").as_bytes())
}

/// A directory that is this process's until this is dropped.
pub(crate) struct Lock {
    file: File,
    directory: PathBuf,
}

impl Lock {
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child that another thread is starting right now.
        unlock(&self.file);
    }
}

/// Takes the directory for this process.
pub(crate) fn lock(directory: &Path) -> Result<Lock, OpenError> {
    let failed = |error| StoreError::io(format!("locking {}", directory.display()), error);
    fs::create_dir_all(directory).map_err(failed)?;
    let path = directory.join(LOCK);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
    let mut file = options.open(path).map_err(failed)?;
    if !try_lock(&file).map_err(failed)? {
        let mut text = String::new();
        // Who holds it may be writing it right now; then it is left unsaid.
        let _ = file.read_to_string(&mut text);
        return Err(OpenError::Locked { path: directory.to_owned(), pid: text.trim().parse().ok() });
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(Lock { file, directory: directory.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_although_a_child_still_shares_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let shared = held.file.try_clone().unwrap();
        assert!(matches!(lock(dir.path()), Err(OpenError::Locked { .. })));
        drop(held);
        lock(dir.path()).unwrap();
        drop(shared);
    }
}
