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
    /// It was, and lost its last manifest: it will be taken out; or it came after a manifest that names it: it is
    /// taken in now, or later.
    Either,
}

/// A manifest that may be pushed, and what it refers to.
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
            Step::PushBlob { repository, digest, .. } => self.link(repository, digest),
            Step::PushWrong { .. } => 400,
            Step::Mount { repository, digest, from } => {
                if self.at(from).blobs.contains_key(digest) {
                    self.link(repository, digest)
                } else {
                    202
                }
            }
            Step::PushManifest { repository, digest, tag } => {
                let manifest = self.known[digest].clone();
                let repository = self.at(repository);
                repository.manifests.insert(digest.clone());
                repository.tags.extend(tag.iter().map(|tag| (tag.clone(), digest.clone())));
                for named in manifest.blobs.iter().chain(&manifest.manifests) {
                    repository.blobs.entry(named.clone()).and_modify(|part| *part = Part::Root);
                }
                201
            }
            Step::DeleteTag { repository, tag } => deleted(self.at(repository).tags.remove(tag).is_some()),
            Step::DeleteManifest { repository, digest } => {
                if self.repositories[repository].manifests.contains(digest) && self.is_named(repository, digest) {
                    return 405;
                }
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
            Step::DeleteBlob { repository, digest } => {
                if self.repositories[repository].blobs.contains_key(digest) && self.is_named(repository, digest) {
                    return 405;
                }
                deleted(self.at(repository).blobs.remove(digest).is_some())
            }
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
                for name in self.repositories.keys().cloned().collect::<Vec<_>>() {
                    let blobs = self.repositories[&name].blobs.keys().cloned().collect::<Vec<_>>();
                    for blob in blobs {
                        let part = if self.is_named(&name, &blob) { Part::Root } else { Part::Link };
                        self.at(&name).blobs.insert(blob, part);
                    }
                }
                200
            }
            Step::Restart => 200,
        }
    }

    /// What the owner is shown.
    pub fn to_owner(&self) -> BTreeMap<String, Repository> {
        let mut repositories = self.repositories.clone();
        self.doubt_what_lacks(&mut repositories);
        repositories
    }

    /// What a manifest names and nobody pushed may be had from peers that happen to have it.
    fn doubt_what_lacks(&self, repositories: &mut BTreeMap<String, Repository>) {
        for repository in repositories.values_mut() {
            let names = |manifest: &Digest| self.known[manifest].blobs.iter().chain(&self.known[manifest].manifests);
            let named = repository.manifests.iter().flat_map(names);
            let lacking =
                named.filter(|named| !repository.blobs.contains_key(*named) && !repository.manifests.contains(*named));
            let lacking: Vec<Digest> = lacking.cloned().collect();
            repository.unsure.extend(lacking);
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
        self.doubt_what_lacks(&mut repositories);
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

    /// Whether a manifest of the repository refers to it.
    fn is_named(&self, repository: &str, digest: &str) -> bool {
        let names = |manifest: &Digest| {
            let Manifest { blobs, manifests, .. } = &self.known[manifest];
            blobs.iter().chain(manifests).any(|named| named == digest)
        };
        self.repositories[repository].manifests.iter().any(names)
    }

    fn link(&mut self, repository: &str, digest: &str) -> u16 {
        let part = if self.is_named(repository, digest) { Part::Either } else { Part::Link };
        self.at(repository).blobs.entry(digest.to_owned()).or_insert(part);
        201
    }

    fn at(&mut self, name: &str) -> &mut Repository {
        self.repositories.get_mut(name).unwrap()
    }
}

fn deleted(there: bool) -> u16 {
    if there { 202 } else { 404 }
}
