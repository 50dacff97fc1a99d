//! The digest protocol: which file holds a blob?
//!
//! One stream, one question: a `Request`, then a `Response`, each behind its length as an unsigned varint.
//!
//! ```text
//!   message Request  { bytes digest = 1; }               // a multihash: sha2-256 or sha2-512, whole
//!   message Response { repeated File files = 1; }        // none: it has none, or none that it shows
//!   message File     { bytes cid = 1; uint64 size = 2; } // root of a UnixFS file, and the blob's size
//! ```

use cidery_core::{BlobFile, Cid, Digest, MAX_FILES, Multihash, codec, hash_allowed, identity_bytes};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{
    StreamProtocol,
    request_response::{self, ProtocolSupport},
};
use prost::Message;
use std::{io, time::Duration};

/// Its name and version.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/cidery/digest/1");

/// The longest request, in bytes: a sha2-512 with what is around it has 70.
const MAX_REQUEST: usize = 96;
/// The longest response, in bytes: four files of some 80 bytes each.
const MAX_RESPONSE: usize = 512;
/// A question that is not answered by then will not be.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Streams at a time on one connection, both ways together; more are dropped.
const STREAMS: usize = 32;

pub(crate) type Behaviour = request_response::Behaviour<Codec>;
pub(crate) type Event = request_response::Event<Digest, Vec<BlobFile>>;
pub(crate) type Channel = request_response::ResponseChannel<Vec<BlobFile>>;

pub(crate) fn behaviour() -> Behaviour {
    let config = request_response::Config::default().with_request_timeout(TIMEOUT).with_max_concurrent_streams(STREAMS);
    Behaviour::new([(PROTOCOL, ProtocolSupport::Full)], config)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(bytes = "vec", tag = "1")]
    cid: Vec<u8>,
    #[prost(uint64, tag = "2")]
    size: u64,
}

/// Reads and writes the messages; what is longer or otherwise than it may be is an error.
#[derive(Clone, Default)]
pub(crate) struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Digest;
    type Response = Vec<BlobFile>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Digest>
    where
        T: AsyncRead + Unpin + Send,
    {
        let Request { digest } = read(io, MAX_REQUEST).await?;
        let hash = Multihash::from_bytes(&digest).ok();
        hash.and_then(|hash| Digest::from_multihash(&hash)).ok_or_else(|| invalid("it is not a digest"))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<BlobFile>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let Response { files } = read(io, MAX_RESPONSE).await?;
        if files.len() > MAX_FILES {
            return Err(invalid("these are too many files"));
        }
        // Others of them may be of use.
        Ok(files.iter().filter_map(blob_file).collect())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, digest: Digest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let cid = digest.raw_cid().ok_or_else(|| invalid("it is not a digest"))?;
        write(io, &Request { digest: cid.hash().to_bytes() }).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, files: Vec<BlobFile>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let files = files.iter().take(MAX_FILES);
        let files = files.map(|file| File { cid: file.cid.to_bytes(), size: file.size }).collect();
        write(io, &Response { files }).await
    }
}

fn blob_file(file: &File) -> Option<BlobFile> {
    let cid = Cid::try_from(file.cid.as_slice()).ok()?;
    // What carries its bytes in its name is no file that anybody has to be asked for.
    let fetched = matches!(cid.codec(), codec::RAW | codec::DAG_PB) && identity_bytes(&cid).is_none();
    (fetched && hash_allowed(cid.hash())).then_some(BlobFile { cid, size: file.size })
}

