//! The ports. Stores are synchronous (call them from blocking threads); the network is not.

use crate::{
    BlobFile, Block, Bytes, Cid, Claim, CommitError, Digest, FetchError, ForeignName, Link, Namespace, NamespaceState,
    NetworkError, Origin, Pin, PinError, Pinned, PublishMode, RepositoryName, ResolveError, Resolved, RootEntry,
    SessionSpec, Stats, StoreError, Tag, TagTime, UploadRecord,
};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Blocks by multihash: two CIDs with one hash are one block. The defaults are those of a store that never
/// removes anything.
pub trait Blockstore: Send + Sync + 'static {
    /// Size of a block in bytes, `None` if it is not here.
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError>;
    /// A block's bytes; damage is an error, never wrong bytes.
    fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError>;
    /// Stores one block, readable at once, durable after [`Blockstore::sync`] or the next commit.
    /// A block that is already here keeps its origin.
    fn put(&self, block: &Block, origin: Origin) -> Result<(), StoreError>;
    /// A writer with a place of its own on disk, for the blocks of one large file.
    fn writer(&self, origin: Origin) -> Result<Box<dyn BlockWriter>, StoreError>;
    /// Keeps blocks from collection until it is dropped. Whoever puts blocks that only a later commit or
    /// link will reach takes one first, and drops it after that commit.
    fn hold(&self) -> Arc<dyn Hold> {
        Arc::new(Kept)
    }
    /// Whether a block is only here because its deletion is not complete ([`RootStore::forget`]). Whoever
    /// reads in another name than a current root's treats such a block as not here.
    fn is_withdrawn(&self, _cid: &Cid) -> bool {
        false
    }
    /// Whether something of what is held is known to be damaged or lost. Cheap.
    fn knows_damage(&self) -> bool {
        false
    }
    /// Whether all of the file `root` is here, as far as that is known without reading its leaves.
    fn has_whole(&self, _root: &Cid) -> Result<bool, StoreError> {
        Ok(true)
    }
    /// Says that what is cached below `root` is of no use: it goes at the next collection, unless it
    /// is reached by a root of this node's.
    fn discard(&self, _root: &Cid) {}
    /// Makes everything that was put before durable. Concurrent callers share one flush.
    fn sync(&self) -> Result<(), StoreError>;
    /// What is held.
    fn stats(&self) -> Stats;
}

/// Writes the blocks of one file next to each other. Dropping it loses nothing that was put.
pub trait BlockWriter: Send {
    /// As [`Blockstore::put`].
    fn put(&mut self, block: &Block) -> Result<(), StoreError>;
}

/// Blocks that collection leaves alone, as long as this lives.
pub trait Hold: Send + Sync {
    /// Keeps one block; to be called before it is put, since what is put again may be about to go.
    fn keep(&self, cid: &Cid);
    /// Keeps all that a block reaches, for a reader, but for what is purged ([`RootStore::purge`]). It shows
    /// nobody anything: what was withdrawn stays so.
    fn keep_all(&self, root: &Cid);
}

/// What peers may see: blocks that came from peers, and what a published root reaches.
/// Not being allowed looks exactly like not being here.
pub trait PublicBlocks: Send + Sync + 'static {
    /// As [`Blockstore::size`].
    fn public_size(&self, cid: &Cid) -> Result<Option<u64>, StoreError>;
    /// As [`Blockstore::get`].
    fn public_get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError>;
}

/// Which files hold a blob, as far as peers may see them ([`PublicBlocks`]). Not being allowed looks exactly
/// like not knowing any.
pub trait Digests: Send + Sync + 'static {
    /// At most [`MAX_FILES`] files, no directories; one, unless somebody cuts files otherwise than this node. Reads
    /// the disk, and never reaches out.
    fn files(&self, digest: &Digest) -> Result<Vec<BlobFile>, StoreError>;
}

/// The most files that are said to hold one blob.
pub const MAX_FILES: usize = 4;

