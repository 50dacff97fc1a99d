//! Keeping the cache under its limit: what was not used for the longest time goes first.

use super::{Collected, Inner, Marking, Tell, Telling, Usage};
use crate::{options::Stage, pack::Location};
use cidery_core::{Multihash, Origin, StoreError};
use std::collections::BTreeMap;

/// Of the limit, in percent: so far the cache is emptied when it is over it.
const LOW_WATER: u64 = 90;

impl Inner {
    /// Removes cached blocks until the cache is under its limit.
    pub(super) fn evict(
        &self,
        marking: &mut Marking<'_>,
        usage: &mut Usage,
        done: &mut Collected,
        tell: Tell<'_>,
    ) -> Result<(), StoreError> {
        let Some(mut excess) = self.cache_excess(done.cached_bytes) else { return Ok(()) };
        // Two passes instead of a list of all: the first finds how recent is too recent to go.
        let mut by_use: BTreeMap<u32, u64> = BTreeMap::new();
        self.each_page(|page| {
            for (hash, place) in page.iter().filter(|(hash, place)| is_cached(marking, usage, hash, place)) {
                *by_use.entry(self.uses.last(hash)).or_default() += u64::from(place.len);
            }
            Ok(())
        })?;
        let mut before = 0;
        let newest = by_use.iter().find_map(|(at, bytes)| {
            before += bytes;
            (before >= excess).then_some(*at)
        });
        let newest = newest.unwrap_or(u32::MAX);
        let mut telling = Telling::new(tell, Stage::Evict, excess);
        let (total, mut evicted) = (excess, Collected::default());
        // What is older than the newest that must go, all of it; of that, what is needed.
        for only_newest in [false, true] {
            self.each_page(|page| {
                marking.walk_new()?;
                let mut going = Vec::new();
                for (hash, place) in page {
                    let last = self.uses.last(&hash);
                    let due = if only_newest { last == newest } else { last < newest };
                    if due && excess > 0 && is_cached(marking, usage, &hash, &place) {
                        excess = excess.saturating_sub(place.len.into());
                        if let Some(pack) = usage.get_mut(&place.pack) {
                            pack.live = pack.live.saturating_sub(place.total() as u64);
                        }
                        going.push((hash, place));
                    }
                }
                telling.at(total - excess);
                self.bury(going, &mut evicted)
            })?;
            if excess == 0 {
                break;
            }
        }
        done.freed_blocks += evicted.freed_blocks;
        done.freed_bytes += evicted.freed_bytes;
        done.cached_blocks = done.cached_blocks.saturating_sub(evicted.freed_blocks);
        done.cached_bytes = done.cached_bytes.saturating_sub(evicted.freed_bytes);
        Ok(())
    }

    /// By how many bytes the cache has to shrink, if it has to.
    fn cache_excess(&self, cached: u64) -> Option<u64> {
        let limit = self.options.cache_limit.unwrap_or(u64::MAX);
        let over_limit = if cached > limit { cached - limit / 100 * LOW_WATER } else { 0 };
        // Pushes are refused while the disk or the store is too full: the cache makes room for them.
        let over_room = self.room_missing().min(cached);
        Some(over_limit.max(over_room)).filter(|excess| *excess > 0)
    }
}

fn is_cached(marking: &Marking<'_>, usage: &Usage, hash: &Multihash, place: &Location) -> bool {
    matches!(place.origin, Origin::Peer | Origin::Upstream)
        && usage.get(&place.pack).is_some_and(|pack| place.offset < pack.watermark)
        && !marking.reaches(hash)
}
