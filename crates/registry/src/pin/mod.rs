//! Keeping an image, or any tree of files and directories, by hand.
//!
//! ```text
//!   NAME ──► as a pull: tag ──► manifests ──► blobs, fetched and checked    keeper.rs: held meanwhile
//!   CID  ──► every block below it, fetched                                  dag.rs
//!        ──► RootStore::pin, which journals what is kept once all of it is here
//! ```
//!
//! Of an image its blobs are kept, for all platforms, and the way to them: the nodes of the tree that a pull
//! reads. So it can be pulled by its root's CID when nobody else has it any more.

mod dag;
mod error;
mod keeper;

pub use error::PinError;
pub(crate) use keeper::Keeper;

use crate::{
    Error, names,
    pull::{Progress, Wanted},
    registry::{Registry, Source},
};
use cidery_core::{Cid, Hold, Pin, Pinned, Scope, SessionSpec};
use keeper::Recorder;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// How far a pin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinning {
    /// An image, in bytes.
    Image(Progress),
    /// A tree, in blocks.
    Blocks {
        /// Those that are here.
        done: u64,
        /// Those that are known of.
        total: u64,
    },
}

/// What can be pinned.
enum Target {
    Image,
    Dag(Cid),
}

/// Reads a name; gives it in full, which is what the pin is called.
fn target(text: &str) -> Result<(Target, String), PinError> {
    if let Ok(cid) = Cid::try_from(text) {
        return Ok((Target::Dag(cid), cid.to_string()));
    }
    let (name, reference) = names::image(text)?;
    Ok((Target::Image, names::full(&name, &reference)))
}

impl Registry {
    /// Fetches an image by its name, or all that is below a CID, and keeps it until it is unpinned. Again, it is
    /// what the name stands for now that is kept. Dropping the future stops it, and leaves what was.
    ///
    /// # Errors
    /// As for [`Registry::pull`], or when something of it was deleted here.
    pub async fn pin(&self, name: &str, mut progress: impl FnMut(Pinning) + Send) -> Result<Pinned, PinError> {
        let (target, full) = target(name)?;
        let hold = self.inner.blocks.hold();
        let pin = match target {
            Target::Image => self.keep_image(full, &hold, |now| progress(Pinning::Image(now))).await?,
            Target::Dag(root) => {
                let spec = SessionSpec { root, hints: Vec::new(), scope: Scope::Owner };
                hold.keep_all(&root);
                let fetcher = Keeper { fetcher: self.inner.network.session(spec), hold: hold.clone() };
                let told = |done, total| progress(Pinning::Blocks { done, total });
                let withdrawn = |cid: &Cid| self.inner.roots.is_forgotten(cid);
                let bytes = dag::fetch(&fetcher, root, withdrawn, told).await?;
                Pin { name: full, root, roots: vec![root], blocks: Vec::new(), bytes }
            }
        };
        let (roots, name) = (self.inner.roots.clone(), pin.name.clone());
        let pinned = spawn_blocking(move || {
            let pinned = roots.pin(&pin);
            // Until it is journalled, also if nobody waits for that any more.
            drop(hold);
            pinned
        });
        pinned.await?.map_err(|source| PinError::NotKept { name, source })
    }

    async fn keep_image(
        &self,
        name: String,
        hold: &Arc<dyn Hold>,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Pin, Error> {
        let (opened, reference) = self.inner.find(&name).await?;
        let keeper = Keeper { fetcher: self.inner.fetcher(&opened), hold: hold.clone() };
        let fetcher = Arc::new(keeper);
        let recorder = Arc::new(Recorder::new(fetcher.clone()));
        let snapshot = opened.held_snapshot(&**hold).through(recorder.clone());
        let no_manifest = || Error::NoManifest { name: name.clone(), reference: reference.to_string() };
        let root = snapshot.named().await?.ok_or_else(no_manifest)?;
        let image = Wanted {
            name: &name,
            opened: &opened,
            reference: &reference,
            snapshot,
            fetcher,
            hold: matches!(opened.source, Source::Foreign(_)).then(|| hold.clone()),
        };
        let fetched = self.inner.fetch_image(&image, progress).await?;
        let mut roots: Vec<Cid> = fetched.blobs.iter().map(|blob| blob.cid).collect();
        roots.sort_unstable();
        roots.dedup();
        let bytes = fetched.bytes;
        drop(image);
        Ok(Pin { name, root, roots, blocks: recorder.blocks(), bytes })
    }

    /// Takes a pin back: what nothing else needs becomes a cache again, or goes.
    ///
    /// # Errors
    /// When there is none of this name, or the store fails.
    pub async fn unpin(&self, name: &str) -> Result<String, PinError> {
        let (_, full) = target(name)?;
        let (roots, wanted) = (self.inner.roots.clone(), full.clone());
        let was = spawn_blocking(move || roots.unpin(&wanted)).await??;
        if was { Ok(full) } else { Err(PinError::NotPinned(full)) }
    }

    /// What is pinned, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pins(&self) -> Result<Vec<Pinned>, PinError> {
        let roots = self.inner.roots.clone();
        Ok(spawn_blocking(move || roots.pins()).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_called_by_the_whole_name() {
        let full = |text: &str| target(text).map(|(target, full)| (matches!(target, Target::Dag(_)), full));
        let cid = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(full("example.com/app").unwrap(), (false, "example.com/app:latest".into()));
        assert_eq!(full(&format!("{cid}/app:1")).unwrap(), (false, format!("{cid}/app:1")));
        assert_eq!(full(&format!("app:1@{digest}")).unwrap(), (false, format!("app:1@{digest}").replace(":1@", "@")));
        assert_eq!(full(cid).unwrap(), (true, cid.into()));
        assert!(full("app:").is_err());
    }
}
