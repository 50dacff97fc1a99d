//! Looking after the store. Once begun this goes on when the client is gone.

use super::{
    long::{Frames, QUEUE, answer, closing},
    peers::Peers,
    server::{Failure, State, by_command},
    types::{
        BackedUp, BackupRequest, CollectRequest, Collected, NamespaceUsage, Progress, PurgeRequest, Purged,
        PurgedPlace, ScrubRequest, Scrubbed, Stage, Usage,
    },
};
use crate::serve::{IDENTITY, USERS};
use anyhow::{Context, Result};
use axum::{Json, extract, response::Response};
use cidery_blockstore::{
    Collected as StoreCollected, DiskUsage, Progress as StoreProgress, ScrubOptions, Stage as StoreStage,
};
use cidery_core::{Digest, StoreError};
use cidery_registry::{
    OpenUploads, Purge,
    ops::{Action, Target},
};
use serde::Serialize;
use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Mutex,
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc, task::spawn_blocking};

/// Who hears how far the store is.
type Tell<'a> = &'a (dyn Fn(StoreProgress) + Sync);

pub async fn collect(extract::State(state): extract::State<State>, Json(request): Json<CollectRequest>) -> Response {
    let age = if request.all { Duration::ZERO } else { state.blob_expiry };
    let handle = Handle::current();
    begin(move |tell| {
        handle.block_on(state.registry.tidy(age));
        let done = state.store.collect(tell);
        let done = done.map_err(|error| explain(error, "nothing was removed, since what is damaged may need it"))?;
        Ok(collected(done, unnamed(&state)?))
    })
}

pub async fn purge(
    extract::State(state): extract::State<State>,
    Json(request): Json<PurgeRequest>,
) -> Result<Response, Failure> {
    let digest: Digest = request.digest.parse().context("a digest is sha256: and 64 hex digits")?;
    let handle = Handle::current();
    Ok(begin(move |tell| {
        let room = handle.block_on(state.registry.observers().room())?;
        let purged = handle.block_on(state.registry.purge(&digest));
        // Also what failed half-way has taken something out.
        room.tell(by_command(Action::Purge, purge_targets(&digest, purged.as_ref().ok())));
        let purge = purged?;
        let done = state.store.collect(tell);
        let done = done.map_err(|error| explain(error, "it is deleted; its bytes are still on the disk"))?;
        let place = |place: cidery_registry::Purged| PurgedPlace {
            namespace: place.namespace.to_string(),
            repository: place.repository.to_string(),
            manifest: place.manifest,
        };
        let places = purge.places.into_iter().map(place).collect();
        Ok(Purged {
            places,
            pins: purge.pins,
            found: purge.found,
            freed_blocks: done.freed_blocks,
            freed_bytes: done.freed_bytes,
        })
    }))
}

/// What a purge took out: everywhere it was; or the digest alone, if that is not known or was in no repository.
fn purge_targets(digest: &Digest, purge: Option<&Purge>) -> Vec<Target> {
    let places = purge.map_or(&[][..], |purge| &purge.places);
    let one = |place: &cidery_registry::Purged| Target {
        blob: !place.manifest,
        digest: Some(digest.clone()),
        ..Target::named(place.full_name())
    };
    let mut targets: Vec<_> = places.iter().map(one).collect();
    if targets.is_empty() {
        targets.push(Target { digest: Some(digest.clone()), blob: true, ..Target::default() });
    }
    targets
}

/// How many blobs no manifest names, and their bytes.
fn unnamed(state: &State) -> Result<(u64, u64)> {
    let (mut blobs, mut bytes) = (0, 0);
    for namespace in state.registry.namespaces() {
        for link in state.roots.links(&namespace)? {
            (blobs, bytes) = (blobs + 1, bytes + link.size);
        }
    }
    Ok((blobs, bytes))
}

fn collected(done: StoreCollected, (unnamed_blobs, unnamed_bytes): (u64, u64)) -> Collected {
    Collected {
        freed_blocks: done.freed_blocks,
        freed_bytes: done.freed_bytes,
        packs_removed: done.packs_removed,
        live_blocks: done.live_blocks,
        live_bytes: done.live_bytes,
        cached_blocks: done.cached_blocks,
        cached_bytes: done.cached_bytes,
        unnamed_blobs,
        unnamed_bytes,
        seconds: done.took.as_secs_f64(),
    }
}

