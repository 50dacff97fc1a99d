//! The index in sled 0.34.
//!
//! Three trees: the default one holds the blocks, many under one key (`page.rs`), `checkpoints` pack id →
//! checkpoint, and `meta` the format of all this and the id of the store. A page holds the multihashes from
//! its key up to the next page's key; the first page's key is empty. Where a page is split, the later part is
//! stored first, so that a block can be found at any moment; what an unfinished split leaves behind in the
//! earlier page lies beyond the next page's key, and does not count. One thread at a time sets. sled can panic on damaged files; every call is
//! guarded, and a panic is a failure like any other.

use super::{
    Checkpoint, Index, IndexError, IndexHome, decode_checkpoint, encode_checkpoint,
    filter::Filter,
    page::{self, Key},
};
use crate::{disk::create_private_dir, pack::Location};
use cidery_core::Multihash;
use parking_lot::RwLock;
use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Format of keys and values.
const VERSION: u64 = 2;
/// A block takes more than so many bytes of the database's files, even of those just made.
const LEAST_PER_BLOCK: u64 = 64;
/// sled's threads may hold the lock of a database that was just dropped for a moment longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A directory for sled.
pub(crate) struct SledHome {
    pub(crate) path: PathBuf,
    /// Bytes of memory for its cache.
    pub(crate) cache: u64,
}

struct SledIndex {
    path: PathBuf,
    /// All that is held, and more, once somebody went through it.
    held: RwLock<Option<Filter>>,
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
        Ok(Box::new(SledIndex { path: self.path.clone(), held: RwLock::default(), blocks, checkpoints, meta, db }))
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

/// What is done to one page.
type Change<'a> = dyn FnMut(&[u8], &[u8], Option<&[u8]>, &[&(Multihash, Location)]) -> Result<(), IndexError> + 'a;

/// What is done with each page, and the key of the one that follows.
type Visit<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), IndexError> + 'a;

impl SledIndex {
    /// The page a key belongs to, with its own key.
    fn page_of(&self, key: &[u8]) -> Result<(sled::IVec, sled::IVec), IndexError> {
        let found = guard(|| self.blocks.range::<&[u8], _>(..=key).next_back().transpose())?;
        Ok(found.unwrap_or_default())
    }

    /// Calls `change` for every page that these places belong to, with its key, its bytes, the key of the page
    /// that follows, and the places in the order of their keys.
    fn by_page(&self, places: &[(Multihash, Location)], change: &mut Change<'_>) -> Result<(), IndexError> {
        let mut sorted: Vec<_> = places.iter().collect();
        sorted.sort_by(|(one, _), (other, _)| page::order(one, other));
        let mut rest = &sorted[..];
        while let Some((hash, _)) = rest.first() {
            let (key, old) = self.page_of(&Key::of(hash))?;
            let until = self.next(&key)?;
            let inside = until
                .as_ref()
                .map_or(rest.len(), |until| rest.iter().take_while(|(hash, _)| Key::of(hash)[..] < until[..]).count());
            let (now, later) = rest.split_at(inside);
            change(&key, &old, until.as_deref(), now)?;
            rest = later;
        }
        Ok(())
    }

    /// Goes through all pages, one after the other.
    fn each_page(&self, each: &mut Visit<'_>) -> Result<(), IndexError> {
        let mut pages = guard(|| Ok(self.blocks.iter()))?;
        let mut page = guard(|| pages.next().transpose())?;
        while let Some((_, bytes)) = page {
            page = guard(|| pages.next().transpose())?;
            each(&bytes, page.as_ref().map(|(key, _)| &**key))?;
        }
        Ok(())
    }

    /// Makes a filter with more room where the present one has become too small, for the one thread that sets.
    fn grow_filter(&self) -> Result<(), IndexError> {
        let Some(room) = self.held.read().as_ref().and_then(Filter::outgrown) else { return Ok(()) };
        let larger = Filter::with_room(room);
        self.each_page(&mut |page, until| page::each(page, until, &mut |key, _| larger.add(key)))?;
        *self.held.write() = Some(larger);
        Ok(())
    }

