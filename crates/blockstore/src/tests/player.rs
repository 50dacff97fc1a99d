//! Plays steps on a store and knows what must be true afterwards, whatever happens in between.

mod reach;

use super::rig::Rig;
use crate::{DiskStore, OpenError, disk::faulty::Fate};
use cidery_core::{
    Block, Blockstore, Cid, CommitError, Digest, Link, Namespace, Origin, Pin, PublicBlocks, PublishMode, RootStore,
    StoreError, UploadRecord, suite::node,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A small block of the client's, or a peer's.
    Put(u16, Origin),
    /// A file of so many large leaves, by a writer.
    File(u16, u8),
    Sync,
    Link(u16),
    Unlink(u16),
    /// A root over the latest blocks, with this many links folded in.
    Commit(u8),
    Publish,
    /// The root that many commits back.
    PublishOnce(u8),
    Unpublish,
    SaveUpload(u8, u16),
    DropUpload(u8),
    Checkpoint,
    /// The journal is written anew.
    Shorten,
    /// A root of its own over the latest blocks: what only earlier ones reach can go.
    Replace,
    /// A root that also holds a file which can be forgotten later.
    CommitDoomed(u16),
    /// That file is forgotten.
    Forget(u16),
    /// And for good.
    Purge(u16),
    /// What the root that many commits back reaches is pinned, and the latest block by itself.
    Pin(u8, u8),
    Unpin(u8),
    Collect,
    /// Close and open.
    Reopen,
    /// The power goes, now.
    PowerCut(u64),
    /// The power goes so many operations later.
    StopAfter(u16),
}

/// What has been answered.
#[derive(Debug, Clone, Default, PartialEq)]
struct Facts {
    roots: Vec<Cid>,
    links: BTreeMap<String, Link>,
    mode: Option<PublishMode>,
    public: Vec<Cid>,
    uploads: BTreeMap<String, UploadRecord>,
    /// With what was purged since.
    pins: BTreeMap<String, (Pin, Vec<Cid>)>,
    forgotten: BTreeSet<Cid>,
    /// Forgotten, and not collected since.
    hidden: BTreeSet<Cid>,
}

pub(super) struct Player {
    rig: Rig,
    store: Option<DiskStore>,
    facts: Facts,
    /// What an operation that failed half-way may have made of the facts.
    attempted: Option<Facts>,
    durable: BTreeMap<Cid, (Block, Origin)>,
    loose: BTreeMap<Cid, (Block, Origin)>,
    /// Every block ever offered: each is either here as it was, or not here.
    offered: BTreeMap<Cid, (Block, Origin)>,
    pub(super) trouble: bool,
    /// What was hidden when a collection failed: it may be shown again, where something reaches it.
    unsure: BTreeSet<Cid>,
}

fn small(n: u16) -> Block {
    Block::raw(format!("block {n}").repeat(1 + usize::from(n % 40)).into_bytes())
}

fn leaf(file: u16, n: u8) -> Block {
    let mut data = vec![n; 256 << 10];
    data[..2].copy_from_slice(&file.to_be_bytes());
    Block::raw(data)
}

/// How many files can be forgotten.
pub(super) const DOOMED: u16 = 6;

fn doomed(n: u16) -> Block {
    Block::raw(format!("doomed {n}").repeat(if n.is_multiple_of(2) { 10 } else { 40_000 }).into_bytes())
}

fn link(n: u16) -> Link {
    let block = small(n);
    Link {
        namespace: Namespace::local(),
        repository: format!("app{}", n % 3).parse().unwrap(),
        digest: Digest::sha256(block.cid().hash().digest().try_into().unwrap()),
        cid: *block.cid(),
        size: block.data().len() as u64,
    }
}

fn key(link: &Link) -> String {
    format!("{}@{}", link.repository, link.digest)
}

fn only_store(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        conflict @ CommitError::Conflict { .. } => panic!("{conflict}"),
    }
}

impl Player {
    pub(super) fn new(rig: Rig) -> Self {
        let store = rig.open().ok();
        Self {
            trouble: store.is_none(),
            rig,
            store,
            facts: Facts::default(),
            attempted: None,
            durable: BTreeMap::new(),
            loose: BTreeMap::new(),
            offered: BTreeMap::new(),
            unsure: BTreeSet::new(),
        }
    }

