//! Content on its way into the store and out of it: chunked or joined, and hashed as it passes.

use super::{
    compress::{Compression, MAGIC},
    error::ArchiveError,
};
use crate::{hash::Hasher, tree::Blob};
use cidery_core::{BlockWriter, Bytes, Cid, Digest, Fetcher};
use cidery_unixfs::{FileBuilder, FileReader, FileStream};
use std::{
    io::{self, Read},
    sync::Arc,
};
use tokio::runtime::Handle;

/// Bytes read from the input at once.
const PIECE: usize = 256 << 10;
/// Bytes of leaves asked for ahead of the reader, when they come from peers.
const READ_AHEAD: usize = 8 << 20;

/// A file of the archive that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) blob: Blob,
    pub(super) compression: Compression,
}

/// Chunks everything `input` gives into the store. The digest is in `expected`'s algorithm if there
/// is one, else sha256; comparing them is the caller's.
pub(super) fn store(
    input: &mut dyn Read,
    expected: Option<&Digest>,
    writer: &mut dyn BlockWriter,
    mut on_bytes: impl FnMut(u64),
) -> Result<Stored, ArchiveError> {
    let mut hasher = expected.map_or_else(Hasher::sha256, Hasher::like);
    let mut builder = FileBuilder::new();
    let mut piece = vec![0; PIECE];
    let mut first = Vec::new();
    loop {
        let read = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::from_input(error)),
        };
        let data = &piece[..read];
        if first.len() < MAGIC {
            first.extend_from_slice(&data[..read.min(MAGIC - first.len())]);
        }
        hasher.update(data);
        builder.write(data, writer)?;
        on_bytes(read as u64);
    }
    let file = builder.finish(writer)?;
    Ok(Stored {
        blob: Blob { digest: hasher.finish(), cid: file.cid, size: file.size },
        compression: Compression::detect(&first),
    })
}

/// As [`store`], and refuses content that is not what its name says.
pub(super) fn store_checked(
    what: &str,
    input: &mut dyn Read,
    expected: &Digest,
    writer: &mut dyn BlockWriter,
    on_bytes: impl FnMut(u64),
) -> Result<Stored, ArchiveError> {
    let stored = store(input, Some(expected), writer, on_bytes)?;
    check(what, expected, &stored.blob.digest)?;
    Ok(stored)
}

pub(super) fn check(what: &str, expected: &Digest, actual: &Digest) -> Result<(), ArchiveError> {
    if expected == actual {
        return Ok(());
    }
    Err(ArchiveError::DigestMismatch { what: what.into(), expected: expected.clone(), actual: actual.clone() })
}

/// Reads everything, hashing in `algorithm`'s kind; the digest and the length.
pub(super) fn digest_of(input: &mut dyn Read, like: &Digest) -> Result<(Digest, u64), ArchiveError> {
    let mut hasher = Hasher::like(like);
    let mut piece = vec![0; PIECE];
    let mut length = 0;
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok((hasher.finish(), length)),
            Ok(read) => {
                hasher.update(&piece[..read]);
                length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::from_input(error)),
        }
    }
}

/// A UnixFS file as a [`Read`], for a blocking thread. Errors come out as [`ArchiveError`] inside
/// the [`io::Error`]; [`ArchiveError::from_input`] takes them out again.
pub(super) struct Content {
    handle: Handle,
    stream: FileStream,
    size: u64,
    piece: Bytes,
}

impl Content {
    pub(super) fn open(handle: &Handle, fetcher: &Arc<dyn Fetcher>, cid: &Cid) -> Result<Self, ArchiveError> {
        let reader = handle.block_on(FileReader::open(fetcher.clone(), *cid))?;
        let size = reader.size();
        Ok(Self { handle: handle.clone(), stream: reader.read(0..size, READ_AHEAD), size, piece: Bytes::new() })
    }

    /// Bytes of the whole file, as its root says.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes, `None` at the end.
    pub(super) fn next_piece(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        Ok(self.handle.block_on(self.stream.next())?)
    }

    /// The whole file, if it is no larger than `limit`.
    pub(super) fn small(mut self, what: &str, limit: u64) -> Result<Bytes, ArchiveError> {
        if self.size > limit {
            return Err(ArchiveError::TooLarge { what: what.into(), limit });
        }
        let mut all = Vec::new();
        while let Some(piece) = self.next_piece()? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }
}

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.next_piece().map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(buf.len());
        buf[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}
