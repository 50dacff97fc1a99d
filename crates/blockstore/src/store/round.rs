//! One round of the group commit: packs flushed, one batch appended to the journal, the state updated.

use super::Inner;
use crate::{
    journal::{self, Event, MAX_BODY, Record, State},
    pack::Pack,
    small::SmallCid,
};
use cidery_core::{
    Cid, CommitError, Digest, Link, Namespace, Pinned, PublishMode, RepositoryName, RootEntry, StoreError, TagTime,
    UploadRecord,
};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, UNIX_EPOCH},
};

/// What a caller wants to be durable, together with all blocks put before.
pub(super) enum Op {
    /// Blocks alone.
    Sync,
    Commit {
        namespace: Namespace,
        expected: Option<Cid>,
        root: Cid,
        folded: Vec<(RepositoryName, Digest)>,
        /// Files that were forgotten once and put again since.
        readmitted: Vec<Cid>,
        /// When tags in it were pushed.
        tags: Vec<TagTime>,
    },
    Publish {
        namespace: Namespace,
        mode: PublishMode,
    },
    Unpublish(Namespace),
    /// A collection is through what was forgotten up to `upto`; no kept root has what was up to `past`. These
    /// files are still in use, and so still forgotten, unless they were readmitted meanwhile.
    Collected {
        upto: u64,
        past: u64,
        still: Vec<Cid>,
    },
    /// Whatever needs no check.
    Notes(Vec<Event>),
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Done,
    Root(RootEntry),
}

/// About how many bytes an ordinary record takes, generously.
const SMALL: usize = 512;
/// And a CID.
const FILE: usize = 96;
/// Files in one record.
const FILES: usize = 1 << 16;

impl Op {
    /// About how many bytes it takes in the journal.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Commit { folded, tags, .. } => SMALL + folded.len() * 2 * SMALL + tags.len() * SMALL,
            Self::Collected { still, .. } => SMALL + still.len() * FILE,
            Self::Notes(events) => events.iter().map(note_size).sum(),
            _ => SMALL,
        }
    }
}

fn note_size(event: &Event) -> usize {
    SMALL
        + match event {
            Event::Upload(UploadRecord { pins, state, .. }) => state.len() + pins.len() * FILE,
            Event::Dead { offsets, .. } => offsets.len() * 4,
            Event::Forgotten(files) => files.len() * FILE,
            Event::Tagged { tags, .. } | Event::Untagged { tags, .. } => tags.len() * SMALL,
            Event::Pinned(Pinned { pin, purged, .. }) => (pin.roots.len() + pin.blocks.len() + purged.len()) * FILE,
            _ => 0,
        }
}

/// The records of one batch, while they are gathered.
struct Draft<'a> {
    state: &'a State,
    at: u64,
    sequence: u64,
    records: Vec<Record>,
    /// What earlier members of this batch change.
    roots: HashMap<Namespace, Cid>,
    publications: HashMap<Namespace, Option<PublishMode>>,
}

impl Draft<'_> {
    fn root(&self, namespace: &Namespace) -> Option<Cid> {
        let settled = || Some(self.state.spaces.get(namespace)?.root()?.cid);
        self.roots.get(namespace).copied().or_else(settled)
    }

    fn publication(&self, namespace: &Namespace) -> Option<PublishMode> {
        let settled = || self.state.publication(namespace).map(|published| published.mode);
        self.publications.get(namespace).copied().unwrap_or_else(settled)
    }

    fn is_forgotten(&self, file: &Cid) -> bool {
        let readmits = |record: &Record| match &record.event {
            Event::Linked(link) => link.cid == *file,
            Event::Readmitted(files) => files.contains(file),
            _ => false,
        };
        self.state.forgotten.contains_key(&SmallCid::from(file)) && !self.records.iter().any(readmits)
    }

    fn record(&mut self, event: Event) -> Result<u64, StoreError> {
        let record = Record { sequence: self.sequence + 1, at: self.at, event };
        if record.encode(&mut Vec::new()) > MAX_BODY {
            return Err(StoreError::Journal(format!("a record of more than {MAX_BODY} bytes is not taken")));
        }
        self.sequence += 1;
        self.records.push(record);
        Ok(self.sequence)
    }

    fn add(&mut self, op: Op) -> Result<Outcome, CommitError> {
        match op {
            Op::Sync => {}
            Op::Notes(events) => {
                for event in events {
                    self.record(event)?;
                }
            }
            Op::Commit { namespace, expected, root, folded, readmitted, tags } => {
                let current = self.root(&namespace);
                if current != expected {
                    return Err(CommitError::Conflict { namespace, current });
                }
                if !readmitted.is_empty() {
                    self.record(Event::Readmitted(readmitted))?;
                }
                let sequence = self.record(Event::Root { namespace: namespace.clone(), root, folded })?;
                for event in Event::tagged(&namespace, &tags) {
                    self.record(event)?;
                }
                self.roots.insert(namespace, root);
                let at = UNIX_EPOCH + Duration::from_millis(self.at);
                return Ok(Outcome::Root(RootEntry { cid: root, sequence, at }));
            }
            Op::Collected { upto, past, mut still } => {
                self.record(Event::Collected { upto, past })?;
                still.retain(|file| self.is_forgotten(file));
                for files in still.chunks(FILES) {
                    self.record(Event::Forgotten(files.to_vec()))?;
                }
            }
            Op::Publish { namespace, mode } => {
                let root = match mode {
                    PublishMode::Once(root) => root,
                    PublishMode::Continuous => self
                        .root(&namespace)
                        .ok_or_else(|| StoreError::Journal(format!("{namespace} has no root to publish")))?,
                };
                // Saying it again must not end the time of the predecessors.
                if self.publication(&namespace) != Some(mode) {
                    self.record(Event::Published { namespace: namespace.clone(), mode, root })?;
                    self.publications.insert(namespace, Some(mode));
                }
            }
            Op::Unpublish(namespace) => {
                if self.publication(&namespace).is_some() {
                    self.record(Event::Unpublished(namespace.clone()))?;
                    self.publications.insert(namespace, None);
                }
            }
        }
        Ok(Outcome::Done)
    }
}

