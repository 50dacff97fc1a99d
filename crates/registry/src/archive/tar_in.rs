//! Reads a tar from a stranger: every header is bounded, links are only reported, and no path
//! leaves the archive. ustar, GNU and pax headers, as Go's and GNU's tar write them.

use super::error::ArchiveError;
use std::io::{self, Read};

/// The size of a tar block.
pub(super) const BLOCK: usize = 512;
/// Longest path that is accepted, in bytes: images need about a hundred.
const MAX_PATH: usize = 1024;
/// Largest extension header (GNU long name, pax records) that is read into memory.
const MAX_EXTENSION: u64 = 64 * 1024;
/// Most entries an archive may have: a path of each may have to be remembered.
const MAX_ENTRIES: u64 = 65_536;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A regular file; its bytes are read through [`TarReader::read`].
    File,
    /// Another name for the entry at this path of the archive. Targets outside it become [`EntryKind::Other`].
    Alias(String),
    /// A directory, device, or link that leads out of the archive.
    Other,
}

/// One entry's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarEntry {
    /// Relative, without `.` and `..`.
    pub(super) path: String,
    pub(super) kind: EntryKind,
    /// Bytes of content; 0 for everything but files.
    pub(super) size: u64,
}

/// Walks the entries in order; implements [`Read`] for the content of the current one.
pub(super) struct TarReader<R> {
    input: R,
    /// Content of the current entry that was not read yet.
    left: u64,
    /// Zeros that follow it.
    padding: u64,
    entries: u64,
    /// Bytes taken from the input, for messages.
    consumed: u64,
}

/// What extension headers say about the next entry.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, entries: 0, consumed: 0 }
    }

    /// What follows the archive.
    pub(super) fn into_input(self) -> R {
        self.input
    }

    /// The next entry, `None` at the end of the archive. Skips what was not read of the current one.
    pub(super) fn next_entry(&mut self) -> Result<Option<TarEntry>, ArchiveError> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ArchiveError::TooLarge { what: "the number of tar entries".into(), limit: MAX_ENTRIES });
            }
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|source| malformed("a tar header's size", source))?;
            if kind.is_gnu_longname() {
                extension.path = Some(until_nul(&self.extension(size)?));
            } else if kind.is_gnu_longlink() {
                extension.link = Some(until_nul(&self.extension(size)?));
            } else if kind.is_pax_local_extensions() {
                let records = self.extension(size)?;
                parse_pax(&records, &mut extension)?;
            } else if kind.is_pax_global_extensions() {
                self.content(size)?;
            } else {
                return self.entry(&header, size, extension).map(Some);
            }
        }
    }

    fn entry(&mut self, header: &tar::Header, size: u64, extension: Extension) -> Result<TarEntry, ArchiveError> {
        let raw = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = header.entry_type();
        if kind.is_gnu_sparse() {
            return Err(refused(&raw, "it is a sparse file; write the archive without --sparse"));
        }
        let path = inside(&raw, &[]).map_err(|reason| refused(&raw, reason))?;
        let file = kind.is_file() || kind.is_contiguous();
        // An old tar marks a directory by the slash alone.
        let file = file && !raw.ends_with(b"/");
        let size = if header_only(kind) { 0 } else { extension.size.unwrap_or(size) };
        self.content(size)?;
        let link = || extension.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let kind = if file {
            EntryKind::File
        } else if kind.is_hard_link() {
            link().and_then(|link| inside(&link, &[]).ok()).map_or(EntryKind::Other, EntryKind::Alias)
        } else if kind.is_symlink() {
            let mut base: Vec<&str> = path.split('/').collect();
            base.pop();
            link().and_then(|link| inside(&link, &base).ok()).map_or(EntryKind::Other, EntryKind::Alias)
        } else {
            EntryKind::Other
        };
        Ok(TarEntry { path, size: if file { size } else { 0 }, kind })
    }

    fn header(&mut self) -> Result<Option<tar::Header>, ArchiveError> {
        let mut header = tar::Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ArchiveError::Truncated { what: "a tar header".into() }),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveError::from_input(error)),
            }
        }
        self.consumed += BLOCK as u64;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !checksum_holds(bytes) {
            return Err(ArchiveError::Malformed {
                what: "the tar".into(),
                detail: format!("the checksum of the header at byte {} does not hold", self.consumed - BLOCK as u64),
            });
        }
        Ok(Some(header))
    }

    /// Sets the length of the content that follows.
    fn content(&mut self, size: u64) -> Result<(), ArchiveError> {
        if size > i64::MAX as u64 {
            return Err(ArchiveError::TooLarge { what: "a tar entry".into(), limit: i64::MAX as u64 });
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENSION {
            return Err(ArchiveError::TooLarge { what: "a tar extension header".into(), limit: MAX_EXTENSION });
        }
        self.content(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(ArchiveError::from_input)?;
        Ok(bytes)
    }

    /// Reads past what is left of the current entry.
    fn skip(&mut self) -> Result<(), ArchiveError> {
        io::copy(self, &mut io::sink()).map_err(ArchiveError::from_input)?;
        let padding = std::mem::take(&mut self.padding);
        let skipped =
            io::copy(&mut self.input.by_ref().take(padding), &mut io::sink()).map_err(ArchiveError::from_input)?;
        self.consumed += skipped;
        // Some writers leave out the padding of the very last entry; nothing is lost by that.
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buf[..want])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the tar ends inside an entry"));
        }
        self.left -= read as u64;
        self.consumed += read as u64;
        Ok(read)
    }
}

