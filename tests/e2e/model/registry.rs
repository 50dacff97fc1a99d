//! A registry as simple as it can be: what must be visible, to the owner and to others.

use std::collections::{BTreeMap, BTreeSet};

/// `sha256:<hex>`.
pub type Digest = String;

/// One repository.
#[derive(Clone, Default)]
pub struct Repository {
    /// Its blobs, and whether each is part of the namespace's root: it is from the next manifest on.
    pub blobs: BTreeMap<Digest, bool>,
    pub manifests: BTreeSet<Digest>,
    pub tags: BTreeMap<String, Digest>,
}

/// A manifest that may be pushed, and what must be in the repository then.
#[derive(Clone)]
pub struct Manifest {
    pub bytes: Vec<u8>,
    pub kind: &'static str,
    pub blobs: Vec<Digest>,
    pub manifests: Vec<Digest>,
}

/// What others may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Publication {
    Private,
    /// The root, whatever it is.
    All,
    /// This root.
    Once(String),
}

/// What a client or the owner does.
#[derive(Clone, Debug)]
pub enum Step {
    /// A blob in one piece, in a single request, or in chunks of some size.
    PushBlob {
        repository: String,
        digest: Digest,
        chunk: Chunk,
    },
    /// Bytes that do not have the digest they are said to have.
    PushWrong {
        repository: String,
        digest: Digest,
    },
    Mount {
        repository: String,
        digest: Digest,
        from: String,
    },
    PushManifest {
        repository: String,
        digest: Digest,
        tag: Option<String>,
    },
    DeleteTag {
        repository: String,
        tag: String,
    },
    DeleteManifest {
        repository: String,
        digest: Digest,
    },
    DeleteBlob {
        repository: String,
        digest: Digest,
    },
    Publish {
        once: bool,
    },
    Unpublish,
    Restart,
}

#[derive(Clone, Copy, Debug)]
pub enum Chunk {
    Whole,
    OneRequest,
    Bytes(usize),
}

/// All repositories of a namespace.
#[derive(Clone)]
pub struct Registry {
    pub repositories: BTreeMap<String, Repository>,
    pub publication: Publication,
    /// Every manifest that was made up so far, whether it was pushed or not.
    pub known: BTreeMap<Digest, Manifest>,
}

impl Registry {
    /// Repositories of these names with nothing in them.
    pub fn new(names: &[&str]) -> Self {
        Self {
            repositories: names.iter().map(|name| ((*name).to_owned(), Repository::default())).collect(),
            publication: Publication::Private,
            known: BTreeMap::new(),
        }
    }

    /// Does it, and says with which status it is answered; commands that succeed count as 200.
    pub fn take(&mut self, step: &Step, root: &str) -> u16 {
        match step {
            Step::PushBlob { repository, digest, .. } => self.at(repository).link(digest),
            Step::PushWrong { .. } => 400,
            Step::Mount { repository, digest, from } => {
                if self.at(from).blobs.contains_key(digest) {
                    self.at(repository).link(digest)
                } else {
                    202
                }
            }
            Step::PushManifest { repository, digest, tag } => {
                let manifest = self.known[digest].clone();
                let repository = self.at(repository);
                let there = manifest.blobs.iter().all(|blob| repository.blobs.contains_key(blob))
                    && manifest
                        .manifests
                        .iter()
                        .all(|child| repository.manifests.contains(child) || repository.blobs.contains_key(child));
                if !there {
                    return 400;
                }
                repository.manifests.insert(digest.clone());
                repository.tags.extend(tag.iter().map(|tag| (tag.clone(), digest.clone())));
                repository.blobs.values_mut().for_each(|in_root| *in_root = true);
                201
            }
            Step::DeleteTag { repository, tag } => deleted(self.at(repository).tags.remove(tag).is_some()),
            Step::DeleteManifest { repository, digest } => {
                let repository = self.at(repository);
                repository.tags.retain(|_, tagged| tagged != digest);
                deleted(repository.manifests.remove(digest))
            }
            Step::DeleteBlob { repository, digest } => deleted(self.at(repository).blobs.remove(digest).is_some()),
            Step::Publish { once } => {
                self.publication = if *once { Publication::Once(root.to_owned()) } else { Publication::All };
                200
            }
            Step::Unpublish if self.publication == Publication::Private => 422,
            Step::Unpublish => {
                self.publication = Publication::Private;
                200
            }
            Step::Restart => 200,
        }
    }

    /// What a root of this moment shows: no blob that came after the last manifest.
    pub fn in_root(&self) -> BTreeMap<String, Repository> {
        let mut repositories = self.repositories.clone();
        repositories.values_mut().for_each(|repository| repository.blobs.retain(|_, in_root| *in_root));
        repositories
    }

    /// The root that is public, if the namespace's is `root`.
    pub fn public_root<'a>(&'a self, root: &'a str) -> Option<&'a str> {
        match &self.publication {
            Publication::Private => None,
            Publication::All => Some(root),
            Publication::Once(once) => Some(once),
        }
    }

    fn at(&mut self, name: &str) -> &mut Repository {
        self.repositories.get_mut(name).unwrap()
    }
}

impl Repository {
    fn link(&mut self, digest: &str) -> u16 {
        self.blobs.entry(digest.to_owned()).or_insert(false);
        201
    }
}

fn deleted(there: bool) -> u16 {
    if there { 202 } else { 404 }
}
