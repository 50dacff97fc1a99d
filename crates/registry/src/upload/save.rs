//! When an upload's state is written down for the next start.
//!
//! A record holds the CID of every leaf that is not under a node yet, up to 75 KB, and each costs a
//! flush. One for every chunk would cost a push more than its bytes do; so it is written when much
//! came since the last, when nothing comes any more, and at an orderly end.

use super::{Upload, UploadError, Uploads, engine::Engine, engine::Work, record};
use cidery_core::StoreError;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::task::{JoinHandle, spawn_blocking};

/// A saved state is at most about so many bytes behind an upload that goes on.
pub(super) const SAVE_EVERY: u64 = 64 << 20;

/// An upload that nobody touched for so long is saved up to its last leaf.
const IDLE: Duration = Duration::from_secs(2);

impl Upload {
    /// Bytes in leaves that a restart would not know.
    pub(super) fn unsaved(&self, engine: &Engine) -> u64 {
        engine.boundary().saturating_sub(self.saved.load(Ordering::Acquire))
    }
}

/// Uploads that are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenUploads {
    /// How many.
    pub count: u64,
    /// Bytes that came for them and that a restart now would lose.
    pub unsaved_bytes: u64,
}

impl Uploads {
    /// What is open.
    pub fn open(&self) -> OpenUploads {
        let open = self.open.lock();
        let unsaved = |upload: &Arc<Upload>| upload.received().saturating_sub(upload.saved.load(Ordering::Acquire));
        OpenUploads { count: open.len() as u64, unsaved_bytes: open.values().map(unsaved).sum() }
    }

    /// Saves those that are idle. One that is being written to is not.
    pub async fn save_idle(&self) {
        self.save_all(|upload| upload.idle() >= IDLE).await;
    }

    /// Saves what every open upload received, as far as whole leaves go; not what a request adds
    /// at the same time.
    pub async fn save_now(&self) {
        self.save_all(|_| true).await;
    }

    async fn save_all(&self, due: impl Fn(&Upload) -> bool) {
        let due: Vec<_> = self.open.lock().values().filter(|upload| due(upload)).cloned().collect();
        for upload in due {
            let Ok(mut work) = upload.work.clone().try_lock_owned() else { continue };
            if let Err(error) = self.save(&upload, &mut work, 1).await {
                tracing::warn!(id = upload.id, %error, "an upload could not be saved; a restart would lose its end");
            }
        }
    }

    /// Saves an upload of which at least `least` bytes are not. It asks for the work as its only
    /// user: what writes to the store can be sent to another thread, but not be shared with one.
    pub(super) async fn save(&self, upload: &Upload, work: &mut Work, least: u64) -> Result<(), UploadError> {
        let before = upload.saved.load(Ordering::Acquire);
        let saving = match &*work {
            Work::Active(engine) if upload.unsaved(engine) >= least => self.store_record(upload, engine),
            _ => return Ok(()),
        };
        let saved = saving.await;
        if !matches!(saved, Ok(Ok(()))) {
            // Due again; and not 0, as nobody knows how far it came.
            upload.saved.store(before.max(1), Ordering::Release);
        }
        Ok(saved??)
    }

    pub(super) fn store_record(&self, upload: &Upload, engine: &Engine) -> JoinHandle<Result<(), StoreError>> {
        upload.saved.store(engine.boundary(), Ordering::Release);
        let record = record::write(upload, engine);
        let roots = self.roots.clone();
        spawn_blocking(move || roots.save_upload(&record))
    }
}
