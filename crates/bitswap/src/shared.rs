//! What the behaviour, the handlers, the sessions and the blocking threads share: the two engines,
//! each behind a lock held for one call at a time, the stores, and the bounds on work in progress.

use crate::{
    Config,
    api::{Misbehaviour, Stats},
    buffers::Buffers,
    client::{Claim, Client},
    frames::Frames,
    server::Server,
    wire::{DONT_HAVE, Message, Outgoing, Payload, Version, Wants, block_of},
};
use bytes::Bytes;
use cidery_core::{Block, Blockstore, Cid, FetchError, Origin, PublicBlocks, SHA2_256, StoreError, codec};
use futures::task::AtomicWaker;
use libp2p::PeerId;
use parking_lot::Mutex;
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};
use tokio::sync::Semaphore;

/// Entries of a message that are worked on in one go: others get their turn in between.
const PART: usize = 512;

pub(crate) struct Shared {
    pub config: Arc<Config>,
    pub store: Arc<dyn Blockstore>,
    pub public: Arc<dyn PublicBlocks>,
    pub client: Mutex<Client>,
    pub server: Mutex<Server>,
    /// Wakes the behaviour.
    pub waker: Arc<AtomicWaker>,
    pub buffers: Arc<Buffers>,
    /// Room for inbound frames of peers that owe blocks.
    pub frames: Arc<Frames>,
    /// Room for those of all others, who must not stand in line before them.
    pub other_frames: Arc<Frames>,
    /// One permit a want.
    pub wants: Arc<Semaphore>,
    /// One permit a message being hashed and stored.
    pub hashers: Arc<Semaphore>,
    /// One permit a session's look into the store.
    pub lookups: Arc<Semaphore>,
    /// One permit a read for a peer.
    pub readers: Arc<Semaphore>,
    /// One permit a KiB that is read ahead for peers. Never waited for.
    pub read_ahead: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(config: Config, store: Arc<dyn Blockstore>, public: Arc<dyn PublicBlocks>) -> Arc<Self> {
        let config = Arc::new(config);
        let waker = Arc::new(AtomicWaker::new());
        let others = config.inbound_buffers / 4;
        Arc::new(Self {
            client: Mutex::new(Client::new(config.clone(), waker.clone())),
            server: Mutex::new(Server::new(config.clone())),
            waker,
            buffers: Arc::default(),
            frames: Frames::new(config.inbound_buffers - others, config.inbound_patience),
            other_frames: Frames::new(others, config.inbound_patience),
            wants: Arc::new(Semaphore::new(config.max_wants)),
            hashers: Arc::new(Semaphore::new(config.hashers)),
            lookups: Arc::new(Semaphore::new(config.lookups)),
            readers: Arc::new(Semaphore::new(config.readers)),
            read_ahead: Arc::new(Semaphore::new(config.read_ahead >> 10)),
            config,
            store,
            public,
        })
    }

    /// Where a frame of this peer has to find room.
    pub(crate) fn frames_of(&self, peer: &PeerId) -> &Arc<Frames> {
        if self.client.lock().owes(peer) { &self.frames } else { &self.other_frames }
    }