    /// Commits a root that holds these blocks.
    fn commit(&mut self, children: &[Cid], folds: u8, next: &mut Facts) -> Result<bool, StoreError> {
        let root = node(children);
        self.offer(root.clone(), Origin::Pushed);
        let folded: Vec<Link> = next.links.values().take(usize::from(folds)).cloned().collect();
        folded.iter().for_each(|link| drop(next.links.remove(&key(link))));
        next.roots.push(*root.cid());
        if next.mode == Some(PublishMode::Continuous) {
            next.public.push(*root.cid());
        }
        let store = self.store();
        let expected = self.facts.roots.last().copied();
        let commit = || store.commit(&Namespace::local(), expected, *root.cid(), &folded).map_err(only_store);
        store.put(&root, Origin::Pushed).and_then(|()| commit()).map(|_| true)
    }

    /// Blocks for the next root.
    fn children(&self) -> impl DoubleEndedIterator<Item = Cid> {
        let doomed: BTreeSet<Cid> = (0..DOOMED).map(|n| *doomed(n).cid()).collect();
        let all: Vec<Cid> = self.loose.keys().chain(self.durable.keys()).copied().collect();
        all.into_iter().filter(move |cid| !doomed.contains(cid))
    }

    fn store(&self) -> &DiskStore {
        self.store.as_ref().expect("it is open")
    }

    fn offer(&mut self, block: Block, origin: Origin) {
        let cid = *block.cid();
        // The first origin stays, unless that block was never durable and is gone.
        let known = self.durable.contains_key(&cid) || self.loose.contains_key(&cid);
        if !known {
            self.loose.insert(cid, (block.clone(), origin));
        }
        self.offered.entry(cid).or_insert((block, origin));
    }

