//! Stores to write to and read from, and the material that tests are made of.

use async_trait::async_trait;
use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use cidery_core::{
    Block, BlockWriter, Blockstore, Bytes, Cid, FetchError, Fetcher, Origin, StoreError, codec, memory::MemoryStore,
    ports::LocalFetcher,
};
use cidery_unixfs::{Entry, File, FileBuilder, FileReader, UnixfsError};
use futures::executor::block_on;
use sha2::{Digest, Sha256};
use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

/// A store in memory that remembers what is written to it and read from it.
#[derive(Clone, Default)]
pub struct Store {
    blocks: MemoryStore,
    /// Cold: nothing is local, and every block takes a few turns to come.
    cold: bool,
    pub log: Arc<Mutex<Log>>,
}

#[derive(Default)]
pub struct Log {
    pub written: Vec<Cid>,
    pub read: Vec<Cid>,
    in_flight: usize,
    pub most_in_flight: usize,
}

impl Store {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn cold(&self) -> Self {
        Self { blocks: self.blocks.clone(), cold: true, log: Arc::default() }
    }

    /// The same blocks, with a log of its own.
    pub fn again(&self) -> Self {
        Self { blocks: self.blocks.clone(), cold: self.cold, log: Arc::default() }
    }

    pub fn fetcher(&self) -> Arc<dyn Fetcher> {
        Arc::new(self.clone())
    }

    pub fn add(&self, codec: u64, data: impl Into<Bytes>) -> Cid {
        let block = Block::of(codec, data);
        self.blocks.put(&block, Origin::Pushed).unwrap();
        *block.cid()
    }

    pub fn raw(&self, data: impl Into<Bytes>) -> Cid {
        self.add(codec::RAW, data)
    }

    pub fn pb(&self, data: impl Into<Bytes>) -> Cid {
        self.add(codec::DAG_PB, data)
    }

    pub fn put_block(&self, block: &Block) {
        self.blocks.put(block, Origin::Pushed).unwrap();
    }

    pub fn get(&self, cid: &Cid) -> Bytes {
        self.blocks.get(cid).unwrap().unwrap()
    }

    /// How many blocks were read since the last call.
    pub fn reads(&self) -> usize {
        std::mem::take(&mut self.log.lock().unwrap().read).len()
    }

    /// How many blocks were written since the last call.
    pub fn writes(&self) -> usize {
        std::mem::take(&mut self.log.lock().unwrap().written).len()
    }

    pub fn file(&self, data: &[u8]) -> File {
        let mut out = self.clone();
        let mut builder = FileBuilder::new();
        builder.write(data, &mut out).unwrap();
        builder.finish(&mut out).unwrap()
    }

    pub fn read(&self, cid: Cid, range: Range<u64>, window: usize) -> Result<Vec<u8>, UnixfsError> {
        block_on(async {
            let mut stream = FileReader::open(self.fetcher(), cid).await?.read(range, window);
            let mut all = Vec::new();
            while let Some(bytes) = stream.next().await? {
                assert!(!bytes.is_empty());
                all.extend_from_slice(&bytes);
            }
            assert_eq!(stream.remaining(), 0);
            Ok(all)
        })
    }

    pub fn read_all(&self, cid: Cid) -> Result<Vec<u8>, UnixfsError> {
        self.read(cid, 0..u64::MAX, 0)
    }
}

impl BlockWriter for Store {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        self.log.lock().unwrap().written.push(*block.cid());
        self.blocks.put(block, Origin::Pushed)
    }
}

#[async_trait]
impl Fetcher for Store {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        {
            let mut log = self.log.lock().unwrap();
            log.read.push(*cid);
            log.in_flight += 1;
            log.most_in_flight = log.most_in_flight.max(log.in_flight);
        }
        // As many turns as the CID says, so that blocks come in another order than they are asked for.
        for _ in 0..1 + cid.hash().digest().first().map_or(0, |byte| byte % 8) {
            let mut yielded = false;
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut yielded, true) {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
        }
        self.log.lock().unwrap().in_flight -= 1;
        LocalFetcher(Arc::new(self.blocks.clone())).fetch(cid).await
    }

    fn local(&self, cid: &Cid) -> Result<Option<Bytes>, FetchError> {
        if self.cold {
            return Ok(None);
        }
        self.log.lock().unwrap().read.push(*cid);
        LocalFetcher(Arc::new(self.blocks.clone())).local(cid)
    }
}

