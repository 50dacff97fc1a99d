//! What peers' claims were worth, so that those who waste time are tried last.

use crate::ops::Reading;
use cidery_core::{Claim, Network};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Whoever named what was not to be had is tried after the others for this long …
const DOUBT: Duration = Duration::from_secs(600);

/// … unless there are more of them: then those are forgotten first that came first.
const MOST: usize = 1_024;

/// Remembers it. A claim that is false is the network's to remember, which does not ask its maker for a while.
pub(crate) struct Standing {
    network: Arc<dyn Network>,
    doubtful: Mutex<HashMap<Box<str>, Instant>>,
    good: AtomicU64,
    bad: AtomicU64,
    vain: AtomicU64,
}

impl Standing {
    pub fn new(network: Arc<dyn Network>) -> Self {
        let (good, bad, vain) = Default::default();
        Self { network, doubtful: Mutex::default(), good, bad, vain }
    }

    /// Their file holds the digest.
    pub fn good(&self, claims: &[Claim]) {
        self.good.fetch_add(claims.len() as u64, Relaxed);
        let mut doubtful = self.doubtful.lock();
        for claim in claims {
            doubtful.remove(&claim.peer);
        }
    }

    /// Their file does not hold it.
    pub fn bad(&self, claims: &[Claim]) {
        self.bad.fetch_add(claims.len() as u64, Relaxed);
        claims.iter().for_each(|claim| self.network.distrust(claim));
    }

    /// Their file was not to be had, or came too slowly.
    pub fn vain(&self, claims: &[Claim]) {
        self.vain.fetch_add(claims.len() as u64, Relaxed);
        let now = Instant::now();
        let mut doubtful = self.doubtful.lock();
        doubtful.retain(|_, since| now.saturating_duration_since(*since) < DOUBT);
        for claim in claims {
            if doubtful.len() >= MOST
                && let Some(oldest) = doubtful.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| peer.clone())
            {
                doubtful.remove(&oldest);
            }
            doubtful.insert(claim.peer.clone(), now);
        }
    }

    /// Whether its maker named lately what was not to be had.
    pub fn is_doubtful(&self, claim: &Claim) -> bool {
        self.doubtful.lock().get(&claim.peer).is_some_and(|since| since.elapsed() < DOUBT)
    }

    /// As numbers for monitoring.
    pub fn readings(&self) -> Vec<Reading> {
        let (name, help) =
            ("cidery_digest_claims", "Claims of peers that a file holds a digest, by what became of them");
        let verdicts = [("good", &self.good), ("bad", &self.bad), ("unavailable", &self.vain)];
        verdicts
            .map(|(verdict, count)| Reading::counter(name, help, count.load(Relaxed)).with("verdict", verdict))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::{
        BlobFile, Block,
        memory::{MemoryStore, World},
    };

    fn claim(peer: &str) -> Claim {
        let cid = *Block::raw(&b"x"[..]).cid();
        Claim { file: BlobFile { cid, size: 1 }, peer: peer.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn doubt_passes_and_is_bounded() {
        let standing = Standing::new(Arc::new(World::new().join(MemoryStore::new())));
        standing.vain(&[claim("slow"), claim("mended")]);
        assert!(standing.is_doubtful(&claim("slow")) && !standing.is_doubtful(&claim("other")));
        standing.good(&[claim("mended")]);
        assert!(!standing.is_doubtful(&claim("mended")));
        assert_eq!(standing.readings().iter().map(|reading| reading.value).collect::<Vec<_>>(), [1.0, 0.0, 2.0]);
        tokio::time::advance(DOUBT).await;
        assert!(!standing.is_doubtful(&claim("slow")));
        for n in 0..MOST + 10 {
            standing.vain(&[claim(&n.to_string())]);
        }
        assert_eq!(standing.doubtful.lock().len(), MOST);
        assert!(standing.is_doubtful(&claim(&(MOST + 9).to_string())));
    }
}
