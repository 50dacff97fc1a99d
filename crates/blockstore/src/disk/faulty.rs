//! A disk that stops at a chosen moment and then keeps, drops, tears or reorders whatever was not flushed.
//!
//! The model is what POSIX leaves open: a write lasts after its file was flushed, a name after its
//! directory was. Until then every sector of every write may or may not have arrived, in any order;
//! names arrive in order, as in a journalling file system.

use super::{Disk, DiskFile};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::Arc,
};

const SECTOR: usize = 512;

/// What becomes of what was not flushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Drop,
    Keep,
    /// By the toss of a coin, for every sector, with this seed.
    Tear(u64),
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

#[derive(Default, Clone)]
struct Node {
    /// What a reader sees.
    view: Vec<u8>,
    /// What is on the disk.
    durable: Vec<u8>,
    pending: Vec<Change>,
}

type Names = BTreeMap<String, usize>;

#[derive(Default)]
struct World {
    nodes: Vec<Node>,
    names: Names,
    durable_names: Names,
    /// The states that the names went through since the directory was flushed.
    name_steps: Vec<Names>,
    operations: u64,
    stop_at: Option<u64>,
    stopped: bool,
    /// Bytes that files may still grow by.
    room: Option<u64>,
    failing_flushes: u32,
    failing_reads: bool,
    /// A part of a file that can't be read.
    bad_sector: Option<(usize, std::ops::Range<u64>)>,
    on_flush: Option<Arc<dyn Fn() + Send + Sync>>,
    on_read: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Shared by all who use the disk.
#[derive(Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<World>>);

struct FaultyFile(FaultyDisk, usize);

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let end = *offset as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(data);
        }
        Change::Cut(len) => bytes.resize(*len as usize, 0),
    }
}

impl World {
    /// Counts an operation that changes something; an error once the disk has stopped.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        self.stopped |= self.stop_at.is_some_and(|at| self.operations > at);
        if self.stopped { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }

    fn rename_step(&mut self) {
        self.name_steps.push(self.names.clone());
    }

    fn fate_of(&self, node: &Node, fate: Fate, random: &mut StdRng) -> Vec<u8> {
        let mut bytes = node.durable.clone();
        match fate {
            Fate::Drop => {}
            Fate::Keep => bytes = node.view.clone(),
            Fate::Tear(_) => {
                let mut changes = Vec::new();
                for change in &node.pending {
                    match change {
                        Change::Cut(_) => changes.push(change.clone()),
                        Change::Write(offset, data) => {
                            let mut at = 0;
                            while at < data.len() {
                                let to_border = SECTOR - (*offset as usize + at) % SECTOR;
                                let part = to_border.min(data.len() - at);
                                changes.push(Change::Write(offset + at as u64, data[at..at + part].to_vec()));
                                at += part;
                            }
                        }
                    }
                }
                changes.shuffle(random);
                let chance = [0.1, 0.5, 0.9][random.random_range(0..3)];
                changes.iter().filter(|_| random.random_bool(chance)).for_each(|change| apply(&mut bytes, change));
            }
        }
        bytes
    }
}

impl FaultyDisk {
    /// Stops before the operation with this number, counted from now, from 1.
    pub(crate) fn stop_before(&self, operation: u64) {
        let mut world = self.0.lock();
        world.stop_at = Some(world.operations + operation - 1);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// How many operations that change something there were.
    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Leaves room for so many more bytes.
    pub(crate) fn leave_room(&self, bytes: Option<u64>) {
        self.0.lock().room = bytes;
    }

    /// Lets flushes fail, with the pages they were for forgotten, as Linux does.
    pub(crate) fn fail_flushes(&self, n: u32) {
        self.0.lock().failing_flushes = n;
    }

    pub(crate) fn fail_reads(&self, fail: bool) {
        self.0.lock().failing_reads = fail;
    }

    /// Lets reads of a part of a file fail as a disk's bad sectors do.
    pub(crate) fn fail_reads_of(&self, name: &str, part: std::ops::Range<u64>) {
        let mut world = self.0.lock();
        world.bad_sector = Some((world.names[name], part));
    }

    /// Calls `hook` before every flush of a file.
    pub(crate) fn on_flush(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.0.lock().on_flush = Some(Arc::new(hook));
    }

    /// Calls `hook` before every read of a file.
    pub(crate) fn on_read(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.0.lock().on_read = Some(Arc::new(hook));
    }

    /// The disk as it comes up again.
    pub(crate) fn after_power_cut(&self, fate: Fate) -> Self {
        let world = self.0.lock();
        let mut random = StdRng::seed_from_u64(if let Fate::Tear(seed) = fate { seed } else { 0 });
        let names = match fate {
            Fate::Drop => &world.durable_names,
            Fate::Keep => &world.names,
            Fate::Tear(_) => match random.random_range(0..=world.name_steps.len()) {
                0 => &world.durable_names,
                n => &world.name_steps[n - 1],
            },
        };
        let nodes = world.nodes.iter().map(|node| {
            let bytes = world.fate_of(node, fate, &mut random);
            Node { view: bytes.clone(), durable: bytes, pending: Vec::new() }
        });
        let again =
            World { nodes: nodes.collect(), names: names.clone(), durable_names: names.clone(), ..World::default() };
        Self(Arc::new(Mutex::new(again)))
    }

    /// Changes bytes behind everybody's back.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.0.lock();
        let node = world.names[name];
        change(&mut world.nodes[node].view);
        world.nodes[node].durable = world.nodes[node].view.clone();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }
}

