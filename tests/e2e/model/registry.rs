//! A registry as simple as it can be: what must be visible, to the owner and to others.

use std::collections::{BTreeMap, BTreeSet};

/// `sha256:<hex>`.
pub type Digest = String;

/// One repository.
#[derive(Clone, Default)]
pub struct Repository {
    pub blobs: BTreeMap<Digest, Part>,
    pub manifests: BTreeSet<Digest>,
    pub tags: BTreeMap<String, Digest>,
    /// What may be there or not.
    pub unsure: BTreeSet<Digest>,
}

/// Whether a blob is part of the namespace's root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Not before a manifest names it.
    Link,
    Root,
    /// It was, and lost its last manifest: it will be taken out.
    Either,
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
    Collect,
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
                for named in manifest.blobs.iter().chain(&manifest.manifests) {
                    repository.blobs.entry(named.clone()).and_modify(|part| *part = Part::Root);
                }
                201
            }
            Step::DeleteTag { repository, tag } => deleted(self.at(repository).tags.remove(tag).is_some()),
            Step::DeleteManifest { repository, digest } => {
                let known = &self.known;
                let repository = self.repositories.get_mut(repository).unwrap();
                repository.tags.retain(|_, tagged| tagged != digest);
                let there = repository.manifests.remove(digest);
                let named = |manifest: &Digest| known[manifest].blobs.iter().chain(&known[manifest].manifests);
                let still: BTreeSet<&Digest> = repository.manifests.iter().flat_map(named).collect();
                for (blob, part) in &mut repository.blobs {
                    if *part == Part::Root && !still.contains(blob) {
                        *part = Part::Either;
                    }
                }
                deleted(there)
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
            Step::Collect => {
                for part in self.repositories.values_mut().flat_map(|repository| repository.blobs.values_mut()) {
                    if *part == Part::Either {
                        *part = Part::Link;
                    }
                }
                200
            }
            Step::Restart => 200,
        }
    }

    /// What a root of this moment shows: the blobs that its manifests name.
    pub fn in_root(&self) -> BTreeMap<String, Repository> {
        let mut repositories = self.repositories.clone();
        for repository in repositories.values_mut() {
            let either = repository.blobs.iter().filter(|(_, part)| **part == Part::Either);
            repository.unsure.extend(either.map(|(blob, _)| blob.clone()));
            repository.blobs.retain(|_, part| *part != Part::Link);
        }
        repositories
    }

    /// What is left of what an earlier root showed. Whatever was deleted from all repositories since is not
    /// served any more, but who fetched it before has it still.
    pub fn left_of(&self, view: &BTreeMap<String, Repository>) -> BTreeMap<String, Repository> {
        let mut view = view.clone();
        let mut here = BTreeSet::new();
        for repository in self.repositories.values() {
            here.extend(&repository.manifests);
            here.extend(repository.blobs.iter().filter(|(_, part)| **part == Part::Root).map(|(blob, _)| blob));
        }
        for repository in view.values_mut() {
            let known = repository.blobs.keys().chain(&repository.manifests);
            let lost: Vec<Digest> = known.filter(|digest| !here.contains(digest)).cloned().collect();
            repository.unsure.extend(lost);
        }
        view
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
        self.blobs.entry(digest.to_owned()).or_insert(Part::Link);
        201
    }
}

fn deleted(there: bool) -> u16 {
    if there { 202 } else { 404 }
}
