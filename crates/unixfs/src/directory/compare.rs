//! What differs between two states of a directory, reading only where their nodes differ.

use super::{
    node::{DirectoryNode, Place, ShardNode, Slot},
    read,
};
use crate::{UnixfsError, fetch};
use cidery_core::{Cid, Fetcher};
use std::collections::{BTreeMap, VecDeque};

/// A name that stands for something else, or for nothing, in the other state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name.
    pub name: String,
    /// What it stood for.
    pub before: Option<Cid>,
    /// What it stands for.
    pub after: Option<Cid>,
}

type Names = BTreeMap<String, Cid>;

/// What differs between the entries of two directories (`None`: an empty one), in the byte-wise order of
/// their names. Sizes do not count.
///
/// Parts of sharded directories that are the same are not read, so two states of one large directory cost
/// what lies between them. [`UnixfsError::TooMany`] if more than `limit` entries of either have to be
/// looked at.
pub async fn compare(
    fetcher: &dyn Fetcher,
    before: Option<&Cid>,
    after: Option<&Cid>,
    limit: usize,
) -> Result<Vec<Difference>, UnixfsError> {
    if before == after {
        return Ok(Vec::new());
    }
    let directory = after.or(before).copied().unwrap_or_default();
    let mut sides = Sides { fetcher, directory, limit, before: Names::new(), after: Names::new() };
    sides.gather(before, after).await?;
    Ok(sides.differences())
}

/// The entries that may differ.
struct Sides<'a> {
    fetcher: &'a dyn Fetcher,
    /// For errors.
    directory: Cid,
    limit: usize,
    before: Names,
    after: Names,
}

impl Sides<'_> {
    async fn gather(&mut self, before: Option<&Cid>, after: Option<&Cid>) -> Result<(), UnixfsError> {
        let (Some(old), Some(new)) = (before, after) else {
            if let Some(old) = before {
                self.before = self.list(old).await?;
            }
            if let Some(new) = after {
                self.after = self.list(new).await?;
            }
            return Ok(());
        };
        let (old_block, new_block) =
            (read::root_block(self.fetcher, old).await?, read::root_block(self.fetcher, new).await?);
        match (DirectoryNode::decode(old, &old_block)?, DirectoryNode::decode(new, &new_block)?) {
            (DirectoryNode::Shard(a), DirectoryNode::Shard(b)) if a.log == b.log => self.shards(&a, &b).await,
            // Of two forms, or of two widths: nothing of them is the same.
            _ => {
                (self.before, self.after) = (self.list(old).await?, self.list(new).await?);
                Ok(())
            }
        }
    }

    async fn list(&self, directory: &Cid) -> Result<Names, UnixfsError> {
        let entries = read::list_at_most(self.fetcher, directory, self.limit).await?;
        Ok(entries.into_iter().map(|entry| (entry.name, entry.cid)).collect())
    }

    async fn shards(&mut self, old: &ShardNode<'_>, new: &ShardNode<'_>) -> Result<(), UnixfsError> {
        let (fetcher, log) = (self.fetcher, old.log);
        let mut waiting = VecDeque::new();
        self.slots(old, new, Place::ROOT, &mut waiting).await?;
        while let Some((a, b, place)) = waiting.pop_front() {
            let (a_block, b_block) = (fetch::block(fetcher, &a).await?, fetch::block(fetcher, &b).await?);
            let (a, b) = (ShardNode::decode(&a, &a_block, place, log)?, ShardNode::decode(&b, &b_block, place, log)?);
            self.slots(&a, &b, place, &mut waiting).await?;
        }
        Ok(())
    }

    /// Takes what differs in two shards of one place; sub-shards that both have wait.
    async fn slots(
        &mut self,
        old: &ShardNode<'_>,
        new: &ShardNode<'_>,
        place: Place,
        waiting: &mut VecDeque<(Cid, Cid, Place)>,
    ) -> Result<(), UnixfsError> {
        let log = old.log;
        let mut both: BTreeMap<usize, [Option<Slot<'_>>; 2]> = BTreeMap::new();
        for (side, node) in [old, new].into_iter().enumerate() {
            for (number, slot) in &node.slots {
                both.entry(*number).or_default()[side] = Some(*slot);
            }
        }
        for (number, pair) in both {
            match pair {
                [Some(Slot::Shard { cid: a, .. }), Some(Slot::Shard { cid: b, .. })] => {
                    if a != b {
                        waiting.push_back((a, b, place.below(number, log)));
                    }
                }
                [Some(Slot::Entry(a)), Some(Slot::Entry(b))] if (a.name, a.cid) == (b.name, b.cid) => {}
                [a, b] => {
                    for (side, slot) in [(0, a), (1, b)] {
                        if let Some(slot) = slot {
                            self.take(side, slot, place.below(number, log), log).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes all that is in a slot of one side.
    async fn take(&mut self, side: usize, slot: Slot<'_>, place: Place, log: u32) -> Result<(), UnixfsError> {
        let found = match slot {
            Slot::Entry(link) => vec![link.into()],
            Slot::Shard { cid, .. } => {
                let block = fetch::block(self.fetcher, &cid).await?;
                let node = ShardNode::decode(&cid, &block, place, log)?;
                read::list_shards_below(self.fetcher, &cid, node, place, self.limit).await?
            }
        };
        let names = if side == 0 { &mut self.before } else { &mut self.after };
        names.extend(found.into_iter().map(|entry| (entry.name, entry.cid)));
        if names.len() > self.limit {
            return Err(read::too_many(&self.directory, self.limit));
        }
        Ok(())
    }

    fn differences(self) -> Vec<Difference> {
        let Self { before, mut after, .. } = self;
        let mut found: Vec<Difference> = before
            .into_iter()
            .map(|(name, before)| {
                let after = after.remove(&name);
                Difference { name, before: Some(before), after }
            })
            .filter(|difference| difference.before != difference.after)
            .collect();
        found.extend(after.into_iter().map(|(name, after)| Difference { name, before: None, after: Some(after) }));
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found
    }
}
