//! What the journal says, record by record.

use super::state::{from_millis, to_millis};
use crate::codec::{Put, Take};
use cidery_core::{Cid, Digest, Link, Namespace, Pin, Pinned, PublishMode, RepositoryName, TagTime, UploadRecord};

/// The highest kind of record that is known here. 11 (an encrypted namespace) is reserved.
pub(crate) const LAST_KIND: u8 = 18;

/// The largest body of one record, in bytes.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// Tags in one record, each of at most four hundred bytes.
const TAGS: usize = 1 << 14;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Kind 1: a namespace has a new root, which holds these links.
    Root { namespace: Namespace, root: Cid, folded: Vec<(RepositoryName, Digest)> },
    /// Kind 2: a blob is linked and in no root yet.
    Linked(Link),
    /// Kind 3: it is not linked any more.
    Unlinked { namespace: Namespace, repository: RepositoryName, digest: Digest },
    /// Kind 4: a namespace is public, by this root now.
    Published { namespace: Namespace, mode: PublishMode, root: Cid },
    /// Kind 5: it is private again.
    Unpublished(Namespace),
    /// Kind 6: an upload's state.
    Upload(UploadRecord),
    /// Kind 7: an upload ended.
    UploadEnded(String),
    /// Kind 8: this much of a pack is on the disk.
    PackFlushed { pack: u64, salt: u64, len: u64 },
    /// Kind 9: tombstones of the records at these offsets, in ascending order. They hold no block any more.
    Dead { pack: u64, offsets: Vec<u64> },
    /// Kind 10: these packs are no more, in ascending order. Their ids are not given to others.
    PacksRemoved(Vec<u64>),
    /// Kind 12: files that no earlier root shows any more.
    Forgotten(Vec<Cid>),
    /// Kind 13: some of them were put again.
    Readmitted(Vec<Cid>),
    /// Kind 14: a collection went through what was forgotten up to the sequence `upto`; what was up to
    /// `past` is in no root that is kept.
    Collected { upto: u64, past: u64 },
    /// Kind 15: a pin, in the place of an earlier one of its name.
    Pinned(Pinned),
    /// Kind 16: a pin of this name is no more.
    Unpinned(String),
    /// Kind 17: tags were pushed at these times, or later.
    Tagged { namespace: Namespace, tags: Vec<TagTime> },
    /// Kind 18: it is not known any more when they were pushed, if it was then.
    Untagged { namespace: Namespace, tags: Vec<TagTime> },
}

/// An event in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) event: Event,
}

/// Why bytes are not a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadRecord {
    Malformed,
    Unknown(u8),
}

impl Event {
    /// That tags were pushed, in records that are not too large.
    pub(crate) fn tagged(namespace: &Namespace, tags: &[TagTime]) -> Vec<Self> {
        let event = |tags: &[TagTime]| Self::Tagged { namespace: namespace.clone(), tags: tags.to_vec() };
        tags.chunks(TAGS).map(event).collect()
    }

    /// That it is not known any more when they were, likewise.
    pub(crate) fn untagged(namespace: &Namespace, tags: &[TagTime]) -> Vec<Self> {
        let event = |tags: &[TagTime]| Self::Untagged { namespace: namespace.clone(), tags: tags.to_vec() };
        tags.chunks(TAGS).map(event).collect()
    }

