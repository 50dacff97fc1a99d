//! A shorter journal in place of one that mostly says what is not true any more.
//!
//! It says the same state: facts that have a sequence of their own keep it and their time, in the order
//! of before; what has none (packs, tombstones) follows as new records. It is flushed before it takes the
//! old one's name, so at any stop one of the two is there whole.

use super::{
    AppendError, BATCH_HEADER, Journal, NAME, batch_header, file_header,
    record::{Event, Record},
    state::{PackMark, State, from_millis, to_millis},
};
use crate::{disk::Disk, format};
use cidery_core::{Cid, Tag, TagTime};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// A batch of a new journal ends after this many bytes.
const BATCH: usize = 1 << 20;
/// Offsets of dead records in one record, at most ten bytes each.
const OFFSETS: usize = 1 << 20;
/// A journal is worth being written anew when so many of the new ones would fit into it.
const FACTOR: u64 = 4;
/// About how many roots are listed, of all namespaces together: some four megabytes.
const MOST_ROOTS: usize = 40_000;

impl State {
    /// The records that say all this, in order, with these marks of packs. New ones come after `sequence`,
    /// at the time `now`.
    pub(crate) fn records(&self, now: u64, packs: &BTreeMap<u64, PackMark>) -> Vec<Record> {
        let mut records = Vec::new();
        let mut add = |sequence, at, event| records.push(Record { sequence, at, event });
        for (namespace, space) in &self.spaces {
            for entry in &space.history {
                // What it folded is not linked any more, or was linked again later.
                let event = Event::Root { namespace: namespace.clone(), root: entry.cid, folded: Vec::new() };
                add(entry.sequence, to_millis(entry.at), event);
            }
            if let Some(published) = space.publication {
                // Where roots came since, they make the last of them the public one again.
                let (mode, root) = (published.mode, published.root);
                add(published.since, published.at, Event::Published { namespace: namespace.clone(), mode, root });
            }
            for link in space.links.values() {
                add(link.sequence, link.at, Event::Linked(link.fact.clone()));
            }
        }
        for upload in self.uploads.values() {
            add(upload.sequence, upload.at, Event::Upload(upload.fact.clone()));
        }
        for pinned in self.pins.values() {
            add(pinned.sequence, pinned.at, Event::Pinned(pinned.fact.clone()));
        }
        let mut forgotten: BTreeMap<u64, Vec<Cid>> = BTreeMap::new();
        for (file, sequence) in &self.forgotten {
            forgotten.entry(*sequence).or_default().push(file.cid());
        }
        for (sequence, files) in forgotten {
            add(sequence, now, Event::Forgotten(files));
        }
        records.sort_unstable_by_key(|record| record.sequence);
        for (n, event) in self.loose_facts(packs).into_iter().enumerate() {
            records.push(Record { sequence: self.sequence + 1 + n as u64, at: now, event });
        }
        records
    }

    /// What has no sequence of its own. Never empty: so the sequence does not fall back.
    fn loose_facts(&self, packs: &BTreeMap<u64, PackMark>) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.removed.is_empty() {
            events.push(Event::PacksRemoved(self.removed.iter().copied().collect()));
        }
        for (pack, mark) in packs {
            events.push(Event::PackFlushed { pack: *pack, salt: mark.salt, len: mark.len });
        }
        for (pack, dead) in &self.dead {
            let parts = dead.chunks(OFFSETS);
            events.extend(parts.map(|offsets| Event::Dead { pack: *pack, offsets: offsets.to_vec() }));
        }
        for (namespace, space) in &self.spaces {
            let mut times = Vec::new();
            for (repository, tags) in &space.tags {
                let time = |(tag, at): (&Tag, &u64)| TagTime {
                    repository: repository.clone(),
                    tag: tag.clone(),
                    at: from_millis(*at),
                };
                times.extend(tags.iter().map(time));
            }
            events.extend(Event::tagged(namespace, &times));
        }
        events.push(Event::Collected { upto: self.collected, past: 0 });
        events
    }

    /// Where roots alone would make a journal large, keeps fewer that can only be listed. Those that
    /// collections keep stay.
    pub(crate) fn shorten_history(&mut self, now: SystemTime, window: Duration, history: usize) {
        let all: usize = self.spaces.values().map(|space| space.history.len()).sum();
        if all <= MOST_ROOTS {
            return;
        }
        let share = MOST_ROOTS / self.spaces.len();
        for space in self.spaces.values_mut() {
            let kept = space.kept_roots(now, window, history).len().max(share);
            let surplus = space.history.len().saturating_sub(kept);
            drop(space.history.drain(..surplus));
        }
    }
}

