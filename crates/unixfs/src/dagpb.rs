//! The dag-pb codec: a node's links and data (ipld specs, `codecs/dag-pb`).
//!
//! Written canonically, links before data; read strictly, in either order. What is read borrows
//! from the block.

use crate::wire::{Defect, Fields, put_bytes, put_number, put_varint, varint_len, whole_cid};
use cidery_core::Cid;

/// Most links in one node. A block of 2 MiB has room for 46,000 with sha2-256 CIDs and names.
pub(crate) const MAX_LINKS: usize = 1 << 16;

/// A link to a shard, or to a chunk, is hardly shorter than so many bytes.
const USUAL_LINK: usize = 44;

/// Most bytes of a varint.
const MAX_VARINT: usize = 10;

/// A link. Without a name or size in the bytes they are empty and 0, which means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    pub cid: Cid,
    pub name: &'a str,
    pub tsize: u64,
}

/// A decoded node.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub links: Vec<Link<'a>>,
    pub data: Option<&'a [u8]>,
}

/// Bytes of a link.
fn inner_size(cid_len: usize, name_len: usize, tsize: u64) -> usize {
    1 + varint_len(cid_len as u64) + cid_len // Hash
        + 1 + varint_len(name_len as u64) + name_len // Name
        + 1 + varint_len(tsize) // Tsize
}

/// Bytes that one link adds to its node.
pub(crate) fn link_size(cid_len: usize, name_len: usize, tsize: u64) -> usize {
    let inner = inner_size(cid_len, name_len, tsize);
    1 + varint_len(inner as u64) + inner
}

/// Encodes a node. `links` come in the order of their names (byte-wise), or all without a name.
pub(crate) fn encode<'a>(links: impl Iterator<Item = Link<'a>>, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for link in links {
        let cid_len = link.cid.encoded_len();
        let inner = inner_size(cid_len, link.name.len(), link.tsize);
        out.reserve(inner + 1 + MAX_VARINT);
        out.push(2 << 3 | 2);
        put_varint(&mut out, inner as u64);
        out.push(1 << 3 | 2);
        put_varint(&mut out, cid_len as u64);
        link.cid.write_bytes(&mut out).expect("a Vec takes all bytes");
        // The empty name of a chunk is written as well: that is what deployed writers do.
        put_bytes(&mut out, 2, link.name.as_bytes());
        put_number(&mut out, 3, link.tsize);
    }
    put_bytes(&mut out, 1, data);
    out
}

/// Decodes a node; a block's size bounds what this costs.
pub(crate) fn decode(block: &[u8]) -> Result<Node<'_>, Defect> {
    let mut links = Vec::with_capacity(usual_links(block));
    let data = visit(block, |link| {
        links.push(link);
        Ok(())
    })?;
    Ok(Node { links, data })
}

/// Decodes a node and gives each link to `each`, in their order. Its data.
pub(crate) fn visit<'a>(
    block: &'a [u8],
    mut each: impl FnMut(Link<'a>) -> Result<(), Defect>,
) -> Result<Option<&'a [u8]>, Defect> {
    visit_unread(block, |link| each(link.read()?))
}

/// As [`visit`], with links that are still to be read: for who looks for one of many.
pub(crate) fn visit_unread<'a>(
    block: &'a [u8],
    mut each: impl FnMut(Unread<'a>) -> Result<(), Defect>,
) -> Result<Option<&'a [u8]>, Defect> {
    let (mut data, mut links, mut links_ended) = (None, 0, false);
    let mut fields = Fields(block);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 if data.is_some() => return Err(Defect("two data fields")),
            1 => {
                data = Some(value.bytes()?);
                links_ended = links > 0;
            }
            2 if links_ended => return Err(Defect("links on both sides of the data")),
            2 if links == MAX_LINKS => return Err(Defect("too many links")),
            2 => {
                links += 1;
                each(Unread(value.bytes()?))?;
            }
            _ => return Err(Defect("an unknown field in a dag-pb node")),
        }
    }
    Ok(data)
}

/// A node's data alone. Its links are passed over unread.
pub(crate) fn data(block: &[u8]) -> Result<Option<&[u8]>, Defect> {
    let (mut data, mut fields) = (None, Fields(block));
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            data = Some(value.bytes()?);
        }
    }
    Ok(data)
}