impl Disk for FaultyDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let node = self.0.lock().names.get(name).copied().ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile(self.clone(), node)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.0.lock();
        world.operate()?;
        if world.room == Some(0) {
            return Err(ErrorKind::StorageFull.into());
        }
        if world.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node = world.nodes.len();
        world.nodes.push(Node::default());
        world.names.insert(name.into(), node);
        world.rename_step();
        Ok(Arc::new(FaultyFile(self.clone(), node)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.operate()?;
        world.names.remove(name).ok_or(ErrorKind::NotFound)?;
        world.rename_step();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.operate()?;
        let node = world.names.remove(from).ok_or(ErrorKind::NotFound)?;
        world.names.insert(to.into(), node);
        world.rename_step();
        Ok(())
    }

    fn create_dir(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let world = self.0.lock();
        let inside = |name: &String| match directory {
            "" => (!name.contains('/')).then(|| name.clone()),
            directory => Some(name.strip_prefix(directory)?.strip_prefix('/')?.to_owned()),
        };
        Ok(world.names.keys().filter_map(inside).collect())
    }

    fn sync_dir(&self, _directory: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.operate()?;
        world.durable_names = world.names.clone();
        world.name_steps.clear();
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.0.lock().room.unwrap_or(u64::MAX))
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let hook = self.0.0.lock().on_read.clone();
        if let Some(hook) = hook {
            hook();
        }
        let world = self.0.0.lock();
        if world.failing_reads {
            return Err(io::Error::other("a read failed"));
        }
        let end = offset + buffer.len() as u64;
        if world.bad_sector.as_ref().is_some_and(|(node, bad)| *node == self.1 && bad.start < end && offset < bad.end) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let bytes = world.nodes[self.1].view.get(offset as usize..).unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut world = self.0.0.lock();
        let before = world.stopped;
        let alive = world.operate();
        if before {
            return alive;
        }
        let mut data = parts.concat();
        let mut result = Ok(());
        if let Some(room) = world.room {
            let len = world.nodes[self.1].view.len() as u64;
            let growth = (offset + data.len() as u64).saturating_sub(len);
            if growth > room {
                data.truncate(data.len().saturating_sub((growth - room) as usize));
                result = Err(ErrorKind::StorageFull.into());
            }
            world.room = Some(room - growth.min(room));
        }
        // What was being written when the disk stopped is up to chance too.
        let change = Change::Write(offset, data);
        apply(&mut world.nodes[self.1].view, &change);
        world.nodes[self.1].pending.push(change);
        alive.and(result)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().nodes[self.1].view.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.0.0.lock();
        world.operate()?;
        let freed = (world.nodes[self.1].view.len() as u64).saturating_sub(len);
        if let Some(room) = &mut world.room {
            *room += freed;
        }
        apply(&mut world.nodes[self.1].view, &Change::Cut(len));
        world.nodes[self.1].pending.push(Change::Cut(len));
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut world = self.0.0.lock();
        world.operate()?;
        let node = &mut world.nodes[self.1];
        let end = (offset + len).min(node.view.len() as u64);
        let change = Change::Write(offset, vec![0; end.saturating_sub(offset) as usize]);
        apply(&mut node.view, &change);
        node.pending.push(change);
        Ok(())
    }

    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        let hook = self.0.0.lock().on_flush.clone();
        if let Some(hook) = hook {
            hook();
        }
        let mut world = self.0.0.lock();
        world.operate()?;
        if world.failing_flushes > 0 {
            world.failing_flushes -= 1;
            world.nodes[self.1].pending.clear();
            return Err(io::Error::other("a flush failed"));
        }
        let node = &mut world.nodes[self.1];
        // Not a copy of the view: what a failed flush forgot does not come back.
        for change in std::mem::take(&mut node.pending) {
            apply(&mut node.durable, &change);
        }
        Ok(())
    }
}
