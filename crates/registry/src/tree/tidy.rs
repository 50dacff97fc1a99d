//! Blobs that no manifest names: they leave the tree, stay readable as links, and expire as those do.

use super::{Blob, TreeError, commit::Work, layout, manifest::Parsed, view::View};
use cidery_core::{Digest, Reference, RepositoryName};
use std::collections::HashSet;

impl Work {
    /// Takes the blobs that no manifest of the repository names out of the tree; they become links of now.
    /// Nothing may be pending. `false` if there are none.
    pub(super) async fn unname(&mut self, repository: &RepositoryName) -> Result<bool, TreeError> {
        let before = self.standing();
        let done = self.unname_all(repository).await;
        self.undo_unless(done, before)
    }

    async fn unname_all(&mut self, repository: &RepositoryName) -> Result<bool, TreeError> {
        let view = self.view();
        let listed = self.digests(&view, layout::layers(repository)).await?;
        let mut named: HashSet<Digest> = HashSet::new();
        if !listed.is_empty() {
            for digest in self.digests(&view, layout::revisions(repository)).await? {
                let manifest = view.manifest(repository, &Reference::Digest(digest)).await?;
                if let Some(parsed) = manifest.and_then(|manifest| Parsed::stored(&manifest)) {
                    named.extend(parsed.references().map(|reference| reference.digest.clone()));
                }
            }
        }
        let mut gone = Vec::new();
        for digest in listed.into_iter().filter(|digest| !named.contains(digest)) {
            let Some(blob) = view.blob(repository, &digest).await? else { continue };
            if self.overlay.get(repository, &digest).is_none() {
                self.unnamed.push((repository.clone(), blob.clone()));
                self.overlay.insert(repository, blob);
            }
            self.pending.remove(layout::layer(repository, &digest));
            gone.push(digest);
        }
        self.flush().await?;
        for digest in &gone {
            self.take_out_unlinked(digest).await?;
        }
        self.flush().await?;
        Ok(!gone.is_empty())
    }

    /// Ends a link that nobody named in time, unless somebody did meanwhile.
    pub(super) async fn expire(&mut self, repository: &RepositoryName, blob: &Blob) -> Result<bool, TreeError> {
        if self.overlay.get(repository, &blob.digest) != Some(blob) {
            return Ok(false);
        }
        self.settle(repository, blob);
        if !self.holds_blob(&blob.digest).await? {
            self.forgotten.push((blob.digest.clone(), blob.cid));
        }
        Ok(true)
    }

    /// The digests below a directory of algorithms; what is none is passed over.
    async fn digests(&self, view: &View, path: layout::Path) -> Result<Vec<Digest>, TreeError> {
        let Some(storage) = view.storage().await? else { return Ok(Vec::new()) };
        let Some(top) = self.reader.find(&storage, &path).await? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for algorithm in self.reader.list(&top.cid).await? {
            for entry in self.reader.list(&algorithm.cid).await? {
                found.extend(format!("{}:{}", algorithm.name, entry.name).parse::<Digest>());
            }
        }
        Ok(found)
    }
}
