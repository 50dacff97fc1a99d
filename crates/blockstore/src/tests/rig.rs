//! A store over a faulty disk, with a clock that stands still.

use crate::{
    DiskStore, OpenError, Options,
    disk::faulty::{Fate, FaultyDisk},
    index::memory::MemoryHome,
    store::Parts,
};
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) disk: FaultyDisk,
    pub(crate) home: MemoryHome,
    pub(crate) now: Arc<Mutex<SystemTime>>,
    pub(crate) options: Options,
}

impl Rig {
    /// Small packs, so that they fill.
    pub(crate) fn new() -> Self {
        Self {
            disk: FaultyDisk::default(),
            home: MemoryHome::default(),
            now: Arc::new(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_000_000))),
            options: Options { pack_size: 600 << 10, history: 3, collect_after: None, ..Options::default() },
        }
    }

    /// With an index that survives a restart.
    pub(crate) fn with_kept_index() -> Self {
        Self { home: MemoryHome::kept(), ..Self::new() }
    }

    pub(crate) fn open(&self) -> Result<DiskStore, OpenError> {
        let now = self.now.clone();
        let parts = Parts {
            disk: Arc::new(self.disk.clone()),
            index: Box::new(self.home.clone()),
            options: self.options.clone(),
            clock: Arc::new(move || *now.lock()),
        };
        DiskStore::assemble(parts, None)
    }

    /// The rig with its disk as it comes up after a power cut now.
    pub(crate) fn after_power_cut(&self, fate: Fate) -> Self {
        Self { disk: self.disk.after_power_cut(fate), home: self.home.after_power_cut(), ..self.clone() }
    }
}