    /// Whether it may make blocks reachable.
    pub(crate) fn reaches(&self) -> bool {
        matches!(self, Self::Root { .. } | Self::Linked(_) | Self::Upload(_) | Self::Published { .. } | Self::Pinned(_))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Root { .. } => 1,
            Self::Linked(_) => 2,
            Self::Unlinked { .. } => 3,
            Self::Published { .. } => 4,
            Self::Unpublished(_) => 5,
            Self::Upload(_) => 6,
            Self::UploadEnded(_) => 7,
            Self::PackFlushed { .. } => 8,
            Self::Dead { .. } => 9,
            Self::PacksRemoved(_) => 10,
            Self::Forgotten(_) => 12,
            Self::Readmitted(_) => 13,
            Self::Collected { .. } => 14,
            Self::Pinned(_) => 15,
            Self::Unpinned(_) => 16,
            Self::Tagged { .. } => 17,
            Self::Untagged { .. } => 18,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Root { namespace, root, folded } => {
                out.put_bytes(namespace.as_str().as_bytes());
                out.put_cid(root);
                out.put_u32(folded.len() as u32);
                for (repository, digest) in folded {
                    out.put_bytes(repository.as_str().as_bytes());
                    out.put_bytes(digest.as_str().as_bytes());
                }
            }
            Self::Linked(link) => {
                out.put_bytes(link.namespace.as_str().as_bytes());
                out.put_bytes(link.repository.as_str().as_bytes());
                out.put_bytes(link.digest.as_str().as_bytes());
                out.put_cid(&link.cid);
                out.put_u64(link.size);
            }
            Self::Unlinked { namespace, repository, digest } => {
                out.put_bytes(namespace.as_str().as_bytes());
                out.put_bytes(repository.as_str().as_bytes());
                out.put_bytes(digest.as_str().as_bytes());
            }
            Self::Published { namespace, mode, root } => {
                out.put_bytes(namespace.as_str().as_bytes());
                out.put_u8(matches!(mode, PublishMode::Once(_)).into());
                out.put_cid(root);
            }
            Self::Unpublished(namespace) => out.put_bytes(namespace.as_str().as_bytes()),
            Self::Upload(upload) => {
                out.put_bytes(upload.id.as_bytes());
                out.put_cids(&upload.pins);
                out.put_bytes(&upload.state);
            }
            Self::UploadEnded(id) => out.put_bytes(id.as_bytes()),
            Self::PackFlushed { pack, salt, len } => {
                out.put_u64(*pack);
                out.put_u64(*salt);
                out.put_u64(*len);
            }
            Self::Dead { pack, offsets } => {
                out.put_u64(*pack);
                out.put_ascending(offsets);
            }
            Self::PacksRemoved(packs) => out.put_ascending(packs),
            Self::Forgotten(files) | Self::Readmitted(files) => out.put_cids(files),
            Self::Collected { upto, past } => {
                out.put_u64(*upto);
                out.put_u64(*past);
            }
            Self::Pinned(Pinned { pin, at, purged }) => {
                out.put_bytes(pin.name.as_bytes());
                out.put_u64(to_millis(*at));
                out.put_u64(pin.bytes);
                out.put_cid(&pin.root);
                out.put_cids(&pin.roots);
                out.put_cids(&pin.blocks);
                out.put_cids(purged);
            }
            Self::Unpinned(name) => out.put_bytes(name.as_bytes()),
            Self::Tagged { namespace, tags } | Self::Untagged { namespace, tags } => {
                out.put_bytes(namespace.as_str().as_bytes());
                out.put_u32(tags.len() as u32);
                for TagTime { repository, tag, at } in tags {
                    out.put_bytes(repository.as_str().as_bytes());
                    out.put_bytes(tag.as_str().as_bytes());
                    out.put_u64(to_millis(*at));
                }
            }
        }
    }

    fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        let mut take = Take(body);
        let event = match kind {
            1 => {
                let (namespace, root) = (take.parse()?, take.cid()?);
                // Pushed one by one: a count that lies reserves nothing.
                let mut folded = Vec::new();
                for _ in 0..take.u32()? {
                    folded.push((take.parse()?, take.parse()?));
                }
                Self::Root { namespace, root, folded }
            }
            2 => Self::Linked(Link {
                namespace: take.parse()?,
                repository: take.parse()?,
                digest: take.parse()?,
                cid: take.cid()?,
                size: take.u64()?,
            }),
            3 => Self::Unlinked { namespace: take.parse()?, repository: take.parse()?, digest: take.parse()? },
            4 => {
                let (namespace, once, root) = (take.parse()?, take.u8()?, take.cid()?);
                let mode = match once {
                    0 => PublishMode::Continuous,
                    1 => PublishMode::Once(root),
                    _ => return None,
                };
                Self::Published { namespace, mode, root }
            }
            5 => Self::Unpublished(take.parse()?),
            6 => {
                let (id, pins) = (take.parse()?, take.cids()?);
                Self::Upload(UploadRecord { id, pins, state: take.bytes()?.to_vec() })
            }
            7 => Self::UploadEnded(take.parse()?),
            8 => Self::PackFlushed { pack: take.u64()?, salt: take.u64()?, len: take.u64()? },
            9 => Self::Dead { pack: take.u64()?, offsets: take.ascending()? },
            10 => Self::PacksRemoved(take.ascending()?),
            12 => Self::Forgotten(take.cids()?),
            13 => Self::Readmitted(take.cids()?),
            14 => Self::Collected { upto: take.u64()?, past: take.u64()? },
            15 => {
                let (name, at, bytes) = (take.parse()?, from_millis(take.u64()?), take.u64()?);
                let pin = Pin { name, bytes, root: take.cid()?, roots: take.cids()?, blocks: take.cids()? };
                Self::Pinned(Pinned { pin, at, purged: take.cids()? })
            }
            16 => Self::Unpinned(take.parse()?),
            17 => Self::Tagged { namespace: take.parse()?, tags: tag_times(&mut take)? },
            18 => Self::Untagged { namespace: take.parse()?, tags: tag_times(&mut take)? },
            _ => return None,
        };
        take.is_empty().then_some(event)
    }
}

fn tag_times(take: &mut Take<'_>) -> Option<Vec<TagTime>> {
    let count = take.u32()?;
    // Not reserved by a number that nobody vouches for.
    let mut tags = Vec::new();
    for _ in 0..count {
        tags.push(TagTime { repository: take.parse()?, tag: take.parse()?, at: from_millis(take.u64()?) });
    }
    Some(tags)
}

