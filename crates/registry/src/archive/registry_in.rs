//! Images of a CAR whose root is a registry's tree: one exported here, or a whole namespace's.
//! Blobs are read through and chunked again, which proves their digests and gives a file of another
//! writer's making the CID it has on every machine; for files of this profile no block is new.

use super::{
    ArchiveError, Meter,
    content::{Content, store_checked},
    import::{Candidate, Input},
    oci_in::Budget,
    walk::{Holdings, Image},
};
use crate::tree::{Blob, Descriptor, Manifest, NodeCache, Snapshot, TreeError, layout};
use cidery_core::{BlockWriter, Cid, Digest, FetchError, Reference, RepositoryName};
use cidery_unixfs::{Kind, UnixfsError, car, list, resolve, stat};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{self, Read},
    sync::Arc,
};

/// Names listed at once.
const PAGE: usize = 1000;

/// Whether bytes can be the start of a CAR: a length, and a CBOR map that starts with one of its keys.
pub(super) fn looks_like_car(first: &[u8]) -> bool {
    let length = first.iter().take(5).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    matches!(first.get(length..), Some([0xa1 | 0xa2, 0x65, b'r', b'o', b'o', b't', b's', ..]))
        || matches!(first.get(length..), Some([0xa1 | 0xa2, 0x67, b'v', b'e', b'r', b's', b'i', b'o', b'n', ..]))
}

pub(super) fn read(work: &Input<'_>, input: impl Read, meter: &mut Meter<'_>) -> Result<Vec<Candidate>, ArchiveError> {
    let mut writer = work.writer()?;
    let root = store_blocks(input, &mut *writer, meter)?;
    images(work, root, writer).map_err(lacking)
}

/// The images of a tree whose blocks are stored.
fn images(work: &Input<'_>, root: Cid, writer: Box<dyn BlockWriter>) -> Result<Vec<Candidate>, ArchiveError> {
    let prefix = storage(work, &root)?;
    let snapshot = Snapshot::foreign(work.fetcher.clone(), root, &[], Arc::new(NodeCache::default()));
    let mut found = Vec::new();
    let mut held = Budget::default();
    let verified = RefCell::new(HashMap::new());
    let writer = RefCell::new(writer);
    let mut after: Option<String> = None;
    loop {
        let page = work.handle.block_on(snapshot.repositories(after.as_deref(), PAGE))?;
        for repository in &page {
            let holdings = Repository {
                work,
                snapshot: &snapshot,
                name: repository,
                writer: &writer,
                verified: &verified,
                walked: RefCell::default(),
            };
            holdings.images(&prefix, &mut held, &mut found)?;
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.to_string()),
            _ => break,
        }
    }
    if found.is_empty() {
        return Err(ArchiveError::NotARegistry { root, found: "a registry tree without images".into() });
    }
    Ok(found)
}

/// Stores every block; the root.
fn store_blocks(input: impl Read, writer: &mut dyn BlockWriter, meter: &mut Meter<'_>) -> Result<Cid, ArchiveError> {
    let reader = car::Reader::new(input)?;
    let root = match reader.roots() {
        [root] => *root,
        roots => {
            return Err(ArchiveError::malformed(
                "the CAR",
                format!("it has {} roots, where one is needed", roots.len()),
            ));
        }
    };
    let item = root.to_string();
    for block in reader {
        let block = block?;
        writer.put(&block)?;
        meter.add(&item, block.data().len() as u64);
    }
    Ok(root)
}

/// Where below the root the storage directory is; an error that says what is there instead.
fn storage(work: &Input<'_>, root: &Cid) -> Result<Vec<String>, ArchiveError> {
    let at = |path: &[&str]| work.handle.block_on(resolve(&*work.fetcher, root, path));
    let shown = |found: String| Err(ArchiveError::NotARegistry { root: *root, found });
    match work.handle.block_on(stat(&*work.fetcher, root)) {
        Ok(Kind::Directory) => {}
        Ok(Kind::File { size }) => return shown(format!("a file of {size} bytes")),
        Ok(Kind::Symlink(_)) => return shown("a symbolic link".into()),
        Err(UnixfsError::Fetch(FetchError::NotFound(_))) => {
            return shown("a block that is not in the CAR".into());
        }
        Err(error) => return shown(format!("no UnixFS ({error})")),
    }
    for prefix in [&layout::PREFIX[..], &[]] {
        if at(&[prefix, &["repositories"]].concat())?.is_some() {
            return Ok(prefix.iter().map(|part| (*part).to_owned()).collect());
        }
    }
    let names: Vec<String> =
        work.handle.block_on(list(&*work.fetcher, root))?.into_iter().map(|entry| entry.name).collect();
    shown(format!("a directory with {} entries ({})", names.len(), super::error::shortened(&names)))
}

/// One repository of the CAR's tree.
struct Repository<'a> {
    work: &'a Input<'a>,
    snapshot: &'a Snapshot,
    name: &'a RepositoryName,
    writer: &'a RefCell<Box<dyn BlockWriter>>,
    /// Blobs that have the digest they are named by.
    verified: &'a RefCell<HashMap<Digest, Blob>>,
    /// Images that were walked: several tags can stand for one.
    walked: RefCell<HashMap<Digest, Arc<Image>>>,
}

