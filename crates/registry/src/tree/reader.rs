//! Small things in a tree of anyone's making: each is bounded before it is read.

use super::{
    NodeCache, TreeError,
    cache::{Key, Value},
    layout,
};
use cidery_core::{Block, Blockstore, Bytes, Cid, Digest, FetchError, Fetcher, codec};
use cidery_unixfs::{Entry, FileReader, Kind};
use std::sync::Arc;

/// Names in one directory of a foreign tree that are looked at.
pub(super) const MAX_NAMES: usize = 1 << 18;

/// Reads below directories whose CIDs are known.
#[derive(Clone)]
pub(super) struct Reader {
    pub fetcher: Arc<dyn Fetcher>,
    pub cache: Arc<NodeCache>,
    /// The store that holds the tree, if it is one's own: knows sizes without reading.
    pub blocks: Option<Arc<dyn Blockstore>>,
}

impl Reader {
    /// What stands at `path` below `directory`. `None` also where a file stands in the way.
    pub async fn find(&self, directory: &Cid, path: &[String]) -> Result<Option<Entry>, TreeError> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        Ok(cidery_unixfs::resolve(&*self.fetcher, directory, &path).await?)
    }

    /// A directory's entries, sorted.
    pub async fn list(&self, directory: &Cid) -> Result<Vec<Entry>, TreeError> {
        Ok(cidery_unixfs::list_at_most(&*self.fetcher, directory, MAX_NAMES).await?)
    }

    /// The digest that the `link` at `path` names; `None` if there is no such file.
    pub async fn link(&self, directory: &Cid, path: &[String]) -> Result<Option<Digest>, TreeError> {
        let Some(entry) = self.find(directory, path).await? else { return Ok(None) };
        let content = self.small_file(&entry.cid, layout::MAX_LINK, path).await?;
        let digest = layout::parse_link(&content);
        digest.map(Some).ok_or_else(|| TreeError::malformed(path.join("/"), "the link is not a digest"))
    }

    /// Whether the `link` at `path` is there; it is malformed if it names another digest.
    pub async fn links_to(&self, directory: &Cid, path: &[String], digest: &Digest) -> Result<bool, TreeError> {
        let Some(entry) = self.find(directory, path).await? else { return Ok(false) };
        // A bare leaf tells by its hash, without being fetched.
        if entry.cid == link_cid(digest) {
            return Ok(true);
        }
        let content = self.small_file(&entry.cid, layout::MAX_LINK, path).await?;
        match layout::parse_link(&content) {
            Some(named) if named == *digest => Ok(true),
            _ => Err(TreeError::malformed(path.join("/"), "the link does not name the digest it stands under")),
        }
    }

    /// A whole file of at most `limit` bytes.
    pub async fn small_file(&self, cid: &Cid, limit: u64, path: &[String]) -> Result<Bytes, TreeError> {
        self.expect_file(cid, path).await?;
        let file = FileReader::open(self.fetcher.clone(), *cid).await?;
        let size = file.size();
        if size > limit {
            let detail = format!("the file has {size} bytes, more than the {limit} that are read");
            return Err(TreeError::malformed(path.join("/"), detail));
        }
        let mut stream = file.read(0..size, size as usize);
        let Some(first) = stream.next().await? else { return Ok(Bytes::new()) };
        if first.len() as u64 == size {
            return Ok(first);
        }
        let mut bytes = Vec::with_capacity(size as usize);
        bytes.extend_from_slice(&first);
        while let Some(more) = stream.next().await? {
            bytes.extend_from_slice(&more);
        }
        Ok(bytes.into())
    }

    /// The size of a file, in bytes. For a bare leaf that is not one's own this fetches the leaf,
    /// because what its directory says about its size is only a hint.
    pub async fn file_size(&self, cid: &Cid, path: &[String]) -> Result<u64, TreeError> {
        let key = Key::Size(*cid);
        if let Some(Value::Size(size)) = self.cache.get(&key) {
            return Ok(size);
        }
        let size = match &self.blocks {
            Some(blocks) if cid.codec() == codec::RAW => {
                let (blocks, leaf) = (blocks.clone(), *cid);
                let size = tokio::task::spawn_blocking(move || blocks.size(&leaf)).await;
                size.map_err(|_| TreeError::Closed)??.ok_or(FetchError::NotFound(*cid))?
            }
            _ => self.expect_file(cid, path).await?,
        };
        self.cache.insert(key, Value::Size(size));
        Ok(size)
    }

    async fn expect_file(&self, cid: &Cid, path: &[String]) -> Result<u64, TreeError> {
        let what = match cidery_unixfs::stat(&*self.fetcher, cid).await? {
            Kind::File { size } => return Ok(size),
            Kind::Directory => "a directory",
            Kind::Symlink(_) => "a symbolic link",
        };
        Err(TreeError::malformed(path.join("/"), format!("{what} stands where a file must be")))
    }
}

/// The CID of a `link` as it is written here, and by everyone else who uses bare leaves.
pub(super) fn link_cid(digest: &Digest) -> Cid {
    *Block::raw(layout::link_content(digest).to_vec()).cid()
}
