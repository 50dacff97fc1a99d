//! Protobuf on the wire, as far as dag-pb and UnixFS need it: varints and length-delimited fields.

use cidery_core::{Cid, Multihash, SHA2_256};
use thiserror::Error;

/// What is wrong with bytes that do not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Defect(pub(crate) &'static str);

/// One field's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed 32 or 64 bits: only in fields that are skipped.
    Fixed,
}

impl<'a> Value<'a> {
    pub fn varint(self) -> Result<u64, Defect> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Defect("a number field has another wire type")),
        }
    }

    pub fn bytes(self) -> Result<&'a [u8], Defect> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Defect("a bytes field has another wire type")),
        }
    }
}

/// Walks over the fields of one message.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value, `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Defect> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = take_varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Varint(take_varint(&mut self.0)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = take_varint(&mut self.0)?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Defect("unknown wire type")),
        };
        match tag >> 3 {
            0 => Err(Defect("field number 0")),
            number => Ok(Some((number, value))),
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Defect> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.0.len()).ok_or(Defect("a field is cut short"))?;
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(taken)
    }
}

/// Takes one varint of at most 64 bits off the front. Padded ones are valid protobuf.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64, Defect> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return Err(Defect("a varint is longer than 64 bits"));
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(Defect("a varint does not end"))
}

/// The CID that `bytes` are, to the last of them.
pub(crate) fn whole_cid(mut bytes: &[u8]) -> Result<Cid, Defect> {
    // Nearly all are of this kind; the general way reads them byte by byte.
    if let [1, codec @ ..0x80, 0x12, 0x20, digest @ ..] = bytes
        && digest.len() == 32
        && let Ok(hash) = Multihash::wrap(SHA2_256, digest)
    {
        return Ok(Cid::new_v1((*codec).into(), hash));
    }
    let cid = Cid::read_bytes(&mut bytes).map_err(|_| Defect("a CID does not parse"))?;
    if bytes.is_empty() { Ok(cid) } else { Err(Defect("something follows a CID")) }
}

/// Bytes that [`put_varint`] writes for `value`.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes field `number` as a varint. Field numbers here are below 16.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3);
    put_varint(out, value);
}

/// Writes field `number` as bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_with_their_length() {
        for value in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(take_varint(&mut &out[..]), Ok(value));
        }
    }

    #[test]
    fn varints_that_lie_are_refused() {
        assert!(take_varint(&mut &[0x80; 3][..]).is_err());
        assert!(take_varint(&mut &[0xff; 11][..]).is_err());
        let too_wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(take_varint(&mut &too_wide[..]).is_err());
        assert_eq!(take_varint(&mut &[0x81, 0x00][..]), Ok(1));
    }
}
