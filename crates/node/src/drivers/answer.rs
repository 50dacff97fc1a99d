//! Answers peers that ask which file holds a blob.
//!
//! Whoever asks too much is told that there is none, like everybody who asks for what he may not see.

use crate::{
    digest::{Channel, PROTOCOL},
    swarm::Swarm,
};
use cidery_core::{BlobFile, Digest, Digests};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::PeerId;
use parking_lot::RwLock;
use std::{collections::HashMap, sync::Arc, time::Instant};
use tokio::sync::Semaphore;

/// Questions that are looked up at a time: each reads a few directories.
const AT_ONCE: usize = 4;
/// Questions that wait for that or are being looked up, of all peers and of one.
const WAITING: usize = 256;
const WAITING_PER_PEER: usize = 16;
/// What a peer may ask at once, and a second from then on: an image has a hundred layers at most, and is pulled at once.
const BURST: f64 = 256.0;
const A_SECOND: f64 = 16.0;

/// Who answers, once there is somebody.
pub(crate) type Oracle = Arc<RwLock<Option<Arc<dyn Digests>>>>;

/// An answer that is to be sent.
pub(crate) struct Answer {
    peer: PeerId,
    channel: Channel,
    files: Vec<BlobFile>,
}

struct Asker {
    waiting: usize,
    /// Questions that it may still ask, as of a moment.
    left: f64,
    at: Instant,
}

impl Asker {
    fn new(now: Instant) -> Self {
        Self { waiting: 0, left: BURST, at: now }
    }

    /// Whether it may ask one more now.
    fn may_ask(&mut self, now: Instant) -> bool {
        self.left = BURST.min(self.left + A_SECOND * (now - self.at).as_secs_f64());
        self.at = now;
        let may = self.left >= 1.0 && self.waiting < WAITING_PER_PEER;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

/// The questions under way.
pub(crate) struct Answers {
    oracle: Oracle,
    /// Connected peers that asked something.
    askers: HashMap<PeerId, Asker>,
    places: Arc<Semaphore>,
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Answers {
    pub(crate) fn new(oracle: Oracle) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { oracle, askers: HashMap::new(), places, under_way: FuturesUnordered::new() }
    }

    /// A peer asks.
    pub(crate) fn on_request(&mut self, swarm: &mut Swarm, peer: PeerId, digest: Digest, channel: Channel) {
        let now = Instant::now();
        let asker = self.askers.entry(peer).or_insert_with(|| Asker::new(now));
        let oracle = self.oracle.read().clone();
        let (true, true, Some(oracle)) = (asker.may_ask(now), self.under_way.len() < WAITING, oracle) else {
            tracing::debug!(%peer, protocol = %PROTOCOL, "a question is not looked into");
            return send(swarm, channel, Vec::new());
        };
        asker.waiting += 1;
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
        if let Some(asker) = self.askers.get_mut(&answer.peer) {
            asker.waiting = asker.waiting.saturating_sub(1);
        }
        send(swarm, answer.channel, answer.files);
    }

    /// A peer is gone.
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId) {
        self.askers.remove(peer);
    }
}

fn send(swarm: &mut Swarm, channel: Channel, files: Vec<BlobFile>) {
    // It fails when whoever asked has gone.
    let _ = swarm.behaviour_mut().digest.send_response(channel, files);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_peer_has_a_burst_and_then_a_rate() {
        let start = Instant::now();
        let mut asker = Asker::new(start);
        assert_eq!((0..1000).filter(|_| asker.may_ask(start)).count(), BURST as usize);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..1000).filter(|_| asker.may_ask(later)).count(), 2 * A_SECOND as usize);
        // What it did not use does not add up for ever.
        let much_later = later + Duration::from_secs(100_000);
        assert_eq!((0..1000).filter(|_| asker.may_ask(much_later)).count(), BURST as usize);
        asker = Asker { waiting: WAITING_PER_PEER, ..Asker::new(start) };
        assert!(!asker.may_ask(start));
    }
}
