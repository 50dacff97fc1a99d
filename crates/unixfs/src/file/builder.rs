//! Bytes into leaves and leaves into a balanced tree, profile `unixfs-v1-2025`: byte-exact, so the
//! same bytes have the same CID on every machine.

use super::{CHUNK, File, WIDTH};
use crate::{
    UnixfsError, dagpb, data,
    wire::{Defect, put_varint, take_varint},
};
use cidery_core::{Block, BlockWriter, Cid, Multihash, SHA2_256, StoreError, codec};

/// The first byte of a saved state; counts up when the format changes.
const STATE_VERSION: u8 = 1;

/// Levels of full nodes that are more than any file has: 1024⁵ leaves.
const MAX_LEVELS: usize = 6;

/// A finished subtree that waits for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Child {
    cid: Cid,
    size: u64,
    tsize: u64,
}

/// Builds one file from its bytes in order. Holds at most one leaf and the links of one node per level.
#[derive(Debug, Default)]
pub struct FileBuilder {
    /// The leaf that fills; never full.
    partial: Vec<u8>,
    /// Level 0 holds leaves, level n nodes over level n-1; each fewer than [`WIDTH`].
    levels: Vec<Vec<Child>>,
    boundary: u64,
}

impl FileBuilder {
    /// A builder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, and writes every leaf and node they complete.
    ///
    /// After an error the builder is not to be used further.
    pub fn write(&mut self, mut data: &[u8], out: &mut dyn BlockWriter) -> Result<(), StoreError> {
        while !data.is_empty() {
            if self.partial.is_empty() && self.boundary > 0 {
                // The first leaf grows with the file, as most files are small.
                self.partial.reserve_exact(CHUNK);
            }
            let (now, later) = data.split_at(data.len().min(CHUNK - self.partial.len()));
            self.partial.extend_from_slice(now);
            data = later;
            if self.partial.len() == CHUNK {
                self.leaf(out)?;
            }
        }
        Ok(())
    }

    /// Writes what is left, and the nodes above it.
    pub fn finish(mut self, out: &mut dyn BlockWriter) -> Result<File, StoreError> {
        if !self.partial.is_empty() || self.boundary == 0 {
            self.leaf(out)?;
        }
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            match self.levels[level][..] {
                [Child { cid, size, tsize }] if top => return Ok(File { cid, size, tsize }),
                [] => {}
                _ => self.close(level, out)?,
            }
            level += 1;
        }
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.boundary + self.partial.len() as u64
    }

    /// Bytes in leaves that were written to the store: where a saved state resumes.
    pub fn boundary(&self) -> u64 {
        self.boundary
    }

    /// The roots of everything that was written and is not under one root yet: what must not be
    /// collected while the file is unfinished.
    pub fn pins(&self) -> Vec<Cid> {
        self.levels.iter().flatten().map(|child| child.cid).collect()
    }

    /// The state at [`FileBuilder::boundary`], without the bytes that came after it.
    pub fn save(&self) -> Vec<u8> {
        let mut state = vec![STATE_VERSION, self.levels.len() as u8];
        for level in &self.levels {
            put_varint(&mut state, level.len() as u64);
            for child in level {
                state.extend_from_slice(child.cid.hash().digest());
                put_varint(&mut state, child.tsize);
            }
        }
        state
    }

    /// Goes on from a saved state: the next byte to write is the one at [`FileBuilder::boundary`].
    pub fn resume(state: &[u8]) -> Result<Self, UnixfsError> {
        read_state(state).map_err(UnixfsError::State)
    }

    fn leaf(&mut self, out: &mut dyn BlockWriter) -> Result<(), StoreError> {
        let mut leaf = std::mem::take(&mut self.partial);
        leaf.shrink_to_fit(); // It may be kept for long.
        let block = Block::raw(leaf);
        let size = block.data().len() as u64;
        self.boundary += size;
        self.push(0, &block, Child { cid: *block.cid(), size, tsize: size }, out)
    }

    fn push(&mut self, level: usize, block: &Block, child: Child, out: &mut dyn BlockWriter) -> Result<(), StoreError> {
        out.put(block)?;
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(child);
        if self.levels[level].len() == WIDTH { self.close(level, out) } else { Ok(()) }
    }

    /// Puts a node over the children of `level`.
    fn close(&mut self, level: usize, out: &mut dyn BlockWriter) -> Result<(), StoreError> {
        let children = std::mem::take(&mut self.levels[level]);
        let links = children.iter().map(|child| dagpb::Link { cid: child.cid, name: "", tsize: child.tsize });
        let node = dagpb::encode(links, &data::file(children.iter().map(|child| child.size)));
        let tsize = node.len() as u64 + children.iter().map(|child| child.tsize).sum::<u64>();
        let size = children.iter().map(|child| child.size).sum();
        let block = Block::of(codec::DAG_PB, node);
        self.push(level + 1, &block, Child { cid: *block.cid(), size, tsize }, out)
    }
}

