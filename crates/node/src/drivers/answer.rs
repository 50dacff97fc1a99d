//! Answers peers that ask which file holds a blob.
//!
//! Whoever asks too much is told that there is none, like everybody who asks for what he may not see.

use super::askers::Askers;
use crate::{
    digest::{Channel, PROTOCOL},
    questions::{Counts, count},
    swarm::Swarm,
};
use cidery_core::{BlobFile, Digest, Digests};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::PeerId;
use parking_lot::RwLock;
use std::{sync::Arc, time::Instant};
use tokio::sync::Semaphore;

/// Questions that are looked up at a time: each reads a few directories.
const AT_ONCE: usize = 4;
/// Questions of all peers that wait for that or are being looked up.
const WAITING: usize = 256;

/// Who answers, once there is somebody.
pub(crate) type Oracle = Arc<RwLock<Option<Arc<dyn Digests>>>>;

/// An answer that is to be sent.
pub(crate) struct Answer {
    peer: PeerId,
    channel: Channel,
    files: Vec<BlobFile>,
}

/// The questions under way.
pub(crate) struct Answers {
    oracle: Oracle,
    counts: Arc<Counts>,
    askers: Askers,
    places: Arc<Semaphore>,
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Answers {
    pub(crate) fn new(oracle: Oracle, counts: Arc<Counts>) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { oracle, counts, askers: Askers::default(), places, under_way: FuturesUnordered::new() }
    }

    /// A peer asks.
    pub(crate) fn on_request(&mut self, swarm: &mut Swarm, peer: PeerId, digest: Digest, channel: Channel) {
        let oracle = self.oracle.read().clone().filter(|_| self.under_way.len() < WAITING);
        let Some(oracle) = oracle.filter(|_| self.askers.may_ask(peer, Instant::now())) else {
            count(&self.counts.refused);
            tracing::debug!(%peer, protocol = %PROTOCOL, "a question is not looked into");
            return send(swarm, channel, Vec::new());
        };
        count(&self.counts.answered);
        let places = self.places.clone();
        let answer = async move {
            let _place = places.acquire_owned().await;
            let look = tokio::task::spawn_blocking(move || oracle.files(&digest));
            let files = look.await.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_else(|error| {
                tracing::warn!(%error, "a peer's question for a digest is answered with nothing");
                Vec::new()
            });
            Answer { peer, channel, files }
        };
        self.under_way.push(answer.boxed());
    }

    /// The next answer. Never ready while nobody asks.
    pub(crate) async fn next(&mut self) -> Answer {
        match self.under_way.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// Sends it.
    pub(crate) fn on_answer(&mut self, swarm: &mut Swarm, answer: Answer) {
        self.askers.answered(&answer.peer);
        send(swarm, answer.channel, answer.files);
    }
}

fn send(swarm: &mut Swarm, channel: Channel, files: Vec<BlobFile>) {
    // It fails when whoever asked has gone.
    let _ = swarm.behaviour_mut().digest.send_response(channel, files);
}
