//! The changes of one commit, member by member, over the root they start from.
//!
//! Everything here runs on a blocking thread over the local store, where no future waits for anyone.

use super::{
    Blob, May, Missing, NodeCache, TreeError,
    again::Again,
    backlinks::Backlinks,
    late::Lacking,
    layout::{self, Path},
    manifest::Parsed,
    named::AllNamed,
    overlay::Overlay,
    pending::Pending,
    reader::Reader,
    retire::Retirement,
    tagged::Tagged,
    tidy::Unnamed,
    writer::Shared,
};
use crate::rules::TagRules;
use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, Digest, FetchError, Hold, Link, Namespace, Origin, RepositoryName,
    RootStore, StoreError, Tag, TagTime, codec,
};
use cidery_unixfs::{FileBuilder, Sizes};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::SystemTime,
};

/// A manifest that was checked as far as it goes by itself.
pub(super) struct Prepared {
    pub digest: Digest,
    pub bytes: Bytes,
    pub parsed: Parsed,
}

/// What one member of a group wants.
pub(super) enum Edit {
    /// Links blobs, manifests and tags into a repository, and folds in the journalled links that they name.
    Add { repository: RepositoryName, image: Addition, missing: Missing, may: May },
    /// Removes a tag, a manifest or a blob; with `unused` only what no manifest refers to and no immutable tag stands
    /// for.
    Delete { repository: RepositoryName, what: Target, unused: bool },
    /// Makes links of blobs that no manifest names.
    Unname { repository: RepositoryName, found: Unnamed },
    /// Folds in links that manifests name which came before them.
    Fold { repository: RepositoryName, late: Vec<Lacking> },
    /// Ends links that no manifest named in time.
    Expire { links: Vec<Link> },
    /// Removes tags that no rule of retention keeps, and what only they need.
    Retire { repository: RepositoryName, what: Retirement },
}

/// What is added to a repository.
pub(super) struct Addition {
    pub blobs: Vec<Blob>,
    pub manifests: Vec<Prepared>,
    pub tags: Vec<(Tag, Digest)>,
}

/// What is deleted.
pub(super) enum Target {
    Tag(Tag),
    /// With the tags that go with it.
    Manifest(Digest, Tagged),
    Blob(Digest),
}

/// The changes of one member, while they are collected.
struct Adding<'a> {
    repository: &'a RepositoryName,
    /// Its directory in the root, if it has one.
    directory: Option<Cid>,
    pending: Pending,
}

/// A commit under way.
pub(super) struct Work {
    pub(super) namespace: Namespace,
    pub(super) reader: Reader,
    pub(super) root: Option<Cid>,
    pub(super) pending: Pending,
    /// The links that this commit leaves in the journal.
    pub(super) overlay: Overlay,
    /// The links that it takes out of it.
    pub(super) settled: Vec<Link>,
    /// The links that it puts into it: blobs that leave the tree.
    pub(super) unnamed: Vec<(RepositoryName, Blob)>,
    /// Files whose last link in the tree it takes out.
    pub(super) forgotten: Vec<(Digest, Cid)>,
    /// Repositories that lost a manifest: they may hold blobs that no other one names.
    pub(super) untidy: Vec<RepositoryName>,
    /// What its manifests name and their repositories do not hold.
    pub(super) lacking: Vec<Lacking>,
    /// Its manifests.
    pub(super) arrived: Vec<(RepositoryName, Digest)>,
    /// Its tags, where a rule of retention asks when they were pushed.
    pub(super) tagged: Vec<TagTime>,
    /// Manifests that it brings by their digests alone, and that were there before.
    pub(super) again: Vec<(RepositoryName, Digest)>,
    pub(super) pushed_again: Arc<Mutex<Again>>,
    /// Tags that it takes out for such a rule.
    pub(super) untagged: Vec<TagTime>,
    pub(super) backlinks: Arc<tokio::sync::Mutex<Backlinks>>,
    pub(super) named: AllNamed,
    pub(super) roots: Arc<dyn RootStore>,
    pub(super) rules: TagRules,
    sizes: Arc<Sizes>,
    out: StoreWriter,
}

