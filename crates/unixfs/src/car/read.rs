//! CAR in: one verified block after another, in bounded memory.

use super::header;
use crate::wire::Defect;
use cidery_core::{Block, BlockError, Bytes, Cid, MAX_BLOCK};
use std::io::{self, BufReader, Read};
use thiserror::Error;

/// Longest header that is read: room for 25,000 roots.
const MAX_HEADER: u64 = 1 << 20;

/// Longest section: a block and the longest CID.
const MAX_SECTION: u64 = MAX_BLOCK as u64 + 256;

/// A CAR that cannot be read on. What came before the error was verified.
#[derive(Debug, Error)]
pub enum CarError {
    /// Reading failed, or the CAR ends in the middle of something (`UnexpectedEof`).
    #[error("the CAR cannot be read at byte {at}: {source}")]
    Io {
        /// Offset of the header or section.
        at: u64,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The header is not that of a CAR v1.
    #[error("this is not a CAR v1: {0}")]
    Header(#[source] Defect),
    /// A section that does not parse.
    #[error("the CAR is damaged at byte {at}: {defect}")]
    Section {
        /// Its offset.
        at: u64,
        /// What is wrong.
        #[source]
        defect: Defect,
    },
    /// A block that is not what its CID says.
    #[error("the CAR is damaged at byte {at}: {source}")]
    Block {
        /// Offset of its section.
        at: u64,
        /// What is wrong.
        #[source]
        source: BlockError,
    },
}

/// Reads a CAR: an iterator over its blocks, each checked against its CID. Ends after an error.
pub struct Reader<R> {
    input: BufReader<R>,
    roots: Vec<Cid>,
    at: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn new(input: R) -> Result<Self, CarError> {
        let mut reader =
            Self { input: BufReader::with_capacity(256 << 10, input), roots: Vec::new(), at: 0, ended: false };
        let cut = |source| CarError::Io { at: 0, source };
        let len = match reader.length(MAX_HEADER) {
            Ok(Some(len)) => len,
            Ok(None) => return Err(cut(io::ErrorKind::UnexpectedEof.into())),
            Err(CarError::Section { defect, .. }) => return Err(CarError::Header(defect)),
            Err(error) => return Err(error),
        };
        reader.roots = header::decode(&reader.bytes(len)?).map_err(CarError::Header)?;
        Ok(reader)
    }

    /// The roots that the header names. Their blocks may be anywhere in the CAR, or not in it.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    fn section(&mut self) -> Result<Option<Block>, CarError> {
        let at = self.at;
        let Some(len) = self.length(MAX_SECTION)? else { return Ok(None) };
        let section = self.bytes(len)?;
        let mut rest = &section[..];
        let cid = Cid::read_bytes(&mut rest)
            .map_err(|_| CarError::Section { at, defect: Defect("a block's CID does not parse") })?;
        let data = section.slice(section.len() - rest.len()..);
        Block::new(cid, data).map(Some).map_err(|source| CarError::Block { at, source })
    }

    /// The length of the next section; `None` at the end.
    fn length(&mut self, limit: u64) -> Result<Option<u64>, CarError> {
        let at = self.at;
        let mut len = 0u64;
        for index in 0..5 {
            let mut byte = [0];
            // `read_exact` retries what was interrupted, and tells an end from an error.
            match self.input.read_exact(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && index == 0 => return Ok(None),
                result => result.map_err(|source| CarError::Io { at, source })?,
            }
            self.at += 1;
            len |= u64::from(byte[0] & 0x7f) << (7 * index);
            if byte[0] & 0x80 == 0 {
                return match len {
                    0 => Err(CarError::Section { at, defect: Defect("an empty section") }),
                    _ if len > limit => Err(CarError::Section { at, defect: Defect("a section is too long") }),
                    _ => Ok(Some(len)),
                };
            }
        }
        Err(CarError::Section { at, defect: Defect("a section is too long") })
    }

    fn bytes(&mut self, len: u64) -> Result<Bytes, CarError> {
        // Grows as bytes arrive: a length alone costs nothing.
        let mut bytes = Vec::new();
        let at = self.at;
        let read = (&mut self.input).take(len).read_to_end(&mut bytes);
        match read {
            Ok(count) if count as u64 == len => {
                self.at += len;
                Ok(bytes.into())
            }
            Ok(_) => Err(CarError::Io { at, source: io::ErrorKind::UnexpectedEof.into() }),
            Err(source) => Err(CarError::Io { at, source }),
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Block, CarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.section();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
