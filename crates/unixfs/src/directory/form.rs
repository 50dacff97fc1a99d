//! A directory under change. It takes the form its entries demand when it is written: one node up
//! to [`THRESHOLD`] bytes, a trie above, in both directions.

use super::{
    Entry, MAX_ENTRIES, THRESHOLD,
    basic::Basic,
    node::{self, ShardNode},
    read,
    shard::Shard,
    sizes::Sizes,
};
use crate::{
    UnixfsError,
    dagpb::Link,
    data::{self, Type},
};
use cidery_core::{Block, BlockWriter, Cid, Fetcher, codec};

/// A CID and the size its parent says.
pub(crate) type Target = (Cid, u64);

enum Form {
    Basic(Basic),
    Sharded(Shard),
}

/// A directory that is changed and then written.
pub(crate) struct Directory {
    form: Form,
    /// Where it was read from, as long as nothing changed.
    original: Option<Target>,
    /// Where it was read from.
    opened: Option<Cid>,
    /// By how many bytes its basic form grew.
    growth: i64,
    /// Bytes of its basic form, or less, where they are known.
    at_least: Option<usize>,
}

impl Directory {
    pub fn empty() -> Self {
        Self { form: Form::Basic(Basic::default()), original: None, opened: None, growth: 0, at_least: None }
    }

    /// Opens a stored directory.
    pub async fn open(fetcher: &dyn Fetcher, cid: &Cid) -> Result<Self, UnixfsError> {
        let block = read::root_block(fetcher, cid).await?;
        if data::kind(cid, &block)? == Type::Directory {
            let own = block.len() as u64;
            let basic = Basic::read(cid, block)?;
            let tsize = basic.below().saturating_add(own);
            return Ok(Self::opened(Form::Basic(basic), (*cid, tsize)));
        }
        let tsize = read::total_size(cid, &block)?;
        let root = ShardNode::decode_root(cid, &block)?;
        let form = match Shard::from_root(cid, tsize, &root) {
            Some(shard) => Form::Sharded(shard),
            // Of another profile: all of it is written anew, should it change.
            None => Form::Basic(read::list_shards(fetcher, cid, root, MAX_ENTRIES).await?.into_iter().collect()),
        };
        Ok(Self::opened(form, (*cid, tsize)))
    }

    fn opened(form: Form, from: Target) -> Self {
        Self { form, original: Some(from), opened: Some(from.0), growth: 0, at_least: None }
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
            Form::Basic(entries) => entries.get(name),
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
            (Form::Basic(entries), target) => entries.set(name, target),
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
    /// shrank is read only as far as it takes to know, unless that is known of what it was.
    pub async fn settle(&mut self, fetcher: &dyn Fetcher, sizes: &Sizes) -> Result<(), UnixfsError> {
        let (Form::Sharded(shard), None) = (&mut self.form, self.original) else { return Ok(()) };
        let before = self.opened.and_then(|cid| sizes.at_least(&cid));
        self.at_least = before.and_then(|before| before.checked_add_signed(self.growth.try_into().ok()?));
        if self.growth >= 0 || self.at_least.is_some_and(|size| size > THRESHOLD) {
            return Ok(());
        }
        // Further than it takes now, so that it is known for a while.
        let size = shard.size_up_to(fetcher, 2 * THRESHOLD).await?;
        self.at_least = Some(size);
        if size <= THRESHOLD {
            let mut entries = Vec::new();
            std::mem::take(shard).into_entries(&mut entries);
            self.form = Form::Basic(entries.into_iter().collect());
        }
        Ok(())
    }

    /// As [`Directory::write`], and notes what is known of its size.
    pub fn write_and_note(self, out: &mut dyn BlockWriter, sizes: &Sizes) -> Result<Entry, UnixfsError> {
        let known = self.at_least.filter(|size| *size > THRESHOLD);
        let written = self.write(out)?;
        known.into_iter().for_each(|size| sizes.note(written.cid, size));
        Ok(written)
    }

    /// Writes what changed. A directory that was opened is settled before.
    pub fn write(self, out: &mut dyn BlockWriter) -> Result<Entry, UnixfsError> {
        let (cid, tsize) = match (self.original, self.form) {
            (Some(original), _) => original,
            (None, Form::Sharded(shard)) => shard.write(out)?,
            (None, Form::Basic(entries)) => write_basic(&entries, out)?,
        };
        Ok(Entry { name: String::new(), cid, tsize })
    }
}

fn write_basic(entries: &Basic, out: &mut dyn BlockWriter) -> Result<Target, UnixfsError> {
    let links: Vec<Link<'_>> = entries.links().collect();
    let size = |link: &Link<'_>| node::entry_size(link.name, &link.cid, link.tsize);
    if node::EMPTY_SIZE + links.iter().map(size).sum::<usize>() > THRESHOLD {
        let mut shard = Shard::default();
        for link in links {
            shard.insert(link.into())?;
        }
        return shard.write(out);
    }
    let below = links.iter().fold(0u64, |sum, link| sum.saturating_add(link.tsize));
    let block = Block::of(codec::DAG_PB, node::encode_basic(links.into_iter()));
    out.put(&block)?;
    Ok((*block.cid(), below.saturating_add(block.data().len() as u64)))
}
