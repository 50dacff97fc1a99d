//! Finding peers for sessions and inquiries: whoever is connected, hints, peers of before, nearby peers and provider
//! records of both DHTs, all at once. What is found is dialled, and offered to the session as it connects.

mod lookups;

use super::{
    dial::{Dials, Waiter},
    expand::{Expander, is_named},
    peers::Peers,
};
use crate::{
    address::{Surroundings, peer_of},
    dht::Routing,
    naming::hints::MAX_HINTS,
    swarm::Swarm,
};
use cidery_bitswap::{Bitswap, SessionId};
use cidery_core::{Cid, Scope, SessionSpec};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use lookups::{FRESH, Lookup};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Blocks of one session that providers are looked for at a time, beside its root.
const MAX_WANTED: usize = 8;
/// Peers found by earlier searches: their connections are kept, and the latest are dialled for a new one.
const MAX_REMEMBERED: usize = 32;
const REMEMBERED: usize = 4;
/// A search ends this long after the last call for peers: until then, who comes later is offered too.
const LINGER: Duration = Duration::from_secs(15);
/// "Nobody has it" is not said sooner, if there is anybody to ask: peers may be about to connect.
const SETTLE: Duration = Duration::from_secs(2);

/// The sessions there are, with what they are for. The handle adds, the worker removes.
pub(crate) type Sessions = Arc<Mutex<HashMap<SessionId, SessionSpec>>>;

/// For whom peers are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Seeker {
    Session(SessionId),
    Inquiry(u64),
}

/// What an inquiry is told.
#[derive(Debug)]
pub(crate) enum Offer {
    /// Connected peers to ask.
    Peers { inquiry: u64, peers: Vec<PeerId> },
    /// Nobody else will be found.
    NoMore { inquiry: u64 },
}

struct Search {
    seeker: Seeker,
    root: Cid,
    wanted: Vec<Cid>,
    dialling: HashSet<PeerId>,
    expanding: bool,
    opened: Instant,
    called: Instant,
    /// The look-ups it waits for.
    lookups: HashSet<u64>,
    looked: Instant,
    /// A peer joined a routing table since the last look-ups began.
    again: bool,
    exhausted: bool,
}

/// The searches under way.
pub(crate) struct Searches {
    sessions: Sessions,
    bitswap: Bitswap,
    expander: Expander,
    surroundings: Surroundings,
    searches: BTreeMap<u64, Search>,
    by_seeker: HashMap<Seeker, u64>,
    /// For the next call of [`Searches::offers`].
    offers: Vec<Offer>,
    lookups: HashMap<u64, Lookup>,
    remembered: VecDeque<(PeerId, Multiaddr)>,
    expansions: FuturesUnordered<BoxFuture<'static, (u64, Vec<String>)>>,
    count: u64,
}

/// What a search works with besides itself.
pub(crate) struct Tools<'a> {
    pub(crate) swarm: &'a mut Swarm,
    pub(crate) dials: &'a mut Dials,
    pub(crate) peers: &'a mut Peers,
    pub(crate) routing: &'a mut Routing,
}

