//! Blocks: bytes together with the CID that was checked against them.

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use std::fmt;
use thiserror::Error;

pub use cid::Cid;

/// A multihash of at most 64 digest bytes, as every CID here carries it.
pub type Multihash = multihash::Multihash<64>;

/// The largest block that is read, stored or sent, in bytes (Bitswap 1.2.0 and UnixFS: 2 MiB).
pub const MAX_BLOCK: usize = 2 << 20;

/// Multicodec of sha2-256, the only hash that cidery writes.
pub const SHA2_256: u64 = 0x12;

/// Multicodec of sha2-512: only in the names of blobs.
pub const SHA2_512: u64 = 0x13;

const IDENTITY: u64 = 0x00;

/// The content codecs that occur in a registry's tree.
pub mod codec {
    /// `raw`: bytes without structure.
    pub const RAW: u64 = 0x55;
    /// `dag-pb`: UnixFS nodes.
    pub const DAG_PB: u64 = 0x70;
    /// `libp2p-key`: the CID form of an IPNS name.
    pub const LIBP2P_KEY: u64 = 0x72;
}

/// Why bytes are not the block they are said to be.
#[derive(Debug, Error)]
pub enum BlockError {
    /// The bytes hash to something else.
    #[error("the bytes offered for {cid} hash to something else")]
    Mismatch {
        /// The CID that was claimed.
        cid: Cid,
    },
    /// More bytes than [`MAX_BLOCK`].
    #[error("block {cid} has {len} bytes, more than the {MAX_BLOCK} that are allowed")]
    TooLarge {
        /// The CID that was claimed.
        cid: Cid,
        /// Its size in bytes.
        len: usize,
    },
    /// A hash function or digest length that is not accepted (see [`hash_allowed`]).
    #[error("the hash of {cid} (code {code:#x}, {len} bytes) is not one that is accepted")]
    Hash {
        /// The CID that was claimed.
        cid: Cid,
        /// Multicodec of the hash function.
        code: u64,
        /// Digest length in bytes.
        len: u8,
    },
}

/// A block whose bytes were checked against its CID when it was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

impl Block {
    /// Checks size, hash function and hash. Costs one hash of `data`: not for an async task.
    pub fn new(cid: Cid, data: Bytes) -> Result<Self, BlockError> {
        if data.len() > MAX_BLOCK {
            return Err(BlockError::TooLarge { cid, len: data.len() });
        }
        let hash = cid.hash();
        if !hash_allowed(hash) {
            return Err(BlockError::Hash { cid, code: hash.code(), len: hash.size() });
        }
        let same = if hash.code() == IDENTITY {
            hash.digest() == data.as_ref()
        } else {
            let code = Code::try_from(hash.code()).map_err(|_| BlockError::Hash {
                cid,
                code: hash.code(),
                len: hash.size(),
            })?;
            // A shorter digest is a prefix of the full one (blake2b-160 and the like are truncated so).
            let full = code.digest(&data);
            full.digest() == hash.digest()
        };
        if same { Ok(Self { cid, data }) } else { Err(BlockError::Mismatch { cid }) }
    }

    /// Makes the CIDv1 (sha2-256) of `data` under `codec`.
    ///
    /// The caller keeps `data` within [`MAX_BLOCK`]; builders do by construction.
    pub fn of(codec: u64, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let cid = Cid::new_v1(codec, Code::Sha2_256.digest(&data));
        Self { cid, data }
    }

    /// The block that a CID's prefix and `data` make: hashes `data` once. `None` if that is no
    /// accepted block: too large, an unknown hash function or digest length, or an impossible version.
    pub fn from_prefix(version: u64, codec: u64, hash: u64, digest_len: u64, data: Bytes) -> Option<Self> {
        if data.len() > MAX_BLOCK {
            return None;
        }
        let digest = if hash == IDENTITY {
            Multihash::wrap(IDENTITY, &data).ok()?
        } else {
            Code::try_from(hash).ok()?.digest(&data)
        };
        if u64::from(digest.size()) != digest_len || !hash_allowed(&digest) {
            return None;
        }
        let cid = match version {
            0 if codec == self::codec::DAG_PB => Cid::new_v0(digest).ok()?,
            1 => Cid::new_v1(codec, digest),
            _ => return None,
        };
        Some(Self { cid, data })
    }

