//! The bytes of packs: one header per file, one header per record.
//!
//! ```text
//! file header, 32 bytes             record header, 20 bytes, then CID, then payload
//!   0  magic "CIDRPACK"               0  marker c1 de b1 0c
//!   8  u16 version                    4  u8  kind: 1 block, 2 replacement of a damaged block
//!  10  u8  class: 1 nodes, 2 leaves   5  u8  origin: 1 pushed, 2 imported, 3 peer, 4 upstream
//!  11  u8  reserved, 0                6  u8  length of the CID
//!  12  u64 id                         7  u8  flags, 0
//!  20  u64 salt, random               8  u32 length of the payload
//!  28  u32 CRC32C of bytes 0..28     12  u32 CRC32C of the payload
//!                                    16  u32 CRC32C of salt, offset of the record, bytes 0..16, CID
//! ```
//! Numbers are little-endian. The salt and the offset in a record's checksum make sure that nothing but
//! a record written here, at this place, counts as one: not a copy of a pack inside somebody's blob,
//! not a leftover of an earlier write. A record of an unknown kind whose header holds is stepped over.

use crate::codec::{Put, Take};
use cidery_core::{Cid, MAX_BLOCK, Multihash, Origin};
use crc32c::{crc32c, crc32c_append};

/// The newest format of packs that is known here.
pub(crate) const VERSION: u16 = 1;
/// Length of a pack's own header.
pub(crate) const FILE_HEADER: u64 = 32;
/// Length of a record's header without its CID.
pub(crate) const RECORD_HEADER: usize = 20;
/// How every record starts.
pub(crate) const MARKER: [u8; 4] = [0xc1, 0xde, 0xb1, 0x0c];

const MAGIC: &[u8; 8] = b"CIDRPACK";

/// What a pack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Class {
    /// Small blocks: directory and file nodes, small files. Compacted when much of it is dead.
    Nodes = 1,
    /// Large leaves, which are punched out one by one.
    Leaves = 2,
}

/// A pack's own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) class: Class,
    pub(crate) id: u64,
    pub(crate) salt: u64,
}

/// Why a pack's header can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Newer(u16),
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.put_u16(VERSION);
        out.put_u8(self.class as u8);
        out.put_u8(0);
        out.put_u64(self.id);
        out.put_u64(self.salt);
        out.put_u32(crc32c(&out));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let parse = || {
            let mut take = Take(bytes);
            let checked = bytes.get(..28)?;
            (take.raw(8)? == MAGIC).then_some(())?;
            let (version, class, _) = (take.u16()?, take.u8()?, take.u8()?);
            let (id, salt) = (take.u64()?, take.u64()?);
            (take.u32()? == crc32c(checked)).then_some((version, class, id, salt))
        };
        let (version, class, id, salt) = parse().ok_or(BadHeader::Damaged)?;
        if version > VERSION {
            return Err(BadHeader::Newer(version));
        }
        let class = match class {
            1 => Class::Nodes,
            2 => Class::Leaves,
            _ => return Err(BadHeader::Damaged),
        };
        Ok(Self { class, id, salt })
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A block that was not here before.
    Block,
    /// The same block again, because its earlier record is damaged.
    Replacement,
    /// Something of a later version.
    Unknown,
}

/// Where a block's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// The pack's id.
    pub(crate) pack: u64,
    /// Offset of the record in the pack.
    pub(crate) offset: u64,
    /// Length of header and CID.
    pub(crate) head: u16,
    /// Length of the payload.
    pub(crate) len: u32,
    /// Where the block came from.
    pub(crate) origin: Origin,
}

impl Location {
    /// Where the next record begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.head) + u64::from(self.len)
    }

    /// Header, CID and payload together, in bytes.
    pub(crate) fn total(&self) -> usize {
        usize::from(self.head) + self.len as usize
    }
}

/// A decoded record header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) location: Location,
    pub(crate) payload_crc: u32,
    /// `None` only for records of unknown kinds.
    pub(crate) cid: Option<Cid>,
}

pub(crate) fn origin_from(byte: u8) -> Option<Origin> {
    Some(match byte {
        1 => Origin::Pushed,
        2 => Origin::Imported,
        3 => Origin::Peer,
        4 => Origin::Upstream,
        _ => return None,
    })
}

/// Header and CID of a record about to be written at `offset`.
pub(crate) fn encode(salt: u64, offset: u64, kind: Kind, origin: Origin, cid: &Cid, payload: &[u8]) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut out = Vec::with_capacity(RECORD_HEADER + cid.len());
    out.extend(MARKER);
    out.put_u8(if kind == Kind::Replacement { 2 } else { 1 });
    out.put_u8(origin as u8);
    // At most 64 bytes of digest and four varints.
    out.put_u8(cid.len() as u8);
    out.put_u8(0);
    out.put_u32(payload.len() as u32);
    out.put_u32(crc32c(payload));
    let crc = checksum(salt, offset, &out, &cid);
    out.put_u32(crc);
    out.extend(cid);
    out
}