impl Searches {
    pub(crate) fn new(sessions: Sessions, bitswap: Bitswap, expander: Expander, surroundings: Surroundings) -> Self {
        Self {
            sessions,
            bitswap,
            expander,
            surroundings,
            searches: BTreeMap::new(),
            by_seeker: HashMap::new(),
            offers: Vec::new(),
            lookups: HashMap::new(),
            remembered: VecDeque::new(),
            expansions: FuturesUnordered::new(),
            count: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A session wants peers that have `cid`.
    pub(crate) fn need_peers(&mut self, tools: &mut Tools<'_>, session: SessionId, cid: Cid) {
        let Some(spec) = self.sessions.lock().get(&session).cloned() else {
            return self.bitswap.no_more_peers(session, cid);
        };
        self.seek(tools, Seeker::Session(session), cid, &spec);
    }

    /// An inquiry wants whoever provides `cid`. What is found comes out of [`Searches::offers`].
    pub(crate) fn inquire(&mut self, tools: &mut Tools<'_>, inquiry: u64, cid: Cid) {
        let spec = SessionSpec { root: cid, hints: Vec::new(), scope: Scope::Public };
        self.seek(tools, Seeker::Inquiry(inquiry), cid, &spec);
    }

    /// What inquiries are to be told since the last call.
    pub(crate) fn offers(&mut self) -> Vec<Offer> {
        std::mem::take(&mut self.offers)
    }

    fn offer(&mut self, seeker: Seeker, peers: Vec<PeerId>) {
        match seeker {
            Seeker::Session(session) => self.bitswap.offer_peers(session, peers),
            Seeker::Inquiry(inquiry) => self.offers.push(Offer::Peers { inquiry, peers }),
        }
    }

    fn seek(&mut self, tools: &mut Tools<'_>, seeker: Seeker, cid: Cid, spec: &SessionSpec) {
        let now = Instant::now();
        let id = match self.by_seeker.get(&seeker) {
            Some(id) => *id,
            None => {
                let id = self.next();
                self.by_seeker.insert(seeker, id);
                let search = Search {
                    seeker,
                    root: spec.root,
                    wanted: Vec::new(),
                    dialling: HashSet::new(),
                    expanding: false,
                    opened: now,
                    called: now,
                    lookups: HashSet::new(),
                    looked: now,
                    again: false,
                    exhausted: false,
                };
                self.searches.insert(id, search);
                id
            }
        };
        let Some(search) = self.searches.get_mut(&id) else { return };
        search.called = now;
        search.exhausted = false;
        if !search.wanted.contains(&cid) {
            search.wanted.push(cid);
            if search.wanted.len() > MAX_WANTED {
                // The session repeats its call for what it still misses.
                search.wanted.remove(0);
            }
        }
        self.ask_known(tools, id, now);
        self.ask_hints(tools, id, &spec.hints);
        self.look_up(tools, id, now);
    }

    /// Configured and nearby peers, and those that served before.
    fn ask_known(&mut self, tools: &mut Tools<'_>, id: u64, now: Instant) {
        let preferred = tools.peers.preferred();
        let connected = |peer: &PeerId, swarm: &Swarm| swarm.is_connected(peer);
        let here: Vec<_> = preferred.iter().filter(|peer| connected(peer, tools.swarm)).copied().collect();
        if let Some(seeker) = self.searches.get(&id).map(|search| search.seeker)
            && !here.is_empty()
        {
            self.offer(seeker, here);
        }
        tools.peers.hurry(now);
        tools.peers.tick(tools.swarm, tools.dials, now);
        for (peer, address) in self.remembered.iter().rev().take(REMEMBERED).cloned().collect::<Vec<_>>() {
            self.dial(tools, id, peer, vec![address]);
        }
    }

    fn ask_hints(&mut self, tools: &mut Tools<'_>, id: u64, hints: &[String]) {
        self.dial_hints(tools, id, hints);
        let named: Vec<String> = hints.iter().filter(|hint| is_named(hint)).take(MAX_HINTS).cloned().collect();
        let Some(search) = self.searches.get_mut(&id) else { return };
        if named.is_empty() || search.expanding {
            return;
        }
        search.expanding = true;
        let expander = self.expander.clone();
        self.expansions.push(async move { (id, expander.expand(named).await) }.boxed());
    }

    fn dial_hints(&mut self, tools: &mut Tools<'_>, id: u64, hints: &[String]) {
        let mut by_peer: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
        for address in self.surroundings.usable_hints(hints) {
            // Names are resolved first, and what they stand for is judged; nothing here relays.
            let relayed = address.iter().any(|part| matches!(part, Protocol::P2pCircuit));
            let Some(peer) = peer_of(&address).filter(|_| !relayed && self.surroundings.allow(&address)) else {
                continue;
            };
            match by_peer.iter_mut().find(|(known, _)| *known == peer) {
                Some((_, addresses)) => addresses.push(address),
                None => by_peer.push((peer, vec![address])),
            }
        }
        for (peer, addresses) in by_peer {
            self.dial(tools, id, peer, addresses);
        }
    }

    /// The next list of names that was resolved. Never ready while there is none.
    pub(crate) async fn expanded(&mut self) -> (u64, Vec<String>) {
        match self.expansions.next().await {
            Some(expanded) => expanded,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn on_expanded(&mut self, tools: &mut Tools<'_>, id: u64, addresses: &[String]) {
        if let Some(search) = self.searches.get_mut(&id) {
            search.expanding = false;
            self.dial_hints(tools, id, addresses);
        }
    }

    fn dial(&mut self, tools: &mut Tools<'_>, id: u64, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        if peer != self.surroundings.own_peer() && search.dialling.insert(peer) {
            tools.dials.peer(tools.swarm, peer, addresses, Waiter::Search(id));
        }
    }

    /// A dial for a search ended.
    pub(crate) fn on_outcome(&mut self, id: u64, about: Option<PeerId>, outcome: Result<PeerId, String>) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        if let Some(peer) = about {
            search.dialling.remove(&peer);
        }
        let seeker = search.seeker;
        match outcome {
            Ok(peer) => self.offer(seeker, vec![peer]),
            Err(error) => tracing::debug!(?seeker, error, "a peer does not answer"),
        }
    }

    /// Remembers where a peer that was looked for answered.
    pub(crate) fn on_connected(&mut self, tools: &mut Tools<'_>, peer: PeerId, at: &Multiaddr) {
        if !self.searches.values().any(|search| search.dialling.contains(&peer)) {
            return;
        }
        self.remembered.retain(|(known, _)| *known != peer);
        self.remembered.push_back((peer, at.clone()));
        tools.swarm.behaviour_mut().keep.add(peer);
        if self.remembered.len() > MAX_REMEMBERED
            && let Some((oldest, _)) = self.remembered.pop_front()
            && !tools.peers.preferred().contains(&oldest)
        {
            tools.swarm.behaviour_mut().keep.remove(oldest);
        }
    }

    /// A peer joined a routing table: what was not found may be found now.
    pub(crate) fn on_new_peer(&mut self) {
        for search in self.searches.values_mut() {
            search.again = true;
        }
    }

    /// The last handle of a session is gone.
    pub(crate) fn session_ended(&mut self, tools: &mut Tools<'_>, session: SessionId) {
        self.sessions.lock().remove(&session);
        self.end(tools, Seeker::Session(session));
    }

    /// An inquiry is over.
    pub(crate) fn inquiry_ended(&mut self, tools: &mut Tools<'_>, inquiry: u64) {
        self.end(tools, Seeker::Inquiry(inquiry));
    }

    fn end(&mut self, tools: &mut Tools<'_>, seeker: Seeker) {
        if let Some(id) = self.by_seeker.get(&seeker).copied() {
            self.close(tools, id);
        }
    }

    fn close(&mut self, tools: &mut Tools<'_>, id: u64) {
        let Some(search) = self.searches.remove(&id) else { return };
        self.by_seeker.remove(&search.seeker);
        for lookup in search.lookups {
            if self.waiting_for(lookup).is_empty() {
                tools.routing.cancel(tools.swarm, lookup);
                self.lookups.remove(&lookup);
            }
        }
    }

    /// Repeats look-ups where that makes sense, says when nobody is left to ask, and ends searches.
    pub(crate) fn tick(&mut self, tools: &mut Tools<'_>, now: Instant) {
        self.lookups.retain(|_, lookup| lookup.finished.is_none_or(|at| now - at < FRESH));
        for id in self.searches.keys().copied().collect::<Vec<_>>() {
            let Some(search) = self.searches.get_mut(&id) else { continue };
            if search.again && search.lookups.is_empty() && now - search.looked > FRESH {
                self.look_up(tools, id, now);
                continue;
            }
            let alone = tools.swarm.connected_peers().next().is_none() && !tools.peers.any_dialling();
            let settled = alone || now - search.opened > SETTLE;
            let busy = !search.lookups.is_empty() || !search.dialling.is_empty() || search.expanding;
            if settled && !busy && !search.exhausted {
                search.exhausted = true;
                match search.seeker {
                    Seeker::Session(session) => {
                        search.wanted.iter().for_each(|cid| self.bitswap.no_more_peers(session, *cid));
                    }
                    Seeker::Inquiry(inquiry) => self.offers.push(Offer::NoMore { inquiry }),
                }
            }
            if now - search.called > LINGER && !busy {
                self.close(tools, id);
            }
        }
    }
}
