//! One pass over a tar: its files go into the store as they come, in whatever order, and only where
//! each lies is remembered.

use super::{
    ArchiveError, Meter,
    content::{Content, Stored, store, store_checked},
    docker_out::MANIFEST_FILE,
    oci_out::{INDEX_FILE, LAYOUT_FILE},
    tar_in::{EntryKind, TarReader},
};
use cidery_core::{BlockWriter, Bytes, Digest, Fetcher};
use std::{
    collections::HashMap,
    io::{self, Read},
    sync::Arc,
};
use tokio::runtime::Handle;

/// The largest `index.json` or `manifest.json` that is read, in bytes.
const MAX_JSON: u64 = 4 << 20;
/// Links that lead to links.
const MAX_HOPS: usize = 8;
/// Bytes after the end of the archive that are read, so that whoever writes it can finish.
const MAX_TRAILER: u64 = 1 << 20;

/// What an archive holds.
#[derive(Default)]
pub(super) struct Scan {
    files: HashMap<String, Stored>,
    aliases: HashMap<String, String>,
    /// `index.json`.
    pub(super) index: Option<Bytes>,
    /// `manifest.json`.
    pub(super) manifest: Option<Bytes>,
    /// The directory that holds a layout, where it isn't the archive's top.
    folder: Option<String>,
}

impl Scan {
    pub(super) fn read(
        input: impl Read,
        writer: &mut dyn BlockWriter,
        meter: &mut Meter<'_>,
    ) -> Result<Self, ArchiveError> {
        let mut scan = Self::default();
        let mut tar = TarReader::new(input);
        while let Some(entry) = tar.next_entry()? {
            match entry.kind {
                EntryKind::File if entry.path == INDEX_FILE => scan.index = Some(json(&mut tar, INDEX_FILE)?),
                EntryKind::File if entry.path == MANIFEST_FILE => scan.manifest = Some(json(&mut tar, MANIFEST_FILE)?),
                EntryKind::File => {
                    let mut report = |bytes| meter.add(&entry.path, bytes);
                    let stored = match digest_in(&entry.path) {
                        Some(digest) => {
                            store_checked(&format!("the entry {}", entry.path), &mut tar, &digest, writer, &mut report)?
                        }
                        None => store(&mut tar, None, writer, &mut report)?,
                    };
                    scan.note_folder(&entry.path);
                    scan.aliases.remove(&entry.path);
                    scan.files.insert(entry.path, stored);
                }
                EntryKind::Alias(target) => {
                    scan.files.remove(&entry.path);
                    scan.aliases.insert(entry.path, target);
                }
                EntryKind::Other => {}
            }
        }
        io::copy(&mut tar.into_input().take(MAX_TRAILER), &mut io::sink()).map_err(ArchiveError::from_input)?;
        Ok(scan)
    }

    /// A file by its path, through links.
    pub(super) fn file(&self, path: &str) -> Option<&Stored> {
        let mut path = path;
        for _ in 0..=MAX_HOPS {
            if let Some(stored) = self.files.get(path) {
                return Some(stored);
            }
            path = self.aliases.get(path)?;
        }
        None
    }

    /// A blob of an OCI layout, if it really is that blob: a link can lead elsewhere.
    pub(super) fn blob(&self, digest: &Digest) -> Option<&Stored> {
        self.file(&super::oci_out::blob_path(digest)).filter(|stored| stored.blob.digest == *digest)
    }

    /// Why this is no archive of images.
    pub(super) fn unrecognised(&self) -> ArchiveError {
        let found = match &self.folder {
            Some(folder) => format!(
                "it is a tar with the layout in the folder {folder:?}; make it from inside that folder (tar -C {folder} -cf image.tar .)"
            ),
            None => format!("it is a tar without {INDEX_FILE} and {MANIFEST_FILE}"),
        };
        ArchiveError::Unrecognised { found }
    }

    fn note_folder(&mut self, path: &str) {
        if let Some((folder, LAYOUT_FILE | INDEX_FILE | MANIFEST_FILE)) = path.rsplit_once('/') {
            self.folder = Some(folder.to_owned());
        }
    }
}

/// Reads a small stored file back.
pub(super) fn load(
    handle: &Handle,
    fetcher: &Arc<dyn Fetcher>,
    stored: &Stored,
    what: &str,
    limit: u64,
) -> Result<Bytes, ArchiveError> {
    Content::open(handle, fetcher, &stored.blob.cid)?.small(what, limit)
}

fn json(tar: &mut dyn Read, what: &str) -> Result<Bytes, ArchiveError> {
    let mut bytes = Vec::new();
    tar.take(MAX_JSON + 1).read_to_end(&mut bytes).map_err(ArchiveError::from_input)?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(ArchiveError::TooLarge { what: what.into(), limit: MAX_JSON });
    }
    Ok(bytes.into())
}

/// The digest that a path of an OCI layout promises.
fn digest_in(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
