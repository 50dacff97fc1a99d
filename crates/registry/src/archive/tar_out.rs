//! Writes a tar whose bytes depend on nothing but what is in it: no times, no owners.

use super::{error::ArchiveError, tar_in::BLOCK};
use std::io::Write;
use tar::{EntryType, Header};

/// Longest name or link target that a header holds itself; longer ones get a GNU extension before it.
const SHORT: usize = 100;

/// A tar under construction.
pub(super) struct TarWriter<'a> {
    out: &'a mut (dyn Write + Send),
    written: u64,
}

impl<'a> TarWriter<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self { out, written: 0 }
    }

    /// A directory. `path` is written as it is.
    pub(super) fn directory(&mut self, path: &str) -> Result<(), ArchiveError> {
        self.header(&format!("{path}/"), EntryType::Directory, 0o755, 0, None)
    }

    /// A symbolic link.
    pub(super) fn symlink(&mut self, path: &str, target: &[u8]) -> Result<(), ArchiveError> {
        self.header(path, EntryType::Symlink, 0o777, 0, Some(target))
    }

    /// A small file.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.start_file(path, bytes.len() as u64)?;
        self.write(bytes)?;
        self.end_file()
    }

    /// The header of a file of exactly `size` bytes, which [`TarWriter::write`] then brings.
    pub(super) fn start_file(&mut self, path: &str, size: u64) -> Result<(), ArchiveError> {
        self.header(path, EntryType::Regular, 0o644, size, None)
    }

    /// Content of the file that was started.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(ArchiveError::Write)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Pads the file that was started.
    pub(super) fn end_file(&mut self) -> Result<(), ArchiveError> {
        let padding = self.written.next_multiple_of(BLOCK as u64) - self.written;
        // Less than one block, so it fits.
        self.write(&[0; BLOCK][..padding as usize])
    }

    /// Ends the archive; the bytes written.
    pub(super) fn finish(mut self) -> Result<u64, ArchiveError> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(ArchiveError::Write)?;
        Ok(self.written)
    }

    fn header(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        link: Option<&[u8]>,
    ) -> Result<(), ArchiveError> {
        if path.len() > SHORT {
            self.long(EntryType::GNULongName, path.as_bytes())?;
        }
        if let Some(link) = link.filter(|link| link.len() > SHORT) {
            self.long(EntryType::GNULongLink, link)?;
        }
        self.short(path.as_bytes(), kind, mode, size, link.unwrap_or_default())
    }

    fn long(&mut self, kind: EntryType, text: &[u8]) -> Result<(), ArchiveError> {
        self.short(b"././@LongLink", kind, 0o644, text.len() as u64 + 1, &[])?;
        self.write(text)?;
        self.write(&[0])?;
        self.end_file()
    }

    fn short(&mut self, path: &[u8], kind: EntryType, mode: u32, size: u64, link: &[u8]) -> Result<(), ArchiveError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        let fields = header.as_old_mut();
        copy(&mut fields.name, path);
        copy(&mut fields.linkname, link);
        header.set_cksum();
        self.write(header.as_bytes())
    }
}

fn copy(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}
