//! How much each peer may ask. It is remembered when the peer goes: to connect anew is cheap.

use libp2p::PeerId;
use std::{collections::HashMap, time::Instant};

/// Questions of one peer that wait or are being looked up.
const WAITING_PER_PEER: usize = 16;
/// What a peer may ask at once, and a second from then on: an image has a hundred layers at most, and is pulled at once.
const BURST: f64 = 256.0;
const A_SECOND: f64 = 16.0;
/// Peers that are remembered. One that asked nothing for as long as it takes to have its whole burst again is forgotten
/// first, which changes nothing for it; then the one that was quiet for the longest.
const MOST: usize = 4_096;

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

    fn left_at(&self, now: Instant) -> f64 {
        BURST.min(self.left + A_SECOND * now.saturating_duration_since(self.at).as_secs_f64())
    }
}

/// The peers that asked something lately.
#[derive(Default)]
pub(super) struct Askers(HashMap<PeerId, Asker>);

impl Askers {
    /// Whether a peer may ask one more now. Then it is waiting.
    pub(super) fn may_ask(&mut self, peer: PeerId, now: Instant) -> bool {
        if !self.0.contains_key(&peer) {
            self.make_room(now);
        }
        let asker = self.0.entry(peer).or_insert_with(|| Asker::new(now));
        (asker.left, asker.at) = (asker.left_at(now), now);
        let may = asker.left >= 1.0 && asker.waiting < WAITING_PER_PEER;
        if may {
            asker.left -= 1.0;
            asker.waiting += 1;
        }
        may
    }

    /// One of its questions does not wait any more.
    pub(super) fn answered(&mut self, peer: &PeerId) {
        if let Some(asker) = self.0.get_mut(peer) {
            asker.waiting = asker.waiting.saturating_sub(1);
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < MOST {
            return;
        }
        self.0.retain(|_, asker| asker.waiting > 0 || asker.left_at(now) < BURST);
        if self.0.len() >= MOST
            && let Some(quiet) =
                self.0.iter().min_by_key(|(_, asker)| (asker.waiting > 0, asker.at)).map(|(peer, _)| *peer)
        {
            self.0.remove(&quiet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// How many of so many questions a peer may ask, each answered at once.
    fn allowed(askers: &mut Askers, peer: PeerId, questions: usize, now: Instant) -> usize {
        let mut ask = || {
            let may = askers.may_ask(peer, now);
            if may {
                askers.answered(&peer);
            }
            may
        };
        (0..questions).filter(|_| ask()).count()
    }

    #[test]
    fn a_peer_has_a_burst_and_then_a_rate() {
        let (start, peer, mut askers) = (Instant::now(), PeerId::random(), Askers::default());
        assert_eq!(allowed(&mut askers, peer, 1000, start), BURST as usize);
        let later = start + Duration::from_secs(2);
        assert_eq!(allowed(&mut askers, peer, 1000, later), 2 * A_SECOND as usize);
        assert_eq!(allowed(&mut askers, PeerId::random(), 10, later), 10, "others are none the worse for it");
        // However long it was quiet, there is no more than a burst.
        let much_later = later + Duration::from_secs(3600);
        let waiting = (0..1000).filter(|_| askers.may_ask(peer, much_later)).count();
        assert_eq!(waiting, WAITING_PER_PEER);
    }

    #[test]
    fn peers_are_remembered_in_number_and_in_time() {
        let (start, greedy, mut askers) = (Instant::now(), PeerId::random(), Askers::default());
        for _ in 0..MOST - 1 {
            assert!(askers.may_ask(PeerId::random(), start));
        }
        // Those whose questions wait are not forgotten for the sake of others, as long as there are any.
        assert_eq!(allowed(&mut askers, greedy, 1000, start), BURST as usize);
        assert_eq!(askers.0.len(), MOST);
        let peers: Vec<PeerId> = askers.0.keys().copied().collect();
        peers.iter().for_each(|peer| askers.answered(peer));
        // Most have their whole burst again; the greedy one has not.
        let soon = start + Duration::from_secs(1);
        assert!(askers.may_ask(PeerId::random(), soon));
        assert_eq!(askers.0.len(), 2);
        assert_eq!(allowed(&mut askers, greedy, 1000, soon), A_SECOND as usize);
        // And if none has, the one that was quiet for the longest goes.
        for _ in 0..MOST + 10 {
            allowed(&mut askers, PeerId::random(), 100, soon);
        }
        assert_eq!(askers.0.len(), MOST);
    }
}
