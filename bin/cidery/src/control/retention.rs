//! Retention, by hand.

use super::{
    server::{Answer, State},
    types::{Retained, RetainedManifest, RetainedTag, RetentionFailure, RetentionRequest},
};
use axum::{Json, extract};

/// Once begun it goes on when the client is gone.
pub async fn run(
    extract::State(state): extract::State<State>,
    Json(RetentionRequest { dry_run }): Json<RetentionRequest>,
) -> Answer<Retained> {
    let done = state.registry.retain(dry_run).await?;
    let (mut tags, mut manifests) = (Vec::new(), Vec::new());
    for gone in done.gone {
        tags.extend(gone.tags.into_iter().map(|tag| RetainedTag {
            name: format!("{}:{}", gone.repository, tag.tag),
            digest: tag.digest.map(|digest| digest.to_string()),
            pushed: tag.pushed.map(|at| humantime::format_rfc3339_millis(at).to_string()),
        }));
        manifests.extend(
            gone.manifests
                .into_iter()
                .map(|digest| RetainedManifest { repository: gone.repository.clone(), digest: digest.to_string() }),
        );
    }
    let failed = done.failed.into_iter().map(|(repository, error)| RetentionFailure { repository, error }).collect();
    let rules = state.registry.tag_rules().has_retention();
    Ok(Json(Retained { dry_run, rules, covered: done.covered, tags, manifests, failed }))
}
