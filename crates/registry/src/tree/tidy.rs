//! Blobs that no manifest names: they leave the tree, stay readable as links, and expire as those do.
//!
//! What a repository has of them is looked for beside the writer, in a root as it was; the writer takes them
//! out, except for those that a manifest names which came since.

use super::{
    Blob, NodeCache, Tree, TreeError,
    commit::{Edit, Work},
    late::Lacking,
    layout,
    manifest::Parsed,
    named::WAYS,
    reader::Reader,
    view::View,
    writer::{Shared, on_thread},
};
use cidery_core::{Cid, Digest, Link, Reference, RepositoryName};
use cidery_unixfs::{Difference, MAX_ENTRIES};
use futures::executor::block_on;
use std::{collections::HashSet, sync::Arc, time::Duration};

/// Blobs that one commit takes out: others wait for it.
const AT_ONCE: usize = 1024;

/// With so many links none is made of a blob that no manifest names any more: it goes as one that is deleted. They
/// take memory, a few hundred bytes each.
const LINKS: usize = 64 << 10;

/// Blobs of a repository that no manifest names.
#[derive(Debug, Clone)]
pub(super) struct Unnamed {
    /// The manifests that were looked through.
    pub revisions: Option<Cid>,
    pub digests: Arc<[Digest]>,
}

impl Tree {
    /// Takes blobs that no manifest names out of the tree, in repositories that lost a manifest since the last
    /// time, or in `all`. They stay readable, as links of now. Links that a manifest names are folded in.
    ///
    /// # Errors
    /// The first one; the repositories that failed are tried again the next time.
    pub async fn unname_blobs(&self, all: bool) -> Result<(), TreeError> {
        self.shared.drop_backlinks();
        self.shared.drop_named();
        let mut untidy = std::mem::take(&mut *self.shared.untidy.lock());
        if all {
            untidy.extend(self.snapshot().all_repositories().await?);
        }
        let mut done = Ok(());
        for repository in untidy {
            // One that can't be read does not keep the others waiting.
            if let Err(error) = self.unname(&repository).await {
                self.shared.untidy.lock().insert(repository);
                done = done.and(Err(error));
            }
        }
        done
    }

    async fn unname(&self, repository: &RepositoryName) -> Result<(), TreeError> {
        let (shared, name) = (self.shared.clone(), repository.clone());
        let (found, mut lacking) = on_thread(move || {
            let base = shared.base();
            // The way to each manifest is nearly the same.
            let reader = shared.reader_on_thread(Arc::new(NodeCache::new(WAYS)));
            block_on(unnamed(&shared, &View::owned(reader, base.root), &name))
        })
        .await??;
        // After a restart nobody else knows; links are folded in below.
        {
            let state = self.shared.state.read();
            lacking.retain(|one| state.overlay.get(&one.repository, &one.digest).is_none());
        }
        self.shared.want(&lacking, &[]);
        if !found.digests.is_empty() {
            self.shared.prepare_backlinks().await?;
        }
        for digests in found.digests.chunks(AT_ONCE) {
            let found = Unnamed { revisions: found.revisions, digests: digests.into() };
            self.send(Edit::Unname { repository: repository.clone(), found }).await?;
        }
        self.fold_named_links(repository).await
    }

    /// Ends the links that no manifest named within `age`; those that one names by now are folded in.
    pub async fn expire_blobs(&self, age: Duration) -> Result<(), TreeError> {
        let shared = self.shared.clone();
        let stale = on_thread(move || shared.roots.stale_links(&shared.namespace, age)).await??;
        self.expire(stale).await
    }
}

/// Looks through a repository.
async fn unnamed(
    shared: &Arc<Shared>,
    view: &View,
    repository: &RepositoryName,
) -> Result<(Unnamed, Vec<Lacking>), TreeError> {
    let nothing = (Unnamed { revisions: None, digests: [].into() }, Vec::new());
    let Some(storage) = view.storage().await? else { return Ok(nothing) };
    let layers = view.reader.find(&storage, &layout::layers(repository)).await?.map(|entry| entry.cid);
    let mut digests = digests_between(&view.reader, None, layers).await?;
    let revisions = view.reader.find(&storage, &layout::revisions(repository)).await?.map(|entry| entry.cid);
    let manifests = digests_between(&view.reader, None, revisions).await?;
    if let Some(unnamed) = shared.unnamed_among(view, repository, &digests, &manifests).await? {
        return Ok((Unnamed { revisions, digests: unnamed.into() }, Vec::new()));
    }
    // What they lack is known by name only to themselves.
    let named = named_by(view, repository, manifests.clone()).await?;
    let held: HashSet<&Digest> = digests.iter().chain(&manifests).collect();
    let lacking = named.iter().filter(|digest| !held.contains(digest));
    let lacking = lacking.map(|digest| Lacking { repository: repository.clone(), digest: digest.clone(), by: None });
    let lacking = lacking.collect();
    digests.retain(|digest| !named.contains(digest));
    Ok((Unnamed { revisions, digests: digests.into() }, lacking))
}

