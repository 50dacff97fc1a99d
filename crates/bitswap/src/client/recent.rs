//! What was settled lately: to tell late blocks from strange ones.

use crate::{api::SessionId, short};
use cidery_core::Multihash;
use std::collections::{HashMap, VecDeque};

/// The last few blocks of some kind, with the session they belonged to. Remembers eight bytes of
/// each hash: nobody can find another block with the same ones.
pub(super) struct Recent {
    known: HashMap<u64, Option<SessionId>>,
    order: VecDeque<u64>,
    most: usize,
}

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), most }
    }

    pub(super) fn insert(&mut self, hash: &Multihash, session: Option<SessionId>) {
        let key = short(hash);
        if self.known.insert(key, session).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.most
            && let Some(old) = self.order.pop_front()
        {
            self.known.remove(&old);
        }
    }

    pub(super) fn get(&self, hash: &Multihash) -> Option<Option<SessionId>> {
        self.known.get(&short(hash)).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}
