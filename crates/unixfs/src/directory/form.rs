//! A directory under change. It takes the form its entries demand when it is written: one node up
//! to [`THRESHOLD`] bytes, a trie above, in both directions.

use super::{
    Entry, MAX_ENTRIES, THRESHOLD,
    node::{self, DirectoryNode},
    read,
    shard::Shard,
};
use crate::{UnixfsError, dagpb::Link, error::About, wire::Defect};
use cidery_core::{Block, BlockWriter, Cid, Fetcher, codec};
use std::collections::{BTreeMap, btree_map};

/// A CID and the size its parent says.
pub(crate) type Target = (Cid, u64);

enum Form {
    Basic(BTreeMap<String, Target>),
    Sharded(Shard),
}

/// A directory that is changed and then written.
pub(crate) struct Directory {
    form: Form,
    /// Where it was read from, as long as nothing changed.
    original: Option<Target>,
    /// By how many bytes its basic form grew.
    growth: i64,
}

impl Directory {
    pub fn empty() -> Self {
        Self { form: Form::Basic(BTreeMap::new()), original: None, growth: 0 }
    }

    /// Opens a stored directory.
    pub async fn open(fetcher: &dyn Fetcher, cid: &Cid) -> Result<Self, UnixfsError> {
        let block = read::root_block(fetcher, cid).await?;
        let tsize = read::total_size(cid, &block)?;
        let form = match DirectoryNode::decode(cid, &block)? {
            DirectoryNode::Basic(links) => {
                let mut entries = BTreeMap::new();
                for link in links {
                    if link.name.is_empty() {
                        return Err(Defect("a directory has an entry without a name")).about(cid);
                    }
                    if entries.insert(link.name.to_owned(), (link.cid, link.tsize)).is_some() {
                        return Err(Defect("a directory has two entries with one name")).about(cid);
                    }
                }
                Form::Basic(entries)
            }
            DirectoryNode::Shard(root) => match Shard::from_root(cid, tsize, &root) {
                Some(shard) => Form::Sharded(shard),
                // Of another profile: all of it is written anew, should it change.
                None => {
                    let entries = read::list_shards(fetcher, cid, root, MAX_ENTRIES).await?;
                    Form::Basic(entries.into_iter().map(|e| (e.name, (e.cid, e.tsize))).collect())
                }
            },
        };
        Ok(Self { form, original: Some((*cid, tsize)), growth: 0 })
    }

    /// Makes what [`Directory::get`] and [`Directory::set`] need for `name` present.
    pub async fn load(&mut self, fetcher: &dyn Fetcher, name: &str) -> Result<(), UnixfsError> {
        match &mut self.form {
            Form::Basic(_) => Ok(()),
            Form::Sharded(shard) => shard.load(fetcher, node::hash(name)).await,
        }
    }

    /// What `name` stands for; it was loaded.
    pub fn get(&self, name: &str) -> Option<Target> {
        match &self.form {
            Form::Basic(entries) => entries.get(name).copied(),
            Form::Sharded(shard) => shard.get(name).map(|entry| (entry.cid, entry.tsize)),
        }
    }

    /// Makes `name`, which was loaded, stand for something else, or for nothing.
    pub fn set(&mut self, name: &str, target: Option<Target>) -> Result<(), UnixfsError> {
        let old = self.get(name);
        if old == target {
            return Ok(());
        }
        self.original = None;
        let size = |target: Option<Target>| target.map_or(0, |(cid, tsize)| node::entry_size(name, &cid, tsize) as i64);
        self.growth += size(target) - size(old);
        match (&mut self.form, target) {
            (Form::Basic(entries), Some(target)) => {
                entries.insert(name.to_owned(), target);
            }
            (Form::Basic(entries), None) => {
                entries.remove(name);
            }
            (Form::Sharded(shard), Some((cid, tsize))) => {
                shard.insert(Entry { name: name.to_owned(), cid, tsize })?;
            }
            (Form::Sharded(shard), None) => shard.remove(name),
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        match &self.form {
            Form::Basic(entries) => entries.is_empty(),
            Form::Sharded(shard) => shard.is_empty(),
        }
    }

    /// Where it was read from, if nothing changed.
    pub fn original(&self) -> Option<Target> {
        self.original
    }

    /// Decides between the forms. A trie of this profile that did not shrink stays one; one that
    /// shrank is read only as far as it takes to know.
    pub async fn settle(&mut self, fetcher: &dyn Fetcher) -> Result<(), UnixfsError> {
        if self.original.is_none()
            && self.growth < 0
            && let Form::Sharded(shard) = &mut self.form
            && !shard.exceeds(fetcher, THRESHOLD).await?
        {
            let mut entries = Vec::new();
            std::mem::take(shard).into_entries(&mut entries);
            self.form = Form::Basic(entries.into_iter().map(|e| (e.name, (e.cid, e.tsize))).collect());
        }
        Ok(())
    }

    /// Writes what changed. A directory that was opened is settled before.
    pub fn write(self, out: &mut dyn BlockWriter) -> Result<Entry, UnixfsError> {
        let (cid, tsize) = match (self.original, self.form) {
            (Some(original), _) => original,
            (None, Form::Sharded(shard)) => shard.write(out)?,
            (None, Form::Basic(entries)) => write_basic(entries, out)?,
        };
        Ok(Entry { name: String::new(), cid, tsize })
    }
}

fn write_basic(entries: BTreeMap<String, Target>, out: &mut dyn BlockWriter) -> Result<Target, UnixfsError> {
    let size = |(name, (cid, tsize)): (&String, &Target)| node::entry_size(name, cid, *tsize);
    if node::EMPTY_SIZE + entries.iter().map(size).sum::<usize>() > THRESHOLD {
        let mut shard = Shard::default();
        for (name, (cid, tsize)) in entries {
            shard.insert(Entry { name, cid, tsize })?;
        }
        return shard.write(out);
    }
    let below = entries.values().fold(0u64, |sum, (_, tsize)| sum.saturating_add(*tsize));
    let links = |entries: btree_map::Iter<'_, String, Target>| -> Vec<u8> {
        node::encode_basic(entries.map(|(name, (cid, tsize))| Link { cid: *cid, name, tsize: *tsize }))
    };
    let block = Block::of(codec::DAG_PB, links(entries.iter()));
    out.put(&block)?;
    Ok((*block.cid(), below.saturating_add(block.data().len() as u64)))
}