fn read_state(mut state: &[u8]) -> Result<FileBuilder, Defect> {
    let &[version, levels, ref rest @ ..] = state else { return Err(Defect("it is cut short")) };
    state = rest;
    if version != STATE_VERSION {
        return Err(Defect("it is of another version"));
    }
    if usize::from(levels) > MAX_LEVELS {
        return Err(Defect("it has too many levels"));
    }
    let mut builder = FileBuilder::new();
    // Only full leaves are in a state, so a child's size follows from its level.
    let mut size = CHUNK as u64;
    for level in 0..levels {
        let count = take_varint(&mut state)?;
        if count >= WIDTH as u64 {
            return Err(Defect("a level is too wide"));
        }
        let codec = if level == 0 { codec::RAW } else { codec::DAG_PB };
        let mut children = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (digest, rest) = state.split_at_checked(32).ok_or(Defect("it is cut short"))?;
            state = rest;
            let hash = Multihash::wrap(SHA2_256, digest).map_err(|_| Defect("a digest is too long"))?;
            let tsize = take_varint(&mut state)?;
            // Nodes add under 1 % to the bytes below them; more is damage, and could overflow a sum.
            if tsize < size || tsize - size > size / 64 {
                return Err(Defect("a size does not fit its level"));
            }
            children.push(Child { cid: Cid::new_v1(codec, hash), size, tsize });
        }
        builder.boundary += count * size;
        builder.levels.push(children);
        size *= WIDTH as u64;
    }
    if !state.is_empty() {
        return Err(Defect("something follows its end"));
    }
    if builder.boundary == 0 {
        builder.levels.clear();
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Count(Vec<Cid>);
    impl BlockWriter for Count {
        fn put(&mut self, block: &Block) -> Result<(), StoreError> {
            self.0.push(*block.cid());
            Ok(())
        }
    }

    fn build(parts: &[&[u8]]) -> (File, Vec<Cid>) {
        let mut out = Count(Vec::new());
        let mut builder = FileBuilder::new();
        for part in parts {
            builder.write(part, &mut out).unwrap();
        }
        (builder.finish(&mut out).unwrap(), out.0)
    }

    #[test]
    fn small_files_are_bare_leaves() {
        let (empty, blocks) = build(&[]);
        assert_eq!(empty.cid.to_string(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
        assert_eq!((empty.size, empty.tsize, blocks.len()), (0, 0, 1));
        let (hello, _) = build(&[b"hello", b"", b" world"]);
        assert_eq!(hello.cid.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
        let (full, blocks) = build(&[&vec![7; CHUNK]]);
        assert_eq!((full.cid.codec(), full.size, blocks.len()), (codec::RAW, CHUNK as u64, 1));
    }

    #[test]
    fn a_resumed_builder_ends_in_the_same_root() {
        let bytes: Vec<u8> = (0..5 * CHUNK / 2).map(|at| (at / 1000) as u8).collect();
        let (whole, _) = build(&[&bytes]);
        let mut out = Count(Vec::new());
        let mut builder = FileBuilder::new();
        builder.write(&bytes[..2 * CHUNK + 1000], &mut out).unwrap();
        assert_eq!((builder.written(), builder.boundary()), (2 * CHUNK as u64 + 1000, 2 * CHUNK as u64));
        assert_eq!(builder.pins(), out.0);
        let mut again = FileBuilder::resume(&builder.save()).unwrap();
        assert_eq!(
            (again.written(), again.boundary(), again.pins()),
            (2 * CHUNK as u64, 2 * CHUNK as u64, builder.pins())
        );
        again.write(&bytes[2 * CHUNK..], &mut out).unwrap();
        assert_eq!(again.finish(&mut out).unwrap(), whole);
        let fresh = FileBuilder::resume(&FileBuilder::new().save()).unwrap();
        assert_eq!(fresh.finish(&mut out).unwrap(), build(&[]).0);
    }

    #[test]
    fn pins_follow_the_levels() {
        // Full levels are stood in for by a state, so that no gigabyte is hashed here.
        let mut builder = FileBuilder::new();
        let leaf = Child { cid: *Block::raw(vec![0; CHUNK]).cid(), size: CHUNK as u64, tsize: CHUNK as u64 };
        builder.levels = vec![vec![leaf; WIDTH - 1]];
        builder.boundary = (WIDTH as u64 - 1) * CHUNK as u64;
        let mut builder = FileBuilder::resume(&builder.save()).unwrap();
        assert_eq!(builder.pins().len(), WIDTH - 1);
        let mut out = Count(Vec::new());
        builder.write(&vec![0; CHUNK], &mut out).unwrap();
        assert_eq!(builder.pins(), out.0[1..], "one node over all leaves");
        let again = FileBuilder::resume(&builder.save()).unwrap();
        assert_eq!((again.boundary(), &again.levels), (builder.boundary(), &builder.levels));
        assert_eq!(again.finish(&mut out).unwrap().cid, out.0[1], "a full node is the root itself");
        builder.write(b"x", &mut out).unwrap();
        let file = builder.finish(&mut out).unwrap();
        assert_eq!((out.0.len(), file.size), (5, (1 << 30) + 1), "leaf, node, leaf, node, root");
    }

    #[test]
    fn a_damaged_state_is_refused() {
        let mut builder = FileBuilder::new();
        builder.write(&vec![1; CHUNK], &mut Count(Vec::new())).unwrap();
        let state = builder.save();
        for cut in 0..state.len() {
            assert!(FileBuilder::resume(&state[..cut]).is_err(), "{cut}");
        }
        assert!(FileBuilder::resume(&[&state[..], &[0]].concat()).is_err());
        assert!(FileBuilder::resume(&[&[9], &state[1..]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn states_never_panic(mut state in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let [version, levels, ..] = &mut state[..] {
                (*version, *levels) = (STATE_VERSION, *levels % 9);
            }
            let _ = FileBuilder::resume(&state);
        }
    }
}
