//! CIDs in less memory, where very many are kept.

use cidery_core::{Cid, Multihash, SHA2_256};

/// A CID. Of the usual kind, version 1 with a sha2-256 multihash, it takes 40 bytes instead of 96.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SmallCid {
    Usual { codec: u16, digest: [u8; 32] },
    Other(Box<Cid>),
}

impl SmallCid {
    pub(crate) fn cid(&self) -> Cid {
        match self {
            Self::Usual { codec, digest } => {
                let hash = Multihash::wrap(SHA2_256, digest).expect("32 bytes fit");
                Cid::new_v1((*codec).into(), hash)
            }
            Self::Other(cid) => **cid,
        }
    }
}

impl From<&Cid> for SmallCid {
    fn from(cid: &Cid) -> Self {
        let usual = u64::from(cid.version()) == 1 && cid.hash().code() == SHA2_256;
        match (u16::try_from(cid.codec()), cid.hash().digest().try_into()) {
            (Ok(codec), Ok(digest)) if usual => Self::Usual { codec, digest },
            _ => Self::Other(Box::new(*cid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::{Block, codec};

    #[test]
    fn every_cid_comes_back_and_the_usual_ones_are_small() {
        let raw = *Block::raw(&b"x"[..]).cid();
        let node = Cid::new_v1(codec::DAG_PB, *raw.hash());
        let first = Cid::new_v0(*raw.hash()).unwrap();
        let short = Cid::new_v1(codec::RAW, Multihash::wrap(SHA2_256, &[1; 20]).unwrap());
        let long = Cid::new_v1(codec::RAW, Multihash::wrap(0x13, &[1; 64]).unwrap());
        let far = Cid::new_v1(1 << 20, *raw.hash());
        for cid in [raw, node, first, short, long, far] {
            let small = SmallCid::from(&cid);
            assert_eq!(small.cid(), cid);
            assert_eq!(matches!(small, SmallCid::Usual { .. }), cid == raw || cid == node);
        }
        assert_eq!(size_of::<SmallCid>(), 40);
    }
}