/// Everything that is not a block: roots, links, publications, uploads, pins. Writes are durable on
/// return, with every block that was put before them; concurrent ones share the flush.
pub trait RootStore: Send + Sync + 'static {
    /// The namespaces that have a root or a publication, by name.
    fn namespaces(&self) -> Result<Vec<Namespace>, StoreError>;
    /// One namespace's state; the default for one never seen.
    fn state(&self, namespace: &Namespace) -> Result<NamespaceState, StoreError>;
    /// Replaces the root if it still is `expected`, and forgets the links that the new root holds.
    fn commit(
        &self,
        namespace: &Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: &[Link],
    ) -> Result<RootEntry, CommitError>;
    /// As [`RootStore::commit`], and says when tags in it were pushed ([`RootStore::note_tags`]), with the same flush.
    fn commit_tags(
        &self,
        namespace: &Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: &[Link],
        tags: &[TagTime],
    ) -> Result<RootEntry, CommitError> {
        let entry = self.commit(namespace, expected, root, folded)?;
        self.note_tags(namespace, tags)?;
        Ok(entry)
    }
    /// Remembers when tags were pushed, where that is known of no later time.
    fn note_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError>;
    /// Forgets when they were pushed, as far as it was then.
    fn drop_tags(&self, namespace: &Namespace, tags: &[TagTime]) -> Result<(), StoreError>;
    /// When tags of a repository were pushed, as far as somebody said so.
    fn tag_times(
        &self,
        namespace: &Namespace,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Tag, SystemTime>, StoreError>;
    /// The repositories of which that is known of any tag.
    fn timed_repositories(&self, namespace: &Namespace) -> Result<Vec<RepositoryName>, StoreError>;
    /// Earlier and current roots, newest first, at most `limit`. A store may know only the newest thousands.
    fn history(&self, namespace: &Namespace, limit: usize) -> Result<Vec<RootEntry>, StoreError>;
    /// Remembers a blob until a commit folds it in; again for the same repository and digest replaces it.
    fn link(&self, link: &Link) -> Result<(), StoreError>;
    /// As [`RootStore::link`] for each, with one flush.
    fn link_all(&self, links: &[Link]) -> Result<(), StoreError> {
        links.iter().try_for_each(|link| self.link(link))
    }
    /// Forgets a link that was never folded.
    fn unlink(&self, link: &Link) -> Result<(), StoreError>;
    /// As [`RootStore::unlink`] for each, with one flush.
    fn unlink_all(&self, links: &[Link]) -> Result<(), StoreError> {
        links.iter().try_for_each(|link| self.unlink(link))
    }
    /// The links of a namespace that no root holds yet.
    fn links(&self, namespace: &Namespace) -> Result<Vec<Link>, StoreError>;
    /// Those of them that were made at least so long ago.
    fn stale_links(&self, namespace: &Namespace, age: Duration) -> Result<Vec<Link>, StoreError>;
    /// Makes a namespace public; returns when peers can see it. The mode's root, or the current one, must exist.
    fn publish(&self, namespace: &Namespace, mode: PublishMode) -> Result<(), StoreError>;
    /// Makes it private again; returns when peers can't see it any more.
    fn unpublish(&self, namespace: &Namespace) -> Result<(), StoreError>;
    /// Withdraws files whose last link a commit took out. Peers are not shown them any more, also where an
    /// earlier root is still public, and only what current roots, links and uploads reach of their blocks
    /// survives the next collection. Putting or linking one again takes that back.
    fn forget(&self, files: &[Cid]) -> Result<(), StoreError>;
    /// Withdraws files as [`RootStore::forget`] does, and for good: no hold and no pin keeps what they reach either,
    /// so the next collection removes it, under the hands of those who read it too. The names of the pins that had
    /// kept one.
    fn purge(&self, files: &[Cid]) -> Result<Vec<String>, StoreError>;
    /// Whether a file was withdrawn and is served under no earlier root's name.
    fn is_forgotten(&self, file: &Cid) -> bool;
    /// Saves an upload's state, replacing what was saved under its id.
    fn save_upload(&self, upload: &UploadRecord) -> Result<(), StoreError>;
    /// Forgets an upload.
    fn drop_upload(&self, id: &str) -> Result<(), StoreError>;
    /// The uploads that were saved and not dropped.
    fn uploads(&self) -> Result<Vec<UploadRecord>, StoreError>;
    /// Keeps what a pin names from collections and from the limit of the cache, until it is taken back, and in the
    /// place of an earlier pin of that name. All of it must be here, and held until this returns, and nothing of it
    /// withdrawn. It makes nothing public; what is deleted later stays on the disk and is shown to nobody.
    fn pin(&self, pin: &Pin) -> Result<Pinned, PinError>;
    /// Takes a pin back; `false` if there is none of this name.
    fn unpin(&self, name: &str) -> Result<bool, StoreError>;
    /// All pins, by name.
    fn pins(&self) -> Result<Vec<Pinned>, StoreError>;
}

