//! What the journal adds up to, in memory. Only records change it: live ones and replayed ones alike.

use super::record::{Event, Record};
use crate::small::SmallCid;
use cidery_core::{
    Cid, Digest, Link, Namespace, NamespaceState, Pinned, Publication, PublishMode, RepositoryName, RootEntry, Tag,
    TagTime, UploadRecord,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many roots of one namespace are known in memory; earlier ones are in the journal only.
pub(crate) const HISTORY: usize = 10_000;

/// One namespace.
#[derive(Debug, Default, Clone)]
pub(crate) struct Space {
    /// Oldest first, at most [`HISTORY`]; the last one is current.
    pub(crate) history: VecDeque<RootEntry>,
    pub(crate) links: BTreeMap<(RepositoryName, Digest), Stamped<Link>>,
    pub(crate) publication: Option<Published>,
    /// When tags were pushed, where that matters, in milliseconds since 1970.
    pub(crate) tags: BTreeMap<RepositoryName, BTreeMap<Tag, u64>>,
}

/// A fact with the place and time of its record.
#[derive(Debug, Clone)]
pub(crate) struct Stamped<T> {
    pub(crate) sequence: u64,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) fact: T,
}

/// A publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) mode: PublishMode,
    pub(crate) root: Cid,
    /// Sequence of the record that made it: tells one publication from the next.
    pub(crate) since: u64,
    /// When it was made, in milliseconds since 1970.
    pub(crate) at: u64,
}

/// How much of a pack the journal knows to be on the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackMark {
    pub(crate) salt: u64,
    pub(crate) len: u64,
}

/// The journal's sum.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) spaces: BTreeMap<Namespace, Space>,
    pub(crate) uploads: BTreeMap<String, Stamped<UploadRecord>>,
    /// By name.
    pub(crate) pins: BTreeMap<String, Stamped<Pinned>>,
    pub(crate) packs: BTreeMap<u64, PackMark>,
    /// Offsets of dead records by pack, ascending.
    pub(crate) dead: BTreeMap<u64, Vec<u64>>,
    /// Packs that are no more.
    pub(crate) removed: BTreeSet<u64>,
    /// Files that no earlier root shows, with the sequence of the record that says so.
    pub(crate) forgotten: BTreeMap<SmallCid, u64>,
    /// What was forgotten up to here, a collection has been through.
    pub(crate) collected: u64,
    /// Grows with every record that may make blocks reachable.
    pub(crate) reachable: u64,
    /// Of the last record.
    pub(crate) sequence: u64,
}

/// A journal's time stamp.
pub(crate) fn to_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Its time.
pub(crate) fn from_millis(at: u64) -> SystemTime {
    // A stamp beyond what the system can express is nobody's clock.
    UNIX_EPOCH.checked_add(Duration::from_millis(at)).unwrap_or(UNIX_EPOCH)
}

fn stamped<T: Clone>(record: &Record, fact: &T) -> Stamped<T> {
    Stamped { sequence: record.sequence, at: record.at, fact: fact.clone() }
}

