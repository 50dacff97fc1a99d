//! Since when tags stand for what they stand for.
//!
//! The roots of the past are walked once for all tags, from the newest on. A directory that has the
//! CID it had in the root after it holds the same tags, and is not entered; a tag whose time is found
//! is not looked for any more.

use super::{
    NodeCache, TreeError, fetch::Local, handle::Tree, layout, pending::from_root, reader::Reader, writer::on_thread,
};
use cidery_core::{Cid, RepositoryName, RootEntry, Tag};
use futures::executor::block_on;
use std::{collections::HashMap, sync::Arc, time::SystemTime};

/// Roots of the past that are looked at.
const HISTORY: usize = 1000;

/// Names of a directory that are looked up one by one; for more of them it is read whole.
const FEW: usize = 4;

impl Tree {
    /// The time from which on each of these tags of `root` stood for the same manifest without a
    /// break, as far as history is kept and `work` goes: directory entries that may be looked at. It is
    /// reduced by those that were. A tag it did not suffice for has the oldest time that is known.
    pub(crate) async fn tag_times(
        &self,
        root: Option<Cid>,
        tags: Vec<(RepositoryName, Tag)>,
        work: &mut usize,
    ) -> Result<Vec<SystemTime>, TreeError> {
        let (shared, budget) = (self.shared.clone(), *work);
        let (times, left) = on_thread(move || {
            let mut history = shared.roots.history(&shared.namespace, HISTORY)?;
            // Younger ones came after the caller looked.
            let now = history.iter().position(|entry| Some(entry.cid) == root);
            history.drain(..now.unwrap_or(0));
            // Not the tree's cache: old nodes would fill it.
            let cache = Arc::new(NodeCache::default());
            let fetcher = Arc::new(Local { blocks: shared.blocks.clone(), cache: cache.clone() });
            let mut walk = Walk {
                reader: Reader { fetcher, cache, blocks: None },
                work: budget,
                times: vec![None; tags.len()],
                since: history.first().map_or_else(SystemTime::now, |entry| entry.at),
            };
            walk.all(&history, tags);
            let Walk { times, since, work, .. } = walk;
            Ok::<_, TreeError>((times.into_iter().map(|time| time.unwrap_or(since)).collect(), work))
        })
        .await??;
        *work = left;
        Ok(times)
    }
}

/// A directory on the way to tags whose time is not known yet, or one such tag.
#[derive(Default)]
struct Place {
    /// What it was in the root that was looked at last.
    cid: Option<Cid>,
    /// Its index, for a tag's own directory.
    tag: Option<usize>,
    children: HashMap<String, Place>,
}

struct Walk {
    reader: Reader,
    work: usize,
    times: Vec<Option<SystemTime>>,
    /// The time of the root that was looked at last.
    since: SystemTime,
}

/// Why a walk ends early.
enum Stop {
    /// It was more work than is to be done.
    Work,
    /// The root is not here any more, or damaged.
    Unreadable(TreeError),
}

impl Walk {
    fn all(&mut self, history: &[RootEntry], tags: Vec<(RepositoryName, Tag)>) {
        let mut top = Place::default();
        for (index, (repository, tag)) in tags.into_iter().enumerate() {
            let mut place = &mut top;
            for name in from_root(layout::tag(&repository, &tag)).into_iter().chain(["current".to_owned()]) {
                place = place.children.entry(name).or_default();
            }
            place.tag = Some(index);
        }
        for entry in history {
            match self.visit(&mut top, Some(entry.cid)) {
                Ok(true) => self.since = entry.at,
                // All are known.
                Ok(false) => return,
                Err(stop) => {
                    match stop {
                        Stop::Work => tracing::debug!(root = %entry.cid, "older roots are not looked at"),
                        Stop::Unreadable(error) => {
                            tracing::debug!(root = %entry.cid, %error, "an old root is not here")
                        }
                    }
                    return;
                }
            }
        }
    }

    /// Takes a place as it was in the next older root. Says whether anything below is still to be found.
    fn visit(&mut self, place: &mut Place, cid: Option<Cid>) -> Result<bool, Stop> {
        match cid {
            Some(cid) if place.cid == Some(cid) => return Ok(true),
            // A directory in which something changed; or the first root.
            Some(cid) if place.tag.is_none() || place.cid.is_none() => place.cid = Some(cid),
            // Gone, or another manifest: what it was began with the root after this one.
            _ => {
                self.settle(place);
                return Ok(false);
            }
        }
        let (Some(directory), None) = (cid, place.tag) else { return Ok(true) };
        let found = self.look_up(&directory, place)?;
        let mut stop = None;
        place.children.retain(|name, child| match stop {
            Some(_) => true,
            None => self.visit(child, found.get(name).copied()).unwrap_or_else(|why| {
                stop = Some(why);
                true
            }),
        });
        match stop {
            Some(stop) => Err(stop),
            None => Ok(!place.children.is_empty()),
        }
    }

    /// What the names that matter lead to.
    fn look_up(&mut self, directory: &Cid, place: &Place) -> Result<HashMap<String, Cid>, Stop> {
        let mut found = HashMap::new();
        if place.children.len() <= FEW {
            self.spend(place.children.len())?;
            for name in place.children.keys() {
                let entry = block_on(self.reader.find(directory, std::slice::from_ref(name)));
                let entry = entry.map_err(Stop::Unreadable)?;
                found.extend(entry.map(|entry| (name.clone(), entry.cid)));
            }
        } else {
            let entries = block_on(self.reader.list(directory)).map_err(Stop::Unreadable)?;
            self.spend(entries.len())?;
            found.extend(entries.into_iter().map(|entry| (entry.name, entry.cid)));
        }
        Ok(found)
    }

    fn spend(&mut self, work: usize) -> Result<(), Stop> {
        self.work = self.work.checked_sub(work).ok_or(Stop::Work)?;
        Ok(())
    }

    /// All tags here and below have been what they are since the root that was looked at last.
    fn settle(&mut self, place: &Place) {
        if let Some(tag) = place.tag {
            self.times[tag] = Some(self.since);
        }
        for child in place.children.values() {
            self.settle(child);
        }
    }
}