/// A link that is still to be read.
#[derive(Clone, Copy)]
pub(crate) struct Unread<'a>(&'a [u8]);

impl<'a> Unread<'a> {
    /// Its name.
    pub fn name(self) -> Result<&'a [u8], Defect> {
        let mut fields = Fields(self.0);
        while let Some((number, value)) = fields.next()? {
            if number == 2 {
                return value.bytes();
            }
        }
        Ok(&[])
    }

    pub fn read(self) -> Result<Link<'a>, Defect> {
        link(self.0)
    }
}

/// How many links a wide node of this size has, or a few more.
pub(crate) fn usual_links(block: &[u8]) -> usize {
    block.len() / USUAL_LINK
}

fn link(bytes: &[u8]) -> Result<Link<'_>, Defect> {
    let (mut cid, mut name, mut tsize) = (None, "", 0);
    let mut last = 0;
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        if number <= last {
            return Err(Defect("the fields of a link are repeated or out of order"));
        }
        last = number;
        match number {
            1 => cid = Some(whole_cid(value.bytes()?)?),
            2 => name = std::str::from_utf8(value.bytes()?).map_err(|_| Defect("a link's name is not UTF-8"))?,
            3 => tsize = value.varint()?,
            _ => return Err(Defect("an unknown field in a link")),
        }
    }
    let cid = cid.ok_or(Defect("a link without a CID"))?;
    Ok(Link { cid, name, tsize })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;
    use proptest::prelude::*;

    fn sample() -> Vec<Link<'static>> {
        let cid = *Block::raw(&b"x"[..]).cid();
        vec![Link { cid, name: "a", tsize: 1 }, Link { cid, name: "bc", tsize: 300 }]
    }

    #[test]
    fn what_is_written_is_read_and_has_the_size_that_was_computed() {
        let bytes = encode(sample().into_iter(), b"\x08\x01");
        let node = decode(&bytes).unwrap();
        assert_eq!((node.links, node.data), (sample(), Some(&b"\x08\x01"[..])));
        let links: usize = sample().iter().map(|l| link_size(36, l.name.len(), l.tsize)).sum();
        assert_eq!(bytes.len(), links + 4);
    }

    #[test]
    fn either_order_is_read_but_not_both_at_once() {
        let with_links = encode(sample().into_iter(), &[]);
        let links = &with_links[..with_links.len() - 2];
        let data = [0x0a, 0x01, 0x07];
        let joined = |parts: &[&[u8]]| parts.concat();
        assert_eq!(decode(&joined(&[&data, links])).unwrap().links, sample());
        assert!(decode(&joined(&[links, &data, links])).is_err());
        assert!(decode(&joined(&[&data, links, &data])).is_err());
    }

    #[test]
    fn strictness() {
        let cid = sample()[0].cid.to_bytes();
        let field = |number: u8, bytes: &[u8]| {
            let mut out = Vec::new();
            put_bytes(&mut out, number, bytes);
            out
        };
        let link = |parts: &[Vec<u8>]| field(2, &parts.concat());
        assert!(decode(&link(&[field(1, &cid)])).is_ok());
        assert!(decode(&link(&[field(1, &cid), field(2, b"n"), vec![0x18, 5]])).is_ok());
        // Without CID, with half a CID, out of order, repeated, unknown, not UTF-8, wrong wire type.
        assert!(decode(&link(&[field(2, b"n")])).is_err());
        assert!(decode(&link(&[field(1, &cid[..20])])).is_err());
        assert!(decode(&link(&[field(1, &[&cid[..], &[0]].concat())])).is_err());
        assert!(decode(&link(&[field(2, b"n"), field(1, &cid)])).is_err());
        assert!(decode(&link(&[field(1, &cid), field(1, &cid)])).is_err());
        assert!(decode(&link(&[field(1, &cid), field(4, b"")])).is_err());
        assert!(decode(&link(&[field(1, &cid), field(2, &[0xff])])).is_err());
        assert!(decode(&link(&[field(1, &cid), vec![0x10, 1]])).is_err());
        assert!(decode(&field(3, b"")).is_err());
        assert!(decode(&[0x0a, 0x05, 1]).is_err());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_damaged_node_never_panics(at in 0usize..100, value in any::<u8>()) {
            let mut bytes = encode(sample().into_iter(), b"data");
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode(&bytes);
        }
    }
}