    /// Takes in a message. Returns once its blocks, if any, are being hashed: that is the
    /// back-pressure on the stream it came from.
    pub(crate) async fn receive(self: &Arc<Self>, from: PeerId, message: Message) {
        if let Some(wantlist) = message.wantlist {
            // Twice what a peer may have, so that as many cancels can come with it.
            let mut wants = Wants::new(wantlist, 2 * self.config.max_wantlist);
            while let Some(part) = wants.part(PART) {
                let last = part.entries.len() < PART;
                self.server.lock().wantlist(&from, part);
                if last {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let mut presences = message.presences.into_iter();
        while presences.len() > 0 {
            let part = presences.by_ref().take(PART);
            let answers = part
                .filter_map(|presence| Some((Cid::try_from(presence.cid.as_ref()).ok()?, presence.kind != DONT_HAVE)))
                .collect::<Vec<_>>();
            self.client.lock().presences(from, answers, Instant::now());
            if presences.len() > 0 {
                tokio::task::yield_now().await;
            }
        }
        let now = Instant::now();
        if message.payload.is_empty() && message.blocks.is_empty() {
            return;
        }
        if !self.client.lock().expects_from(&from, now) {
            self.client.lock().offence(from, Misbehaviour::UnrequestedBlock, now);
            return;
        }
        let Ok(permit) = self.hashers.clone().acquire_owned().await else { return };
        let shared = self.clone();
        tokio::task::spawn_blocking(move || {
            for payload in message.payload {
                shared.take_in(from, payload);
            }
            let v0 = Bytes::from_static(&[0, codec::DAG_PB as u8, SHA2_256 as u8, 32]);
            for data in message.blocks {
                shared.take_in(from, Payload { prefix: v0.clone(), data });
            }
            drop(permit);
        });
    }

    /// Hashes a block; if it is wanted: stores it, gives it to those who wait, serves peers that
    /// wait for it. Blocking.
    fn take_in(&self, from: PeerId, payload: Payload) {
        let len = payload.data.len() as u64;
        let block = block_of(payload);
        let claim = match &block {
            Some(block) => self.client.lock().claim(&from, block.cid().hash(), len),
            None => Claim::Unrequested,
        };
        match (claim, block) {
            (Claim::Wanted, Some(block)) => self.keep(from, &block),
            (Claim::Duplicate, _) => {}
            _ => self.client.lock().offence(from, Misbehaviour::UnrequestedBlock, Instant::now()),
        }
    }

    fn keep(&self, from: PeerId, block: &Block) {
        let hash = block.cid().hash();
        // A panic there must not leave the want behind as being stored for ever.
        let stored = catch_unwind(AssertUnwindSafe(|| self.store.put(block, Origin::Peer)))
            .unwrap_or_else(|_| Err(StoreError::io("storing a block", io::Error::other("the store panicked"))));
        let now = Instant::now();
        match stored {
            Ok(()) => {
                self.client.lock().complete(from, hash, block.data(), now);
                self.server.lock().arrived(hash);
            }
            Err(error) => self.client.lock().fail(hash, &FetchError::Store(error), now),
        }
    }

    /// What is to be said to a peer now, blocks apart.
    pub(crate) fn fill(&self, to: &PeerId, version: Version, out: &mut Outgoing) {
        self.client.lock().fill(to, &mut out.full, &mut out.entries);
        out.pending_bytes = self.server.lock().fill(to, &mut out.presences);
        if version < Version::V1_2 {
            out.presences.clear();
        }
    }

    pub(crate) fn has_work(&self, peer: &PeerId) -> bool {
        self.client.lock().has_news(peer) || self.server.lock().has_work(peer)
    }

    /// Looks up what a peer wishes for, if that is due.
    pub(crate) fn start_lookups(self: &Arc<Self>, peer: PeerId) {
        let cids = self.server.lock().take_lookups(&peer);
        if cids.is_empty() {
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let Ok(permit) = shared.readers.clone().acquire_owned().await else { return };
            tokio::task::spawn_blocking(move || {
                let size = |cid: &Cid| known(cid, shared.public.public_size(cid));
                let found = cids.into_iter().map(|cid| (cid, size(&cid))).collect();
                drop(permit);
                shared.server.lock().looked_up(&peer, found);
            });
        });
    }

    /// Reads blocks for a peer. Blocking.
    pub(crate) fn read(&self, cids: Vec<Cid>) -> Vec<(Cid, Option<Bytes>)> {
        cids.into_iter().map(|cid| (cid, known(&cid, self.public.public_get(&cid)))).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.client.lock().stats();
        self.server.lock().add_stats(&mut stats);
        stats
    }
}

/// A block that cannot be read is, to peers, one that is not here.
fn known<T>(cid: &Cid, found: Result<Option<T>, StoreError>) -> Option<T> {
    found.unwrap_or_else(|error| {
        tracing::warn!(%cid, %error, "a block that a peer wants cannot be read");
        None
    })
}
