//! When retention runs by itself.

use crate::registry::{Inner, Registry};
use rand::Rng;
use std::{sync::Weak, time::Duration};

/// The first run comes this long after the start, or after one period if that is shorter.
const FIRST: Duration = Duration::from_secs(120);

/// Runs until the registry is gone. A registry that is read-only rests.
pub(crate) async fn run(registry: Weak<Inner>, period: Duration) {
    let mut wait = FIRST.min(period);
    loop {
        // Several nodes that start together are not to work together.
        let factor = rand::rng().random_range(0.8..1.2);
        tokio::time::sleep(wait.mul_f64(factor)).await;
        wait = period;
        let Some(inner) = registry.upgrade() else { return };
        if inner.config.read_only || inner.is_draining() {
            continue;
        }
        match (Registry { inner }).retain(false).await {
            Ok(done) => {
                let tags: usize = done.gone.iter().map(|gone| gone.tags.len()).sum();
                let manifests: usize = done.gone.iter().map(|gone| gone.manifests.len()).sum();
                if tags > 0 {
                    tracing::info!(tags, manifests, repositories = done.gone.len(), "retention removed tags");
                }
            }
            Err(error) => tracing::warn!(%error, "retention was given up; it is tried again"),
        }
    }
}
