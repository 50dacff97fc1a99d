//! What takes the disk: a mark without a sweep.

use super::{
    DiskStore, Inner,
    gc::{Census, Lot, Marking},
    politely,
    telling::{Tell, Telling},
};
use crate::{
    options::{Progress, Stage},
    pack::{DIRECTORY, Location},
};
use cidery_core::{Cid, Namespace, StoreError};
use std::{
    io::{self, ErrorKind},
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// Some blocks, and the bytes in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What takes the disk, as of when the question was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// What a collection would keep because roots, links, uploads, pins or holds reach it.
    pub live: Amount,
    /// Of it, what nothing but earlier roots reaches.
    pub history: Amount,
    /// The earlier roots that are kept.
    pub history_roots: u64,
    /// Of what is live, what open uploads reach.
    pub uploads: Amount,
    /// The open uploads that were saved.
    pub open_uploads: u64,
    /// Of what is live, what pins keep.
    pub pinned: Amount,
    /// How many there are.
    pub pins: u64,
    /// What came from peers and other registries and nothing of this node's own reaches.
    pub cached: Amount,
    /// What a collection would remove, the cache's own limit aside.
    pub dead: Amount,
    /// By namespace with a root, what that reaches. What several reach counts for each.
    pub namespaces: Vec<(Namespace, Cid, Amount)>,
    /// Files of packs.
    pub packs: u64,
    /// Bytes that they take on the disk; holes take none.
    pub packs_bytes: u64,
    /// Bytes that the journal takes.
    pub journal_bytes: u64,
    /// Bytes that the index takes, and the notes on the cache's use.
    pub index_bytes: u64,
}

impl Amount {
    fn add(&mut self, place: &Location) {
        self.blocks += 1;
        self.bytes += u64::from(place.len);
    }
}

impl DiskStore {
    /// Finds out what takes the disk. `progress` hears how far it is, from another thread.
    ///
    /// # Errors
    /// When a block that is reached cannot be read: as for [`DiskStore::collect`].
    pub fn usage(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<DiskUsage, StoreError> {
        self.0.inner.check_open()?;
        politely("store-usage", || self.0.inner.usage(progress))
    }
}

impl Inner {
    fn usage(&self, tell: Tell<'_>) -> Result<DiskUsage, StoreError> {
        let mut found = DiskUsage::default();
        let (mut links, mut uploaded) = (Vec::new(), Vec::new());
        {
            let state = self.state.read();
            for (namespace, space) in &state.spaces {
                let kept = space.kept_roots(self.now(), self.options.predecessors, self.options.history);
                found.history_roots += kept.len().saturating_sub(1) as u64;
                let root = space.root().map(|entry| (namespace.clone(), entry.cid, Amount::default()));
                found.namespaces.extend(root);
                links.extend(space.links.values().map(|link| link.fact.cid));
            }
            found.open_uploads = state.uploads.len() as u64;
            uploaded.extend(state.uploads.values().flat_map(|upload| upload.fact.pins.iter().copied()));
        }
        links.extend(self.holds.roots());
        let watermarks = self.watermarks()?;
        let census = Some(Arc::new(Census::take(self)?));
        let mut all = Marking::new(self, census.clone());
        all.walk_all(tell)?;
        let below = |roots| Marking::below(self, census.clone(), roots);
        let spaces = found.namespaces.iter().map(|(_, root, _)| below(vec![*root]));
        let spaces = spaces.collect::<Result<Vec<_>, _>>()?;
        let (links, uploads) = (below(links)?, below(uploaded)?);
        let pins = self.all_pins();
        found.pins = pins.len() as u64;
        let pins = Marking::of_pins(self, census.clone(), &pins)?;
        let mut telling = Telling::new(tell, Stage::Sweep, self.blocks.load(Relaxed));
        let mut seen = 0;
        self.each_page(|page| {
            seen += page.len() as u64;
            telling.at(seen);
            for (hash, place) in &page {
                match self.lot(&all, &watermarks, hash, place) {
                    Lot::Cached => found.cached.add(place),
                    Lot::Dead if !self.holds.keeps(hash) => found.dead.add(place),
                    Lot::Dead | Lot::Live => found.live.add(place),
                }
                let mut current = links.reaches(hash);
                if uploads.reaches(hash) {
                    current = true;
                    found.uploads.add(place);
                }
                if pins.reaches(hash) {
                    current = true;
                    found.pinned.add(place);
                }
                for (space, (_, _, amount)) in spaces.iter().zip(&mut found.namespaces) {
                    if space.reaches(hash) {
                        current = true;
                        amount.add(place);
                    }
                }
                if !current && all.reaches(hash) {
                    found.history.add(place);
                }
            }
            Ok(())
        })?;
        (found.packs, found.packs_bytes) = self.files(&self.names(DIRECTORY)?)?;
        found.journal_bytes = self.files(&["journal".into()])?.1;
        let index = [self.names("index")?, vec!["uses".into()]].concat();
        found.index_bytes = self.files(&index)?.1;
        Ok(found)
    }

    pub(super) fn names(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        match self.disk.list(directory) {
            Ok(names) => Ok(names.into_iter().map(|name| format!("{directory}/{name}")).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(StoreError::io(format!("listing {directory}"), error)),
        }
    }

    /// How many of these files there are, and the bytes that they take on the disk.
    pub(super) fn files(&self, names: &[String]) -> Result<(u64, u64), StoreError> {
        // Gone meanwhile, or a directory, which takes next to nothing.
        let is_none = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory);
        let (mut count, mut bytes) = (0, 0);
        for name in names {
            match self.disk.open(name).and_then(|file| file.allocated()) {
                Ok(allocated) => (count, bytes) = (count + 1, bytes + allocated),
                Err(error) if is_none(&error) => {}
                Err(error) => return Err(StoreError::io(format!("asking for the size of {name}"), error)),
            }
        }
        Ok((count, bytes))
    }
}