impl Repository<'_> {
    /// All its tags; then what is no part of a tagged image: untagged images, and referrers.
    fn images(&self, prefix: &[String], held: &mut Budget, found: &mut Vec<Candidate>) -> Result<(), ArchiveError> {
        let mut covered = HashSet::new();
        let mut after: Option<String> = None;
        loop {
            let tags = self.work.handle.block_on(self.snapshot.tags(self.name, after.as_deref(), PAGE))?;
            let tags = tags.unwrap_or_default();
            for tag in &tags {
                let what = format!("{}:{tag}", self.name);
                let image = self.image(&Reference::Tag(tag.clone()), &what, held)?;
                covered.extend(image.manifests.iter().map(|manifest| manifest.digest.clone()));
                found.push(self.candidate(Some(tag.clone()), what, image));
            }
            match tags.last() {
                Some(last) if tags.len() == PAGE => after = Some(last.to_string()),
                _ => break,
            }
        }
        let mut untagged = Vec::new();
        for digest in self.revisions(prefix)? {
            if !covered.contains(&digest) {
                let what = format!("{}@{digest}", self.name);
                let image = self.image(&Reference::Digest(digest), &what, held)?;
                untagged.push(self.candidate(None, what, image));
            }
        }
        // The children of an untagged index come with it.
        let inner: HashSet<Digest> =
            untagged.iter().flat_map(|c| c.image.manifests.iter().rev().skip(1).map(|m| m.digest.clone())).collect();
        found.extend(untagged.into_iter().filter(|candidate| !inner.contains(&candidate.digest)));
        Ok(())
    }

    fn candidate(&self, tag: Option<cidery_core::Tag>, what: String, image: Arc<Image>) -> Candidate {
        // A walk ends with the manifest it started from.
        let digest = image.manifests.last().map(|top| top.digest.clone()).expect("an image has a manifest");
        Candidate { repository: Some(self.name.clone()), tag, what, digest, image, platform: None }
    }

    fn image(&self, reference: &Reference, what: &str, held: &mut Budget) -> Result<Arc<Image>, ArchiveError> {
        let missing = || ArchiveError::Missing { image: what.into(), missing: vec![reference.to_string()] };
        let top = self.work.handle.block_on(self.snapshot.manifest(self.name, reference))?.ok_or_else(missing)?;
        if let Some(known) = self.walked.borrow().get(&top.digest) {
            return Ok(known.clone());
        }
        let digest = top.digest.clone();
        let image = Arc::new(Image::walk(top, self)?.complete(what)?);
        held.take(&image)?;
        self.walked.borrow_mut().insert(digest, image.clone());
        Ok(image)
    }

    /// The digests of `_manifests/revisions`, which the registry's API does not list.
    fn revisions(&self, prefix: &[String]) -> Result<Vec<Digest>, ArchiveError> {
        let mut digests = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let mut path: Vec<String> = [prefix, &layout::repository(self.name)].concat();
            path.extend(["_manifests", "revisions", algorithm].map(str::to_owned));
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let (handle, fetcher) = (self.work.handle, &*self.work.fetcher);
            let root = self.snapshot.root().ok_or_else(|| ArchiveError::malformed("the CAR", "it has no root"))?;
            let Some(directory) = handle.block_on(resolve(fetcher, &root, &path))? else { continue };
            for entry in handle.block_on(list(fetcher, &directory.cid))? {
                // Anything else is not a revision, and nobody looks it up.
                digests.extend(format!("{algorithm}:{}", entry.name).parse::<Digest>());
            }
        }
        Ok(digests)
    }
}

impl Holdings for Repository<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Option<Arc<Manifest>>, ArchiveError> {
        let reference = Reference::Digest(descriptor.digest.clone());
        Ok(self.work.handle.block_on(self.snapshot.manifest(self.name, &reference))?)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Option<Blob>, ArchiveError> {
        let digest = &descriptor.digest;
        if let Some(blob) = self.verified.borrow().get(digest) {
            return Ok(Some(blob.clone()));
        }
        let Some(claimed) = self.work.handle.block_on(self.snapshot.blob(self.name, digest))? else { return Ok(None) };
        let mut content = Content::open(self.work.handle, &self.work.fetcher, &claimed.cid)?;
        let mut writer = self.writer.borrow_mut();
        let stored = store_checked("the blob", &mut content, digest, &mut **writer, |_| {})?;
        self.verified.borrow_mut().insert(digest.clone(), stored.blob.clone());
        Ok(Some(stored.blob))
    }
}

/// Says of a block that was not found that the CAR should have had it.
fn lacking(error: ArchiveError) -> ArchiveError {
    let in_unixfs = |error: &UnixfsError| match error {
        UnixfsError::Fetch(FetchError::NotFound(cid)) => Some(*cid),
        _ => None,
    };
    let in_tree = |error: &TreeError| match error {
        TreeError::Fetch(FetchError::NotFound(cid)) => Some(*cid),
        TreeError::Unixfs(error) => in_unixfs(error),
        _ => None,
    };
    let cid = match &error {
        ArchiveError::Fetch(FetchError::NotFound(cid)) => Some(*cid),
        ArchiveError::Unixfs(error) => in_unixfs(error),
        ArchiveError::Tree(error) => in_tree(error),
        _ => None,
    };
    match cid {
        Some(cid) => ArchiveError::Missing { image: "the CAR".into(), missing: vec![cid.to_string()] },
        None => error,
    }
}

impl From<car::CarError> for ArchiveError {
    fn from(error: car::CarError) -> Self {
        match error {
            car::CarError::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Truncated { what: "a block of the CAR".into() }
            }
            error => Self::Car(error),
        }
    }
}
