//! Whole-blob digests, computed away from the async threads.

use bytes::Bytes;
use cidery_core::Digest;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::task::{JoinHandle, spawn_blocking};

/// A digest under way, by the algorithm of the digest that is expected.
#[derive(Clone)]
pub enum Hasher {
    /// `sha256:`
    Sha256(Sha256),
    /// `sha512:`
    Sha512(Sha512),
}

impl Hasher {
    /// One for `sha256`, which every blob has.
    pub fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// One that can be compared with `digest`.
    pub fn like(digest: &Digest) -> Self {
        if digest.is_sha256() { Self::sha256() } else { Self::Sha512(Sha512::new()) }
    }

    /// Takes the next bytes. Not for an async task, unless they are few.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(data),
            Self::Sha512(state) => state.update(data),
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(state) => Digest::sha256(&state.finalize().into()),
            Self::Sha512(state) => Digest::sha512(&state.finalize().into()),
        }
    }
}

/// A [`Hasher`] that works on a blocking thread, one piece behind its caller.
pub struct Background {
    work: JoinHandle<Hasher>,
}

impl Background {
    /// Starts with nothing hashed.
    pub fn new(hasher: Hasher) -> Self {
        Self { work: spawn_blocking(|| hasher) }
    }

    /// Waits until the piece before is hashed, and starts with this one.
    pub async fn update(&mut self, piece: Bytes) -> Result<(), tokio::task::JoinError> {
        let mut hasher = (&mut self.work).await?;
        self.work = spawn_blocking(move || {
            hasher.update(&piece);
            hasher
        });
        Ok(())
    }

    /// The digest of all pieces.
    pub async fn finish(self) -> Result<Digest, tokio::task::JoinError> {
        Ok(self.work.await?.finish())
    }
}