impl Record {
    /// `u8 kind, u8 flags (0), u64 sequence, u64 time, u32 length`, then the body. How long the body is.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> usize {
        out.put_u8(self.event.kind());
        out.put_u8(0);
        out.put_u64(self.sequence);
        out.put_u64(self.at);
        let length_at = out.len();
        out.put_u32(0);
        self.event.encode(out);
        let body = out.len() - length_at - 4;
        out[length_at..length_at + 4].copy_from_slice(&(body as u32).to_le_bytes());
        body
    }

    /// Takes one record off the front.
    pub(crate) fn decode(take: &mut Take<'_>) -> Result<Self, BadRecord> {
        let mut parts = || Some((take.u8()?, take.u8()?, take.u64()?, take.u64()?, take.bytes()?));
        let (kind, _flags, sequence, at, body) = parts().ok_or(BadRecord::Malformed)?;
        if matches!(kind, 0 | 11) || kind > LAST_KIND {
            return Err(BadRecord::Unknown(kind));
        }
        let event = Event::decode(kind, body).ok_or(BadRecord::Malformed)?;
        Ok(Self { sequence, at, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;
    use proptest::prelude::*;

    fn tag(name: &str, millis: u64) -> TagTime {
        TagTime { repository: "team/app".parse().unwrap(), tag: name.parse().unwrap(), at: from_millis(millis) }
    }

    pub(super) fn samples() -> Vec<Event> {
        let cid = *Block::raw(&b"x"[..]).cid();
        let (repository, digest) = ("team/app".parse::<RepositoryName>().unwrap(), Digest::sha256(&[7; 32]));
        let namespace: Namespace = "example.com".parse().unwrap();
        vec![
            Event::Root {
                namespace: namespace.clone(),
                root: cid,
                folded: vec![(repository.clone(), digest.clone()), (repository.clone(), Digest::sha512(&[1; 64]))],
            },
            Event::Linked(Link {
                namespace: namespace.clone(),
                repository: repository.clone(),
                digest: digest.clone(),
                cid,
                size: u64::MAX,
            }),
            Event::Unlinked { namespace: namespace.clone(), repository, digest },
            Event::Published { namespace: namespace.clone(), mode: PublishMode::Continuous, root: cid },
            Event::Published { namespace: namespace.clone(), mode: PublishMode::Once(cid), root: cid },
            Event::Unpublished(namespace),
            Event::Upload(UploadRecord { id: "u".into(), pins: vec![cid, cid], state: vec![1, 2, 3] }),
            Event::UploadEnded(String::new()),
            Event::PackFlushed { pack: 1, salt: 2, len: 3 },
            Event::Dead { pack: 1, offsets: vec![0, 32, 33, 300, 1 << 20, u64::MAX] },
            Event::PacksRemoved(vec![4, 9]),
            Event::Forgotten(vec![cid]),
            Event::Readmitted(vec![cid, cid]),
            Event::Collected { upto: 7, past: 3 },
            Event::Pinned(Pinned {
                pin: Pin {
                    name: "example.com/app:1".into(),
                    root: cid,
                    roots: vec![cid],
                    blocks: vec![cid; 2],
                    bytes: 9,
                },
                at: from_millis(1234),
                purged: vec![cid],
            }),
            Event::Unpinned("example.com/app:1".into()),
            Event::Tagged { namespace: Namespace::local(), tags: vec![tag("1", 5), tag("2", u32::MAX.into())] },
            Event::Untagged { namespace: Namespace::local(), tags: vec![tag("1", 5)] },
        ]
    }

    #[test]
    fn every_event_comes_back() {
        for (n, event) in samples().into_iter().enumerate() {
            let record = Record { sequence: n as u64, at: 99, event };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&mut Take(&bytes)), Ok(record));
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&mut Take(&bytes[..cut])), Err(BadRecord::Malformed));
            }
            // What follows a body within its length is not ignored.
            bytes.push(0);
            bytes[18] += 1;
            assert_eq!(Record::decode(&mut Take(&bytes)), Err(BadRecord::Malformed));
        }
    }

    #[test]
    fn a_kind_of_later_versions_is_recognised() {
        let mut bytes = Vec::new();
        Record { sequence: 1, at: 1, event: Event::UploadEnded("x".into()) }.encode(&mut bytes);
        for kind in [11, LAST_KIND + 1, u8::MAX] {
            bytes[0] = kind;
            assert_eq!(Record::decode(&mut Take(&bytes)), Err(BadRecord::Unknown(kind)));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(kind in 0u8..=LAST_KIND + 1, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = vec![kind, 0];
            bytes.extend([0; 16]);
            bytes.put_bytes(&body);
            let _ = Record::decode(&mut Take(&bytes));
            let _ = Record::decode(&mut Take(&body));
        }
    }
}