/// A whole journal that says these records.
pub(crate) fn image(id: u64, records: &[Record]) -> Vec<u8> {
    let first = records.first().map_or(1, |record| record.sequence);
    let mut out = file_header(id, first - 1);
    let mut batch = |first: u64, count: usize, body: &[u8]| {
        let header = batch_header(id, out.len() as u64, first, count, body);
        out.extend(header);
        out.extend(body);
    };
    let (mut body, mut begins, mut end) = (Vec::new(), 0, first);
    for (n, record) in records.iter().enumerate() {
        record.encode(&mut body);
        end = record.sequence + 1;
        if body.len() >= BATCH || n + 1 == records.len() {
            batch(records[begins].sequence, n + 1 - begins, &body);
            body.clear();
            begins = n + 1;
        }
    }
    // Without another one behind it, damage to the last batch would look like a torn tail.
    batch(end, 0, &[]);
    out
}

impl Journal {
    /// Whether it is long enough that a shorter one may do.
    pub(crate) fn is_long(&self, limit: u64) -> bool {
        #[cfg(test)]
        if self.forced {
            return true;
        }
        self.len > limit.max(self.look_at)
    }

    /// Whether one of `len` bytes should take its place.
    pub(crate) fn should_become(&mut self, len: u64) -> bool {
        self.look_at = FACTOR.saturating_mul(len);
        #[cfg(test)]
        if std::mem::take(&mut self.forced) {
            return true;
        }
        self.len > self.look_at
    }

    /// Puts another one in its place, which may be more than one batch but ends in one that is empty.
    pub(crate) fn replace(&mut self, disk: &dyn Disk, image: &[u8]) -> Result<(), AppendError> {
        debug_assert!(image.len() > BATCH_HEADER);
        let file = format::stage(disk, NAME, image).map_err(|error| {
            // Not again with every commit while, say, the disk is full.
            self.look_at = 2 * self.len;
            AppendError::Write(error)
        })?;
        // If this fails, either of them may come up after a stop, and only one of them would have what
        // comes next.
        format::settle(disk, NAME).map_err(AppendError::Flush)?;
        self.file = file;
        self.len = image.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::{Block, Namespace};

    fn commit(state: &mut State, namespace: &Namespace) {
        let sequence = state.sequence + 1;
        let root = *Block::raw(sequence.to_le_bytes().to_vec()).cid();
        let event = Event::Root { namespace: namespace.clone(), root, folded: Vec::new() };
        state.apply(&Record { sequence, at: sequence, event });
    }

    #[test]
    fn only_a_history_that_makes_the_journal_large_is_shortened_and_never_what_is_kept() {
        let mut state = State::default();
        let spaces: Vec<Namespace> = (0..5).map(|n| format!("n{n}.example").parse().unwrap()).collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let lengths = |state: &State| -> Vec<usize> { spaces.iter().map(|n| state.spaces[n].history.len()).collect() };
        for namespace in &spaces[..4] {
            (0..9_999).for_each(|_| commit(&mut state, namespace));
        }
        commit(&mut state, &spaces[4]);
        state.shorten_history(now, Duration::ZERO, 1);
        assert_eq!(lengths(&state), [9_999, 9_999, 9_999, 9_999, 1]);
        (0..9_000).for_each(|_| commit(&mut state, &spaces[4]));
        let newest: Vec<Cid> = spaces.iter().map(|n| state.spaces[n].root().unwrap().cid).collect();
        state.shorten_history(now, Duration::ZERO, 8_500);
        assert_eq!(lengths(&state), [8_500; 5]);
        state.shorten_history(now, Duration::ZERO, 1);
        assert_eq!(lengths(&state), [8_000; 5]);
        let still: Vec<Cid> = spaces.iter().map(|n| state.spaces[n].root().unwrap().cid).collect();
        assert_eq!(newest, still);
    }
}
