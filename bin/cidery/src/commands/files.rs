//! Files that appear whole or not at all.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};
use tempfile::{NamedTempFile, TempDir};

/// Where an export goes. Nothing shows at the destination before [`Destination::finish`].
pub enum Destination {
    /// Standard output.
    Stdout(io::Stdout),
    /// A file: written beside it, then renamed.
    File { temporary: BufWriter<NamedTempFile>, path: PathBuf },
    /// A directory, from a tar: unpacked beside it by a thread of its own, then renamed.
    Directory { pipe: Option<io::PipeWriter>, unpack: std::thread::JoinHandle<Result<TempDir>>, path: PathBuf },
}

impl Destination {
    /// Refuses a destination that exists, so nothing is overwritten.
    pub fn new(path: &Path, unpack: bool) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(io::stdout()));
        }
        let empty = path.is_dir() && fs::read_dir(path)?.next().is_none();
        if path.exists() && !(unpack && empty) {
            bail!("{} exists already: name another, or remove it", path.display());
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let beside = || format!("writing beside {}", path.display());
        let path = path.to_owned();
        if unpack {
            let directory = TempDir::with_prefix_in(".cidery-export-", parent).with_context(beside)?;
            let (reader, pipe) = io::pipe()?;
            let unpack = std::thread::spawn(move || {
                let mut archive = tar::Archive::new(reader);
                archive.set_preserve_mtime(false);
                archive.unpack(directory.path()).context("unpacking")?;
                // What follows the archive's end is padding; the writer must not see a closed pipe.
                io::copy(&mut archive.into_inner(), &mut io::sink())?;
                Ok(directory)
            });
            Ok(Self::Directory { pipe: Some(pipe), unpack, path })
        } else {
            let temporary = NamedTempFile::with_prefix_in(".cidery-export-", parent).with_context(beside)?;
            Ok(Self::File { temporary: BufWriter::new(temporary), path })
        }
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stdout(out) => out.write_all(bytes).context("writing to standard output"),
            Self::File { temporary, path } => {
                temporary.write_all(bytes).with_context(|| format!("writing {}", path.display()))
            }
            // A closed pipe means that unpacking failed: `finish` says why.
            Self::Directory { pipe, .. } => match pipe.as_mut().map(|pipe| pipe.write_all(bytes)) {
                Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    *pipe = None;
                    Ok(())
                }
                Some(Err(error)) => Err(error).context("unpacking"),
                Some(Ok(())) | None => Ok(()),
            },
        }
    }

    /// Puts the whole thing in its place.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Stdout(mut out) => Ok(out.flush()?),
            Self::File { temporary, path } => {
                let file = temporary.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                fs::set_permissions(file.path(), permissions(0o644))?;
                file.persist_noclobber(&path).with_context(|| format!("putting {} in place", path.display()))?;
                Ok(())
            }
            Self::Directory { pipe, unpack, path } => {
                drop(pipe);
                // A panic of the thread is a bug here, and its message is already printed.
                let directory = unpack.join().unwrap_or_else(|_| bail!("unpacking failed"))?;
                fs::set_permissions(directory.path(), permissions(0o755))?;
                fs::rename(directory.path(), &path).with_context(|| format!("putting {} in place", path.display()))?;
                // It is in place under its name: nothing is left to remove.
                let _ = directory.keep();
                Ok(())
            }
        }
    }
}

fn permissions(mode: u32) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(mode)
}