impl State {
    /// Takes a record in.
    pub(crate) fn apply(&mut self, record: &Record) {
        self.sequence = record.sequence;
        self.reachable += u64::from(record.event.reaches());
        match &record.event {
            Event::Root { namespace, root, folded } => {
                let space = self.spaces.entry(namespace.clone()).or_default();
                let entry = RootEntry { cid: *root, sequence: record.sequence, at: from_millis(record.at) };
                if space.history.len() == HISTORY {
                    space.history.pop_front();
                }
                space.history.push_back(entry);
                for key in folded {
                    space.links.remove(key);
                }
                if let Some(Published { mode: PublishMode::Continuous, root: public, .. }) = &mut space.publication {
                    *public = *root;
                }
            }
            Event::Linked(link) => {
                self.forgotten.remove(&SmallCid::from(&link.cid));
                let space = self.spaces.entry(link.namespace.clone()).or_default();
                space.links.insert((link.repository.clone(), link.digest.clone()), stamped(record, link));
            }
            Event::Unlinked { namespace, repository, digest } => {
                if let Some(space) = self.spaces.get_mut(namespace) {
                    space.links.remove(&(repository.clone(), digest.clone()));
                }
            }
            Event::Published { namespace, mode, root } => {
                let space = self.spaces.entry(namespace.clone()).or_default();
                space.publication = Some(Published { mode: *mode, root: *root, since: record.sequence, at: record.at });
            }
            Event::Unpublished(namespace) => {
                if let Some(space) = self.spaces.get_mut(namespace) {
                    space.publication = None;
                }
            }
            Event::Upload(upload) => {
                self.uploads.insert(upload.id.clone(), stamped(record, upload));
            }
            Event::UploadEnded(id) => {
                self.uploads.remove(id);
            }
            Event::Pinned(pinned) => {
                self.pins.insert(pinned.pin.name.clone(), stamped(record, pinned));
            }
            Event::Unpinned(name) => {
                self.pins.remove(name);
            }
            Event::Tagged { namespace, tags } => {
                let space = self.spaces.entry(namespace.clone()).or_default();
                tags.iter().for_each(|time| space.tagged(time));
            }
            Event::Untagged { namespace, tags } => {
                if let Some(space) = self.spaces.get_mut(namespace) {
                    tags.iter().for_each(|time| space.untagged(time));
                }
            }
            Event::PackFlushed { pack, salt, len } => {
                if !self.removed.contains(pack) {
                    self.packs.insert(*pack, PackMark { salt: *salt, len: *len });
                }
            }
            Event::Dead { pack, offsets } => {
                let dead = self.dead.entry(*pack).or_default();
                dead.extend(offsets);
                dead.sort();
                dead.dedup();
            }
            Event::PacksRemoved(packs) => {
                for pack in packs {
                    self.packs.remove(pack);
                    self.dead.remove(pack);
                }
                self.removed.extend(packs);
            }
            Event::Forgotten(files) => {
                self.forgotten.extend(files.iter().map(|file| (file.into(), record.sequence)));
            }
            Event::Readmitted(files) => files.iter().for_each(|file| {
                self.forgotten.remove(&SmallCid::from(file));
            }),
            Event::Collected { upto, past } => {
                self.collected = *upto;
                self.forgotten.retain(|_, sequence| *sequence > *past);
            }
        }
    }

    /// Whether the record at this place is dead.
    pub(crate) fn is_dead(&self, pack: u64, offset: u64) -> bool {
        self.removed.contains(&pack) || self.dead.get(&pack).is_some_and(|dead| dead.binary_search(&offset).is_ok())
    }

    /// Everything that has to come back after a replay.
    #[cfg(test)]
    pub(crate) fn facts(&self) -> Vec<String> {
        let spaces = self.spaces.iter().filter(|(_, space)| space.says_something()).map(|space| format!("{space:?}"));
        let uploads = self.uploads.iter().map(|upload| format!("{upload:?}"));
        let packs = self.packs.iter().map(|pack| format!("{pack:?}"));
        let dead = self.dead.iter().map(|dead| format!("dead {dead:?}"));
        let rest = format!("{:?} {:?} {} {}", self.removed, self.forgotten, self.collected, self.sequence);
        let pins = self.pins.values().map(|pin| format!("{pin:?}"));
        spaces.chain(uploads).chain(pins).chain(packs).chain(dead).chain([rest]).collect()
    }

    pub(crate) fn publication(&self, namespace: &Namespace) -> Option<Published> {
        self.spaces.get(namespace)?.publication
    }
}

impl Space {
    #[cfg(test)]
    fn says_something(&self) -> bool {
        self.root().is_some() || !self.links.is_empty() || self.publication.is_some() || !self.tags.is_empty()
    }

    fn tagged(&mut self, TagTime { repository, tag, at }: &TagTime) {
        let millis = to_millis(*at);
        match self.tags.get_mut(repository) {
            Some(tags) => {
                let known = tags.entry(tag.clone()).or_insert(millis);
                *known = millis.max(*known);
            }
            None => drop(self.tags.insert(repository.clone(), BTreeMap::from([(tag.clone(), millis)]))),
        }
    }