/// A block, from wherever: a local store, a session, a CAR.
#[async_trait]
pub trait Fetcher: Send + Sync {
    /// The verified bytes of `cid`. Dropping the future withdraws the wish.
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError>;
    /// The block if it can be had without waiting for anyone. Blocking: not for an async task.
    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError>;
}

/// A fetcher for related blocks: it looks into the local store first, asks several peers, remembers
/// who had what, fetches each block once however many callers want it, and stores what arrives
/// as [`Origin::Peer`]. Dropping the last handle ends it.
pub trait Session: Fetcher {
    /// Bytes that arrived from peers on this session's behalf, duplicates included.
    fn received(&self) -> u64;
}

/// Peers being asked which file holds a blob. Dropping it ends that.
#[async_trait]
pub trait Inquiry: Send {
    /// What the next peer says; `None` when nobody is left to ask. Each peer answers once, with at most
    /// [`MAX_FILES`] claims.
    async fn next(&mut self) -> Option<Claim>;
}

/// The registry's whole view of peers.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Opens a session. Costs nothing until the first block that is not here is wanted.
    fn session(&self, spec: SessionSpec) -> Arc<dyn Session>;
    /// What a name stands for, cached, with the last good answer while a refresh is under way.
    async fn resolve(&self, name: &ForeignName) -> Result<Resolved, ResolveError>;
    /// Tells the network that this node has these roots, now and from time to time; replaces what
    /// was told before for the namespace. Returns when it is under way.
    async fn provide(&self, namespace: &Namespace, roots: Vec<Cid>) -> Result<(), NetworkError>;
    /// Asks peers for the file of a blob: those that are connected, and whoever is found to provide the digest.
    async fn inquire(&self, digest: &Digest) -> Box<dyn Inquiry>;
    /// Says that a claim was false. Nothing its maker says is passed on for a while.
    fn distrust(&self, claim: &Claim);
}

/// A writer that keeps all it puts in a hold.
pub struct HoldingWriter<W> {
    /// Where it writes.
    pub writer: W,
    /// What keeps it.
    pub hold: Arc<dyn Hold>,
}

impl<W: std::ops::DerefMut<Target: BlockWriter> + Send> BlockWriter for HoldingWriter<W> {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        self.hold.keep(block.cid());
        self.writer.put(block)
    }
}

/// A fetcher that keeps what it reads for as long as it lives.
pub struct HoldingFetcher {
    /// Where it reads.
    pub fetcher: Arc<dyn Fetcher>,
    /// What keeps it.
    pub hold: Arc<dyn Hold>,
}

#[async_trait]
impl Fetcher for HoldingFetcher {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.fetcher.fetch(cid).await
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        self.fetcher.local(cid)
    }
}

/// The [`Hold`] of a store that never removes anything.
pub struct Kept;

impl Hold for Kept {
    fn keep(&self, _: &Cid) {}
    fn keep_all(&self, _: &Cid) {}
}

/// A [`Fetcher`] over what is here, for work that must not reach out.
pub struct LocalFetcher(pub Arc<dyn Blockstore>);

#[async_trait]
impl Fetcher for LocalFetcher {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.local(cid)?.ok_or(FetchError::NotFound(*cid))
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        if let Some(bytes) = crate::identity_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        Ok(self.0.get(cid)?)
    }
}