    /// Plays one step. After trouble the store must be taken through a power cut.
    pub(super) fn play(&mut self, step: &Step) {
        let mut next = self.facts.clone();
        let local = Namespace::local();
        let durable = match step {
            Step::Put(n, origin) => {
                self.offer(small(*n), *origin);
                self.store().put(&small(*n), *origin).map(|()| false)
            }
            Step::File(file, leaves) => {
                (0..*leaves).for_each(|n| self.offer(leaf(*file, n), Origin::Pushed));
                let write = || {
                    let mut writer = self.store().writer(Origin::Pushed)?;
                    (0..*leaves).try_for_each(|n| writer.put(&leaf(*file, n))).map(|()| false)
                };
                write()
            }
            Step::Sync => self.store().sync().map(|()| true),
            Step::Link(n) => {
                next.links.insert(key(&link(*n)), link(*n));
                self.store().link(&link(*n)).map(|()| true)
            }
            Step::Unlink(n) => {
                next.links.remove(&key(&link(*n)));
                self.store().unlink(&link(*n)).map(|()| true)
            }
            Step::Commit(folds) => {
                let children: Vec<Cid> = self.children().take(6).chain(self.facts.roots.last().copied()).collect();
                self.commit(&children, *folds, &mut next)
            }
            Step::Replace => {
                let children: Vec<Cid> = self.children().rev().take(5).collect();
                self.commit(&children, 0, &mut next)
            }
            Step::CommitDoomed(n) => {
                let block = doomed(*n);
                if self.offered.contains_key(block.cid()) {
                    return;
                }
                self.offer(block.clone(), Origin::Pushed);
                let children: Vec<Cid> = self.children().take(3).chain([*block.cid()]).collect();
                let put = self.store().put(&block, Origin::Pushed);
                put.and_then(|()| self.commit(&children, 0, &mut next))
            }
            Step::Forget(n) | Step::Purge(n) => {
                let cid = *doomed(*n).cid();
                if !self.durable.contains_key(&cid)
                    || next.roots.last().is_some_and(|root| self.below(vec![*root], false).contains(&cid))
                {
                    return;
                }
                next.forgotten.insert(cid);
                next.hidden.insert(cid);
                if matches!(step, Step::Forget(_)) {
                    self.store().forget(&[cid]).map(|()| true)
                } else {
                    self.purge(cid, &mut next)
                }
            }
            Step::Pin(id, back) => match self.pin(*id, *back, &mut next) {
                Some(pinned) => pinned,
                None => return,
            },
            Step::Unpin(id) => {
                next.pins.remove(&format!("p{id}"));
                // Nothing is written down if there is none.
                self.store().unpin(&format!("p{id}"))
            }
            Step::Collect => {
                let store = self.store().clone();
                // What is put and not synced counts too: a collection syncs it.
                let loose = std::mem::take(&mut self.loose);
                self.durable.extend(loose.clone());
                let kept = self.kept();
                let shown = self.reached_by_roots();
                let pinned = self.pinned();
                let current = self.facts.roots.last().map(|root| self.below(vec![*root], false)).unwrap_or_default();
                let collected = store.collect(&|_| {});
                let gone: Vec<Cid> = self.durable.keys().filter(|cid| !kept.contains(cid)).copied().collect();
                let gone = gone.into_iter().filter_map(|cid| Some((cid, self.durable.remove(&cid)?)));
                if collected.is_ok() {
                    drop(gone.collect::<Vec<_>>());
                    // What a root holds that was committed since has come back.
                    next.forgotten.retain(|cid| !current.contains(cid));
                    // What only pins keep is shown to nobody.
                    next.hidden.retain(|cid| pinned.contains(cid) && !shown.contains(cid));
                    self.unsure.clear();
                } else {
                    // Each is here or not.
                    self.loose = gone.collect();
                    self.loose.extend(loose.into_iter().filter(|(cid, _)| self.durable.remove(cid).is_some()));
                    self.unsure.extend(&next.hidden);
                }
                collected.map(|_| false)
            }
            Step::Publish => {
                let Some(root) = next.roots.last().copied() else { return };
                if next.mode != Some(PublishMode::Continuous) {
                    (next.mode, next.public) = (Some(PublishMode::Continuous), vec![root]);
                }
                self.store().publish(&local, PublishMode::Continuous).map(|()| true)
            }
            Step::PublishOnce(back) => {
                let Some(root) = next.roots.iter().rev().nth(usize::from(*back)).copied() else { return };
                (next.mode, next.public) = (Some(PublishMode::Once(root)), vec![root]);
                self.store().publish(&local, PublishMode::Once(root)).map(|()| true)
            }
            Step::Unpublish => {
                (next.mode, next.public) = (None, Vec::new());
                self.store().unpublish(&local).map(|()| true)
            }
            Step::SaveUpload(id, n) => {
                let upload =
                    UploadRecord { id: format!("u{id}"), pins: vec![*small(*n).cid()], state: vec![*id; (*n).into()] };
                next.uploads.insert(upload.id.clone(), upload.clone());
                self.store().save_upload(&upload).map(|()| true)
            }
            Step::DropUpload(id) => {
                next.uploads.remove(&format!("u{id}"));
                self.store().drop_upload(&format!("u{id}")).map(|()| true)
            }
            Step::Checkpoint => self.store().inner().checkpoint().map(|()| true),
            Step::Shorten => {
                let shortened = self.store().inner().shorten_journal_now();
                if shortened.is_ok() && !self.rig.disk.is_stopped() {
                    let (replayed, known) = self.store().inner().facts_on(&self.rig.disk.after_power_cut(Fate::Drop));
                    assert_eq!(replayed, known);
                }
                shortened.map(|()| true)
            }
            Step::Reopen => {
                let closed = self.store().close();
                self.store = None;
                let opened = closed.and_then(|()| match self.rig.open() {
                    Err(OpenError::Store(error)) => Err(error),
                    opened => Ok(opened.unwrap()),
                });
                self.store = opened.as_ref().ok().cloned();
                if opened.is_ok() {
                    self.check();
                }
                opened.map(|_| true)
            }
            Step::PowerCut(seed) => return self.power_cut(Fate::Tear(*seed)),
            Step::StopAfter(operations) => {
                self.rig.disk.stop_before(u64::from(*operations) + 1);
                return;
            }
        };
        match durable {
            Ok(durable) => {
                self.facts = next;
                if durable {
                    self.durable.append(&mut self.loose);
                }
            }
            Err(_) => {
                self.trouble = true;
                self.attempted = Some(next);
            }
        }
    }

