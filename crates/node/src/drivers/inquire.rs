//! Asking peers which file holds a blob: all that are connected and speak the digest protocol, and whoever
//! the search for providers of the digest finds.

use crate::{
    digest,
    drivers::search::Offer,
    questions::{Counts, count},
    swarm::Swarm,
};
use cidery_core::{BlobFile, Claim, Digest};
use libp2p::{
    PeerId,
    request_response::{self, Message, OutboundRequestId},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Inquiries at a time; one more finds nobody.
const MAX_OPEN: usize = 64;
/// Peers that one inquiry asks because they are connected, and as many again that were looked for: so the first do not
/// keep it from asking the others.
const MAX_ASKED: usize = 32;
/// Claims that wait to be taken; those beyond are lost.
pub(crate) const CLAIMS: usize = 64;
/// An inquiry ends after this, whoever could still answer.
const LIFETIME: Duration = Duration::from_secs(30);
/// Whoever claimed what is not so is not asked for this long …
const DISTRUST: Duration = Duration::from_secs(600);
/// … unless there are more of them.
const MAX_DISTRUSTED: usize = 1_024;

struct Open {
    digest: Digest,
    claims: mpsc::Sender<Claim>,
    asked: HashSet<PeerId>,
    /// How many of them were connected anyway.
    connected: usize,
    waiting: usize,
    /// Nobody more will be found.
    exhausted: bool,
    begun: Instant,
}

/// The inquiries under way.
#[derive(Default)]
pub(crate) struct Inquiries {
    open: BTreeMap<u64, Open>,
    requests: HashMap<OutboundRequestId, u64>,
    /// Connected peers that speak the protocol.
    speakers: HashSet<PeerId>,
    distrusted: HashMap<PeerId, Instant>,
    count: u64,
    counts: Arc<Counts>,
}

impl Inquiries {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self { counts, ..Self::default() }
    }

    /// Begins one: its number, under which peers are to be looked for, or `None` if there are too many.
    pub(crate) fn begin(&mut self, swarm: &mut Swarm, digest: Digest, claims: mpsc::Sender<Claim>) -> Option<u64> {
        if self.open.len() >= MAX_OPEN {
            tracing::debug!(%digest, "too many digests are asked for at once");
            return None;
        }
        self.count += 1;
        let id = self.count;
        let open = Open {
            digest,
            claims,
            asked: HashSet::new(),
            connected: 0,
            waiting: 0,
            exhausted: false,
            begun: Instant::now(),
        };
        self.open.insert(id, open);
        for peer in self.speakers.iter().copied().collect::<Vec<_>>() {
            self.ask_connected(swarm, id, peer);
        }
        Some(id)
    }

    /// A peer said that it speaks the protocol.
    pub(crate) fn on_speaker(&mut self, swarm: &mut Swarm, peer: PeerId) {
        if self.speakers.insert(peer) {
            for id in self.open.keys().copied().collect::<Vec<_>>() {
                self.ask_connected(swarm, id, peer);
            }
        }
    }

    /// A peer is gone.
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId) {
        self.speakers.remove(peer);
    }

    /// The search for providers has found somebody, or will not any more.
    pub(crate) fn on_offer(&mut self, swarm: &mut Swarm, offer: Offer) {
        match offer {
            Offer::Peers { inquiry, peers } => peers.into_iter().for_each(|peer| self.ask_found(swarm, inquiry, peer)),
            Offer::NoMore { inquiry } => {
                if let Some(open) = self.open.get_mut(&inquiry) {
                    open.exhausted = true;
                }
            }
        }
    }

    fn ask_connected(&mut self, swarm: &mut Swarm, id: u64, peer: PeerId) {
        let room = self.open.get(&id).is_some_and(|open| open.connected < MAX_ASKED);
        if room
            && self.ask(swarm, id, peer)
            && let Some(open) = self.open.get_mut(&id)
        {
            open.connected += 1;
        }
    }

    fn ask_found(&mut self, swarm: &mut Swarm, id: u64, peer: PeerId) {
        if self.open.get(&id).is_some_and(|open| open.asked.len() - open.connected < MAX_ASKED) {
            self.ask(swarm, id, peer);
        }
    }

    fn ask(&mut self, swarm: &mut Swarm, id: u64, peer: PeerId) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        let trusted = self.distrusted.get(&peer).is_none_or(|since| since.elapsed() > DISTRUST);
        // Whoever is not connected would be dialled.
        if !trusted || !swarm.is_connected(&peer) || !open.asked.insert(peer) {
            return false;
        }
        open.waiting += 1;
        count(&self.counts.asked);
        let request = swarm.behaviour_mut().digest.send_request(&peer, open.digest.clone());
        self.requests.insert(request, id);
        true
    }

    /// Follows what becomes of questions; a question of a peer's is none of these.
    pub(crate) fn on_event(&mut self, event: digest::Event) {
        use request_response::Event;
        match event {
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                self.answered(peer, request_id, response);
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "a peer was asked for a digest in vain");
                self.answered(peer, request_id, Vec::new());
            }
            Event::InboundFailure { peer, error, .. } => tracing::debug!(%peer, %error, "a question was not answered"),
            Event::Message { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn answered(&mut self, peer: PeerId, request: OutboundRequestId, files: Vec<BlobFile>) {
        let Some(id) = self.requests.remove(&request) else { return };
        // It may have ended meanwhile, or the peer have been found out.
        let Some(open) = self.open.get_mut(&id) else { return };
        open.waiting -= 1;
        if self.distrusted.contains_key(&peer) {
            return;
        }
        for file in files {
            let claim = Claim { file, peer: peer.to_string().into() };
            if open.claims.try_send(claim).is_err() {
                tracing::debug!(%peer, "a claim is not waited for any more");
            }
        }
    }

    /// A peer's claim was false.
    pub(crate) fn distrust(&mut self, peer: PeerId) {
        tracing::info!(%peer, "a peer said that a file holds a digest, and it does not");
        if self.distrusted.len() >= MAX_DISTRUSTED
            && let Some(oldest) = self.distrusted.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer)
        {
            self.distrusted.remove(&oldest);
        }
        self.distrusted.insert(peer, Instant::now());
    }

    /// Ends inquiries that nobody waits for, or that nobody will answer; their numbers.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<u64> {
        self.distrusted.retain(|_, since| now.saturating_duration_since(*since) < DISTRUST);
        let over = |open: &Open| {
            let answered = open.exhausted && open.waiting == 0;
            answered || open.claims.is_closed() || now.saturating_duration_since(open.begun) > LIFETIME
        };
        let ended: Vec<u64> = self.open.iter().filter(|(_, open)| over(open)).map(|(id, _)| *id).collect();
        for id in &ended {
            self.open.remove(id);
        }
        ended
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::swarm;

    #[tokio::test]
    async fn inquiries_are_bounded_and_end() {
        let (mut swarm, mut inquiries) = (swarm::idle(), Inquiries::default());
        let digest = Digest::sha256(&[1; 32]);
        let (claims, receiver) = mpsc::channel(1);
        let begun: Vec<_> =
            (0..MAX_OPEN + 1).map(|_| inquiries.begin(&mut swarm, digest.clone(), claims.clone())).collect();
        assert_eq!(begun.iter().flatten().count(), MAX_OPEN);
        assert_eq!(begun[MAX_OPEN], None);
        assert!(inquiries.tick(Instant::now()).is_empty(), "peers are looked for");
        let first = begun[0].unwrap();
        inquiries.on_offer(&mut swarm, Offer::NoMore { inquiry: first });
        assert_eq!(inquiries.tick(Instant::now()), [first]);
        // An offer for one that ended, and peers that are not connected, change nothing.
        inquiries.on_offer(&mut swarm, Offer::Peers { inquiry: first, peers: vec![PeerId::random()] });
        let second = begun[1].unwrap();
        inquiries.on_offer(&mut swarm, Offer::Peers { inquiry: second, peers: vec![PeerId::random()] });
        assert_eq!(inquiries.open[&second].waiting, 0);
        let over = Instant::now() + LIFETIME + Duration::from_secs(1);
        assert_eq!(inquiries.tick(over).len(), MAX_OPEN - 1);
        inquiries.begin(&mut swarm, digest, claims).unwrap();
        drop(receiver);
        assert_eq!(inquiries.tick(Instant::now()).len(), 1, "nobody waits for it");
    }

    #[test]
    fn the_distrusted_are_forgotten_in_time_and_in_number() {
        let mut inquiries = Inquiries::default();
        for _ in 0..MAX_DISTRUSTED + 10 {
            inquiries.distrust(PeerId::random());
        }
        assert_eq!(inquiries.distrusted.len(), MAX_DISTRUSTED);
        inquiries.tick(Instant::now() + DISTRUST + Duration::from_secs(1));
        assert!(inquiries.distrusted.is_empty());
    }
}
