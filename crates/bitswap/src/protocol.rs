//! Protocol names and their negotiation.

use crate::wire::Version;
use futures::future::{Ready, ready};
use libp2p::{InboundUpgrade, OutboundUpgrade, Stream, StreamProtocol, core::upgrade::UpgradeInfo};
use std::convert::Infallible;

/// The names, most wanted first.
const PROTOCOLS: [(StreamProtocol, Version); 4] = [
    (StreamProtocol::new("/ipfs/bitswap/1.2.0"), Version::V1_2),
    (StreamProtocol::new("/ipfs/bitswap/1.1.0"), Version::V1_1),
    (StreamProtocol::new("/ipfs/bitswap/1.0.0"), Version::V1_0),
    (StreamProtocol::new("/ipfs/bitswap"), Version::V1_0),
];

/// Whether a protocol that a peer lists is one of ours.
pub(crate) fn is_bitswap(protocol: &StreamProtocol) -> bool {
    PROTOCOLS.iter().any(|(name, _)| name == protocol)
}

/// Offers all versions, or none on connections that Bitswap does not use.
#[derive(Debug, Clone, Copy)]
pub struct Negotiation {
    pub(crate) enabled: bool,
}

impl UpgradeInfo for Negotiation {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let names = PROTOCOLS.into_iter().filter(|_| self.enabled).map(|(name, _)| name);
        names.collect::<Vec<_>>().into_iter()
    }
}

fn version_of(name: &StreamProtocol) -> Version {
    // Only names that were offered are negotiated.
    PROTOCOLS.iter().find(|(known, _)| known == name).map_or(Version::V1_0, |(_, version)| *version)
}

impl InboundUpgrade<Stream> for Negotiation {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Negotiation {
    type Output = (Stream, Version);
    type Error = Infallible;
    type Future = Ready<Result<(Stream, Version), Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, version_of(&name))))
    }
}
