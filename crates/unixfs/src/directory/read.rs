//! Looking up and listing, for directories of any known writer.

use super::{
    Entry,
    node::{self, DirectoryNode, Place, ShardNode, Slot},
};
use crate::{
    UnixfsError,
    dagpb::{self, Link},
    data::{self, Type},
    error::About,
    fetch,
};
use cidery_core::{Bytes, Cid, FetchError, Fetcher, codec};
use futures::{StreamExt, stream::FuturesUnordered};

/// Most entries that [`list`] returns.
pub const MAX_ENTRIES: usize = 1 << 20;

/// Shards that a listing asks for at once.
const AT_ONCE: usize = 32;

/// The entry called `name` in a directory; `None` if it has none. Reads only the shards on the way.
pub async fn lookup(fetcher: &dyn Fetcher, directory: &Cid, name: &str) -> Result<Option<Entry>, UnixfsError> {
    let (mut cid, mut place) = (*directory, Place::ROOT);
    let mut block = root_block(fetcher, &cid).await?;
    if data::kind(&cid, &block)? == Type::Directory {
        return in_one_node(&cid, &block, name);
    }
    let hash = node::hash(name);
    let (mut slot, log) = node::slot_of_root(&cid, &block, hash)?;
    loop {
        match slot {
            None => return Ok(None),
            Some((_, Slot::Entry(link))) => return Ok((link.name == name).then(|| link.into())),
            Some((number, Slot::Shard { cid: next, .. })) => {
                (cid, place) = (next, place.below(number, log));
                block = fetch::block(fetcher, &cid).await?;
                slot = node::slot_of(&cid, &block, place, log, hash)?;
            }
        }
    }
}

/// The entry called `name` in a directory of one node.
fn in_one_node(cid: &Cid, block: &[u8], name: &str) -> Result<Option<Entry>, UnixfsError> {
    let mut found = None;
    let look = |link: dagpb::Unread<'_>| {
        if found.is_none() && link.name()? == name.as_bytes() {
            found = Some(Entry::from(link.read()?));
        }
        Ok(())
    };
    dagpb::visit_unread(block, look).about(cid)?;
    Ok(found)
}

/// All entries of a directory, in the byte-wise order of their names; more than [`MAX_ENTRIES`]
/// are an error.
pub async fn list(fetcher: &dyn Fetcher, directory: &Cid) -> Result<Vec<Entry>, UnixfsError> {
    list_at_most(fetcher, directory, MAX_ENTRIES).await
}

/// As [`list`], with a limit of the caller's: [`UnixfsError::TooMany`] as soon as it is exceeded.
pub async fn list_at_most(fetcher: &dyn Fetcher, directory: &Cid, limit: usize) -> Result<Vec<Entry>, UnixfsError> {
    let block = root_block(fetcher, directory).await?;
    let mut entries = match DirectoryNode::decode(directory, &block)? {
        DirectoryNode::Basic(links) if links.len() > limit => return Err(too_many(directory, limit)),
        DirectoryNode::Basic(links) => links.into_iter().map(Entry::from).collect(),
        DirectoryNode::Shard(root) => list_shards(fetcher, directory, root, limit).await?,
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The root block of a directory. What cannot be one by its codec is not fetched.
pub(crate) async fn root_block(fetcher: &dyn Fetcher, directory: &Cid) -> Result<Bytes, UnixfsError> {
    if directory.codec() != codec::DAG_PB {
        return Err(UnixfsError::NotADirectory { cid: *directory });
    }
    Ok(fetch::block(fetcher, directory).await?)
}

/// The entries of a sharded directory in no order.
///
/// Every sub-shard has entries below it, and these stand only where their hashes lead. So what a
/// hostile trie costs is bounded by the entries that it really has, and those by `limit`.
pub(crate) async fn list_shards(
    fetcher: &dyn Fetcher,
    directory: &Cid,
    root: ShardNode<'_>,
    limit: usize,
) -> Result<Vec<Entry>, UnixfsError> {
    list_shards_below(fetcher, directory, root, Place::ROOT, limit).await
}

/// As [`list_shards`], below a shard that stands at `place`.
pub(crate) async fn list_shards_below(
    fetcher: &dyn Fetcher,
    directory: &Cid,
    top: ShardNode<'_>,
    place: Place,
    limit: usize,
) -> Result<Vec<Entry>, UnixfsError> {
    let log = top.log;
    let (mut entries, mut waiting) = (Vec::new(), Vec::new());
    let mut take = |shard: ShardNode<'_>, place: Place, waiting: &mut Vec<(Cid, Place)>| {
        for (number, slot) in shard.slots {
            match slot {
                Slot::Entry(_) if entries.len() == limit => return Err(too_many(directory, limit)),
                Slot::Entry(link) => entries.push(link.into()),
                Slot::Shard { cid, .. } => waiting.push((cid, place.below(number, log))),
            }
        }
        Ok(())
    };
    take(top, place, &mut waiting)?;
    let mut asked = FuturesUnordered::new();
    loop {
        while asked.len() < AT_ONCE
            && let Some((cid, place)) = waiting.pop()
        {
            match fetcher.local(&cid)? {
                Some(block) => take(ShardNode::decode(&cid, &block, place, log)?, place, &mut waiting)?,
                None => asked.push(ask(fetcher, cid, place)),
            }
        }
        let Some(arrival) = asked.next().await else { return Ok(entries) };
        let (cid, place, block) = arrival?;
        take(ShardNode::decode(&cid, &block, place, log)?, place, &mut waiting)?;
    }
}

async fn ask(fetcher: &dyn Fetcher, cid: Cid, place: Place) -> Result<(Cid, Place, Bytes), FetchError> {
    Ok((cid, place, fetcher.fetch(&cid).await?))
}

pub(crate) fn too_many(directory: &Cid, limit: usize) -> UnixfsError {
    UnixfsError::TooMany { cid: *directory, what: "entries", limit }
}

/// Bytes of a node and, as its links say, of everything below it.
pub(crate) fn total_size(cid: &Cid, block: &[u8]) -> Result<u64, UnixfsError> {
    let own = block.len() as u64;
    if cid.codec() != codec::DAG_PB {
        return Ok(own);
    }
    let mut sum = own;
    let add = |link: Link<'_>| {
        sum = sum.saturating_add(link.tsize);
        Ok(())
    };
    dagpb::visit(block, add).about(cid)?;
    Ok(sum)
}
