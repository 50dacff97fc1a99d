//! Which compression bytes are in, by their first few, and reading them plain.

use super::error::ArchiveError;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use std::io::{self, BufRead, BufReader, Read};

/// Bytes that tell the compression.
pub(super) const MAGIC: usize = 6;

/// Largest window of a zstd stream, in bytes: as much memory as reading one may take.
const MAX_WINDOW: u64 = 128 << 20;

/// How many plain bytes one compressed byte may stand for (gzip cannot do more than 1032), and how
/// many are allowed in any case.
const MAX_RATIO: u64 = 2048;
const ALWAYS_FINE: u64 = 1 << 30;

/// A compression that layers and archives come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    /// One that is not read here, by name.
    Other(&'static str),
}

impl Compression {
    /// By the first [`MAGIC`] bytes (fewer, if there are no more).
    pub(super) fn detect(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first (RFC 8878, 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x42, 0x5a, 0x68, ..] => Self::Other("bzip2"),
            [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] => Self::Other("xz"),
            _ => Self::None,
        }
    }

    /// The plain bytes of `input`.
    pub(super) fn reader<'a>(self, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(input),
            Self::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 << 10, input))),
            Self::Zstd => Box::new(ZstdReader::new(input)),
            Self::Other(name) => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name} is not supported")));
            }
        })
    }

    /// As [`Compression::reader`], for `size` bytes of a stranger's: gives up on a bomb.
    pub(super) fn bounded<'a>(self, input: impl Read + 'a, size: u64) -> io::Result<Box<dyn Read + 'a>> {
        let limit = size.saturating_mul(MAX_RATIO).max(ALWAYS_FINE);
        Ok(Box::new(Bounded { inner: self.reader(input)?, left: limit, limit }))
    }
}

/// Fails once more was read than honest compression makes of so few bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let what = "the unpacked size of a layer".into();
                return Err(io::Error::other(ArchiveError::TooLarge { what, limit: self.limit }));
            }
        }
        Ok(read)
    }
}

/// zstd frames one after the other, with skippable ones between: what `zstd:chunked` layers are.
struct ZstdReader<R: Read> {
    input: BufReader<R>,
    decoder: Box<FrameDecoder>,
    /// Inside a frame, rather than before one.
    inside: bool,
}

impl<R: Read> ZstdReader<R> {
    fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { input: BufReader::with_capacity(64 << 10, input), decoder: Box::new(decoder), inside: false }
    }

    /// Starts the next frame, passing over skippable ones; `false` at the end of the input.
    fn start_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.input.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a zstd frame is cut short"));
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside {
                self.inside = self.start_frame()?;
                if !self.inside {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            let read = self.decoder.read(buf)?;
            if read > 0 {
                return Ok(read);
            }
            self.inside = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn plain(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        compression.reader(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let two_members = [gzip(b"first "), gzip(b"second")].concat();
        assert_eq!(Compression::detect(&two_members), Compression::Gzip);
        assert_eq!(plain(Compression::Gzip, &two_members).unwrap(), b"first second");

        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
        let frames = [skippable.clone(), zstd(b"first "), skippable, zstd(&[7; 300_000])].concat();
        assert_eq!(Compression::detect(&frames), Compression::Zstd);
        let out = plain(Compression::Zstd, &frames).unwrap();
        assert_eq!((&out[..6], out.len()), (&b"first "[..], 300_006));
        assert!(out[6..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let (gz, zst) = (gzip(&[1; 100_000]), zstd(&[1; 100_000]));
        assert!(plain(Compression::Gzip, &gz[..gz.len() - 4]).is_err());
        assert!(plain(Compression::Zstd, &zst[..zst.len() - 4]).is_err());
        assert!(plain(Compression::Zstd, &[0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn others_are_named() {
        assert_eq!(Compression::detect(b"BZh9xx"), Compression::Other("bzip2"));
        assert!(plain(Compression::Other("bzip2"), b"BZh9xx").is_err());
        assert_eq!(Compression::detect(b""), Compression::None);
        assert_eq!(plain(Compression::None, b"as it is").unwrap(), b"as it is");
    }
}
