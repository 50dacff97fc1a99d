//! The links of a block, without knowing what the block means: what marking, pinning and CARs follow.

use crate::{Cid, codec};
use thiserror::Error;

/// A dag-pb block that does not decode.
#[derive(Debug, Error)]
#[error("block {cid} is not valid dag-pb")]
pub struct Malformed {
    /// The block.
    pub cid: Cid,
    /// What the decoder said.
    #[source]
    pub source: ipld_dagpb::Error,
}

/// The CIDs a block links to, in its own order. Blocks of codecs without links have none.
pub fn links(cid: &Cid, data: &[u8]) -> Result<Vec<Cid>, Malformed> {
    if cid.codec() != codec::DAG_PB {
        return Ok(Vec::new());
    }
    let mut links = Vec::new();
    ipld_dagpb::links(data, &mut links).map_err(|source| Malformed { cid: *cid, source })?;
    Ok(links)
}