/// Whether a block is a tar header by its checksum, which both signed and unsigned sums satisfy.
pub(super) fn checksum_holds(block: &[u8]) -> bool {
    let Some(header) = block.get(..BLOCK) else { return false };
    let field = String::from_utf8_lossy(&header[148..156]);
    let Ok(stored) = i64::from_str_radix(field.trim_matches(|c: char| c == '\0' || c.is_whitespace()), 8) else {
        return false;
    };
    // The field itself counts as eight spaces. Very old writers summed signed bytes.
    let unsigned = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(*byte)).sum::<i64>();
    let signed = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
    let (before, after) = (&header[..148], &header[156..]);
    let spaces = 8 * i64::from(b' ');
    stored == unsigned(before) + spaces + unsigned(after) || stored == signed(before) + spaces + signed(after)
}

/// Types whose header may carry a size without content (as Go's reader treats them).
fn header_only(kind: tar::EntryType) -> bool {
    kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_dir()
        || kind.is_fifo()
        || kind.is_character_special()
        || kind.is_block_special()
}

/// `raw` seen from the directory `base`, as a path within the archive.
fn inside(raw: &[u8], base: &[&str]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(raw).map_err(|_| "its name is not UTF-8")?;
    if text.len() > MAX_PATH {
        return Err("its name is too long");
    }
    if text.starts_with('/') {
        return Err("its name is absolute");
    }
    if text.contains('\0') {
        return Err("its name has a NUL in it");
    }
    let mut parts = base.to_vec();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            // From a link's directory one may go up, but not out; a plain name has no base to go up from.
            ".." if base.is_empty() => return Err("its name has '..' in it"),
            ".." => {
                parts.pop().ok_or("it leads out of the archive")?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn parse_pax(records: &[u8], extension: &mut Extension) -> Result<(), ArchiveError> {
    let bad = || ArchiveError::Malformed { what: "the tar".into(), detail: "a pax header does not parse".into() };
    let mut rest = records;
    while !rest.is_empty() && rest[0] != 0 {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length: usize = std::str::from_utf8(&rest[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?;
        let record = rest.get(space + 1..length).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.path = Some(value.to_vec()),
            b"linkpath" => extension.link = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                extension.size = Some(size.ok_or_else(bad)?);
            }
            key if key.starts_with(b"GNU.sparse.") => {
                let name = extension.path.clone().unwrap_or_default();
                return Err(refused(&name, "it is a sparse file; write the archive without --sparse"));
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(())
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn refused(path: &[u8], reason: &'static str) -> ArchiveError {
    let entry = String::from_utf8_lossy(path).chars().take(120).collect();
    ArchiveError::Refused { entry, reason }
}

fn malformed(what: &str, source: io::Error) -> ArchiveError {
    ArchiveError::Malformed { what: what.into(), detail: source.to_string() }
}