impl Work {
    pub fn new(shared: &Shared, root: Option<Cid>, overlay: Overlay) -> Self {
        let reader = shared.reader_on_thread(shared.cache.clone());
        let blocks = shared.blocks.clone();
        let out = StoreWriter { hold: blocks.hold(), blocks, cache: reader.cache.clone() };
        Self {
            namespace: shared.namespace.clone(),
            reader,
            root,
            pending: Pending::default(),
            overlay,
            settled: Vec::new(),
            unnamed: Vec::new(),
            forgotten: Vec::new(),
            untidy: Vec::new(),
            lacking: Vec::new(),
            arrived: Vec::new(),
            tagged: Vec::new(),
            again: Vec::new(),
            pushed_again: shared.again.clone(),
            untagged: Vec::new(),
            roots: shared.roots.clone(),
            backlinks: shared.backlinks.clone(),
            named: shared.named.clone(),
            rules: shared.rules.clone(),
            sizes: shared.sizes.clone(),
            out,
        }
    }

    /// Makes what is pending the root. An error concerns every member since the last flush.
    pub async fn flush(&mut self) -> Result<(), TreeError> {
        if !self.pending.is_empty() {
            let changes = std::mem::take(&mut self.pending).write(&mut self.out)?;
            let (fetcher, root) = (&*self.reader.fetcher, self.root.as_ref());
            let entry = cidery_unixfs::edit_again(fetcher, root, changes, &self.sizes, &mut self.out).await?;
            self.root = Some(entry.cid);
        }
        Ok(())
    }

    /// Adds to a repository. After an error nothing of it is pending.
    pub async fn add(
        &mut self,
        repository: &RepositoryName,
        image: &Addition,
        missing: &Missing,
    ) -> Result<(), TreeError> {
        let mut adding =
            Adding { repository, directory: self.directory(repository).await?, pending: Pending::default() };
        let retains = self.rules.has_retention() && self.rules.retains(&self.full_name(repository));
        let mut again = Vec::new();
        for Prepared { digest, parsed, .. } in &image.manifests {
            let link = layout::revision_link(repository, digest);
            if retains && image.tags.is_empty() && self.has(&adding, &link).await? {
                again.push((repository.clone(), digest.clone()));
            }
            adding.pending.put_link(link, digest);
            let media_type = layout::revision_media_type(repository, digest);
            if parsed.keeps_media_type() {
                adding.pending.put_small(media_type, parsed.media_type.as_bytes());
            } else if self.has(&adding, &media_type).await? {
                adding.pending.remove(media_type);
            }
            if let Some(subject) = &parsed.subject {
                adding.pending.put_link(layout::referrer_link(repository, &subject.digest, digest), digest);
            }
        }
        for (tag, digest) in &image.tags {
            adding.pending.put_link(layout::tag_current(repository, tag), digest);
            adding.pending.put_link(layout::tag_index_link(repository, tag, digest), digest);
        }
        // The repository's other links wait for the manifests that name them.
        let named: HashSet<&Digest> =
            image.manifests.iter().flat_map(|manifest| manifest.parsed.references()).map(|r| &r.digest).collect();
        let of_repository = self.overlay.of(repository);
        let journalled: Vec<Blob> = of_repository.filter(|blob| named.contains(&blob.digest)).cloned().collect();
        for blob in image.blobs.iter().chain(&journalled) {
            adding.pending.put(layout::blob_data(&blob.digest), blob.cid, self.total_size(blob).await?);
            adding.pending.put_link(layout::layer_link(repository, &blob.digest), &blob.digest);
        }
        let lacking = self.check(image, missing, &adding).await?;
        for Prepared { digest, bytes, .. } in &image.manifests {
            let mut file = FileBuilder::new();
            file.write(bytes, &mut self.out)?;
            let file = file.finish(&mut self.out)?;
            adding.pending.put(layout::blob_data(digest), file.cid, file.tsize);
        }
        self.pending.append(adding.pending);
        self.lacking.extend(lacking);
        self.arrived.extend(image.manifests.iter().map(|one| (repository.clone(), one.digest.clone())));
        for blob in journalled {
            self.settle(repository, &blob);
        }
        self.again.extend(again);
        if retains {
            // Also those that stood for it before: pushed again is pushed.
            let now = SystemTime::now();
            self.tagged.extend(image.tags.iter().map(|(tag, _)| TagTime::new(repository.clone(), tag.clone(), now)));
        }
        Ok(())
    }