async fn read<M: Message + Default>(io: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<M> {
    // Two bytes of length are more than any message may have.
    let mut length = [0; 2];
    io.read_exact(&mut length[..1]).await?;
    if length[0] & 0x80 != 0 {
        io.read_exact(&mut length[1..]).await?;
    }
    let (length, _) = unsigned_varint::decode::usize(&length).map_err(|error| invalid(&error.to_string()))?;
    if length > limit {
        return Err(invalid("the message is too long"));
    }
    let mut message = vec![0; length];
    io.read_exact(&mut message).await?;
    M::decode(message.as_slice()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

async fn write(io: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> io::Result<()> {
    io.write_all(&message.encode_length_delimited_to_vec()).await
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cidery_core::Block;
    use futures::{executor::block_on, io::Cursor};
    use request_response::Codec as _;

    fn file(n: u8) -> BlobFile {
        BlobFile { cid: *Block::of(codec::DAG_PB, vec![n; 100]).cid(), size: u64::from(n) << 40 }
    }

    fn request(bytes: &[u8]) -> io::Result<Digest> {
        block_on(Codec.read_request(&PROTOCOL, &mut Cursor::new(bytes)))
    }

    fn response(bytes: &[u8]) -> io::Result<Vec<BlobFile>> {
        block_on(Codec.read_response(&PROTOCOL, &mut Cursor::new(bytes)))
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        message.encode_length_delimited_to_vec()
    }

    #[test]
    fn what_is_written_is_read() {
        for digest in [Digest::sha256(&[1; 32]), Digest::sha512(&[2; 64])] {
            let mut bytes = Cursor::new(Vec::new());
            block_on(Codec.write_request(&PROTOCOL, &mut bytes, digest.clone())).unwrap();
            assert!(bytes.get_ref().len() <= MAX_REQUEST);
            assert_eq!(request(bytes.get_ref()).unwrap(), digest);
        }
        for count in [0, 1, MAX_FILES] {
            let files: Vec<_> = (0..count).map(|n| file(n as u8)).collect();
            let mut bytes = Cursor::new(Vec::new());
            block_on(Codec.write_response(&PROTOCOL, &mut bytes, files.clone())).unwrap();
            assert_eq!(response(bytes.get_ref()).unwrap(), files);
        }
        // The largest there is fits, and what is too much is not sent.
        let long = Cid::new_v1(codec::DAG_PB, Multihash::wrap(0x13, &[7; 64]).unwrap());
        let files = vec![BlobFile { cid: long, size: u64::MAX }; MAX_FILES + 3];
        let mut bytes = Cursor::new(Vec::new());
        block_on(Codec.write_response(&PROTOCOL, &mut bytes, files)).unwrap();
        assert_eq!(response(bytes.get_ref()).unwrap().len(), MAX_FILES);
    }

    #[test]
    fn the_bytes_are_those_that_are_documented() {
        let mut bytes = Cursor::new(Vec::new());
        block_on(Codec.write_request(&PROTOCOL, &mut bytes, Digest::sha256(&[0xab; 32]))).unwrap();
        assert_eq!(bytes.into_inner(), [&[36, 0x0a, 34, 0x12, 32][..], &[0xab; 32]].concat());
    }

    #[test]
    fn requests_that_are_none_are_errors() {
        let digest = |code, hash: &[u8]| Multihash::wrap(code, hash).unwrap().to_bytes();
        for bad in [digest(0x12, &[1; 20]), digest(0, b"inline"), digest(0x1e, &[1; 32]), vec![0x12, 32], Vec::new()] {
            assert!(request(&framed(&Request { digest: bad.clone() })).is_err(), "{bad:?}");
        }
        let trailing = [digest(0x12, &[1; 32]), vec![0]].concat();
        assert!(request(&framed(&Request { digest: trailing })).is_err());
        let good = framed(&Request { digest: digest(0x12, &[1; 32]) });
        assert!((0..good.len()).all(|cut| request(&good[..cut]).is_err()));
        // Too long is refused before it is read, however long it says it is.
        for length in [&[97][..], &[0xff, 0x7f], &[0xff, 0xff, 0xff, 0xff, 0x7f], &[0x80, 0x80]] {
            let error = request(&[length, &[0; 200]].concat()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length:?}");
        }
    }

    #[test]
    fn what_names_no_file_is_left_out_of_a_response() {
        let good = File { cid: file(1).cid.to_bytes(), size: 1 };
        let of = |cid: Vec<u8>| {
            let files = vec![File { cid, size: 1 }, good.clone()];
            response(&framed(&Response { files })).expect("it has one that is good").len()
        };
        assert_eq!(of(good.cid.clone()), 2);
        let hash = *file(1).cid.hash();
        let identity = Multihash::wrap(0, b"inline").unwrap();
        let short = Multihash::wrap(0x12, &[1; 8]).unwrap();
        for bad in [
            Cid::new_v1(codec::LIBP2P_KEY, hash).to_bytes(),
            Cid::new_v1(0x71, hash).to_bytes(),
            Cid::new_v1(codec::RAW, identity).to_bytes(),
            Cid::new_v1(codec::RAW, short).to_bytes(),
            Vec::new(),
            vec![1, 0x70],
        ] {
            assert_eq!(of(bad.clone()), 1, "{bad:?}");
        }
        let many = vec![File { cid: file(1).cid.to_bytes(), size: 1 }; MAX_FILES + 1];
        assert!(response(&framed(&Response { files: many })).is_err());
        assert!(response(&[0xff, 0x7f]).is_err());
        // Bytes of any kind are an error or an answer, never more.
        for n in 0..20_000u32 {
            let noise: Vec<u8> =
                (0..40u32).map(|i| (n.wrapping_mul(2_654_435_761).rotate_left(i) >> 7) as u8).collect();
            let _ = (response(&noise), request(&noise));
        }
    }
}
