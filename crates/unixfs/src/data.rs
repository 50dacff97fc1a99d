//! The UnixFS message inside a dag-pb node's data (ipfs specs, `unixfs.md`).

use crate::{
    UnixfsError,
    dagpb::{self, MAX_LINKS},
    error::About,
    wire::{Defect, Fields, Value, put_bytes, put_number, take_varint},
};
use cidery_core::Cid;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Raw = 0,
    Directory = 1,
    File = 2,
    Metadata = 3,
    Symlink = 4,
    HamtShard = 5,
}

/// A decoded message. Mode and mtime are skipped: nothing here writes or needs them.
#[derive(Debug)]
pub(crate) struct Data<'a> {
    pub kind: Type,
    pub data: &'a [u8],
    pub file_size: Option<u64>,
    pub block_sizes: Vec<u64>,
    pub hash_type: Option<u64>,
    pub fanout: Option<u64>,
}

/// Decodes a dag-pb block and the message in it.
pub(crate) fn decode_block<'a>(cid: &Cid, block: &'a [u8]) -> Result<(dagpb::Node<'a>, Data<'a>), UnixfsError> {
    let node = dagpb::decode(block).about(cid)?;
    let message = node.data.ok_or(Defect("a node without a UnixFS message")).and_then(decode).about(cid)?;
    Ok((node, message))
}

/// What a dag-pb block is, without a look at its links.
pub(crate) fn kind(cid: &Cid, block: &[u8]) -> Result<Type, UnixfsError> {
    let data = dagpb::data(block).about(cid)?;
    let message = data.ok_or(Defect("a node without a UnixFS message")).and_then(decode).about(cid)?;
    Ok(message.kind)
}

/// Decodes a message. Unknown fields are skipped, as protobuf wants it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Data<'_>, Defect> {
    let mut kind = None;
    let mut message =
        Data { kind: Type::Raw, data: &[], file_size: None, block_sizes: Vec::new(), hash_type: None, fanout: None };
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => kind = Some(type_of(value.varint()?)?),
            2 => message.data = value.bytes()?,
            3 => message.file_size = Some(value.varint()?),
            4 => match value {
                Value::Varint(size) => message.push_size(size)?,
                // Packed: not what is written today, but the same message.
                Value::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        message.push_size(take_varint(&mut packed)?)?;
                    }
                }
                Value::Fixed => return Err(Defect("block sizes have an unknown wire type")),
            },
            5 => message.hash_type = Some(value.varint()?),
            6 => message.fanout = Some(value.varint()?),
            _ => {}
        }
    }
    message.kind = kind.ok_or(Defect("a UnixFS message without a type"))?;
    Ok(message)
}

fn type_of(number: u64) -> Result<Type, Defect> {
    Ok(match number {
        0 => Type::Raw,
        1 => Type::Directory,
        2 => Type::File,
        3 => Type::Metadata,
        4 => Type::Symlink,
        5 => Type::HamtShard,
        _ => return Err(Defect("an unknown UnixFS type")),
    })
}

impl Data<'_> {
    fn push_size(&mut self, size: u64) -> Result<(), Defect> {
        if self.block_sizes.len() == MAX_LINKS {
            return Err(Defect("too many block sizes"));
        }
        self.block_sizes.push(size);
        Ok(())
    }
}

fn start(kind: Type) -> Vec<u8> {
    vec![0x08, kind as u8]
}

/// A basic directory.
pub(crate) fn directory() -> Vec<u8> {
    start(Type::Directory)
}

/// A file node over children of these sizes.
pub(crate) fn file(sizes: impl Iterator<Item = u64> + Clone) -> Vec<u8> {
    let mut out = start(Type::File);
    put_number(&mut out, 3, sizes.clone().sum());
    for size in sizes {
        put_number(&mut out, 4, size);
    }
    out
}

/// A symbolic link.
pub(crate) fn symlink(target: &str) -> Vec<u8> {
    let mut out = start(Type::Symlink);
    put_bytes(&mut out, 2, target.as_bytes());
    out
}

/// A shard with this bitfield.
pub(crate) fn shard(bitfield: &[u8], hash_type: u64, fanout: u64) -> Vec<u8> {
    let mut out = start(Type::HamtShard);
    put_bytes(&mut out, 2, bitfield);
    put_number(&mut out, 5, hash_type);
    put_number(&mut out, 6, fanout);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_read_back() {
        let bytes = file([5, 7].into_iter());
        let read = decode(&bytes).unwrap();
        assert_eq!((read.kind, read.file_size, read.block_sizes), (Type::File, Some(12), vec![5, 7]));
        let bytes = shard(&[1, 0], 0x22, 256);
        let read = decode(&bytes).unwrap();
        assert_eq!(
            (read.kind, read.data, read.hash_type, read.fanout),
            (Type::HamtShard, &[1, 0][..], Some(0x22), Some(256))
        );
        assert_eq!(directory(), [8, 1]);
        assert_eq!(decode(&symlink("../x")).unwrap().data, b"../x");
    }

    #[test]
    fn packed_sizes_and_metadata_are_understood() {
        let read = decode(&[8, 2, 0x22, 3, 5, 0x80, 1, 0x38, 0xa4, 3, 0x42, 2, 8, 1]).unwrap();
        assert_eq!(read.block_sizes, [5, 128]);
        assert!(decode(&[0x18, 1]).is_err(), "no type");
        assert!(decode(&[8, 6]).is_err(), "unknown type");
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