impl Inner {
    /// Does the work of one group. Runs on one thread at a time.
    pub(super) fn round(&self, ops: Vec<Op>) -> Vec<Result<Outcome, CommitError>> {
        let results = self.commit_all(ops);
        self.shorten_journal();
        results
    }

    fn commit_all(&self, ops: Vec<Op>) -> Vec<Result<Outcome, CommitError>> {
        let all_fail = |error: StoreError, n: usize| (0..n).map(|_| Err(error.clone().into())).collect();
        let members = ops.len();
        if let Err(error) = self.check_sound() {
            return all_fail(error, members);
        }
        // Those of earlier rounds are among them if the journal could not take their marks.
        let mut unmarked = self.unmarked.lock();
        match self.packs.flush(&self.syncs) {
            Ok(flushed) => unmarked.extend(flushed.into_iter().map(|pack| (pack.id(), pack))),
            Err(error) => {
                self.poison(&error);
                return all_fail(error, members);
            }
        }
        let (mut results, wrote, records, marked) = {
            let state = self.state.read();
            let mut draft = Draft {
                state: &state,
                at: journal::to_millis(self.now()),
                sequence: state.sequence,
                records: Vec::new(),
                roots: HashMap::new(),
                publications: HashMap::new(),
            };
            let mut wrote = Vec::with_capacity(members);
            let mut results = Vec::with_capacity(members);
            for op in ops {
                let before = draft.records.len();
                results.push(draft.add(op));
                wrote.push(draft.records.len() > before);
            }
            let marked = mark_packs(&mut draft, unmarked.values());
            (results, wrote, draft.records, marked)
        };
        if records.is_empty() {
            unmarked.clear();
            return results;
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        // Nobody else takes this lock while a store is open: leaders come one at a time.
        match self.journal.lock().append(&records) {
            Ok(()) => {
                let mut state = self.state.write();
                records.iter().for_each(|record| state.apply(record));
                for (pack, durable) in marked {
                    pack.journaled.store(durable, Ordering::Release);
                }
                unmarked.clear();
            }
            Err(error) => {
                let error = match error {
                    journal::AppendError::Write(error) => error,
                    journal::AppendError::Flush(error) => {
                        self.poison(&error);
                        error
                    }
                };
                // Nothing is acknowledged that the journal does not vouch for, blocks included.
                for (result, wrote) in results.iter_mut().zip(wrote) {
                    if (wrote || !marked.is_empty()) && result.is_ok() {
                        *result = Err(error.clone().into());
                    }
                }
            }
        }
        results
    }
}

/// Adds how far packs are on the disk, where that grew: what is acknowledged lies before these marks, so
/// a start can tell damage from what nobody was promised.
fn mark_packs<'a>(draft: &mut Draft<'_>, packs: impl Iterator<Item = &'a Arc<Pack>>) -> Vec<(Arc<Pack>, u64)> {
    let mut marked = Vec::new();
    for pack in packs {
        let durable = pack.durable();
        if durable > pack.journaled.load(Ordering::Acquire) {
            let event = Event::PackFlushed { pack: pack.id(), salt: pack.header.salt, len: durable };
            // Such a record is far from the limit.
            if draft.record(event).is_ok() {
                marked.push((pack.clone(), durable));
            }
        }
    }
    marked
}

/// A link's key in the journal.
pub(super) fn key(link: &Link) -> (RepositoryName, Digest) {
    (link.repository.clone(), link.digest.clone())
}