/// Takes blocks and forgets them.
pub struct Sink;

impl BlockWriter for Sink {
    fn put(&mut self, _: &Block) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The bytes that IPIP-499's vectors are made of: ChaCha20 under the hash of a seed.
pub struct Stream(ChaCha20);

impl Stream {
    pub fn new(seed: &str) -> Self {
        let key: [u8; 32] = Sha256::digest(seed.as_bytes()).into();
        Self(ChaCha20::new(&key.into(), &[0; 12].into()))
    }

    pub fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(0);
        self.0.apply_keystream(buffer);
    }

    pub fn bytes(seed: &str, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Self::new(seed).fill(&mut bytes);
        bytes
    }
}

/// An entry that points to a small raw block.
pub fn entry(name: &str, content: &str) -> Entry {
    let block = Block::raw(content.as_bytes().to_vec());
    Entry { name: name.to_owned(), cid: *block.cid(), tsize: content.len() as u64 }
}

pub fn cid(text: &str) -> Cid {
    text.parse().unwrap()
}

/// What the vectors and fixtures of other writers are made of: hashes of a seed and a number.
pub fn seeded(seed: &str, number: usize) -> [u8; 32] {
    Sha256::digest(format!("{seed}-{number}").as_bytes()).into()
}

/// A name of 4 to 63 letters.
pub fn seeded_name(seed: &str, number: usize) -> String {
    let hash = seeded(seed, number);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..4 + usize::from(hash[31]) % 60].to_owned()
}

pub fn seeded_bytes(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len.div_ceil(32)).flat_map(|number| seeded(seed, number)).collect();
    bytes.truncate(len);
    bytes
}

/// `count` entries that each contain their own name, sorted.
pub fn seeded_entries(seed: &str, count: usize) -> Vec<Entry> {
    let mut entries: Vec<_> =
        (0..count).map(|number| seeded_name(seed, number)).map(|name| entry(&name, &name)).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup(); // Short names come twice among many.
    entries
}

/// Protobuf by hand, for nodes that nobody here writes.
pub mod pb {
    use cidery_core::Cid;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    pub fn bytes(field: u8, bytes: &[u8]) -> Vec<u8> {
        [&[field << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
    }

    pub fn number(field: u8, value: u64) -> Vec<u8> {
        [vec![field << 3], varint(value)].concat()
    }

    pub fn node(links: &[(&str, Cid)], data: &[u8]) -> Vec<u8> {
        let link = |(name, cid): &(&str, Cid)| {
            bytes(2, &[bytes(1, &cid.to_bytes()), bytes(2, name.as_bytes()), number(3, 1)].concat())
        };
        [links.iter().flat_map(link).collect(), bytes(1, data)].concat()
    }

    /// A file node: its own bytes, its size, its children with theirs.
    pub fn file(own: &[u8], size: u64, children: &[(Cid, u64)]) -> Vec<u8> {
        let mut data =
            [number(1, 2), if own.is_empty() { Vec::new() } else { bytes(2, own) }, number(3, size)].concat();
        data.extend(children.iter().flat_map(|(_, size)| number(4, *size)));
        node(&children.iter().map(|(cid, _)| ("", *cid)).collect::<Vec<_>>(), &data)
    }

    pub fn directory(links: &[(&str, Cid)]) -> Vec<u8> {
        node(links, &[8, 1])
    }

    pub fn shard(links: &[(&str, Cid)], bitfield: &[u8], fanout: u64) -> Vec<u8> {
        node(links, &[number(1, 5), bytes(2, bitfield), number(5, 0x22), number(6, fanout)].concat())
    }
}
