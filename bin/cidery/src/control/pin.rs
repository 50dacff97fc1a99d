//! Pins.

use super::{
    long::while_wanted,
    server::{Answer, State, by_command},
    types::{PinRequest, Pinned, Progress, Stage, Unpinned},
};
use axum::{Json, extract, response::Response};
use cidery_core::{Cid, Pinned as StorePinned};
use cidery_registry::{
    Pinning,
    ops::{Action, Target},
};

pub async fn add(extract::State(state): extract::State<State>, Json(request): Json<PinRequest>) -> Response {
    while_wanted(|mut frames| async move {
        let told = |now: Pinning| match now {
            Pinning::Image(now) => frames.progress(now.bytes, now.total),
            Pinning::Blocks { done, total } => {
                let stage = Some(Stage { name: "fetching".into(), blocks: true });
                frames.show(Progress { done, total, stage });
            }
        };
        let room = state.registry.observers().room().await?;
        let pinned = state.registry.pin(&request.name, told).await?;
        room.tell(by_command(Action::Pin, vec![Target::named(&pinned.pin.name)]));
        Ok(row(pinned))
    })
}

pub async fn remove(extract::State(state): extract::State<State>, Json(request): Json<PinRequest>) -> Answer<Unpinned> {
    let room = state.registry.observers().room().await?;
    let name = state.registry.unpin(&request.name).await?;
    room.tell(by_command(Action::Unpin, vec![Target::named(&name)]));
    Ok(Json(Unpinned { name }))
}

pub async fn list(extract::State(state): extract::State<State>) -> Answer<Vec<Pinned>> {
    Ok(Json(state.registry.pins().await?.into_iter().map(row).collect()))
}

fn row(pinned: StorePinned) -> Pinned {
    let cids = |cids: Vec<Cid>| cids.iter().map(ToString::to_string).collect();
    Pinned {
        name: pinned.pin.name,
        pinned: humantime::format_rfc3339_seconds(pinned.at).to_string(),
        root: pinned.pin.root.to_string(),
        bytes: pinned.pin.bytes,
        kept: cids(pinned.pin.roots),
        blocks: cids(pinned.pin.blocks),
        purged: cids(pinned.purged),
    }
}