/// A record's header that does not vouch for its payload any more: the payload's bytes are not the block's,
/// although they are the ones that were written. `None` if the header does not hold either.
pub(crate) fn disown(salt: u64, offset: u64, head: &[u8]) -> Option<Vec<u8>> {
    let mut fixed = head.get(..16)?.to_vec();
    let payload_crc = u32::from_le_bytes(fixed.get(12..)?.try_into().ok()?);
    fixed.truncate(12);
    fixed.put_u32(!payload_crc);
    let crc = checksum(salt, offset, &fixed, head.get(RECORD_HEADER..)?);
    fixed.put_u32(crc);
    Some(fixed)
}

/// The CID in a record whose header need not hold.
pub(crate) fn cid_of(head: &[u8]) -> Option<Cid> {
    Cid::try_from(head.get(RECORD_HEADER..)?).ok()
}

fn checksum(salt: u64, offset: u64, fixed: &[u8], cid: &[u8]) -> u32 {
    let crc = crc32c_append(crc32c(&salt.to_le_bytes()), &offset.to_le_bytes());
    crc32c_append(crc32c_append(crc, fixed), cid)
}

/// The longest header with CID.
pub(crate) const MAX_HEAD: usize = RECORD_HEADER + u8::MAX as usize;

/// Reads the record header at the start of `bytes`, which lie at `offset` of pack `pack`.
/// `None` if there is none, or it does not hold.
pub(crate) fn decode(salt: u64, pack: u64, offset: u64, bytes: &[u8]) -> Option<Header> {
    let mut take = Take(bytes);
    let fixed = bytes.get(..16)?;
    (take.raw(4)? == MARKER).then_some(())?;
    let (kind, origin, cid_len, _flags) = (take.u8()?, take.u8()?, take.u8()?, take.u8()?);
    let (len, payload_crc, crc) = (take.u32()?, take.u32()?, take.u32()?);
    let cid = take.raw(usize::from(cid_len))?;
    (crc == checksum(salt, offset, fixed, cid)).then_some(())?;
    let kind = match kind {
        1 => Kind::Block,
        2 => Kind::Replacement,
        _ => Kind::Unknown,
    };
    let known = kind != Kind::Unknown;
    let origin = match origin_from(origin) {
        Some(origin) => origin,
        None if known => return None,
        None => Origin::Pushed,
    };
    let cid = if known { Some(Cid::try_from(cid).ok()?) } else { None };
    if known && len as usize > MAX_BLOCK {
        return None;
    }
    let head = RECORD_HEADER as u16 + u16::from(cid_len);
    Some(Header { kind, location: Location { pack, offset, head, len, origin }, payload_crc, cid })
}

/// What reading a record at a known place found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The block, as it was written.
    Good,
    /// A sound record of another block: the index is wrong.
    OtherBlock,
    /// Damage, in words.
    Damaged(&'static str),
}

/// Checks a whole record that was read from `location`.
pub(crate) fn verify(salt: u64, location: &Location, hash: &Multihash, bytes: &[u8]) -> Verdict {
    let Some(bytes) = bytes.get(..location.total()) else { return Verdict::Damaged("the pack ends before the block") };
    let Some(header) = decode(salt, location.pack, location.offset, bytes) else {
        return Verdict::Damaged("the checksum of its header does not hold");
    };
    let same = header.cid.is_some_and(|cid| cid.hash() == hash);
    if !same || header.location != *location {
        return Verdict::OtherBlock;
    }
    if crc32c(&bytes[usize::from(location.head)..]) != header.payload_crc {
        return Verdict::Damaged("the checksum of its bytes does not hold");
    }
    Verdict::Good
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn a_record_counts_only_where_it_was_written() {
        let block = Block::raw(&b"payload"[..]);
        let mut bytes = encode(7, 1000, Kind::Block, Origin::Peer, block.cid(), block.data());
        bytes.extend(block.data().as_ref());
        let header = decode(7, 3, 1000, &bytes).expect("sound");
        assert_eq!((header.kind, header.cid, header.location.origin), (Kind::Block, Some(*block.cid()), Origin::Peer));
        assert_eq!(verify(7, &header.location, block.cid().hash(), &bytes), Verdict::Good);
        assert_eq!(decode(7, 3, 1001, &bytes), None, "elsewhere");
        assert_eq!(decode(8, 3, 1000, &bytes), None, "in another pack");
        assert_eq!(decode(7, 3, 1000, &bytes[..30]), None, "cut");
        let other = Block::raw(&b"other"[..]);
        assert_eq!(verify(7, &header.location, other.cid().hash(), &bytes), Verdict::OtherBlock);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let verdict = verify(7, &header.location, block.cid().hash(), &flipped);
                // The flags are covered by the checksum too: every flip is seen.
                assert!(matches!(verdict, Verdict::Damaged(_)), "bit {bit} of byte {at}: {verdict:?}");
            }
        }
    }

    #[test]
    fn file_headers() {
        let header = FileHeader { class: Class::Leaves, id: 5, salt: 9 };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, FILE_HEADER);
        assert_eq!(FileHeader::decode(&bytes), Ok(header));
        assert_eq!(FileHeader::decode(&bytes[..31]), Err(BadHeader::Damaged));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert_eq!(FileHeader::decode(&newer), Err(BadHeader::Damaged));
        let crc = crc32c(&newer[..28]).to_le_bytes();
        newer[28..].copy_from_slice(&crc);
        assert_eq!(FileHeader::decode(&newer), Err(BadHeader::Newer(2)));
    }
}
