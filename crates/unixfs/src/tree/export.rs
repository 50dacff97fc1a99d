//! A tree onto a disk, as it is.
//!
//! The tree may be hostile. Nothing is written outside the destination, and nothing that is there
//! is overwritten: every directory is made here, every file is created anew, names are checked,
//! and a symbolic link may lead only to places inside.

use super::{MAX_DEPTH, at};
use crate::{
    Entry, FileReader, Kind, Progress, UnixfsError,
    directory::{self, check_name},
    path,
};
use cidery_core::{Cid, Fetcher};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
};

/// Bytes of a file that are fetched ahead, where they are not local.
const WINDOW: usize = 16 << 20;

/// Most directories that wait for their entries.
const MAX_OPEN: usize = 1 << 18;

/// Writes the directory `root` to `destination`, which must not exist or be empty, and everything
/// below it. `tell` hears of progress; the result is what it heard last.
///
/// Names that mean something else on a disk, symbolic links that lead outside, and two entries of
/// one name are errors. What was written before an error stays. Nothing is synced. Writing blocks:
/// not for an async task.
pub async fn export(
    fetcher: Arc<dyn Fetcher>,
    root: &Cid,
    destination: &Path,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Progress, UnixfsError> {
    let mut entries = directory::list(&*fetcher, root).await?;
    match fs::create_dir(destination) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut inside = fs::read_dir(destination).map_err(at("reading", destination))?;
            if inside.next().is_some() {
                return Err(at("writing to", destination)(io::ErrorKind::DirectoryNotEmpty.into()));
            }
        }
        result => result.map_err(at("creating", destination))?,
    }
    let mut progress = Progress::default();
    progress.item(0, tell);
    let (mut parent, mut depth) = (destination.to_owned(), 0);
    // Directories that are made and whose entries are still to come.
    let mut open = Vec::new();
    loop {
        for Entry { name, cid, .. } in entries {
            check_name(&name)?;
            let path = parent.join(&name);
            match path::stat(&*fetcher, &cid).await? {
                Kind::File { .. } => write_file(fetcher.clone(), cid, &path, &mut progress, tell).await?,
                Kind::Symlink(target) => {
                    check_target(&target, depth)?;
                    symlink(&target, &path).map_err(at("creating", &path))?;
                }
                Kind::Directory if depth == MAX_DEPTH => return Err(UnixfsError::Depth { limit: MAX_DEPTH }),
                Kind::Directory if open.len() == MAX_OPEN => {
                    return Err(UnixfsError::TooMany { cid: *root, what: "unfinished directories", limit: MAX_OPEN });
                }
                Kind::Directory => {
                    fs::create_dir(&path).map_err(at("creating", &path))?;
                    open.push((path, depth + 1, cid));
                }
            }
            progress.item(0, tell);
        }
        let Some((path, below, cid)) = open.pop() else { return Ok(progress) };
        (parent, depth, entries) = (path, below, directory::list(&*fetcher, &cid).await?);
    }
}

async fn write_file(
    fetcher: Arc<dyn Fetcher>,
    cid: Cid,
    path: &Path,
    progress: &mut Progress,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), UnixfsError> {
    let reader = FileReader::open(fetcher, cid).await?;
    let mut file = File::create_new(path).map_err(at("creating", path))?;
    let mut stream = reader.read(0..u64::MAX, WINDOW);
    while let Some(bytes) = stream.next().await? {
        file.write_all(&bytes).map_err(at("writing", path))?;
        progress.add(bytes.len() as u64, tell);
    }
    Ok(())
}

/// Refuses targets that could lead outside. `..` may stand only at the front, where it climbs
/// directories that were made here, and not above the destination. Further on it could follow
/// another symbolic link.
fn check_target(target: &str, depth: usize) -> Result<(), UnixfsError> {
    let mut components = target.split('/').peekable();
    let mut climbed = 0;
    while components.next_if(|component| matches!(*component, ".." | ".")).is_some_and(|c| {
        climbed += usize::from(c == "..");
        true
    }) {}
    let why = match target {
        "" => "a symbolic link leads nowhere",
        _ if target.contains('\0') => "a symbolic link's target contains a NUL",
        _ if target.starts_with('/') || climbed > depth || components.any(|component| component == "..") => {
            "a symbolic link leads out of the tree"
        }
        _ => return Ok(()),
    };
    Err(UnixfsError::name(target, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_inside() {
        for (target, depth) in [("a", 0), ("a/b", 0), ("../a", 1), ("./../../a", 2), (".", 0), ("..a/b..", 0)] {
            assert!(check_target(target, depth).is_ok(), "{target}");
        }
        for (target, depth) in
            [("..", 0), ("/etc", 5), ("../../a", 1), ("a/../b", 3), ("", 0), ("a\0", 0), ("./a/..", 0)]
        {
            assert!(check_target(target, depth).is_err(), "{target}");
        }
    }
}
