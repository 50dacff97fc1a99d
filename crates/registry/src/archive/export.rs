//! Writes images and trees out.

use super::{
    ArchiveError, Format, Meter, Report, docker_out,
    names::latest,
    oci_out,
    one_image::OneImage,
    tree_out::{self, Check},
    walk::{Holdings, Image},
};
use crate::{
    names,
    tree::{Blob, Descriptor, Manifest, Snapshot},
};
use cidery_core::{Cid, Digest, Fetcher, Reference, RepositoryName};
use std::{io::Write, sync::Arc};
use tokio::runtime::Handle;

/// Where an image is exported from.
#[derive(Clone)]
pub struct Source {
    /// The namespace as it is, own or foreign.
    pub snapshot: Snapshot,
    /// Gives the blocks of that namespace: the local store, or a session.
    pub fetcher: Arc<dyn Fetcher>,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Bytes written.
    pub bytes: u64,
    /// Digest of the manifest that was written, for an image. [`Format::Docker`] writes no manifest: the one it was made from.
    pub digest: Option<Digest>,
    /// The one platform of a multi-platform image that was chosen ([`Format::Docker`]).
    pub platform: Option<String>,
    /// Root of the tree, where one was written ([`Format::Registry`], [`Format::Car`]).
    pub root: Option<Cid>,
}

/// An image that is being written.
pub(super) struct Job<'a> {
    pub(super) handle: &'a Handle,
    pub(super) source: &'a Source,
    pub(super) repository: &'a RepositoryName,
    pub(super) reference: &'a Reference,
    /// The manifest that the reference stands for.
    pub(super) top: Arc<Manifest>,
}

/// Writes one image. Runs on a blocking thread; `handle`, of a multi-threaded runtime, drives what
/// has to be fetched.
///
/// # Errors
/// What was written by then is incomplete and must be thrown away.
pub fn export_image(
    handle: &Handle,
    source: &Source,
    repository: &RepositoryName,
    reference: &Reference,
    format: Format,
    out: &mut (dyn Write + Send),
    progress: &mut Report<'_>,
) -> Result<Exported, ArchiveError> {
    let found = handle.block_on(source.snapshot.manifest(repository, reference))?;
    let top = found.ok_or_else(|| ArchiveError::NotFound { image: names::full(repository, reference) })?;
    let job = Job { handle, source, repository, reference, top };
    match format {
        Format::Oci => oci_out::write(&job, out, progress),
        Format::Docker => docker_out::write(&job, out, progress),
        Format::Registry => {
            let one = OneImage::build(&job, job.image(&job.top)?)?;
            let mut meter = Meter::new(progress, Some(one.bytes));
            let mut exported = tree_out::tar(handle, one.fetcher(), one.root, Check::Blobs, &mut meter, out)?;
            exported.digest = Some(job.top.digest.clone());
            Ok(exported)
        }
        Format::Car => {
            let one = OneImage::build(&job, job.image(&job.top)?)?;
            let mut meter = Meter::new(progress, Some(one.bytes));
            let mut exported = tree_out::car(handle, one.fetcher(), one.root, &mut meter, out)?;
            exported.digest = Some(job.top.digest.clone());
            Ok(exported)
        }
    }
}

/// Writes whatever is below a CID: [`Format::Registry`] for a tar of its files and directories,
/// [`Format::Car`] for its blocks.
///
/// # Errors
/// What was written by then is incomplete and must be thrown away.
pub fn export_cid(
    handle: &Handle,
    fetcher: Arc<dyn Fetcher>,
    cid: Cid,
    format: Format,
    out: &mut (dyn Write + Send),
    progress: &mut Report<'_>,
) -> Result<Exported, ArchiveError> {
    match format {
        Format::Registry => tree_out::tar(handle, fetcher, cid, Check::Nothing, &mut Meter::new(progress, None), out),
        Format::Car => tree_out::car(handle, fetcher, cid, &mut Meter::new(progress, None), out),
        Format::Oci | Format::Docker => Err(ArchiveError::Unsupported(format!(
            "a CID stands for a whole tree, and this format holds an image: name one in it, as in {cid}/app:{}",
            latest()
        ))),
    }
}

impl Job<'_> {
    /// What the image is called in messages and annotations.
    pub(super) fn name(&self) -> String {
        names::full(self.repository, self.reference)
    }

    /// Everything below a manifest; all of it must be there.
    pub(super) fn image(&self, manifest: &Arc<Manifest>) -> Result<Image, ArchiveError> {
        Image::walk(manifest.clone(), self)?.complete(&self.name())
    }

    /// A meter that knows how much there is.
    pub(super) fn meter<'m>(&self, image: &Image, progress: &'m mut Report<'m>) -> Meter<'m> {
        Meter::new(progress, Some(image.bytes()))
    }
}

impl Holdings for Job<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Option<Arc<Manifest>>, ArchiveError> {
        let reference = Reference::Digest(descriptor.digest.clone());
        Ok(self.handle.block_on(self.source.snapshot.manifest(self.repository, &reference))?)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Option<Blob>, ArchiveError> {
        Ok(self.handle.block_on(self.source.snapshot.blob(self.repository, &descriptor.digest))?)
    }
}
