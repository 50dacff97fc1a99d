//! CAR out: whole DAGs in depth-first order, each block once.

use super::header;
use crate::{Progress, UnixfsError, fetch, wire::put_varint};
use cidery_core::{Cid, Fetcher, dag, identity_bytes};
use std::{collections::HashSet, io};

/// Most links that wait to be followed: bounds what a hostile DAG can cost.
const MAX_OPEN: usize = 1 << 20;

/// Writes the DAGs under `roots`, parents before children and children in the order of their
/// links; what stands in several places is written at the first. Identity CIDs carry their bytes
/// themselves and are left out. `tell` hears of every block; the result is what it heard last.
///
/// `out` is written in many small pieces: give it a buffer. It is not flushed.
pub async fn write(
    fetcher: &dyn Fetcher,
    roots: &[Cid],
    out: &mut (dyn io::Write + Send),
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Progress, UnixfsError> {
    let mut progress = Progress::default();
    let header = header::encode(roots);
    section(out, &[&header])?;
    let mut seen = HashSet::new();
    let mut open: Vec<Cid> = roots.iter().rev().copied().collect();
    while let Some(cid) = open.pop() {
        if !seen.insert(cid) {
            continue;
        }
        let block = fetch::block(fetcher, &cid).await?;
        let links = dag::links(&cid, &block).map_err(|malformed| UnixfsError::Links(malformed.into()))?;
        if open.len() + links.len() > MAX_OPEN {
            return Err(UnixfsError::TooMany { cid, what: "links that wait to be followed", limit: MAX_OPEN });
        }
        open.extend(links.into_iter().rev().filter(|link| !seen.contains(link)));
        if identity_bytes(&cid).is_none() {
            section(out, &[&cid.to_bytes(), &block])?;
            progress.item(block.len() as u64, tell);
        }
    }
    Ok(progress)
}

fn section(out: &mut dyn io::Write, parts: &[&[u8]]) -> Result<(), UnixfsError> {
    let mut length = Vec::with_capacity(5);
    put_varint(&mut length, parts.iter().map(|part| part.len() as u64).sum());
    let written = std::iter::once(&&length[..]).chain(parts).try_for_each(|part| out.write_all(part));
    written.map_err(|source| UnixfsError::io("writing the CAR", source))
}
