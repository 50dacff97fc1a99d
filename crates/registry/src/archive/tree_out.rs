//! Whatever is below a CID, as a tar of its files or as a CAR of its blocks.

use super::{
    ArchiveError, Exported, Meter,
    content::{Content, check},
    tar_out::TarWriter,
};
use crate::hash::Hasher;
use cidery_core::{Cid, Digest, Fetcher};
use cidery_unixfs::{Entry, Kind, MAX_NAME, UnixfsError, car as car_file, list, stat};
use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
};
use tokio::runtime::Handle;

/// Directories within directories. A registry's tree has about twenty, repository names included.
const MAX_DEPTH: usize = 64;
/// Files and directories in all. Directories can be shared, so a small DAG can unfold without end.
const MAX_TREE: u64 = 1 << 24;
/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// Which files have digests to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Those that a registry's tree keeps under their digest: a tree that was put together from
    /// somebody else's may lie.
    Blobs,
    /// None: the tree is written as it is.
    Nothing,
}

/// A tar of the tree below `root`: directories, files and symbolic links.
pub(super) fn tar(
    handle: &Handle,
    fetcher: Arc<dyn Fetcher>,
    root: Cid,
    checked: Check,
    meter: &mut Meter<'_>,
    out: &mut (dyn Write + Send),
) -> Result<Exported, ArchiveError> {
    let mut tar = TarWriter::new(out);
    // What is still to be written, the next one last; a root that is no directory has to be called something.
    let mut open = match handle.block_on(stat(&*fetcher, &root))? {
        Kind::Directory => children(handle, &*fetcher, &root, "", 0)?,
        Kind::File { .. } => vec![(root.to_string(), root, 0)],
        Kind::Symlink(_) => {
            return Err(ArchiveError::Unsupported(format!("{root} is a symbolic link, and leads nowhere by itself")));
        }
    };
    let mut count = 0u64;
    while let Some((path, cid, depth)) = open.pop() {
        count += 1;
        if count > MAX_TREE {
            return Err(ArchiveError::TooLarge { what: "the number of files in the tree".into(), limit: MAX_TREE });
        }
        match handle.block_on(stat(&*fetcher, &cid))? {
            Kind::Directory => {
                tar.directory(&path)?;
                open.extend(children(handle, &*fetcher, &cid, &path, depth + 1)?);
            }
            Kind::Symlink(target) => tar.symlink(&path, target.as_bytes())?,
            Kind::File { .. } => {
                let digest = digest_in(&path).filter(|_| checked == Check::Blobs);
                file(&mut tar, handle, &fetcher, &path, &cid, digest, meter)?;
            }
        }
    }
    Ok(Exported { bytes: tar.finish()?, digest: None, platform: None, root: Some(root) })
}

fn children(
    handle: &Handle,
    fetcher: &dyn Fetcher,
    directory: &Cid,
    path: &str,
    depth: usize,
) -> Result<Vec<(String, Cid, usize)>, ArchiveError> {
    if depth > MAX_DEPTH {
        return Err(ArchiveError::TooLarge { what: "the depth of the tree".into(), limit: MAX_DEPTH as u64 });
    }
    let entries = handle.block_on(list(fetcher, directory))?;
    let mut children = Vec::with_capacity(entries.len());
    let mut before = None;
    for Entry { name, cid, .. } in &entries {
        let refused = |reason| {
            let entry = format!("{path}/{name}").chars().take(120).collect();
            Err(ArchiveError::Refused { entry, reason })
        };
        // What cannot be a file's name on a disk, or could be another file's.
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return refused("no file can have this name");
        }
        if name.len() > MAX_NAME {
            return refused("its name is too long");
        }
        if before == Some(name) {
            return refused("the directory has two entries of this name");
        }
        before = Some(name);
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        children.push((below, *cid, depth));
    }
    children.reverse();
    Ok(children)
}

fn file(
    tar: &mut TarWriter<'_>,
    handle: &Handle,
    fetcher: &Arc<dyn Fetcher>,
    path: &str,
    cid: &Cid,
    digest: Option<Digest>,
    meter: &mut Meter<'_>,
) -> Result<(), ArchiveError> {
    let mut content = Content::open(handle, fetcher, cid)?;
    let mut hasher = digest.as_ref().map(Hasher::like);
    tar.start_file(path, content.size())?;
    while let Some(piece) = content.next_piece()? {
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        tar.write(&piece)?;
        meter.add(path, piece.len() as u64);
    }
    tar.end_file()?;
    match (digest, hasher) {
        (Some(digest), Some(hasher)) => check(path, &digest, &hasher.finish()),
        _ => Ok(()),
    }
}

/// The digest in `…/blobs/<algorithm>/<xx>/<hex>/data`.
fn digest_in(path: &str) -> Option<Digest> {
    let parts: Vec<&str> = path.rsplit('/').collect();
    match parts[..] {
        ["data", hex, _, algorithm, "blobs", ..] => format!("{algorithm}:{hex}").parse().ok(),
        _ => None,
    }
}

/// A CARv1 of everything below `root`.
pub(super) fn car(
    handle: &Handle,
    fetcher: Arc<dyn Fetcher>,
    root: Cid,
    meter: &mut Meter<'_>,
    out: &mut (dyn Write + Send),
) -> Result<Exported, ArchiveError> {
    let mut out = BufWriter::with_capacity(BUFFER, Counting { out, written: 0 });
    let item = root.to_string();
    let mut tell = |at: cidery_unixfs::Progress| {
        meter.bytes = at.bytes;
        meter.tell(&item);
    };
    handle.block_on(car_file::write(&*fetcher, &[root], &mut out, &mut tell)).map_err(|error| match error {
        UnixfsError::Io { source, .. } => ArchiveError::Write(io::Error::new(source.kind(), source)),
        error => error.into(),
    })?;
    out.flush().map_err(ArchiveError::Write)?;
    Ok(Exported { bytes: out.get_ref().written, digest: None, platform: None, root: Some(root) })
}

struct Counting<'a> {
    out: &'a mut (dyn Write + Send),
    written: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buf)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
