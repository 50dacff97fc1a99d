//! What is kept by hand.

use super::{Inner, gc::Marking};
use crate::journal::Event;
use cidery_core::{Cid, Multihash, Pin, PinError, Pinned, StoreError};
use std::collections::HashSet;

impl Inner {
    /// All pins, by name.
    pub(super) fn all_pins(&self) -> Vec<Pinned> {
        self.state.read().pins.values().map(|pin| pin.fact.clone()).collect()
    }

    /// As [`cidery_core::RootStore::pin`].
    pub(super) fn pin(&self, pin: &Pin) -> Result<Pinned, PinError> {
        // No purge may come between the look and the record.
        let _one = self.pinning.lock();
        self.check_pin(pin)?;
        let pinned = Pinned { pin: pin.clone(), at: self.now(), purged: Vec::new() };
        self.note_down(vec![Event::Pinned(pinned.clone())])?;
        // One that this one replaced may have kept more.
        self.collect_soon();
        Ok(pinned)
    }

    /// As [`cidery_core::RootStore::unpin`].
    pub(super) fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        let _one = self.pinning.lock();
        if !self.state.read().pins.contains_key(name) {
            return Ok(false);
        }
        self.note_down(vec![Event::Unpinned(name.to_owned())])?;
        self.collect_soon();
        Ok(true)
    }

    /// Whether all that a pin keeps is here, and nothing of it withdrawn. Leaves are not read for that.
    fn check_pin(&self, pin: &Pin) -> Result<(), PinError> {
        let check = |cid: &Cid, is_here: bool| match is_here {
            _ if self.withdrawn.is_forgotten(cid) => Err(PinError::Withdrawn(*cid)),
            false => Err(PinError::Missing(*cid)),
            true => Ok(()),
        };
        self.walk_below(pin.roots.clone(), check)?;
        pin.blocks.iter().try_for_each(|cid| check(cid, self.size(cid)?.is_some()))
    }

    /// As [`cidery_core::RootStore::purge`].
    pub(super) fn purge(&self, files: &[Cid]) -> Result<Vec<String>, StoreError> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let _one = self.pinning.lock();
        // Before purging hides them from the pins' own walks.
        let (pins, blocks) = (self.pins_without(files), self.blocks_below(files));
        self.withdrawn.purge(files);
        self.hide(files);
        let blocks: HashSet<Multihash> = blocks.into_iter().collect();
        let (mut events, mut names) = (vec![Event::Forgotten(files.to_vec())], Vec::new());
        for mut pinned in pins {
            pinned.pin.blocks.retain(|block| !blocks.contains(block.hash()));
            names.push(pinned.pin.name.clone());
            events.push(Event::Pinned(pinned));
        }
        self.note_down(events)?;
        self.collect_soon();
        Ok(names)
    }

    /// The pins that keep some of these files, as they are without them.
    fn pins_without(&self, files: &[Cid]) -> Vec<Pinned> {
        let mut pins = self.all_pins();
        pins.retain_mut(|pinned| {
            let lost: Vec<Cid> = match Marking::of_pins(self, None, [&*pinned]) {
                Ok(kept) => files.iter().filter(|file| kept.reaches(file.hash())).copied().collect(),
                Err(error) => {
                    // It may have them where it can't be read.
                    tracing::warn!(pin = pinned.pin.name, %error, "what is pinned can't be read");
                    files.iter().filter(|file| !pinned.purged.contains(file)).copied().collect()
                }
            };
            pinned.purged.extend(&lost);
            !lost.is_empty()
        });
        pins
    }
}
