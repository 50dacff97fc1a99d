//! Looking after the store. Once begun this goes on when the client is gone.

use super::{
    long::{Frames, QUEUE, answer, closing},
    server::State,
    types::{Collected, Progress, Stage},
};
use anyhow::Result;
use axum::{extract, response::Response};
use cidery_blockstore::{Collected as StoreCollected, Progress as StoreProgress, Stage as StoreStage};
use cidery_core::StoreError;
use serde::Serialize;
use std::sync::Mutex;
use tokio::{sync::mpsc, task::spawn_blocking};

/// Who hears how far the store is.
type Tell<'a> = &'a (dyn Fn(StoreProgress) + Sync);

pub async fn collect(extract::State(state): extract::State<State>) -> Response {
    begin(move |tell| {
        let done = state.store.collect(tell).map_err(|error| {
            let damaged = matches!(error, StoreError::Corrupt { .. });
            let error = anyhow::Error::from(error);
            if damaged { error.context("nothing was removed, since what is damaged may need it") } else { error }
        })?;
        Ok(collected(done))
    })
}

fn collected(done: StoreCollected) -> Collected {
    Collected {
        freed_blocks: done.freed_blocks,
        freed_bytes: done.freed_bytes,
        packs_removed: done.packs_removed,
        live_blocks: done.live_blocks,
        live_bytes: done.live_bytes,
        cached_blocks: done.cached_blocks,
        cached_bytes: done.cached_bytes,
        seconds: done.took.as_secs_f64(),
    }
}

/// Does work on a blocking thread, and answers with its progress and what came of it.
fn begin<T: Serialize>(work: impl FnOnce(Tell<'_>) -> Result<T> + Send + 'static) -> Response {
    let (sender, receiver) = mpsc::channel(QUEUE);
    spawn_blocking(move || {
        let frames = Mutex::new(Frames::new(sender.clone()));
        let tell = |progress: StoreProgress| {
            // A poisoned lock means a panic on the way, which ends the work anyway.
            if let Ok(mut frames) = frames.lock() {
                frames.show(Progress {
                    done: progress.done,
                    total: progress.total,
                    stage: Some(stage(progress.stage)),
                });
            }
        };
        // If the client is gone, nobody is left to tell.
        let _ = sender.blocking_send(closing(work(&tell)));
    });
    answer(receiver)
}

fn stage(stage: StoreStage) -> Stage {
    let (name, blocks) = match stage {
        StoreStage::RebuildIndex => ("rebuilding the index", false),
        StoreStage::Mark => ("finding what is needed", true),
        StoreStage::Sweep => ("going through the index", true),
        StoreStage::Evict => ("shrinking the cache", false),
        StoreStage::Compact => ("compacting", false),
    };
    Stage { name: name.into(), blocks }
}
