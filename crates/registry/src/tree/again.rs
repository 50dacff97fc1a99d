//! Manifests that were pushed again by their digests alone: no tag and nothing in the tree tells of that, and yet an index
//! that names them may be about to come, as builders push one platform after the other.

use cidery_core::{Digest, RepositoryName};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// An index is waited for so long.
const PATIENCE: Duration = Duration::from_secs(3600);

/// So many are remembered; then those go first that came first.
const MOST: usize = 16 << 10;

/// Where each was pushed, and when for the last time.
#[derive(Debug, Default)]
pub(super) struct Again(HashMap<(RepositoryName, Digest), Instant>);

impl Again {
    pub fn note(&mut self, pushed: &[(RepositoryName, Digest)]) {
        if pushed.is_empty() {
            return;
        }
        let now = Instant::now();
        self.0.retain(|_, at| now.duration_since(*at) < PATIENCE);
        self.0.extend(pushed.iter().cloned().map(|one| (one, now)));
        while self.0.len() > MOST
            && let Some(oldest) = self.0.values().min().copied()
        {
            self.0.retain(|_, at| *at > oldest);
        }
    }

    /// Those of a repository.
    pub fn of(&self, repository: &RepositoryName) -> HashSet<Digest> {
        let recent = self.0.iter().filter(|((of, _), at)| of == repository && at.elapsed() < PATIENCE);
        recent.map(|((_, digest), _)| digest.clone()).collect()
    }
}