    /// The key of the page that follows.
    fn next(&self, page: &[u8]) -> Result<Option<sled::IVec>, IndexError> {
        let bounds = (Bound::Excluded(page), Bound::Unbounded);
        let next = guard(|| self.blocks.range::<&[u8], _>(bounds).next().transpose())?;
        Ok(next.map(|(key, _)| key))
    }
}

impl Index for SledIndex {
    fn get(&self, hash: &Multihash) -> Result<Option<Location>, IndexError> {
        let key = Key::of(hash);
        if self.held.read().as_ref().is_some_and(|held| !held.may_hold(&key)) {
            return Ok(None);
        }
        page::find(&self.page_of(&key)?.1, &key)
    }

    fn get_all(&self, hashes: &[Multihash]) -> Result<Vec<Option<Location>>, IndexError> {
        let mut last: Option<(sled::IVec, sled::IVec, Option<sled::IVec>)> = None;
        let mut place = |hash: &Multihash| {
            let key = Key::of(hash);
            if self.held.read().as_ref().is_some_and(|held| !held.may_hold(&key)) {
                return Ok(None);
            }
            let is_in = |page: &[u8], until: Option<&[u8]>| *page <= *key && until.is_none_or(|until| *key < *until);
            let (page, bytes, until) = match last.take() {
                Some((page, bytes, until)) if is_in(&page, until.as_deref()) => (page, bytes, until),
                _ => {
                    let (page, bytes) = self.page_of(&key)?;
                    let until = self.next(&page)?;
                    (page, bytes, until)
                }
            };
            let found = page::find(&bytes, &key);
            last = Some((page, bytes, until));
            found
        };
        hashes.iter().map(&mut place).collect()
    }

    fn set(
        &self,
        places: &[(Multihash, Location)],
        replaced: &mut dyn FnMut(&Multihash, Location),
    ) -> Result<(), IndexError> {
        if let Some(held) = &*self.held.read() {
            places.iter().for_each(|(hash, _)| held.add(&Key::of(hash)));
        }
        self.by_page(places, &mut |key, old, until, now| {
            let merged = page::merge(old, until, now, replaced)?;
            merged.pages(key, |key, page| guard(|| self.blocks.insert(key, page)).map(drop))
        })?;
        self.grow_filter()
    }

    fn remove(&self, places: &[(Multihash, Location)]) -> Result<(), IndexError> {
        self.by_page(places, &mut |key, old, until, now| {
            // One that is empty stays: without it the page before would reach further than it is sound.
            let kept = page::without(old, until, now)?;
            guard(|| self.blocks.insert(key, kept)).map(drop)
        })
    }

    fn page(&self, after: Option<&Multihash>, limit: usize) -> Result<Vec<(Multihash, Location)>, IndexError> {
        let after = after.map(Key::of);
        let first = match &after {
            Some(after) => self.page_of(after)?.0,
            None => sled::IVec::default(),
        };
        let mut pages = guard(|| Ok(self.blocks.range::<&[u8], _>(&*first..)))?;
        let mut next = guard(|| pages.next().transpose())?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((_, bytes)) = next
        {
            next = guard(|| pages.next().transpose())?;
            page::each_block(&bytes, next.as_ref().map(|(key, _)| &**key), |hash, place| {
                if after.as_ref().is_none_or(|after| Key::of(&hash)[..] > after[..]) {
                    found.push((hash, place));
                }
            })?;
        }
        Ok(found)
    }

    fn each(&self, each: &mut dyn FnMut(Location)) -> Result<(), IndexError> {
        let room = guard(|| self.db.size_on_disk())? / LEAST_PER_BLOCK;
        let held = Filter::with_room(room);
        self.each_page(&mut |page, until| {
            page::each(page, until, &mut |key, place| {
                held.add(key);
                each(place);
            })
        })?;
        *self.held.write() = Some(held);
        Ok(())
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

    fn scratch(&self) -> io::Result<File> {
        let path = self.path.join("scratch");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        fs::remove_file(path)?;
        Ok(file)
    }
}