    /// A raw block: see [`Block::of`].
    pub fn raw(data: impl Into<Bytes>) -> Self {
        Self::of(codec::RAW, data)
    }

    /// Its CID.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// Its bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Cid, Bytes) {
        (self.cid, self.data)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.data.len())
    }
}

/// The bytes an identity CID carries in itself. Such blocks are never stored, wanted or announced.
pub fn identity_bytes(cid: &Cid) -> Option<&[u8]> {
    (cid.hash().code() == IDENTITY).then(|| cid.hash().digest())
}

/// Whether blocks under this hash are accepted: the allowlist of deployed nodes, as far as it can
/// be computed here, with digests of 20 to 64 bytes; identity up to 64 (what a CID here can hold).
pub fn hash_allowed(hash: &Multihash) -> bool {
    match hash.code() {
        IDENTITY => true,
        code => Code::try_from(code).is_ok() && hash.size() >= 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_checked_when_it_is_made() {
        let good = Block::raw(&b"hello"[..]);
        assert!(Block::new(*good.cid(), good.data().clone()).is_ok());
        let wrong = Block::new(*good.cid(), Bytes::from_static(b"hellO"));
        assert!(matches!(wrong, Err(BlockError::Mismatch { .. })));
    }

    #[test]
    fn a_prefix_and_the_bytes_make_the_block() {
        let block = Block::raw(&b"hello"[..]);
        let made = |version, codec, hash, len| Block::from_prefix(version, codec, hash, len, block.data().clone());
        assert_eq!(made(1, codec::RAW, SHA2_256, 32), Some(block.clone()));
        let v0 = made(0, codec::DAG_PB, SHA2_256, 32).expect("a version 0 block");
        assert!(Block::new(*v0.cid(), v0.data().clone()).is_ok());
        assert_eq!(made(0, codec::RAW, SHA2_256, 32), None, "version 0 is dag-pb");
        assert_eq!(made(2, codec::RAW, SHA2_256, 32), None, "no such version");
        assert_eq!(made(1, codec::RAW, SHA2_256, 20), None, "truncated");
        assert_eq!(made(1, codec::RAW, 0x9999, 32), None, "unknown hash");
        let long = Bytes::from(vec![0; MAX_BLOCK + 1]);
        assert_eq!(Block::from_prefix(1, codec::RAW, SHA2_256, 32, long), None, "too large");
    }

    #[test]
    fn an_oversized_block_is_refused_before_it_is_hashed() {
        let data = Bytes::from(vec![0; MAX_BLOCK + 1]);
        let cid = *Block::raw(data.clone()).cid();
        assert!(matches!(Block::new(cid, data), Err(BlockError::TooLarge { .. })));
    }

    #[test]
    fn identity_cids_carry_their_bytes() {
        let hash = Multihash::wrap(0, b"inline").expect("short");
        let cid = Cid::new_v1(codec::RAW, hash);
        assert_eq!(identity_bytes(&cid), Some(&b"inline"[..]));
        assert!(Block::new(cid, Bytes::from_static(b"inline")).is_ok());
        assert!(Block::new(cid, Bytes::from_static(b"other!")).is_err());
    }

    #[test]
    fn unknown_and_short_hashes_are_refused() {
        let short = Multihash::wrap(SHA2_256, &[1; 8]).expect("short");
        assert!(!hash_allowed(&short));
        let unknown = Multihash::wrap(0x9999, &[1; 32]).expect("fits");
        assert!(matches!(Block::new(Cid::new_v1(codec::RAW, unknown), Bytes::new()), Err(BlockError::Hash { .. })));
    }
}
