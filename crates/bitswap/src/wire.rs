//! The wire: frames of protobuf (Bitswap 1.2.0), read from hostile peers and written without
//! copying blocks.

use bytes::{BufMut, Bytes, BytesMut};
use cidery_core::{Block, Cid};
use prost::Message as _;
use thiserror::Error;

/// The largest frame that is read, in bytes; deployed nodes reset the stream above it.
pub(crate) const MAX_FRAME: usize = 4 << 20;

/// Block bytes up to this are copied next to their header instead of being written by themselves.
const COPY_BELOW: usize = 8 << 10;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    /// A [`Wantlist`], decoded in parts: see [`Wants`].
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub wantlist: Option<Bytes>,
    /// Version 1.0: bytes of blocks with a CIDv0.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub blocks: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    pub payload: Vec<Payload>,
    #[prost(message, repeated, tag = "4")]
    pub presences: Vec<Presence>,
    #[prost(int32, tag = "5")]
    pub pending_bytes: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wantlist {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// Replaces what was wanted before.
    #[prost(bool, tag = "2")]
    pub full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    pub cid: Bytes,
    #[prost(int32, tag = "2")]
    pub priority: i32,
    #[prost(bool, tag = "3")]
    pub cancel: bool,
    /// 0: the block, 1: whether it is there.
    #[prost(int32, tag = "4")]
    pub want_type: i32,
    #[prost(bool, tag = "5")]
    pub send_dont_have: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Payload {
    /// CID version, codec, hash function and digest length, as varints.
    #[prost(bytes = "bytes", tag = "1")]
    pub prefix: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Presence {
    #[prost(bytes = "bytes", tag = "1")]
    pub cid: Bytes,
    /// 0: have, 1: don't have.
    #[prost(int32, tag = "2")]
    pub kind: i32,
}

/// The `want_type` of a want-have.
pub(crate) const WANT_HAVE: i32 = 1;
/// The `kind` of a DONT_HAVE.
pub(crate) const DONT_HAVE: i32 = 1;

/// A frame that is not a message one may send.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    #[error("more than {0} entries in one message")]
    TooMany(usize),
    #[error("malformed protobuf")]
    Malformed,
    #[error("malformed protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

/// Decodes a frame. Blocks are slices of it, but for those that would keep much more than themselves in
/// memory by that: a sender may fill a frame with anything. Entries are counted before anything is allocated for
/// them: an entry of two bytes on the wire would become some sixty in memory.
pub(crate) fn decode(frame: Bytes, max_entries: usize) -> Result<Message, WireError> {
    let mut left = max_entries;
    count(&frame, true, &mut left)
        .map_err(|over| if over { WireError::TooMany(max_entries) } else { WireError::Malformed })?;
    let len = frame.len();
    let mut message = Message::decode(frame)?;
    for data in message.blocks.iter_mut().chain(message.payload.iter_mut().map(|payload| &mut payload.data)) {
        if data.len() < len / 2 {
            *data = Bytes::copy_from_slice(data);
        }
    }
    Ok(message)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The number and value of the first field, and what follows it; `None` if malformed.
fn field(buf: &[u8]) -> Option<(u64, Value<'_>, &[u8])> {
    let varint = |buf| unsigned_varint::decode::u64(buf).ok();
    let (key, rest) = varint(buf)?;
    let (value, rest) = match key & 7 {
        0 => {
            let (number, rest) = varint(rest)?;
            (Value::Number(number), rest)
        }
        1 => (Value::Fixed, rest.get(8..)?),
        5 => (Value::Fixed, rest.get(4..)?),
        2 => {
            let (len, rest) = varint(rest)?;
            let (body, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            (Value::Bytes(body), rest)
        }
        // Groups, which nobody sends.
        _ => return None,
    };
    Some((key >> 3, value, rest))
}

/// Walks the fields, taking each length-delimited one off `left`. `Err(true)`: too many; `Err(false)`: malformed.
fn count(mut buf: &[u8], top: bool, left: &mut usize) -> Result<(), bool> {
    while !buf.is_empty() {
        let (number, value, rest) = field(buf).ok_or(false)?;
        if let Value::Bytes(body) = value {
            *left = left.checked_sub(1).ok_or(true)?;
            if top && number == 1 {
                count(body, false, left)?;
            }
        }
        buf = rest;
    }
    Ok(())
}

/// A wantlist from the wire, to be taken in part by part: a message has room for far more entries than
/// a peer may have, and they must cost neither much memory nor a long time under a lock.
pub(crate) struct Wants {
    rest: Bytes,
    full: bool,
    /// Entries still to be looked at; more are ignored.
    left: usize,
    started: bool,
}

impl Wants {
    pub(crate) fn new(list: Bytes, most: usize) -> Self {
        // The flag stands behind the entries.
        let (mut full, mut buf) = (false, list.as_ref());
        while let Some((number, value, rest)) = field(buf) {
            if let (2, Value::Number(value)) = (number, value) {
                full = value != 0;
            }
            buf = rest;
        }
        Self { rest: list, full, left: most, started: false }
    }

    /// At most `most` further entries; the first part replaces the list if the whole does. `None` at the end.
    pub(crate) fn part(&mut self, most: usize) -> Option<Wantlist> {
        let mut part = Wantlist { entries: Vec::new(), full: self.full && !self.started };
        while part.entries.len() < most
            && self.left > 0
            && let Some((number, value, rest)) = field(&self.rest)
        {
            let (entry, rest) = match value {
                Value::Bytes(entry) if number == 1 => (Some(self.rest.slice_ref(entry)), self.rest.slice_ref(rest)),
                _ => (None, self.rest.slice_ref(rest)),
            };
            self.rest = rest;
            if let Some(entry) = entry {
                self.left -= 1;
                // What is no entry is ignored like an entry without a usable CID.
                part.entries.extend(Entry::decode(entry).ok());
            }
        }
        let over = part.entries.is_empty() && self.started;
        self.started = true;
        (!over).then_some(part)
    }
}

/// The block that a payload entry is, by one hash of its data; `None` if it is none that is accepted.
pub(crate) fn block_of(payload: Payload) -> Option<Block> {
    let (version, rest) = unsigned_varint::decode::u64(&payload.prefix).ok()?;
    let (codec, rest) = unsigned_varint::decode::u64(rest).ok()?;
    let (hash, rest) = unsigned_varint::decode::u64(rest).ok()?;
    let (len, rest) = unsigned_varint::decode::u64(rest).ok()?;
    if !rest.is_empty() {
        return None;
    }
    Block::from_prefix(version, codec, hash, len, payload.data)
}

fn prefix(cid: &Cid) -> Vec<u8> {
    let mut out = Vec::with_capacity(8);
    let mut buf = unsigned_varint::encode::u64_buffer();
    for part in [u64::from(cid.version()), cid.codec(), cid.hash().code(), u64::from(cid.hash().size())] {
        out.extend_from_slice(unsigned_varint::encode::u64(part, &mut buf));
    }
    out
}

/// Which dialect a peer understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `/ipfs/bitswap/1.0.0` and the bare `/ipfs/bitswap`: blocks without a prefix.
    V1_0,
    /// `/ipfs/bitswap/1.1.0`: blocks with a prefix.
    V1_1,
    /// `/ipfs/bitswap/1.2.0`: HAVE and DONT_HAVE.
    V1_2,
}

/// A message to be written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The entries replace what was wanted before.
    pub full: bool,
    pub entries: Vec<Entry>,
    pub presences: Vec<Presence>,
    pub blocks: Vec<(Cid, Bytes)>,
    /// Bytes of blocks still queued for the peer.
    pub pending_bytes: u64,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        !self.full && self.entries.is_empty() && self.presences.is_empty() && self.blocks.is_empty()
    }

    /// The frame, in pieces to be written one after the other; large blocks are not copied.
    pub(crate) fn encode(self, version: Version) -> Vec<Bytes> {
        let wantlist = (self.full || !self.entries.is_empty())
            .then(|| Wantlist { entries: self.entries, full: self.full }.encode_to_vec().into());
        let rest = Message {
            wantlist,
            presences: if version == Version::V1_2 { self.presences } else { Vec::new() },
            pending_bytes: if version == Version::V1_2 {
                i32::try_from(self.pending_bytes).unwrap_or(i32::MAX)
            } else {
                0
            },
            ..Message::default()
        };
        let mut buf = unsigned_varint::encode::usize_buffer();
        let mut varint = |n: usize| unsigned_varint::encode::usize(n, &mut buf).to_vec();
        let mut heads = Vec::with_capacity(self.blocks.len());
        let mut len = rest.encoded_len();
        for (cid, data) in &self.blocks {
            // Field 2 in both cases: of the message in 1.0, of the payload later.
            let mut head = vec![0x12];
            head.extend(varint(data.len()));
            if version > Version::V1_0 {
                let prefix = prefix(cid);
                let mut inner = vec![0x0a];
                inner.extend(varint(prefix.len()));
                inner.extend(prefix);
                inner.extend(head);
                head = vec![0x1a];
                head.extend(varint(inner.len() + data.len()));
                head.extend(inner);
            }
            len += head.len() + data.len();
            heads.push(head);
        }
        let mut pieces = Vec::with_capacity(1 + 2 * self.blocks.len());
        let mut small = BytesMut::from(varint(len).as_slice());
        // Encoding into memory that grows cannot fail.
        rest.encode_raw(&mut small);
        for (head, (_, data)) in heads.into_iter().zip(self.blocks) {
            small.put_slice(&head);
            if data.len() < COPY_BELOW {
                small.put_slice(&data);
            } else {
                pieces.push(small.split().freeze());
                pieces.push(data);
            }
        }
        if !small.is_empty() {
            pieces.push(small.freeze());
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(pieces: Vec<Bytes>) -> Bytes {
        let whole = pieces.concat();
        let (len, body) = unsigned_varint::decode::usize(&whole).unwrap();
        assert_eq!(len, body.len(), "the length stands before the frame");
        Bytes::copy_from_slice(body)
    }

    /// A frame that tells when nothing holds on to it any more.
    struct Held {
        bytes: Vec<u8>,
        _alive: std::sync::Arc<()>,
    }

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    #[test]
    fn a_block_does_not_keep_a_frame_that_is_mostly_something_else() {
        let block =
            |size: usize| Payload { prefix: Bytes::from_static(&[1, 0x55, 0x12, 32]), data: vec![7; size].into() };
        for (size, junk, held) in [(20_000, 3_000_000, false), (20_000, 10_000, true), (1_000, 0, true)] {
            let message = Message { payload: vec![block(size)], ..Message::default() };
            let mut bytes = message.encode_to_vec();
            // A field that nobody knows.
            bytes.extend([0x7a]);
            bytes.extend(unsigned_varint::encode::usize(junk, &mut unsigned_varint::encode::usize_buffer()));
            bytes.resize(bytes.len() + junk, 0);
            let alive = std::sync::Arc::new(());
            let decoded = decode(Bytes::from_owner(Held { bytes, _alive: alive.clone() }), 10).unwrap();
            assert_eq!(decoded, message);
            let _data = decoded.payload.into_iter().next().unwrap().data;
            assert_eq!(std::sync::Arc::strong_count(&alive) > 1, held, "{size} bytes beside {junk}");
        }
    }

    fn sample() -> (Block, Block, Outgoing) {
        let (small, large) = (Block::raw(&b"small"[..]), Block::raw(vec![7; 100_000]));
        let cid = Bytes::from(small.cid().to_bytes());
        let out = Outgoing {
            full: true,
            entries: vec![Entry {
                cid: cid.clone(),
                priority: 9,
                cancel: false,
                want_type: WANT_HAVE,
                send_dont_have: true,
            }],
            presences: vec![Presence { cid, kind: DONT_HAVE }],
            blocks: [&large, &small].map(|b| (*b.cid(), b.data().clone())).to_vec(),
            pending_bytes: 5,
        };
        (small, large, out)
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let (small, large, out) = sample();
        let pieces = out.encode(Version::V1_2);
        assert_eq!(pieces.len(), 3, "the large block is a piece of its own");
        let message = decode(frame(pieces), 100).unwrap();
        let mut wants = Wants::new(message.wantlist.unwrap(), 10);
        let part = wants.part(10).unwrap();
        assert!(part.full && part.entries[0].send_dont_have && wants.part(10).is_none());
        assert_eq!((message.presences[0].kind, message.pending_bytes), (DONT_HAVE, 5));
        let blocks: Vec<Block> = message.payload.into_iter().map(|p| block_of(p).unwrap()).collect();
        assert_eq!(blocks, [large, small]);
    }

    #[test]
    fn a_long_wantlist_is_taken_in_part_by_part_and_not_to_its_end() {
        let entry = |n: i32| Entry { cid: Bytes::from_static(b"cid"), priority: n, ..Entry::default() };
        let list = |full, n| Bytes::from(Wantlist { entries: (0..n).map(entry).collect(), full }.encode_to_vec());
        let mut wants = Wants::new(list(true, 1_000), 250);
        let mut parts = Vec::new();
        while let Some(part) = wants.part(100) {
            let first = part.entries.first().map(|entry| entry.priority);
            parts.push((part.full, part.entries.len(), first));
        }
        assert_eq!(parts, [(true, 100, Some(0)), (false, 100, Some(100)), (false, 50, Some(200))]);
        let mut empty = Wants::new(list(true, 0), 250);
        assert!(empty.part(100).is_some_and(|part| part.full) && empty.part(100).is_none());
    }

    #[test]
    fn older_peers_get_what_they_understand() {
        let (_, large, out) = sample();
        let message = decode(frame(out.encode(Version::V1_1)), 100).unwrap();
        assert!(message.presences.is_empty() && message.pending_bytes == 0 && message.payload.len() == 2);
        let (_, _, out) = sample();
        let message = decode(frame(out.encode(Version::V1_0)), 100).unwrap();
        assert!(message.payload.is_empty() && message.blocks[0] == large.data());
    }

    #[test]
    fn hostile_frames_are_refused_before_they_cost_memory() {
        let flood = Bytes::from([0x22, 0x00].repeat(50_000));
        assert!(matches!(decode(flood.clone(), 49_999), Err(WireError::TooMany(49_999))));
        assert_eq!(decode(flood, 50_000).unwrap().presences.len(), 50_000);
        let nested = Bytes::from([&[0x0a, 200, 1][..], &[0x0a, 0x00].repeat(100)].concat());
        assert!(matches!(decode(nested, 100), Err(WireError::TooMany(_))));
        for bad in
            [&[0x0a, 0xff][..], &[0x0a, 0x05, 1], &[0x13], &[0xff; 20], &[0x0b], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            assert!(decode(Bytes::copy_from_slice(bad), 100).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_payload_that_is_no_accepted_block_is_none() {
        let data = Bytes::from_static(b"x");
        for prefix in [&[][..], &[1, 0x55, 0x12], &[1, 0x55, 0x12, 32, 0], &[1, 0x55, 0x12, 16], &[7, 0x55, 0x12, 32]] {
            assert_eq!(block_of(Payload { prefix: Bytes::copy_from_slice(prefix), data: data.clone() }), None);
        }
    }
}
