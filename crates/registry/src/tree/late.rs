//! Blobs that come after a manifest that names them: they are folded into the tree like those that came before.
//!
//! A push of a blob must not look through manifests. So what manifests named and did not find is remembered, as far
//! as there is room; what slips through (over a restart, or two that meet) is found when its repository is
//! looked through, and before its link expires.

use super::{
    Tree, TreeError,
    commit::{Edit, Work},
    layout,
    writer::Shared,
};
use cidery_core::{Digest, RepositoryName};
use std::collections::{BTreeMap, HashMap};

/// References that are remembered at most: some 300 bytes each.
const ROOM: usize = 16 << 10;

/// Links that one commit folds in: others wait for it.
const AT_ONCE: usize = 1024;

/// A digest that a manifest named and its repository did not hold.
#[derive(Debug, Clone)]
pub(super) struct Lacking {
    pub repository: RepositoryName,
    pub digest: Digest,
    /// The manifest, if it is known: else any of the repository's.
    pub by: Option<Digest>,
}

/// What is waited for.
#[derive(Default)]
pub(super) struct Wanted {
    by_repository: HashMap<RepositoryName, HashMap<Digest, Option<Digest>>>,
    count: usize,
}

impl Wanted {
    fn insert(&mut self, lacking: &Lacking) {
        if self.count < ROOM {
            let Lacking { repository, digest, by } = lacking.clone();
            let new = self.by_repository.entry(repository).or_default().insert(digest, by).is_none();
            self.count += usize::from(new);
        }
    }

    /// Takes one out, if it is waited for.
    fn take(&mut self, repository: &RepositoryName, digest: &Digest) -> Option<Lacking> {
        let of_repository = self.by_repository.get_mut(repository)?;
        let by = of_repository.remove(digest)?;
        self.count -= 1;
        if of_repository.is_empty() {
            self.by_repository.remove(repository);
        }
        Some(Lacking { repository: repository.clone(), digest: digest.clone(), by })
    }
}

impl Shared {
    /// Remembers what manifests of the current root lack, and that these manifests are there now.
    pub fn want(&self, lacking: &[Lacking], arrived: &[(RepositoryName, Digest)]) {
        {
            let mut wanted = self.wanted.lock();
            lacking.iter().for_each(|lacking| wanted.insert(lacking));
            for (repository, digest) in arrived {
                wanted.take(repository, digest);
            }
        }
        // Whoever linked one meanwhile found nobody waiting for it.
        let state = self.state.read();
        let linked = lacking.iter().filter(|one| state.overlay.get(&one.repository, &one.digest).is_some());
        self.untidy.lock().extend(linked.map(|one| one.repository.clone()));
    }
}

impl Tree {
    /// Folds in a blob that was just linked, if a manifest waits for it.
    pub(super) async fn fold_if_wanted(&self, repository: &RepositoryName, digest: &Digest) {
        let Some(late) = self.shared.wanted.lock().take(repository, digest) else { return };
        let edit = Edit::Fold { repository: repository.clone(), late: vec![late] };
        // The blob is here and linked either way.
        if let Err(error) = self.send(edit).await {
            tracing::warn!(%repository, %digest, %error, "a blob that a manifest names is not part of the tree yet");
        }
    }

    /// Folds in those of a repository's links that its manifests name.
    pub(super) async fn fold_named_links(&self, repository: &RepositoryName) -> Result<(), TreeError> {
        let links: Vec<Digest> =
            self.shared.state.read().overlay.of(repository).map(|blob| blob.digest.clone()).collect();
        if links.is_empty() {
            return Ok(());
        }
        let (named, _) = self.shared.named_among(repository, links).await?;
        self.fold_named(repository, named).await
    }

    async fn fold_named(&self, repository: &RepositoryName, named: Vec<Digest>) -> Result<(), TreeError> {
        for digests in named.chunks(AT_ONCE) {
            let lacking =
                |digest: &Digest| Lacking { repository: repository.clone(), digest: digest.clone(), by: None };
            let late = digests.iter().map(lacking).collect();
            self.send(Edit::Fold { repository: repository.clone(), late }).await?;
        }
        Ok(())
    }

    /// Ends these links, except for those that manifests name: they are folded in. Where a manifest can't be read,
    /// all stay.
    pub(super) async fn expire(&self, links: Vec<cidery_core::Link>) -> Result<(), TreeError> {
        let mut by_repository = BTreeMap::<RepositoryName, Vec<_>>::new();
        for link in links {
            by_repository.entry(link.repository.clone()).or_default().push(link);
        }
        for (repository, mut links) in by_repository {
            let digests = links.iter().map(|link| link.digest.clone()).collect();
            let (named, sure) = self.shared.named_among(&repository, digests).await?;
            links.retain(|link| sure && !named.contains(&link.digest));
            self.fold_named(&repository, named).await?;
            for links in links.chunks(AT_ONCE) {
                self.send(Edit::Expire { links: links.to_vec() }).await?;
            }
        }
        Ok(())
    }
}

impl Work {
    /// Folds in links that manifests name; nothing may be pending. `false` if there are none any more.
    pub(super) async fn fold(&mut self, repository: &RepositoryName, late: &[Lacking]) -> Result<bool, TreeError> {
        let before = self.standing();
        let done = self.fold_all(repository, late).await;
        self.undo_unless(done, before)
    }

    async fn fold_all(&mut self, repository: &RepositoryName, late: &[Lacking]) -> Result<bool, TreeError> {
        let mut any = false;
        for Lacking { digest, by, .. } in late {
            let Some(blob) = self.overlay.get(repository, digest).cloned() else { continue };
            let named = match by {
                Some(manifest) => self.find(&layout::revision(repository, manifest)).await?.is_some(),
                None => self.is_named(repository, digest).await?,
            };
            if named {
                any = true;
                self.pending.put(layout::blob_data(digest), blob.cid, self.total_size(&blob).await?);
                self.pending.put_link(layout::layer_link(repository, digest), digest);
                self.settle(repository, &blob);
            }
        }
        self.flush().await?;
        Ok(any)
    }
}
