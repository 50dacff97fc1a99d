//! Which file holds a digest, as peers say.

use super::{PATIENCE, Wanted, Way};
use crate::{registry::Inner, stream::Verify, tree::Blob};
use cidery_core::{BlobFile, Cid, Claim, Digest};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// After the first answer, others are waited for so long: who lies may be the fastest.
const SETTLE: Duration = Duration::from_millis(250);

/// Files that are considered. One peer names few, and counts only as long as it was not found to lie.
const FILES: usize = 16;

/// Peers that are remembered of those that name one file.
const PEERS: usize = 32;

/// A file that may be the one.
pub(super) struct Candidate {
    pub cid: Cid,
    /// Its size in bytes; `None` if it does not matter, since it is the block with the digest's hash.
    pub size: Option<u64>,
    /// Who says that it is.
    pub claims: Vec<Claim>,
}

impl Inner {
    /// The files that may be what is wanted. Those that most peers name come first.
    pub(super) async fn candidates(&self, wanted: &Wanted<'_>) -> Vec<Candidate> {
        match wanted.way {
            Way::Leaf(cid) => vec![Candidate { cid, size: None, claims: Vec::new() }],
            Way::File(size) => self.claimed(wanted.digest, size).await,
        }
    }

    async fn claimed(&self, digest: &Digest, size: u64) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        let mut until = Instant::now() + PATIENCE;
        let mut inquiry = self.network.inquire(digest).await;
        while let Ok(Some(claim)) = timeout_at(until, inquiry.next()).await {
            if !self.may_be(digest, size, &claim) {
                tracing::debug!(%digest, peer = %claim.peer, file = %claim.file.cid, "a claim is not considered");
                continue;
            }
            if found.is_empty() {
                until = until.min(Instant::now() + SETTLE);
            }
            let full = found.len() >= FILES;
            match found.iter_mut().find(|candidate| candidate.cid == claim.file.cid) {
                Some(known) if known.claims.len() < PEERS => known.claims.push(claim),
                None if !full => {
                    found.push(Candidate { cid: claim.file.cid, size: Some(size), claims: vec![claim] });
                }
                _ => {}
            }
        }
        found.sort_by_key(|candidate| std::cmp::Reverse(candidate.claims.len()));
        found
    }

    /// Whether a claim can be true, and its file is not one that is not to be read.
    fn may_be(&self, digest: &Digest, size: u64, claim: &Claim) -> bool {
        let BlobFile { cid, size: claimed } = claim.file;
        let blob = Blob { digest: digest.clone(), cid, size };
        let known = Verify { blob, verdicts: self.verdicts.clone() };
        claimed == size && known.is_settled().is_ok() && !self.roots.is_forgotten(&cid)
    }
}
