//! Following a path from a root, and telling what stands at its end.

use crate::{
    Entry, UnixfsError,
    data::{self, Type},
    directory::{self, DirectoryNode},
    error::About,
    fetch, file,
    wire::Defect,
};
use cidery_core::{Cid, Fetcher, codec};

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File {
        /// Its bytes.
        size: u64,
    },
    /// A directory, in one node or sharded.
    Directory,
    /// A symbolic link, with its target as it was written.
    Symlink(String),
}

/// What stands at `path` below `root`; `None` if nothing does. Symbolic links are not followed.
/// The empty path gives the root itself, without a name.
pub async fn resolve(fetcher: &dyn Fetcher, root: &Cid, path: &[&str]) -> Result<Option<Entry>, UnixfsError> {
    if path.is_empty() {
        let block = fetch::block(fetcher, root).await?;
        let tsize = directory::total_size(root, &block)?;
        return Ok(Some(Entry { name: String::new(), cid: *root, tsize }));
    }
    let mut at = Entry { name: String::new(), cid: *root, tsize: 0 };
    for name in path {
        match directory::lookup(fetcher, &at.cid, name).await {
            Ok(Some(entry)) => at = entry,
            Ok(None) | Err(UnixfsError::NotADirectory { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(at))
}

/// What `cid` is. Reads its root block only.
pub async fn stat(fetcher: &dyn Fetcher, cid: &Cid) -> Result<Kind, UnixfsError> {
    let block = fetch::block(fetcher, cid).await?;
    if cid.codec() == codec::DAG_PB {
        let (_, message) = data::decode_block(cid, &block)?;
        match message.kind {
            Type::Directory | Type::HamtShard => {
                return DirectoryNode::decode(cid, &block).map(|_| Kind::Directory);
            }
            Type::Symlink => {
                let target = std::str::from_utf8(message.data).map_err(|_| Defect("a symlink's target is not UTF-8"));
                return Ok(Kind::Symlink(target.about(cid)?.to_owned()));
            }
            Type::Metadata => return Err(UnixfsError::Unsupported { cid: *cid, what: "a metadata node" }),
            Type::File | Type::Raw => {}
        }
    }
    Ok(Kind::File { size: file::decode_file(cid, &block)?.size })
}