    fn untagged(&mut self, TagTime { repository, tag, at }: &TagTime) {
        let Some(tags) = self.tags.get_mut(repository) else { return };
        if tags.get(tag) == Some(&to_millis(*at)) {
            tags.remove(tag);
            if tags.is_empty() {
                self.tags.remove(repository);
            }
        }
    }

    pub(crate) fn root(&self) -> Option<&RootEntry> {
        self.history.back()
    }

    pub(crate) fn state(&self) -> NamespaceState {
        NamespaceState {
            root: self.root().cloned(),
            published: self.publication.map(|p| Publication { mode: p.mode, root: p.root }),
        }
    }

    /// The newest `history` roots, and those that are public at `now`, the newest first.
    pub(crate) fn kept_roots(&self, now: SystemTime, window: Duration, history: usize) -> Vec<&RootEntry> {
        let public = self.public_roots(now, window).0.len();
        // The public ones of a continuous publication are the newest; the one of another stands by itself.
        self.history.iter().rev().take(history.max(public).max(1)).collect()
    }

    /// The roots that are public at `now`, newest first, and when the next of them stops being so.
    ///
    /// Of a continuous publication these are the current root and those that were current while it
    /// lasted, for `window` after they stopped being current.
    pub(crate) fn public_roots(&self, now: SystemTime, window: Duration) -> (Vec<Cid>, Option<SystemTime>) {
        let Some(published) = self.publication else { return (Vec::new(), None) };
        let mut roots = vec![published.root];
        let mut expiry = None;
        if published.mode == PublishMode::Continuous {
            for (old, successor) in self.history.iter().zip(self.history.iter().skip(1)).rev() {
                if successor.sequence < published.since {
                    break;
                }
                let until = successor.at.checked_add(window).unwrap_or(now);
                if until > now {
                    roots.push(old.cid);
                    expiry = Some(expiry.map_or(until, |first: SystemTime| first.min(until)));
                }
            }
        }
        (roots, expiry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    fn root(n: u8) -> Cid {
        *Block::raw(vec![n]).cid()
    }

    fn state(events: Vec<Event>) -> State {
        let mut state = State::default();
        for (n, event) in events.into_iter().enumerate() {
            // One event per hour.
            state.apply(&Record { sequence: n as u64 + 1, at: n as u64 * 3_600_000, event });
        }
        state
    }

    fn commit(n: u8) -> Event {
        Event::Root { namespace: Namespace::local(), root: root(n), folded: Vec::new() }
    }

    fn publish() -> Event {
        Event::Published { namespace: Namespace::local(), mode: PublishMode::Continuous, root: root(1) }
    }

    #[test]
    fn predecessors_stay_public_for_the_window_if_they_were_public() {
        // Root 0 was replaced before the publication; 1 at hour 3, 2 at hour 4.
        let state = state(vec![commit(0), commit(1), publish(), commit(2), commit(3)]);
        let space = &state.spaces[&Namespace::local()];
        let hour = |n: u64| from_millis(n * 3_600_000);
        let window = Duration::from_secs(2 * 3600);
        assert_eq!(space.public_roots(hour(4), window), (vec![root(3), root(2), root(1)], Some(hour(5))));
        assert_eq!(space.public_roots(hour(5), window), (vec![root(3), root(2)], Some(hour(6))));
        assert_eq!(space.public_roots(hour(6), window), (vec![root(3)], None));
    }

    #[test]
    fn only_the_newest_roots_are_kept() {
        let mut state = State::default();
        for n in 1..=HISTORY as u64 + 500 {
            state.apply(&Record { sequence: n, at: n, event: commit(n as u8) });
        }
        let space = &state.spaces[&Namespace::local()];
        assert_eq!((space.history.len(), space.history[0].sequence), (HISTORY, 501));
        assert_eq!(space.root().map(|entry| entry.sequence), Some(HISTORY as u64 + 500));
    }

    #[test]
    fn once_means_one_root() {
        let once = Event::Published { namespace: Namespace::local(), mode: PublishMode::Once(root(1)), root: root(1) };
        let state = state(vec![commit(1), once, commit(2)]);
        let space = &state.spaces[&Namespace::local()];
        assert_eq!(space.public_roots(from_millis(0), Duration::MAX).0, [root(1)]);
    }
}
