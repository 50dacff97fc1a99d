//! Which file holds a digest, as peers say.

use super::PATIENCE;
use crate::{registry::Inner, stream::Verify, tree::Blob};
use cidery_core::{BlobFile, Claim, Digest};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// After the first answer, others are waited for so long: who lies may be the fastest.
const SETTLE: Duration = Duration::from_millis(250);

/// Files that are considered. One peer names few, and counts only as long as it was not found to lie.
const FILES: usize = 16;

/// Peers that are remembered of those that name one file.
const PEERS: usize = 32;

/// A file, and who says that it is the one.
pub(super) struct Candidate {
    pub file: BlobFile,
    pub claims: Vec<Claim>,
}

impl Inner {
    /// Asks for a blob of this size. Those that most peers name come first.
    pub(super) async fn candidates(&self, digest: &Digest, size: u64) -> Vec<Candidate> {
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
            match found.iter_mut().find(|candidate| candidate.file == claim.file) {
                Some(known) if known.claims.len() < PEERS => known.claims.push(claim),
                Some(_) => {}
                None if found.len() < FILES => found.push(Candidate { file: claim.file, claims: vec![claim] }),
                None => {}
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