/// What these manifests refer to.
async fn named_by(
    view: &View,
    repository: &RepositoryName,
    manifests: Vec<Digest>,
) -> Result<HashSet<Digest>, TreeError> {
    let mut named = HashSet::new();
    for digest in manifests {
        let manifest = view.manifest(repository, &Reference::Digest(digest)).await?;
        if let Some(parsed) = manifest.and_then(|manifest| Parsed::stored(&manifest)) {
            named.extend(parsed.references().map(|reference| reference.digest.clone()));
        }
    }
    Ok(named)
}

/// The digests that are below one directory of algorithms and not below the other; what is none is passed over.
pub(super) async fn digests_between(
    reader: &Reader,
    before: Option<Cid>,
    after: Option<Cid>,
) -> Result<Vec<Digest>, TreeError> {
    digests_between_at_most(reader, before, after, MAX_ENTRIES).await
}

/// The same, where no more than `limit` entries have to be looked at.
pub(super) async fn digests_between_at_most(
    reader: &Reader,
    before: Option<Cid>,
    after: Option<Cid>,
    limit: usize,
) -> Result<Vec<Digest>, TreeError> {
    let fetcher = &*reader.fetcher;
    let mut found = Vec::new();
    for algorithm in cidery_unixfs::compare(fetcher, before.as_ref(), after.as_ref(), limit).await? {
        let Difference { name, before, after } = algorithm;
        for entry in cidery_unixfs::compare(fetcher, before.as_ref(), after.as_ref(), limit).await? {
            if entry.before.is_none() {
                found.extend(format!("{name}:{}", entry.name).parse::<Digest>());
            }
        }
    }
    Ok(found)
}

impl Work {
    /// Takes blobs that no manifest of the repository names out of the tree; they become links of now.
    /// Nothing may be pending. `false` if there are none.
    pub(super) async fn unname(&mut self, repository: &RepositoryName, found: &Unnamed) -> Result<bool, TreeError> {
        let before = self.standing();
        let done = self.unname_all(repository, found).await;
        self.undo_unless(done, before)
    }

    async fn unname_all(&mut self, repository: &RepositoryName, found: &Unnamed) -> Result<bool, TreeError> {
        let view = self.view();
        let revisions = self.find(&layout::revisions(repository)).await?;
        let since = digests_between(&self.reader, found.revisions, revisions).await?;
        let named = named_by(&view, repository, since).await?;
        let (mut gone, mut links) = (Vec::new(), self.overlay.len());
        for digest in found.digests.iter().filter(|digest| !named.contains(digest)) {
            let Some(blob) = view.blob(repository, digest).await? else { continue };
            self.pending.remove(layout::layer(repository, digest));
            gone.push((digest, blob.cid));
            if self.overlay.get(repository, digest).is_none() && links < LINKS {
                links += 1;
                self.unnamed.push((repository.clone(), blob.clone()));
                self.overlay.insert(repository, blob);
            }
        }
        self.flush().await?;
        for (digest, file) in &gone {
            if !self.is_linked(digest).await? {
                self.take_out(digest, Some(*file));
            }
        }
        self.flush().await?;
        Ok(!gone.is_empty())
    }

    /// Ends links that nobody named in time, unless somebody did meanwhile.
    pub(super) async fn end(&mut self, links: &[Link]) -> Result<bool, TreeError> {
        let mut any = false;
        for Link { repository, digest, cid, size, .. } in links {
            let blob = Blob { digest: digest.clone(), cid: *cid, size: *size };
            if self.overlay.get(repository, digest) == Some(&blob) {
                any = true;
                self.settle(repository, &blob);
                if !self.holds_blob(digest).await? {
                    self.forgotten.push((blob.digest, blob.cid));
                }
            }
        }
        Ok(any)
    }
}
