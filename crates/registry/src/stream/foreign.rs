//! A blob of somebody else's tree: streamed while it arrives, and believed only when it is whole.
//!
//! Once anybody read it to its end and found it wrong, no stream of it goes on, nor does one begin
//! ([`crate::foreign::Verdicts`]).

use super::{FrameBody, Sink, body::BodyError, channel};
use crate::{
    error::Error,
    foreign::{BadBlob, Verdicts},
    hash::{Background, Hasher},
    tree::Blob,
};
use async_trait::async_trait;
use bytes::Bytes;
use cidery_core::{Digest, SHA2_256, codec};
use cidery_unixfs::{FileReader, FileStream};
use std::{ops::Range, sync::Arc, time::Duration};

/// What must hold of a blob before its last leaf leaves this node.
#[derive(Clone)]
pub struct Verify {
    /// The blob, as the tree links it.
    pub blob: Blob,
    /// Where the answer is remembered.
    pub verdicts: Arc<Verdicts>,
}

impl Verify {
    /// Whether nothing needs to be computed any more.
    pub fn is_settled(&self) -> Result<bool, BadBlob> {
        let (digest, cid) = (&self.blob.digest, &self.blob.cid);
        // A raw leaf carries the sha256 of its bytes in its CID, and a block is checked against that.
        if cid.codec() == codec::RAW && cid.hash().code() == SHA2_256 && digest.is_sha256() {
            let same = cid.hash().digest().try_into().is_ok_and(|hash| Digest::sha256(hash) == *digest);
            return if same { Ok(true) } else { Err(self.bad()) };
        }
        match self.verdicts.of(digest, cid) {
            Some(true) => Ok(true),
            Some(false) => Err(self.bad()),
            None => Ok(false),
        }
    }

    fn bad(&self) -> BadBlob {
        BadBlob { digest: self.blob.digest.clone(), cid: self.blob.cid }
    }

    /// Compares and remembers.
    fn settle(&self, actual: &Digest) -> Result<(), BadBlob> {
        let good = *actual == self.blob.digest;
        self.verdicts.settle(&self.blob.digest, &self.blob.cid, good);
        if good { Ok(()) } else { Err(self.bad()) }
    }
}

/// What is done when all bytes of a blob were hashed, before the last of them leave.
#[async_trait]
pub trait Settled: Send {
    /// `good`: they are what the blob is named by.
    async fn settled(self: Box<Self>, good: bool);
}

/// How much of a stream is hashed.
pub enum Hash {
    /// Nothing: it is a part of a blob, or known to be right.
    No,
    /// All of it, which is the whole blob: its last leaf is withheld until the digest holds.
    Whole(Option<Box<dyn Settled>>),
}

/// Streams `range` of a file through a session, `window` bytes ahead of the client.
pub fn foreign(
    file: FileReader,
    range: Range<u64>,
    window: usize,
    stall: Duration,
    verify: Verify,
    hash: Hash,
) -> FrameBody {
    let (sink, body) = channel(range.end - range.start, stall);
    tokio::spawn(async move {
        let closed = sink.frames.clone();
        // Dropping the stream withdraws what it still wants.
        tokio::select! {
            () = closed.closed() => {}
            () = produce(file.read(range, window), &sink, verify, hash) => {}
        }
    });
    body
}

async fn produce(mut stream: FileStream, sink: &Sink, verify: Verify, hash: Hash) {
    let (mut hash, then) = match hash {
        Hash::No => (None, None),
        Hash::Whole(then) => (Some(Background::new(Hasher::like(&verify.blob.digest))), then),
    };
    let mut held: Option<Bytes> = None;
    loop {
        let leaf = match stream.next().await {
            Ok(Some(leaf)) => leaf,
            Ok(None) => break,
            Err(error) => return sink.fail(error).await,
        };
        // Somebody else may have come to its end meanwhile.
        if let Err(bad) = verify.is_settled() {
            return sink.fail(bad).await;
        }
        match &mut hash {
            None => {
                if sink.send(leaf).await.is_err() {
                    return;
                }
            }
            Some(hash) => {
                if hash.update(leaf.clone()).await.is_err() {
                    return sink.fail(BodyError::Stopped).await;
                }
                if let Some(before) = held.replace(leaf)
                    && sink.send(before).await.is_err()
                {
                    return;
                }
            }
        }
    }
    if let Some(hash) = hash {
        match hash.finish().await {
            Ok(actual) => {
                let settled = verify.settle(&actual);
                if let Some(then) = then {
                    then.settled(settled.is_ok()).await;
                }
                if let Err(bad) = settled {
                    return sink.fail(bad).await;
                }
            }
            Err(_) => return sink.fail(BodyError::Stopped).await,
        }
    }
    if let Some(last) = held {
        // The client having gone now changes nothing.
        let _ = sink.send(last).await;
    }
}

/// Reads a whole blob into this node and checks it, unless that is settled; then it is only read.
/// `progress` is told the length of each piece.
pub async fn verify(
    file: FileReader,
    verify: Verify,
    window: usize,
    mut progress: impl FnMut(u64) + Send,
) -> Result<(), Error> {
    let settled = verify.is_settled()?;
    let mut hash = (!settled).then(|| Background::new(Hasher::like(&verify.blob.digest)));
    let size = file.size();
    let mut stream = file.read(0..size, window);
    while let Some(leaf) = stream.next().await? {
        progress(leaf.len() as u64);
        if let Some(hash) = &mut hash {
            hash.update(leaf).await?;
        }
    }
    if let Some(hash) = hash {
        verify.settle(&hash.finish().await?)?;
    }
    Ok(())
}