    /// Whether everything is there that has to be; what is not there all the same.
    async fn check(&self, image: &Addition, missing: &Missing, adding: &Adding<'_>) -> Result<Vec<Lacking>, TreeError> {
        let repository = adding.repository;
        let (mut unknown, mut lacking) = (BTreeSet::new(), Vec::new());
        for (_, digest) in &image.tags {
            if !self.has(adding, &layout::revision_link(repository, digest)).await? {
                unknown.insert(digest);
            }
        }
        for Prepared { digest: by, parsed, .. } in &image.manifests {
            let blobs = parsed.required_blobs().map(|blob| (blob, false));
            for (reference, child) in blobs.chain(parsed.manifests.iter().map(|manifest| (manifest, true))) {
                let digest = &reference.digest;
                // An index may hold artifacts that were pushed as blobs.
                if self.has(adding, &layout::layer_link(repository, digest)).await?
                    || (child && self.has(adding, &layout::revision_link(repository, digest)).await?)
                {
                    continue;
                }
                if missing.refuses(reference, child) {
                    unknown.insert(digest);
                }
                lacking.push(Lacking { repository: repository.clone(), digest: digest.clone(), by: Some(by.clone()) });
            }
        }
        if unknown.is_empty() {
            return Ok(lacking);
        }
        Err(TreeError::ManifestBlobUnknown { digests: unknown.into_iter().cloned().collect() })
    }

    /// Where the repository is, in the root as of the last flush.
    async fn directory(&self, repository: &RepositoryName) -> Result<Option<Cid>, TreeError> {
        self.find(&layout::repository(repository)).await
    }

    /// Whether a path of the repository is there, with the changes that are being collected and
    /// those that are pending.
    async fn has(&self, adding: &Adding<'_>, path: &Path) -> Result<bool, TreeError> {
        if let Some(known) = adding.pending.has(path).or_else(|| self.pending.has(path)) {
            return Ok(known);
        }
        let Some(directory) = adding.directory else { return Ok(false) };
        Ok(self.reader.find(&directory, layout::in_repository(adding.repository, path)).await?.is_some())
    }

    /// Bytes of all blocks of a blob's file.
    pub(super) async fn total_size(&self, blob: &Blob) -> Result<u64, TreeError> {
        if blob.cid.codec() == codec::RAW {
            return Ok(blob.size);
        }
        let entry = self.reader.find(&blob.cid, &[]).await?;
        // The empty path always leads somewhere.
        Ok(entry.ok_or(FetchError::NotFound(blob.cid))?.tsize)
    }

    /// Of what was forgotten, what no later member put back.
    pub(super) async fn still_forgotten(&mut self) -> Result<(), TreeError> {
        let mut still = Vec::new();
        for (digest, cid) in std::mem::take(&mut self.forgotten) {
            if !self.holds_blob(&digest).await? {
                still.push((digest, cid));
            }
        }
        self.forgotten = still;
        Ok(())
    }

    /// Leaves each link to the last member that had to do with it: what one made another may have ended, and
    /// the other way round.
    pub(super) fn settle_links(&mut self) {
        let overlay = &self.overlay;
        self.unnamed.retain(|(repository, blob)| overlay.get(repository, &blob.digest) == Some(blob));
        self.settled.retain(|link| overlay.get(&link.repository, &link.digest).is_none());
    }

    /// Whether a blob is in the tree.
    pub(super) async fn holds_blob(&self, digest: &Digest) -> Result<bool, TreeError> {
        Ok(self.find(&layout::blob_data(digest)).await?.is_some())
    }

    /// A link that need not be journalled any more.
    pub(super) fn settle(&mut self, repository: &RepositoryName, blob: &Blob) {
        self.overlay.remove(repository, &blob.digest);
        let Blob { digest, cid, size } = blob.clone();
        let (namespace, repository) = (self.namespace.clone(), repository.clone());
        self.settled.push(Link { namespace, repository, digest, cid, size });
    }
}

/// Puts new nodes into the store, and into the cache that the next commit reads through. What it puts is
/// kept from collection until the commit is made, or given up.
struct StoreWriter {
    hold: Arc<dyn Hold>,
    blocks: Arc<dyn Blockstore>,
    cache: Arc<NodeCache>,
}

impl BlockWriter for StoreWriter {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        self.hold.keep(block.cid());
        self.blocks.put(block, Origin::Pushed)?;
        self.cache.insert_node(block.cid(), block.data());
        Ok(())
    }
}
