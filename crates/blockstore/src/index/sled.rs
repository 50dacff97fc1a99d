//! The index in sled 0.34.
//!
//! Three trees: the default one holds multihash → place, `checkpoints` pack id → checkpoint, and `meta`
//! the format of all this and the id of the store. sled can panic on damaged files; every call is
//! guarded, and a panic is a failure like any other.

use super::{Checkpoint, Index, IndexError, IndexHome, decode, decode_checkpoint, encode, encode_checkpoint};
use crate::{disk::create_private_dir, pack::Location};
use cidery_core::Multihash;
use std::{
    fs, io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Format of keys and values.
const VERSION: u64 = 1;
/// sled's threads may hold the lock of a database that was just dropped for a moment longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A directory for sled.
pub(crate) struct SledHome {
    pub(crate) path: PathBuf,
    /// Bytes of memory for its cache.
    pub(crate) cache: u64,
}

struct SledIndex {
    // In the order they have to be dropped in.
    blocks: Guarded<sled::Tree>,
    checkpoints: Guarded<sled::Tree>,
    meta: Guarded<sled::Tree>,
    db: Guarded<sled::Db>,
}

/// Something of sled's, whose drop may panic too.
struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> std::ops::Deref for Guarded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("only drop takes it out")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let closed = guard(|| {
            drop(value);
            Ok(())
        });
        if closed.is_err() {
            tracing::warn!("the index failed while it was closed");
        }
    }
}

fn guard<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| IndexError(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(IndexError(format!("sled panicked: {text}")))
        }
    }
}

impl IndexHome for SledHome {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        let config = sled::Config::new().path(&self.path).cache_capacity(self.cache).flush_every_ms(None);
        // sled's own files are open to all; the directory is not.
        create_private_dir(&self.path)
            .map_err(|error| IndexError(format!("{} could not be created: {error}", self.path.display())))?;
        let started = Instant::now();
        let db = loop {
            match guard(|| config.open()) {
                Err(error) if error.0.contains("acquire lock") && started.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => break Guarded::new(other?),
            }
        };
        let checkpoints = Guarded::new(guard(|| db.open_tree("checkpoints"))?);
        let meta = Guarded::new(guard(|| db.open_tree("meta"))?);
        let blocks = Guarded::new(guard(|| Ok((**db).clone()))?);
        match guard(|| meta.get("version"))? {
            Some(version) if *version == VERSION.to_le_bytes() => {}
            None if !guard(|| Ok(db.was_recovered()))? || guard(|| Ok(blocks.is_empty()))? => {
                guard(|| meta.insert("version", &VERSION.to_le_bytes()))?;
            }
            _ => return Err(IndexError("it has another format".into())),
        }
        Ok(Box::new(SledIndex { blocks, checkpoints, meta, db }))
    }

    fn wipe(&self) -> Result<(), IndexError> {
        let removed = match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&self.path),
            Ok(_) => fs::remove_file(&self.path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(IndexError(format!("{} could not be removed: {error}", self.path.display())))
            }
            _ => Ok(()),
        }
    }
}

impl Index for SledIndex {
    fn get(&self, hash: &Multihash) -> Result<Option<Location>, IndexError> {
        guard(|| self.blocks.get(hash.to_bytes()))?.map(|bytes| decode(&bytes)).transpose()
    }

    fn set(
        &self,
        places: &[(Multihash, Location)],
        replaced: &mut dyn FnMut(&Multihash, Location),
    ) -> Result<(), IndexError> {
        for (hash, place) in places {
            if let Some(former) = guard(|| self.blocks.insert(hash.to_bytes(), encode(place)))? {
                replaced(hash, decode(&former)?);
            }
        }
        Ok(())
    }

    fn remove(&self, places: &[(Multihash, Location)]) -> Result<(), IndexError> {
        for (hash, place) in places {
            // One that is elsewhere by now stays.
            guard(|| Ok(self.blocks.compare_and_swap(hash.to_bytes(), Some(encode(place)), None::<&[u8]>)?.is_ok()))?;
        }
        Ok(())
    }

    fn page(&self, after: Option<&Multihash>, limit: usize) -> Result<Vec<(Multihash, Location)>, IndexError> {
        let from = after.map_or(Bound::Unbounded, |hash| Bound::Excluded(hash.to_bytes()));
        let mut entries = guard(|| Ok(self.blocks.range((from, Bound::Unbounded))))?;
        let mut page = Vec::new();
        while page.len() < limit
            && let Some((key, bytes)) = guard(|| entries.next().transpose())?
        {
            let hash = Multihash::from_bytes(&key).map_err(|_| IndexError("a key does not parse".into()))?;
            page.push((hash, decode(&bytes)?));
        }
        Ok(page)
    }

    fn flush(&self) -> Result<(), IndexError> {
        guard(|| self.db.flush()).map(drop)
    }

    fn checkpoints(&self) -> Result<Vec<(u64, Checkpoint)>, IndexError> {
        let mut found = Vec::new();
        let mut entries = guard(|| Ok(self.checkpoints.iter()))?;
        while let Some((key, bytes)) = guard(|| entries.next().transpose())? {
            let pack =
                <[u8; 8]>::try_from(&*key).map_err(|_| IndexError("a checkpoint's key does not parse".into()))?;
            found.push((u64::from_be_bytes(pack), decode_checkpoint(&bytes)?));
        }
        Ok(found)
    }

    fn set_checkpoints(&self, checkpoints: &[(u64, Checkpoint)]) -> Result<(), IndexError> {
        for (pack, checkpoint) in checkpoints {
            guard(|| self.checkpoints.insert(pack.to_be_bytes(), encode_checkpoint(checkpoint)))?;
        }
        Ok(())
    }

    fn remove_checkpoint(&self, pack: u64) -> Result<(), IndexError> {
        guard(|| self.checkpoints.remove(pack.to_be_bytes())).map(drop)
    }

    fn store(&self) -> Result<Option<u64>, IndexError> {
        let Some(bytes) = guard(|| self.meta.get("store"))? else { return Ok(None) };
        let id = <[u8; 8]>::try_from(&*bytes).map_err(|_| IndexError("the store's id does not parse".into()))?;
        Ok(Some(u64::from_le_bytes(id)))
    }

    fn set_store(&self, id: u64) -> Result<(), IndexError> {
        guard(|| self.meta.insert("store", &id.to_le_bytes())).map(drop)
    }
}