    /// The power goes; the store comes up again and is checked.
    pub(super) fn power_cut(&mut self, fate: Fate) {
        self.rig = self.rig.after_power_cut(fate);
        // Only now: what a store does when it is dropped must not help the one that comes after.
        self.store = None;
        let store = self.rig.open().unwrap_or_else(|error| panic!("after {fate:?}: {error}"));
        self.store = Some(store);
        self.trouble = false;
        let attempted = self.attempted.take();
        if let Some(attempted) = attempted.clone()
            && self.seen() != self.seen_of(&self.facts)
        {
            self.facts = attempted;
        } else if let Some(attempted) = attempted {
            for cid in attempted.forgotten.difference(&self.facts.forgotten.clone()) {
                if self.store().is_forgotten(cid) {
                    self.facts.forgotten.insert(*cid);
                    self.facts.hidden.insert(*cid);
                }
            }
        }
        // What was not durable is here or not; what is here now, stays.
        for (cid, (block, origin)) in std::mem::take(&mut self.loose) {
            let public = self.store().public_get(&cid).unwrap().is_some();
            if self.store().get(&cid).unwrap().is_some() {
                let origin = if origin == Origin::Peer && !public { Origin::Pushed } else { origin };
                self.loose.insert(cid, (block, origin));
            }
        }
        self.check();
    }

    fn seen(&self) -> Facts {
        let (store, local) = (self.store(), Namespace::local());
        let state = store.state(&local).unwrap();
        let mut roots: Vec<Cid> = store.history(&local, usize::MAX).unwrap().iter().map(|entry| entry.cid).collect();
        roots.reverse();
        assert_eq!(state.root.map(|entry| entry.cid), roots.last().copied());
        Facts {
            roots,
            links: store.links(&local).unwrap().into_iter().map(|link| (key(&link), link)).collect(),
            mode: state.published.map(|published| published.mode),
            public: Vec::new(),
            forgotten: BTreeSet::new(),
            hidden: BTreeSet::new(),
            pins: store.pins().unwrap().into_iter().map(|p| (p.pin.name.clone(), (p.pin, p.purged))).collect(),
            uploads: store.uploads().unwrap().into_iter().map(|upload| (upload.id.clone(), upload)).collect(),
        }
    }

    fn seen_of(&self, facts: &Facts) -> Facts {
        Facts { public: Vec::new(), forgotten: BTreeSet::new(), hidden: BTreeSet::new(), ..facts.clone() }
    }

    /// Everything that was answered is so, and nothing else can be seen.
    pub(super) fn check(&self) {
        let store = self.store();
        assert_eq!(self.seen(), self.seen_of(&self.facts));
        store.inner().marks.wait_ready().unwrap();
        let reached = self.reached();
        let (mut blocks, mut bytes) = (0, 0);
        for (cid, (block, _)) in &self.offered {
            let found = store.get(cid).unwrap_or_else(|error| panic!("{error}"));
            let durable = self.durable.get(cid);
            if let Some(found) = &found {
                assert!(found == block.data(), "wrong bytes");
                let known = durable.is_some() || self.loose.contains_key(cid);
                assert!(known, "{block:?} was collected and is back");
                (blocks, bytes) = (blocks + 1, bytes + found.len() as u64);
            } else {
                assert!(durable.is_none(), "{block:?} was durable and is gone");
            }
            assert_eq!(store.size(cid).unwrap(), found.as_ref().map(|found| found.len() as u64));
            let (_, origin) = durable.or(self.loose.get(cid)).unwrap_or(&self.offered[cid]);
            let public = store.public_get(cid).unwrap().is_some();
            if found.is_some() && !self.unsure.contains(cid) {
                let reached = (*origin == Origin::Peer || reached.contains(cid)) && !self.facts.hidden.contains(cid);
                assert_eq!(public, reached, "{block:?} from {origin:?}");
            }
            assert_eq!(store.public_size(cid).unwrap().is_some(), public);
        }
        assert_eq!((store.stats().blocks, store.stats().bytes), (blocks, bytes));
    }
}
