//! What is damaged, in terms of images.

use crate::{
    error::Error,
    images::{manifests, name_of},
    purge::single_leaf,
    registry::Registry,
    tree::{Snapshot, Tree},
};
use cidery_core::{Cid, Fetcher, Multihash, Namespace, Reference, RepositoryName, codec, dag};
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// What some blocks belong to, in this node's own namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Images with a tag that need one of them, or of which nobody can tell since they cannot be read: their
    /// names, as in [`crate::Image::name`].
    pub images: Vec<String>,
    /// Namespaces in which one of them is something else: part of an image without a tag, of a blob without
    /// an image, or of the tree itself.
    pub namespaces: Vec<Namespace>,
}

/// Finds blocks below others, without the caches: those still have what the disk lost.
struct Search {
    local: Arc<dyn Fetcher>,
    wanted: HashSet<Multihash>,
}

impl Search {
    /// Which of the wanted blocks a root reaches, as far as the nodes in between can be read.
    fn below(&self, root: Cid) -> HashSet<Multihash> {
        let (mut found, mut seen, mut open) = (HashSet::new(), HashSet::new(), vec![root]);
        while let Some(cid) = open.pop() {
            if self.wanted.contains(cid.hash()) {
                found.insert(*cid.hash());
            } else if cid.codec() != codec::RAW
                && seen.insert(cid)
                && let Ok(Some(bytes)) = self.local.local(&cid)
            {
                open.extend(dag::links(&cid, &bytes).unwrap_or_default());
            }
        }
        found
    }
}

impl Registry {
    /// Finds out what blocks that are damaged belong to. What only earlier states need is not looked for.
    ///
    /// # Errors
    /// When a task of the registry fails. What cannot be read is taken for touched.
    pub async fn touched(&self, damaged: impl IntoIterator<Item = Cid>) -> Result<Touched, Error> {
        let wanted: HashSet<Multihash> = damaged.into_iter().map(|cid| *cid.hash()).collect();
        let mut touched = Touched::default();
        if wanted.is_empty() {
            return Ok(touched);
        }
        let search = Arc::new(Search { local: self.inner.local.clone(), wanted });
        for (namespace, tree) in &self.inner.trees {
            self.touched_in(namespace, tree, &search, &mut touched).await?;
        }
        Ok(touched)
    }

    async fn touched_in(
        &self,
        namespace: &Namespace,
        tree: &Tree,
        search: &Arc<Search>,
        touched: &mut Touched,
    ) -> Result<(), Error> {
        let snapshot = tree.snapshot();
        let mut open: HashSet<Multihash> = match snapshot.root() {
            Some(root) => below(search, root).await?,
            None => HashSet::new(),
        };
        let mut files: HashMap<Cid, HashSet<Multihash>> = HashMap::new();
        let listed = async {
            let mut images = Vec::new();
            for repository in snapshot.all_repositories().await? {
                for tag in snapshot.tags(&repository, None, usize::MAX).await?.unwrap_or_default() {
                    images.push((repository.clone(), tag));
                }
            }
            Ok::<_, Error>(images)
        };
        let Ok(images) = listed.await else {
            touched.namespaces.push(namespace.clone());
            return Ok(());
        };
        for (repository, tag) in images {
            let name = name_of(namespace, &repository, &tag);
            let cids = match files_of(&snapshot, &repository, &Reference::Tag(tag), &name).await {
                Ok(cids) => cids,
                Err(_) => {
                    touched.images.push(name);
                    continue;
                }
            };
            let mut needs = false;
            for cid in cids {
                let hashes = match files.entry(cid) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(below(search, cid).await?),
                };
                for hash in &*hashes {
                    open.remove(hash);
                    needs = true;
                }
            }
            if needs {
                touched.images.push(name);
            }
        }
        if !open.is_empty() {
            touched.namespaces.push(namespace.clone());
        }
        Ok(())
    }
}

async fn below(search: &Arc<Search>, root: Cid) -> Result<HashSet<Multihash>, Error> {
    let search = search.clone();
    Ok(spawn_blocking(move || search.below(root)).await?)
}

/// The files of an image's manifests and blobs.
async fn files_of(
    snapshot: &Snapshot,
    repository: &RepositoryName,
    reference: &Reference,
    name: &str,
) -> Result<Vec<Cid>, Error> {
    let Some(image) = manifests(snapshot, repository, reference, name).await? else { return Ok(Vec::new()) };
    let mut files: Vec<Cid> = image.all.iter().filter_map(|manifest| single_leaf(&manifest.digest)).collect();
    for (digest, _) in &image.blobs {
        files.extend(snapshot.blob(repository, digest).await?.map(|blob| blob.cid));
    }
    Ok(files)
}
