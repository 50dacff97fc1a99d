//! A file that is read anew when it changes. What cannot be read leaves what was read before.

use crate::Error;
use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The largest file that is read.
const MAX_FILE: u64 = 16 << 20;

/// A file that was changed this recently may change again without its times showing it.
const UNSETTLED: Duration = Duration::from_secs(2);

type Parse<T> = fn(&str) -> Result<T, String>;

/// A file and what was read from it.
pub(crate) struct Watched<T> {
    path: PathBuf,
    parse: Parse<T>,
    /// How the file looked when it was read last, if it cannot have changed since without looking otherwise.
    seen: Option<Seen>,
    text: String,
    value: Option<Arc<T>>,
    /// Whether it was said that the file cannot be used.
    warned: bool,
}

#[derive(PartialEq, Eq, Clone, Copy)]
struct Seen {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The same, if the next change of the file will show in it.
    fn if_settled(metadata: &Metadata) -> Option<Self> {
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        age.is_some_and(|age| age > UNSETTLED).then(|| Self::of(metadata))
    }
}

impl<T> Watched<T> {
    /// Reads a file; one that is not there is an error only if it `must` be.
    pub fn open(path: PathBuf, must: bool, parse: Parse<T>) -> Result<Self, Error> {
        let mut watched = Self { path, parse, seen: None, text: String::new(), value: None, warned: false };
        match watched.read() {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound && !must => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(watched)
    }

    /// What was read last; `None` if there never was a file.
    pub fn value(&self) -> Option<Arc<T>> {
        self.value.clone()
    }

    /// Looks whether the file has changed, and reads it then; says whether there is something new. Blocking.
    pub fn check(&mut self) -> bool {
        let metadata = fs::metadata(&self.path).ok();
        let seen = metadata.as_ref().map(Seen::of);
        if seen.is_some() && seen == self.seen {
            return false;
        }
        if seen.is_none() && self.value.is_none() {
            return false;
        }
        match self.read() {
            Ok(new) => {
                if new || self.warned {
                    tracing::info!(file = %self.path.display(), "accounts were read anew");
                }
                self.warned = false;
                new
            }
            Err(error) => {
                // The same file again says nothing new, and will not be read again until it changes.
                self.seen = metadata.as_ref().and_then(Seen::if_settled);
                if !self.warned {
                    self.warned = true;
                    let source = std::error::Error::source(&error).map(tracing::field::display);
                    tracing::warn!(cause = source, "{error}; what was read before stays in force");
                }
                false
            }
        }
    }

    fn read(&mut self) -> Result<bool, Error> {
        let (text, seen) = self.text().map_err(|error| Error::io("reading", &self.path, error))?;
        self.seen = seen;
        if self.value.is_some() && text == self.text {
            return Ok(false);
        }
        let value = (self.parse)(&text).map_err(|detail| Error::Malformed { path: self.path.clone(), detail })?;
        (self.text, self.value) = (text, Some(Arc::new(value)));
        Ok(true)
    }

    fn text(&self) -> io::Result<(String, Option<Seen>)> {
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = String::new();
        file.by_ref().take(MAX_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            return Err(io::Error::other("it is larger than 16 MiB"));
        }
        Ok((text, Seen::if_settled(&metadata)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.trim().parse().map_err(|_| "line 1: it is no number".into())
    }

    fn open(path: &std::path::Path) -> Watched<u32> {
        Watched::open(path.to_owned(), true, number).expect("readable")
    }

    #[test]
    fn changes_are_seen_whatever_they_look_like() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "1").expect("written");
        let mut file = open(&path);
        assert_eq!((file.check(), file.value().as_deref()), (false, Some(&1)));
        // As long as before, and within the resolution of the clock.
        for n in 2..9 {
            fs::write(&path, n.to_string()).expect("written");
            assert_eq!((file.check(), file.value().as_deref()), (true, Some(&n)));
        }
        fs::write(directory.path().join("new"), "17").expect("written");
        fs::rename(directory.path().join("new"), &path).expect("renamed");
        assert_eq!((file.check(), file.value().as_deref()), (true, Some(&17)));
    }

    #[test]
    fn what_cannot_be_used_leaves_what_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        assert!(Watched::open(path.clone(), true, number).is_err());
        let mut absent = Watched::open(path.clone(), false, number).expect("need not be there");
        assert_eq!((absent.check(), absent.value()), (false, None));
        fs::write(&path, "x").expect("written");
        let error = Watched::open(path.clone(), false, number).err().expect("malformed").to_string();
        assert!(error.contains("line 1") && error.contains("file"), "{error}");
        fs::write(&path, "1").expect("written");
        assert_eq!((absent.check(), absent.value().as_deref()), (true, Some(&1)));
        for broken in ["x", "-"] {
            fs::write(&path, broken).expect("written");
            assert_eq!((absent.check(), absent.value().as_deref()), (false, Some(&1)), "{broken}");
        }
        fs::remove_file(&path).expect("removed");
        assert_eq!((absent.check(), absent.value().as_deref()), (false, Some(&1)));
        fs::create_dir(&path).expect("made");
        assert_eq!((absent.check(), absent.value().as_deref()), (false, Some(&1)));
        fs::remove_dir(&path).expect("removed");
        fs::write(&path, "2").expect("written");
        assert_eq!((absent.check(), absent.value().as_deref()), (true, Some(&2)));
    }
}