pub async fn usage(extract::State(state): extract::State<State>) -> Response {
    // The store knows of what is saved only.
    state.registry.save_uploads().await;
    begin(move |tell| {
        let found = state.store.usage(tell);
        let found = found.map_err(|error| explain(error, "what is damaged may need more than can be seen"))?;
        Ok(used(found, state.registry.open_uploads()))
    })
}

pub async fn scrub(extract::State(state): extract::State<State>, Json(request): Json<ScrubRequest>) -> Response {
    let handle = Handle::current();
    begin(move |tell| {
        let peers = Peers::new(&state, &handle);
        let options = ScrubOptions { bytes_per_second: Some(request.rate).filter(|rate| *rate > 0) };
        let done = state.store.scrub(options, tell, &|cid| peers.fetch(cid))?;
        let touched = handle.block_on(state.registry.touched(done.damaged.iter().copied()))?;
        Ok(Scrubbed {
            blocks: done.blocks,
            bytes: done.bytes,
            repaired: done.repaired.iter().map(ToString::to_string).collect(),
            removed: done.removed,
            damaged: done.damaged.iter().map(ToString::to_string).collect(),
            images: touched.images,
            namespaces: touched.namespaces.iter().map(ToString::to_string).collect(),
            seconds: done.took.as_secs_f64(),
        })
    })
}

/// Copies a file durably; without it, the copy goes too.
fn copy_if_there(from: &Path, to: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::copy(from, to) {
        Err(error) if gone(&error) => {
            fs::remove_file(to).or_else(|error| if gone(&error) { Ok(()) } else { Err(error) })
        }
        Err(error) => Err(error),
        Ok(_) => File::open(to)?.sync_all(),
    }
}

pub async fn backup(extract::State(state): extract::State<State>, Json(request): Json<BackupRequest>) -> Response {
    begin(move |tell| {
        let done = state.store.backup(&request.directory, tell)?;
        // What makes the copy this node. It does not change while a node runs.
        let (from, to) = (state.data.join(IDENTITY), request.directory.join(IDENTITY));
        let copied = fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all());
        // Who may log in to it. Each change of the file is another file, so a copy is of one state.
        let copied = copied.and_then(|()| copy_if_there(&state.data.join(USERS), &request.directory.join(USERS)));
        // The name too, so that a backup that was reported outlasts a power cut whole.
        let copied = copied.and_then(|()| File::open(&request.directory)?.sync_all());
        copied.with_context(|| format!("copying identity and users to {}", request.directory.display()))?;
        Ok(BackedUp {
            packs: done.packs,
            bytes: done.bytes,
            disk_bytes: done.disk_bytes,
            copied_bytes: done.copied_bytes,
            unreadable_bytes: done.unreadable_bytes,
            seconds: done.took.as_secs_f64(),
        })
    })
}

/// Says what damage means for the work it stopped.
fn explain(error: StoreError, consequence: &'static str) -> anyhow::Error {
    let is_damage = matches!(error, StoreError::Corrupt { .. });
    let error = anyhow::Error::from(error);
    if is_damage { error.context(consequence) } else { error }
}

fn used(found: DiskUsage, open: OpenUploads) -> Usage {
    let namespaces = found.namespaces.into_iter().map(|(name, root, amount)| NamespaceUsage {
        name: name.to_string(),
        root: root.to_string(),
        blocks: amount.blocks,
        bytes: amount.bytes,
    });
    Usage {
        live_blocks: found.live.blocks,
        live_bytes: found.live.bytes,
        namespaces: namespaces.collect(),
        history_roots: found.history_roots,
        history_blocks: found.history.blocks,
        history_bytes: found.history.bytes,
        uploads: open.count,
        uploads_blocks: found.uploads.blocks,
        uploads_bytes: found.uploads.bytes,
        uploads_unsaved_bytes: open.unsaved_bytes,
        pins: found.pins,
        pinned_blocks: found.pinned.blocks,
        pinned_bytes: found.pinned.bytes,
        cached_blocks: found.cached.blocks,
        cached_bytes: found.cached.bytes,
        dead_blocks: found.dead.blocks,
        dead_bytes: found.dead.bytes,
        packs: found.packs,
        packs_bytes: found.packs_bytes,
        journal_bytes: found.journal_bytes,
        index_bytes: found.index_bytes,
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
        StoreStage::Scrub => ("reading every block", false),
        StoreStage::Backup => ("backing up", false),
    };
    Stage { name: name.into(), blocks }
}
