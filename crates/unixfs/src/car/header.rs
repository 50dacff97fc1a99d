//! The header: DAG-CBOR of `{"roots": [CIDs], "version": 1}`, and as much CBOR as that takes.

use crate::wire::{Defect, whole_cid};
use cidery_core::Cid;

const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const BYTES: u8 = 2;

/// CBOR's tag of a CID.
const CID_TAG: u64 = 42;

/// Encodes the header of a CAR with these roots.
pub(crate) fn encode(roots: &[Cid]) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, MAP, 2);
    text(&mut out, "roots");
    head(&mut out, ARRAY, roots.len() as u64);
    for root in roots {
        let cid = root.to_bytes();
        head(&mut out, TAG, CID_TAG);
        head(&mut out, BYTES, cid.len() as u64 + 1);
        out.push(0); // The multibase prefix of binary CIDs.
        out.extend(cid);
    }
    text(&mut out, "version");
    out.push(1);
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    match value {
        0..24 => out.push(major | value as u8),
        24..0x100 => out.extend([major | 24, value as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend((value as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend((value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(value.to_be_bytes());
        }
    }
}

/// Decodes a header: its roots.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Cid>, Defect> {
    let mut rest = bytes;
    let (mut roots, mut version) = (None, None);
    for _ in 0..expect(&mut rest, MAP)?.min(3) {
        match take(&mut rest, TEXT)? {
            b"roots" if roots.is_none() => roots = Some(read_roots(&mut rest)?),
            b"version" if version.is_none() => version = Some(expect(&mut rest, 0)?),
            _ => return Err(Defect("an unknown or repeated key")),
        }
    }
    if !rest.is_empty() {
        return Err(Defect("something follows its end"));
    }
    match (version, roots) {
        (Some(1), Some(roots)) => Ok(roots),
        (Some(1), None) => Err(Defect("no roots")),
        (Some(2), _) => Err(Defect("version 2, of which only the CAR v1 inside can be read")),
        _ => Err(Defect("an unknown version")),
    }
}

fn read_roots(rest: &mut &[u8]) -> Result<Vec<Cid>, Defect> {
    let count = expect(rest, ARRAY)?;
    // A root takes more than one byte: what is claimed beyond that is not there.
    let mut roots = Vec::with_capacity(count.min(rest.len() as u64 / 8) as usize);
    for _ in 0..count {
        if expect(rest, TAG)? != CID_TAG {
            return Err(Defect("a root that is not a CID"));
        }
        let cid = take(rest, BYTES)?.strip_prefix(&[0]).ok_or(Defect("a root without the prefix of a CID"))?;
        roots.push(whole_cid(cid)?);
    }
    Ok(roots)
}

/// Takes a head of this major type; its number.
fn expect(rest: &mut &[u8], major: u8) -> Result<u64, Defect> {
    const CUT: Defect = Defect("it is cut short");
    let (first, tail) = rest.split_first().ok_or(CUT)?;
    if first >> 5 != major {
        return Err(Defect("another type than expected"));
    }
    let width = match first & 31 {
        small @ 0..24 => {
            *rest = tail;
            return Ok(u64::from(small));
        }
        wide @ 24..=27 => 1 << (wide - 24),
        _ => return Err(Defect("an indefinite length")),
    };
    let (number, tail) = tail.split_at_checked(width).ok_or(CUT)?;
    *rest = tail;
    Ok(number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Takes a text or byte string.
fn take<'a>(rest: &mut &'a [u8], major: u8) -> Result<&'a [u8], Defect> {
    let len = usize::try_from(expect(rest, major)?).unwrap_or(usize::MAX);
    let (taken, tail) = rest.split_at_checked(len).ok_or(Defect("it is cut short"))?;
    *rest = tail;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;
    use proptest::prelude::*;

    #[test]
    fn headers_round_trip() {
        for count in [0, 1, 30, 300] {
            let roots: Vec<_> = (0..count).map(|n: u32| *Block::raw(n.to_le_bytes().to_vec()).cid()).collect();
            assert_eq!(decode(&encode(&roots)), Ok(roots));
        }
    }

    #[test]
    fn headers_that_are_refused() {
        // The pragma of CAR v2, an unknown version, a header without roots, an absurd count.
        assert_eq!(decode(b"\xa1\x67version\x02").unwrap_err().0.split(',').next(), Some("version 2"));
        assert!(decode(b"\xa2\x65roots\x80\x67version\x03").is_err());
        assert!(decode(b"\xa1\x67version\x01").is_err());
        assert!(decode(b"\xa2\x65roots\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x67version\x01").is_err());
        assert!(decode(b"\xa2\x67version\x01\x65roots\x80").is_ok(), "either order");
        assert!(decode(b"\xa2\x65roots\x80\x67version\x01\x00").is_err());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0usize..80, value in any::<u8>()) {
            let _ = decode(&bytes);
            let mut header = encode(&[*Block::raw(&b"x"[..]).cid()]);
            let at = at % header.len();
            header[at] = value;
            let _ = decode(&header);
        }
    }
}
