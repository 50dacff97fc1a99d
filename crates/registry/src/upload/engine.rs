//! What an upload computes: leaves and nodes into the store, and the whole-blob sha256.

use super::UploadError;
use bytes::Bytes;
use cidery_core::{Block, BlockWriter, Blockstore, Cid, Fetcher, Hold, Origin, StoreError, codec, ports::LocalFetcher};
use cidery_unixfs::{File, FileBuilder, FileReader};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// An upload's state between requests.
pub enum Work {
    /// In memory.
    Active(Engine),
    /// Only its builder's saved state; empty for one that has nothing yet.
    Dormant(Vec<u8>),
    /// Committed or cancelled.
    Ended,
}

impl Work {
    /// Whether nothing can be added any more.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Takes the engine, computing its hash again where it is not in memory. What stays behind is
    /// the last saved state, so that a failure in between leaves an upload that can be resumed.
    pub async fn wake(&mut self, blocks: &Arc<dyn Blockstore>, hold: &Arc<dyn Hold>) -> Result<Engine, UploadError> {
        let saved = match self {
            Self::Ended => return Err(UploadError::Ended),
            Self::Active(engine) => engine.saved.clone(),
            Self::Dormant(saved) => saved.clone(),
        };
        match std::mem::replace(self, Self::Dormant(saved.clone())) {
            Self::Active(engine) => Ok(engine),
            _ => {
                let (blocks, hold) = (blocks.clone(), hold.clone());
                spawn_blocking(move || Engine::resume(saved, blocks, hold)).await?
            }
        }
    }
}

/// Builder, hash and output of one upload.
pub struct Engine {
    builder: FileBuilder,
    hash: Sha256,
    out: Output,
    /// The builder's state before the last batch. An error of the store spoils the builder; from
    /// this it can be made anew.
    pub saved: Vec<u8>,
}

impl Engine {
    fn resume(saved: Vec<u8>, blocks: Arc<dyn Blockstore>, hold: Arc<dyn Hold>) -> Result<Self, UploadError> {
        let builder = if saved.is_empty() { FileBuilder::new() } else { FileBuilder::resume(&saved)? };
        let fetcher: Arc<dyn Fetcher> = Arc::new(LocalFetcher(blocks.clone()));
        let mut parts = Vec::new();
        for cid in builder.pins() {
            let file = futures::executor::block_on(FileReader::open(fetcher.clone(), cid))?;
            parts.push(file);
        }
        // Finished subtrees stand in the file from the largest to the smallest, equal ones in order.
        parts.sort_by_key(|file| std::cmp::Reverse(file.size()));
        let mut hash = Sha256::new();
        for file in parts {
            let size = file.size();
            let mut stream = file.read(0..size, 0);
            while let Some(leaf) = futures::executor::block_on(stream.next())? {
                hash.update(&leaf);
            }
        }
        Ok(Self { builder, hash, out: Output { blocks, hold, began: false, writer: None }, saved })
    }

    /// Bytes taken.
    pub fn written(&self) -> u64 {
        self.builder.written()
    }

    /// Bytes that a saved state keeps.
    pub fn boundary(&self) -> u64 {
        self.builder.boundary()
    }

    /// The blocks that must be kept, and the state, for a record.
    pub fn save(&self) -> (Vec<Cid>, Vec<u8>) {
        (self.builder.pins(), self.builder.save())
    }

    /// The sha256 of what was taken.
    pub fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Hashes and stores a batch, on two threads side by side.
    pub async fn take(self, batch: Vec<Bytes>) -> Result<Self, UploadError> {
        let Self { mut builder, mut hash, mut out, .. } = self;
        let pieces = batch.clone();
        let hashing = spawn_blocking(move || {
            pieces.iter().for_each(|piece| hash.update(piece));
            hash
        });
        let building = spawn_blocking(move || {
            let saved = builder.save();
            for piece in &batch {
                builder.write(piece, &mut out)?;
            }
            Ok::<_, StoreError>((builder, out, saved))
        });
        let (hash, built) = (hashing.await?, building.await?);
        let (builder, out, saved) = built?;
        Ok(Self { builder, hash, out, saved })
    }

    /// Gives its place in the store back, until more comes.
    pub async fn rest(mut self) -> Result<Self, UploadError> {
        self.saved = self.builder.save();
        if self.out.writer.is_none() {
            return Ok(self);
        }
        Ok(spawn_blocking(move || {
            self.out.writer = None;
            self
        })
        .await?)
    }

    /// Stores the last leaf and the nodes above.
    pub async fn finish(self) -> Result<File, UploadError> {
        let Self { builder, mut out, .. } = self;
        Ok(spawn_blocking(move || builder.finish(&mut out)).await??)
    }
}

/// Writes to the store; takes a writer (and with it a place of its own on disk) only for a file of
/// more than one leaf.
struct Output {
    blocks: Arc<dyn Blockstore>,
    /// Keeps what is put from collection until the upload has ended, and its blob is linked.
    hold: Arc<dyn Hold>,
    began: bool,
    writer: Option<Box<dyn BlockWriter>>,
}

impl BlockWriter for Output {
    fn put(&mut self, block: &Block) -> Result<(), StoreError> {
        if self.writer.is_none() && self.began && block.cid().codec() == codec::RAW {
            self.writer = Some(self.blocks.writer(Origin::Pushed)?);
        }
        self.began = true;
        self.hold.keep(block.cid());
        match &mut self.writer {
            Some(writer) => writer.put(block),
            None => self.blocks.put(block, Origin::Pushed),
        }
    }
}
